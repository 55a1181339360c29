"""A scenario run once, with what is wrong after it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.fakes.faulty_db import Fault
from tests.fakes.port_upstream import UpstreamFault
from tests.faults.failover import FAILOVER, MORE
from tests.faults.lab import Lab
from tests.faults.scenarios import SCENARIOS
from tests.faults.world import World

ALL = {**SCENARIOS, **FAILOVER, **MORE}
HIDDEN = frozenset({Fault.LOST_ONCE, Fault.ACK_LOST_ONCE, Fault.DUPLICATED, Fault.LATE_TWIN})
"""Nobody but the store's client notices these: requests end as if nothing had been wrong."""


@dataclass
class Run:
    """`calls`: the store operations of the run; `hits`: how many faults it met; `chunks`: of each upstream call."""

    violations: list[str]
    calls: list[str]
    hits: int
    chunks: list[int]


def run(
    lab: Lab,
    name: str,
    faults: dict[int, Fault] | None = None,
    upstream_fault: UpstreamFault | None = None,
    *,
    journals: bool = False,
) -> Run:
    """Runs a scenario, recovers, sweeps, and looks at everything. `journals`: as locally; without, as on Lambda."""
    return lab.run(_run(World(lab, faults, upstream_fault, journals=journals), name))


async def _run(world: World, name: str) -> Run:
    world.injector.armed = True
    try:
        endings = await ALL[name](world)
        calls, chunks = list(world.injector.calls), [len(post.script.chunks) for post in world.posts]
        await world.recover()
        found = await world.violations()
        if world.upstream_fault is None and HIDDEN.issuperset(world.injector.faults.values()):
            found += await _other_endings(world, endings)
    finally:
        await world.forget()
    return Run(found, calls, len(world.injector.hits) + len(world.upstream_hits), chunks)


async def _other_endings(world: World, expected: dict[str, str]) -> list[str]:
    """Where nothing went wrong, each request ends as the scenario says."""
    found = []
    for asked in world.asked.values():
        if asked.name not in expected:
            continue
        row = (await world.rows(asked.key.account)).get(asked.request_id)
        error = type(asked.error).__name__ if asked.error else "nothing"
        ending = json.loads(row["receipt"])["outcome"] if row else error
        if ending not in expected[asked.name].split("|"):
            found.append(f"{asked.name}: {ending} ({error}), not {expected[asked.name]}")
    return found
