"""The few words of ASGI that plain applications here use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from farebox.errors import FareboxError, RequestTooLarge
from farebox.http.errors import ENVELOPES, headers_of, shape_of

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Hook = Callable[[], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

BODY_BYTES_MAX = 6 * 1024 * 1024
"""Lambda takes no more in one request; the local service keeps to the same."""


class CallerGone(Exception):
    """The caller left before the request was read."""


async def read_body(scope: Scope, receive: Receive, limit_bytes: int = BODY_BYTES_MAX) -> bytes:
    """The whole body. Raises RequestTooLarge as soon as that is known, CallerGone."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit_bytes:
            raise RequestTooLarge(limit_bytes=limit_bytes)
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit_bytes:
            raise RequestTooLarge(limit_bytes=limit_bytes)
        pieces.append(piece)
        if not message.get("more_body"):
            return b"".join(pieces)


async def reply(send: Send, status: int, headers: RawHeaders, body: bytes) -> None:
    """One whole answer."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def reply_error(send: Send, error: FareboxError, headers: RawHeaders, dialect: str = "openai") -> None:
    await reply(send, shape_of(error).status, [*headers_of(error), *headers], ENVELOPES[dialect](error))


async def lifespan(receive: Receive, send: Send, on_start: Hook, on_stop: Hook) -> None:
    """Answers a server's lifespan events."""
    await receive()
    await on_start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await on_stop()
    await send({"type": "lifespan.shutdown.complete"})


class AsgiCaller:
    """`ports.Caller` over ASGI. `own` are headers that every answer carries.

    `freezes`: this process is frozen as soon as an answer is complete, as a Lambda sandbox is. Then an answer must
    not say its length, or it would be complete before it is settled.
    """

    def __init__(self, receive: Receive, send: Send, own: RawHeaders, *, freezes: bool = False) -> None:
        self._receive = receive
        self._send = send
        self._own = own
        self._freezes = freezes

    async def start(self, status: int, headers: RawHeaders) -> None:
        if self._freezes:
            headers = [header for header in headers if header[0] != b"content-length"]
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self._own]})

    async def send(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})

    async def is_gone(self) -> bool:
        """Asked once, at the end: the server answers at once if the caller has left, and waits if not."""
        asking = asyncio.ensure_future(self._receive())
        await asyncio.sleep(0)
        if asking.done():
            return bool(asking.result()["type"] == "http.disconnect")
        asking.cancel()
        await asyncio.wait({asking})  # not awaited itself: a cancellation of ours must not be taken for its own
        return False
