"""One answer on its way through: held back until there is content in it, then passed on as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from farebox.dialects import sse
from farebox.dialects.bridge import StreamBridge
from farebox.dialects.wire import Wire
from farebox.ports import Answer
from farebox.relay.plan import Plan
from farebox.relay.relayed import Relayed
from farebox.relay.upstream_errors import Cut, Empty, ErrorAnswer, TooLarge, UpstreamFailure
from farebox.relay.ways import Way

PLAIN_BYTES_MAX = 64 * 1024 * 1024
STREAM_BYTES_MAX = 200 * 1024 * 1024
"""A longer stream is cut. Lambda streams no more either."""
HELD_BYTES_MAX = 32 * 1024 * 1024
FRAME_BYTES = 64
"""What keeping a frame takes besides its bytes: a flood of empty comments must not grow beyond what may be held."""
LINGER_S = 0.05
"""How long to wait for a clean end after the end marker, so that the connection can be used again."""
EVENT_STREAM = "text/event-stream"
_USAGE_NULL = b',"usage":null'

Seal = Callable[[], Awaitable[None]]
"""Puts the conclusion on record; done before the end of a stream is sent."""


@dataclass(slots=True)
class Passage:
    """A stream of events. `held`: what waits for the first content, or for the end that it belongs to.

    `patience`: how long the first content is waited for.
    """

    answer: Answer
    plan: Plan
    way: Way
    relayed: Relayed
    seal: Seal
    bridge: StreamBridge | None
    patience: asyncio.Timeout
    held: list[bytes] = field(default_factory=list)
    held_bytes: int = 0

    async def run(self) -> None:
        """Returns at the proper end. Raises UpstreamFailure; what the caller has had by then stands in the delivery."""
        if not self.answer.headers.get("content-type", "").startswith(EVENT_STREAM):
            raise Cut  # a success without a stream is no answer to a request for one
        tap = self.relayed.tap
        chunks = self.answer.chunks()
        try:
            await self._through(chunks)
        except UpstreamFailure:
            if not tap.finished or tap.done:  # what breaks after the proper end breaks nothing
                raise
        if tap.done:
            await _linger(chunks)
        else:
            await self._end()

    async def _through(self, chunks: AsyncIterator[bytes]) -> None:
        """To the end marker, or to the end of the connection."""
        tap = self.relayed.tap
        framer = sse.Framer()
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > STREAM_BYTES_MAX:
                raise TooLarge
            try:
                frames = framer.feed(chunk)
            except sse.FrameTooLarge:
                raise TooLarge from None
            await self._pass_on(frames)
            if tap.heavy:
                await asyncio.to_thread(tap.count_waiting)  # other streams go on meanwhile
            if tap.done:
                return
        rest = framer.flush().rstrip(b"\r\n")
        if rest:  # the last event lacks its blank line, without which a client would lose it
            await self._pass_on([rest + b"\n\n"])

    async def _pass_on(self, frames: list[bytes]) -> None:
        """Shows each frame to the tap, and sends on what the caller should see, in one write per chunk."""
        tap = self.relayed.tap
        seen = self._seen_by_caller(frames)
        if tap.error_seen and not self.relayed.delivery.content:
            raise ErrorAnswer
        self._hold(seen)
        if tap.done:
            await self._end()
        elif self.held and tap.content_seen:
            await self._release(keep=1 if self._may_be_the_end() else 0)
        if tap.error_seen:
            raise ErrorAnswer

    def _seen_by_caller(self, frames: list[bytes]) -> list[bytes]:
        tap, strip = self.relayed.tap, self.plan.ask.strip_usage
        seen: list[bytes] = []
        for frame in frames:
            data = sse.data_of(frame)
            if not data:
                if frame.startswith(b":") and self.bridge is None:
                    seen.append(frame)  # a comment keeps connections alive; an event without data breaks SDKs
                continue
            only_usage = tap.see(data)
            if tap.error_seen:
                break
            if self.bridge is not None:
                seen += self.bridge.feed(data)
            elif not (strip and only_usage) and _is_of(self.way.wire, data):
                seen.append(frame.replace(_USAGE_NULL, b"") if strip else frame)
            if tap.done:
                break
        return seen

    def _hold(self, frames: list[bytes]) -> None:
        self.held += frames
        self.held_bytes += sum(map(len, frames)) + FRAME_BYTES * len(frames)
        if self.held_bytes > HELD_BYTES_MAX:
            raise TooLarge

    def _may_be_the_end(self) -> bool:
        """Where a stream just ends, what completes it must not be seen before the conclusion is on record.

        Some models say STOP on every event, so it is always the latest one that waits.
        """
        return self.bridge is None and not self.way.wire.end_marker and self.relayed.tap.finished

    async def _end(self) -> None:
        """The proper end, if it is one. The caller sees it once the conclusion is on record."""
        relayed, tap = self.relayed, self.relayed.tap
        if not tap.finished:
            raise Cut
        if not tap.content_seen and not relayed.delivery.content and not _produced(relayed):
            raise Empty
        if self.bridge is not None:
            self._hold(self.bridge.end())
        if self.held:
            # Asked before the end is sent: whoever leaves after it has left with a complete answer.
            relayed.gone = await relayed.delivery.caller.is_gone()
            relayed.finished = True
            if not relayed.cancelled:
                relayed.delivered = True
                await self.seal()
                await self._release()
                relayed.ended = True

    async def end_empty(self) -> None:
        """Sends an answer without content as it came: nobody else had a better one."""
        self.relayed.finished = self.relayed.delivered = True
        await self.seal()
        last = self.bridge.end() if self.bridge is not None else []
        await self.relayed.delivery.send([*self.held, *last], self.answer.headers)
        self.relayed.ended = True

    async def _release(self, *, keep: int = 0) -> None:
        cut = len(self.held) - keep
        frames, self.held = self.held[:cut], self.held[cut:]
        self.held_bytes = sum(map(len, self.held)) + FRAME_BYTES * len(self.held)
        if frames and not (self.relayed.cancelled and not self.relayed.delivered):
            # A cancelled stream that is still heard out is heard out for its usage alone.
            self.patience.reschedule(None)
            await self.relayed.delivery.send(frames, self.answer.headers)


@dataclass(slots=True)
class BinaryPassage:
    """A binary answer whose length nobody knows yet.

    Nothing is sent until it is known to be sound and no error; its last piece waits for the conclusion.
    """

    answer: Answer
    relayed: Relayed
    seal: Seal
    patience: asyncio.Timeout

    async def run(self) -> None:
        """Returns at the proper end. Raises UpstreamFailure."""
        relayed, tap = self.relayed, self.relayed.tap
        held: list[bytes] = []
        size = 0
        async for chunk in self.answer.chunks():
            size += len(chunk)
            if size > PLAIN_BYTES_MAX:
                raise TooLarge
            tap.see(chunk)
            if tap.error_seen:
                raise ErrorAnswer
            if tap.content_seen:
                self.patience.reschedule(None)
                if held:
                    await relayed.delivery.send(held, self.answer.headers)
                    held = []
            held.append(chunk)
        if not tap.finished:
            raise Empty
        relayed.gone = await relayed.delivery.caller.is_gone()
        relayed.finished = relayed.delivered = True
        await self.seal()
        await relayed.delivery.send(held, self.answer.headers)
        relayed.ended = True


def _is_of(wire: Wire, data: bytes) -> bool:
    """Whether an event is one of the dialect's, as far as a glance tells."""
    return not wire.marks or any(mark in data for mark in wire.marks)


def _produced(relayed: Relayed) -> bool:
    """Whether the upstream says that it made something, though none of it could be seen."""
    reported = relayed.tap.reported()
    return reported is not None and reported.output_tokens > 0


async def _linger(chunks: AsyncIterator[bytes]) -> None:
    with suppress(TimeoutError, StopAsyncIteration, UpstreamFailure):
        await asyncio.wait_for(anext(chunks), LINGER_S)
