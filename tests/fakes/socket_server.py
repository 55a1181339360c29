"""A server on a real socket, in a thread of its own: what fakes of other people's services stand on."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, TypeVar

from aiohttp import web

Server = TypeVar("Server", bound="SocketServer")


class SocketServer:
    """Give it `answer`; `url` answers after start()."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._port = 0
        self._runner: web.AppRunner

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raise AssertionError

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self: Server) -> Server:
        self._thread.start()
        self._run(self._start())
        return self

    def stop(self) -> None:
        self._run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
