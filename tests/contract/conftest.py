"""A Farebox whose channels a test sets, and a second upstream beside the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from farebox.relay.channels import Channel
from tests.fakes.service import RunningFarebox
from tests.fakes.upstream import ScriptedUpstream

Lead = Callable[..., None]


@pytest.fixture
def lead(farebox: RunningFarebox) -> Iterator[Lead]:
    """Gives the running service these channels instead of its own, all of them rested."""
    channels = farebox.services.channels
    before = channels.all

    def lead_to(*wanted: Channel) -> None:
        channels.all = wanted
        channels._rests_until_ms.clear()

    yield lead_to
    lead_to(*before)


@pytest.fixture(scope="session")
def _other() -> Iterator[ScriptedUpstream]:
    upstream = ScriptedUpstream().start()
    yield upstream
    upstream.stop()


@pytest.fixture
def other(_other: ScriptedUpstream) -> ScriptedUpstream:
    """A second vendor."""
    _other.reset()
    return _other
