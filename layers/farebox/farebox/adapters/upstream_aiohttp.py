"""Upstreams over aiohttp: no redirects, no cookies, no proxies from the environment, bytes as they come.

aiohttp and not httpx, by measurement: a fraction of the CPU per request at 32 connections (docs/decisions/0004).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from io import BytesIO

import aiohttp

from farebox.adapters.http_session import Session
from farebox.relay.upstream_errors import Cut, Stalled, TooLarge, Unreachable

CONNECT_S = 10
LARGE_BYTES = 1024 * 1024
"""A longer body is written piece by piece, and aiohttp warns of one that is not."""


def new_session(silence_s: float) -> aiohttp.ClientSession:
    """A session for upstreams that may be silent for `silence_s` at most.

    Idle connections are dropped before a sandbox's thaw could find them dead.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=10, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s),
        trust_env=False,
        skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
        read_bufsize=256 * 1024,
    )


class AiohttpAnswer:
    """An answer whose body is still on the wire."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
        connection = response.connection
        self._lost = connection.protocol.closed if connection is not None and connection.protocol is not None else None
        if self._lost is not None:
            self._lost.add_done_callback(self._end)

    def release(self) -> None:
        """Gives the connection back, or closes it where the body has not been read to its end."""
        self._response.release()
        if self._lost is not None and not self._lost.done():
            self._lost.remove_done_callback(self._end)
            self._lost.remove_done_callback(_heard)
            self._lost.add_done_callback(_heard)

    async def chunks(self) -> AsyncIterator[bytes]:
        with _mapped(Cut):
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def body(self, limit_bytes: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit_bytes:
                raise TooLarge
            pieces.append(chunk)
        return b"".join(pieces)

    def _end(self, lost: asyncio.Future[None]) -> None:
        """aiohttp 3.14 tells nobody who waits for a body when a chunk of it is malformed; not even silence ends it."""
        _heard(lost)
        body = self._response.content
        if not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError())


class AiohttpUpstream:
    """See ports.Upstream."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @asynccontextmanager
    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> AsyncIterator[AiohttpAnswer]:
        data = BytesIO(body) if len(body) > LARGE_BYTES else body
        with _mapped(Unreachable):
            response = await self._session().post(url, data=data, headers=headers, allow_redirects=False)
        answer = AiohttpAnswer(response)
        try:
            yield answer
        finally:
            answer.release()


def _heard(lost: asyncio.Future[None]) -> None:
    """Takes note of how a connection ended, or asyncio would log it."""
    if not lost.cancelled():
        lost.exception()


@contextmanager
def _mapped(otherwise: type[Exception]) -> Iterator[None]:
    """The one place where aiohttp's errors become ours. Their texts hold hosts, so they are not kept."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError:
        raise otherwise from None
    except aiohttp.ServerTimeoutError:
        raise Stalled from None
    except (aiohttp.ClientError, OSError):
        raise otherwise from None
