"""What the caller has had of its answer, and how it is put: server-sent events, or one JSON array of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from farebox.dialects import sse
from farebox.ports import Caller

RawHeaders = list[tuple[bytes, bytes]]
Headers = Callable[[Mapping[str, str]], Awaitable[RawHeaders]]
"""Makes the caller's headers from those of the upstream that answers, or from none."""
NO_PING = b""


@dataclass(slots=True)
class Delivery:
    """`started`: the caller has had a status. `content`: it has had content, so nobody else can answer any more."""

    caller: Caller
    headers: Headers
    array: JsonArray | None = None
    started: bool = False
    content: bool = False
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def send(self, frames: list[bytes], upstream_headers: Mapping[str, str]) -> None:
        """Frames with content in them, or after content."""
        async with self._one_at_a_time:
            await self._start(upstream_headers)
            self.content = True
            await self.caller.send(self.array.put(frames) if self.array else b"".join(frames))

    async def end(self, last: bytes = b"") -> None:
        """What the form of the answer wants at its end, after a last frame if there is one."""
        frames = [last] if last else []
        closing = self.array.put(frames) + self.array.close() if self.array else last
        if closing:
            async with self._one_at_a_time:
                await self.caller.send(closing)

    @asynccontextmanager
    async def kept_alive(self, ping: bytes, every_s: float) -> AsyncIterator[None]:
        """Sends a ping at intervals for as long as no content has come. The first one commits the status to 200."""
        if not ping:
            yield
            return
        pinging = asyncio.create_task(self._ping(ping, every_s))
        try:
            yield
        finally:
            # Waited for, not awaited: a cancellation of ours goes on, and its own failure is noticed by who sends next.
            pinging.cancel()
            await asyncio.wait({pinging})
            if not pinging.cancelled():
                pinging.exception()

    async def _ping(self, ping: bytes, every_s: float) -> None:
        while not self.content:
            await asyncio.sleep(every_s)
            async with self._one_at_a_time:
                if not self.content:
                    await self._start({})
                    await self.caller.send(ping)

    async def _start(self, upstream_headers: Mapping[str, str]) -> None:
        if not self.started:
            await self.caller.start(200, await self.headers(upstream_headers))
            self.started = True


class JsonArray:
    """Events as the elements of one JSON array, their data untouched: how Gemini streams to who asks for no SSE."""

    def __init__(self) -> None:
        self._open = False

    def put(self, frames: list[bytes]) -> bytes:
        pieces: list[bytes] = []
        for frame in frames:
            data = sse.data_of(frame)
            if data:
                pieces += (b",\r\n" if self._open else b"[", data)
                self._open = True
        return b"".join(pieces)

    def close(self) -> bytes:
        return b"]" if self._open else b"[]"
