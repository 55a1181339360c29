"""A vendor's answer through the relay's core, without sockets or a store: chunks in, the caller's bytes, usage out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from farebox.adapters.audio_meter import AudioMeter
from farebox.adapters.catalog_files import load_catalog
from farebox.adapters.system import SystemRandomness
from farebox.domain.usage import Usage
from farebox.errors import FareboxError
from farebox.relay.bill import usage_of
from farebox.relay.channels import Channels
from farebox.relay.delivery import Delivery, RawHeaders
from farebox.relay.endpoints import endpoint_at
from farebox.relay.forward import Forwarder
from farebox.relay.plan import Plan, Planner
from farebox.relay.relayed import Relayed
from farebox.relay.request import Request
from tests.contract.recordings import TYPES, Recording
from tests.contract.routes import Route, ask, channel
from tests.fakes.faulty_db import Life
from tests.fakes.port_upstream import MemoryCaller
from tests.fakes.service import SetClock

CATALOG = load_catalog()
NOON_MS = 1_795_521_600_000


class Words:
    """Counts words: enough to tell figures of ours from a vendor's."""

    def count(self, _: str, text: str) -> int:
        return len(text.split())


@dataclass
class Chunked:
    """See ports.Answer: an answer of a status that comes in these chunks, and then ends or breaks."""

    pieces: list[bytes]
    headers: Mapping[str, str]
    status: int = 200
    breaks: Exception | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.breaks is not None:
            raise self.breaks

    async def body(self, limit_bytes: int) -> bytes:
        return b"".join([piece async for piece in self.chunks()])


@dataclass
class OneVendor:
    """See ports.Upstream. Gives the same answer to each request."""

    answer: Chunked

    @asynccontextmanager
    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> AsyncIterator[Chunked]:
        yield self.answer


@dataclass
class Played:
    """What came of it: the caller's bytes, what was used, the failure if there was one, the words of the attempts."""

    data: bytes
    usage: Usage
    failure: FareboxError | None
    words: list[str]
    finished: bool
    content: bool
    sealed: list[bytes] = field(default_factory=list)
    """What the caller had had when the conclusion went on record."""


def play(
    route: Route,
    recording: Recording,
    *chunks: bytes,
    breaks: Exception | None = None,
    include_usage: bool = True,
) -> Played:
    """The recording, or other chunks in its stead, by this way."""
    return asyncio.run(_play(route, recording, list(chunks) or [recording.data], breaks, include_usage=include_usage))


async def _play(
    route: Route, recording: Recording, pieces: list[bytes], breaks: Exception | None, *, include_usage: bool
) -> Played:
    clock = SetClock()
    clock.fixed_ms = NOON_MS
    channels = Channels((channel(route.vendor, "http://vendor", route.model(recording)),), SystemRandomness(), clock)
    planner = Planner(CATALOG, channels, Words(), AudioMeter(), 10_000)
    plan = await _plan(planner, route, recording, clock, include_usage=include_usage)
    caller = MemoryCaller(Life())

    async def no_headers(_: Mapping[str, str]) -> RawHeaders:
        return []

    def new_tap() -> object:
        return plan.ways[0].wire.tap(planner.counter(plan.model), plan.ask)

    relayed = Relayed(new_tap(), Delivery(caller, no_headers))  # type: ignore[arg-type]
    sealed: list[bytes] = []

    async def seal() -> None:
        sealed.append(caller.data)

    answer = Chunked(pieces, {"content-type": TYPES[recording.suffix]}, breaks=breaks)
    forwarder = Forwarder(channels, OneVendor(answer), clock, NoWaiting())
    await forwarder.forward(plan, relayed, lambda _: new_tap(), seal)  # type: ignore[arg-type,return-value]
    return Played(
        data=caller.data if relayed.started else relayed.body or b"",
        usage=usage_of(plan, relayed.tap, planner.heard_ms),
        failure=relayed.failure,
        words=[each.result for each in relayed.attempts],
        finished=relayed.finished,
        content=relayed.delivery.content,
        sealed=sealed,
    )


async def _plan(planner: Planner, route: Route, recording: Recording, clock: SetClock, *, include_usage: bool) -> Plan:
    asked = ask(route, recording, include_usage=include_usage)
    endpoint = endpoint_at(asked.path.partition("?")[0])
    assert endpoint is not None
    request = Request(endpoint.wire, asked.body, asked.content_type, endpoint.model, endpoint.stream)
    return await planner.plan(request, free=False, now_ms=clock.now_ms(), unique_id="01J0CONTRACT")


class NoWaiting(SystemRandomness):
    """Another try comes at once."""

    def below(self, limit: int) -> int:
        return 0


def cuttings(data: bytes) -> Iterator[list[bytes]]:
    """One byte at a time; every few bytes; at each kind of place where a chunk may end; two frames at once."""
    for step in (1, 2, 3, 7, 64, 1000):
        yield [data[at : at + step] for at in range(0, len(data), step)]
    for mark in (b"\n", b"\n\n", b"\r", b"data:", b"{", b'"', b"\xe7", b"\xe4", b"\xf0\x9f"):
        pieces = data.split(mark)
        yield [pieces[0], *(mark + piece for piece in pieces[1:])]
        yield [*(piece + mark for piece in pieces[:-1]), pieces[-1]]
    frames = [frame + b"\n\n" for frame in data.split(b"\n\n") if frame]
    yield [b"".join(frames[at : at + 2]) for at in range(0, len(frames), 2)] if b"".join(frames) == data else [data]
