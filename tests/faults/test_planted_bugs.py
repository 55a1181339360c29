"""The invariants would notice: each planted bug is caught, and the same run is clean without it."""

from __future__ import annotations

import pytest

from tests.fakes.faulty_db import Fault
from tests.faults import planted, planted_in_relay
from tests.faults.lab import Lab
from tests.faults.planted import Bug
from tests.faults.run import Run, run

CALLS_MAX = 16
BUGS = {**planted.BUGS, **planted_in_relay.BUGS}


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    bug = BUGS[name]
    with monkeypatch.context() as patch:
        bug.plant(patch)
        caught = next((faults for faults in _points(bug) if _run(lab, bug, faults).violations), None)

    assert caught is not None, "nobody noticed"
    assert _run(lab, bug, caught).violations == []


def _points(bug: Bug) -> list[dict[int, Fault]]:
    return [{number: fault} for fault in bug.faults for number in range(1, CALLS_MAX)] or [{}]


def _run(lab: Lab, bug: Bug, faults: dict[int, Fault]) -> Run:
    return run(lab, bug.scenario, faults or None, bug.upstream_fault, journals=bug.journals)
