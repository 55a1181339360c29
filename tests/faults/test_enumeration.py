"""Every store call and every upstream call of every scenario goes wrong in every way; then all invariants hold.

Points are counted until a scenario makes fewer calls than the number that is to be hit.
"""

from __future__ import annotations

import random
from collections import Counter
from itertools import count

import pytest

from tests.fakes.faulty_db import Fault
from tests.fakes.port_upstream import Trouble, UpstreamFault
from tests.faults.failover import FAILOVER, LONG, MORE
from tests.faults.lab import Lab
from tests.faults.run import ALL, run
from tests.faults.scenarios import SCENARIOS

BEFORE_CHUNKS = (Trouble.CUT, Trouble.STALL, Trouble.CRASH)
Hits = Counter[tuple[str, str]]
ENUMERATED = [*SCENARIOS, *FAILOVER, *(pytest.param(each, marks=pytest.mark.soak) for each in MORE)]
"""Those whose store calls are enumerated in every run, and the others."""
UPSTREAM_ENUMERATED = [pytest.param(each, marks=[pytest.mark.soak] if each in LONG else []) for each in ALL]


@pytest.mark.parametrize("scenario", ALL)
def test_without_a_fault_it_ends_as_it_should(lab: Lab, scenario: str) -> None:
    assert run(lab, scenario).violations == []


@pytest.mark.parametrize("scenario", ENUMERATED)
def test_any_store_call_goes_wrong_in_any_way(lab: Lab, scenario: str, hits: Hits) -> None:
    wrong = []
    for fault in Fault:
        for number in count(1):
            done = run(lab, scenario, {number: fault})
            if not done.hits:
                break
            hits[scenario, fault] += 1
            wrong += [f"{fault} at call {number} ({done.calls[number - 1]}): {each}" for each in done.violations]
    assert wrong == []


@pytest.mark.parametrize("scenario", ENUMERATED)
def test_whoever_has_seen_the_end_is_billed_where_there_is_a_journal(lab: Lab, scenario: str, hits: Hits) -> None:
    wrong = []
    for fault in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.OUTAGE):
        for number in count(1):
            done = run(lab, scenario, {number: fault}, journals=True)
            if not done.hits:
                break
            hits[scenario, f"{fault}, with a journal"] += 1
            wrong += [f"{fault} at call {number} ({done.calls[number - 1]}): {each}" for each in done.violations]
    for crash in _upstream_faults(run(lab, scenario).chunks):
        if crash.trouble is Trouble.CRASH:
            done = run(lab, scenario, None, crash, journals=True)
            hits[scenario, "upstream: our process dies, with a journal"] += done.hits
            wrong += [f"{crash}: {each}" for each in done.violations]
    assert wrong == []


@pytest.mark.parametrize("scenario", UPSTREAM_ENUMERATED)
def test_any_upstream_call_goes_wrong_in_any_way(lab: Lab, scenario: str, hits: Hits) -> None:
    wrong = []
    for fault in _upstream_faults(run(lab, scenario).chunks):
        done = run(lab, scenario, None, fault)
        hits[scenario, f"upstream: {fault.trouble}"] += done.hits
        wrong += [f"{fault}: {each}" for each in done.violations]
    assert wrong == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", ALL)
def test_two_faults_in_one_run(lab: Lab, scenario: str, hits: Hits) -> None:
    """Every pair of store calls, each pair with every pair of faults; where they are many, 1,000 of them."""
    calls = len(run(lab, scenario).calls) + 6
    points = [
        {first: one, second: two}
        for first in range(1, calls)
        for second in range(first + 1, calls)
        for one in Fault
        for two in Fault
    ]
    wrong = []
    for faults in random.Random(scenario).sample(points, min(1_000, len(points))):
        done = run(lab, scenario, faults)
        if done.hits == 2:
            hits[scenario, "two at once"] += 1
        wrong += [f"{faults}: {each}" for each in done.violations]
    assert wrong == []


def _upstream_faults(chunks: list[int]) -> list[UpstreamFault]:
    found = []
    for call, size in enumerate(chunks, start=1):
        found += [UpstreamFault(trouble, call) for trouble in (Trouble.UNREACHABLE, Trouble.REFUSES, Trouble.FAILS)]
        found += [UpstreamFault(trouble, call, at) for trouble in BEFORE_CHUNKS for at in range(size + 1)]
    return found
