"""aiohttp sessions, made when first used: nothing connects at import, and each event loop has its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp

Session = Callable[[], aiohttp.ClientSession]
"""Gives the session of the running loop."""


class LazySession:
    """A `Session` that makes one with `new` on the first call in a loop."""

    def __init__(self, new: Callable[[], aiohttp.ClientSession]) -> None:
        self._new = new
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None

    def __call__(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop or self._session.closed:
            self._session, self._loop = self._new(), loop
        return self._session

    async def close(self) -> None:
        if self._session is not None and self._loop is asyncio.get_running_loop():
            await self._session.close()
        self._session = None


def store_session() -> aiohttp.ClientSession:
    """For the store: kept-alive connections, no cookies, nothing taken from the environment."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=64, keepalive_timeout=30),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        skip_auto_headers=("user-agent", "accept", "accept-encoding"),
    )
