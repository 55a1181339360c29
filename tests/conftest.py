"""One upstream and one whole service for all tests that talk over sockets; each test makes keys of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from farebox.settings import Settings
from tests.fakes.service import ADMIN_TOKEN, RunningFarebox
from tests.fakes.upstream import ScriptedUpstream

# Machines are shared and noisy: how long an example took says nothing about the code.
settings.register_profile("farebox", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("farebox")


ALONE = frozenset(
    {"test_aborts", "test_journal", "test_kill", "test_kill_soak", "test_memory", "test_serve", "test_wire"}
)
"""Files that measure moments or memory, or want every core: `make test` runs them after the others, one at a time."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in ALONE:
            item.add_marker("alone")


@pytest.fixture(scope="session")
def _upstream() -> Iterator[ScriptedUpstream]:
    upstream = ScriptedUpstream().start()
    yield upstream
    upstream.stop()


@pytest.fixture
def upstream(_upstream: ScriptedUpstream) -> ScriptedUpstream:
    """The scripted upstream, answering plainly until told otherwise."""
    _upstream.reset()
    return _upstream


@pytest.fixture(scope="session")
def _farebox(_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFarebox]:
    # Tests come from one address; X-Forwarded-For, believed of the loopback hop, gives each the address it wants.
    settings = Settings(admin_token=ADMIN_TOKEN, trusted_proxies=("127.0.0.1",))
    service = RunningFarebox(tmp_path_factory.mktemp("farebox"), _upstream.url, settings).start()
    yield service
    service.stop()


@pytest.fixture
def farebox(_farebox: RunningFarebox, upstream: ScriptedUpstream) -> Iterator[RunningFarebox]:
    """The running service; its clock is the real one again after each test."""
    yield _farebox
    _farebox.clock.offset_ms, _farebox.clock.fixed_ms = 0, None
