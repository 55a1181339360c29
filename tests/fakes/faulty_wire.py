"""A proxy on the store's wire that does what an embedded store never does by itself.

    wire.rule = always(Trouble.THROTTLED)
    wire.rule = odd_calls(Trouble.RESET_AFTER)

`rule` looks at each request and names the trouble that it meets, or None. `down()` is a store that is not there.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import aiohttp
from aiohttp import web

from farebox.local.store_process import free_port


class Trouble(StrEnum):
    """ "before": the store never saw it. "after": the store did it, and its answer is not what the caller gets."""

    CONFLICT = "TransactionConflictException"
    THROUGHPUT = "ProvisionedThroughputExceededException"
    THROTTLED = "ThrottlingException"
    ERROR_BEFORE = "500 before"
    ERROR_AFTER = "500 after"
    HANG_BEFORE = "timeout before"
    HANG_AFTER = "timeout after"
    RESET_BEFORE = "reset before"
    RESET_AFTER = "reset after"
    NONSENSE = "503 from a balancer"


REFUSALS = frozenset({Trouble.CONFLICT, Trouble.THROUGHPUT, Trouble.THROTTLED})


@dataclass(frozen=True)
class WireRequest:
    """`number` counts from 1 since the wire was last reset."""

    number: int
    operation: str
    body: dict[str, Any]


Rule = Callable[[WireRequest], Trouble | None]


def always(trouble: Trouble) -> Rule:
    return lambda _: trouble


def odd_calls(trouble: Trouble) -> Rule:
    """Every call fails the first time, as long as they come one by one."""
    return lambda request: trouble if request.number % 2 else None


def first_call(trouble: Trouble) -> Rule:
    return lambda request: trouble if request.number == 1 else None


def now_and_then(share: float, troubles: tuple[Trouble, ...], seed: int) -> Rule:
    dice = random.Random(seed)
    return lambda _: dice.choice(troubles) if dice.random() < share else None


@dataclass
class FaultyWire:
    """In front of the store at `target`; `url` answers after start()."""

    target: str
    rule: Rule = lambda _: None
    latency_s: float = 0.0
    met: list[Trouble] = field(default_factory=list)
    calls: int = 0

    def start(self) -> FaultyWire:
        self._port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._open())
        return self

    def stop(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def reset(self, rule: Rule = lambda _: None) -> None:
        """A wire without trouble, or with this rule's; calls are counted anew."""
        self.rule, self.latency_s, self.calls = rule, 0.0, 0
        self.met.clear()

    def down(self) -> None:
        """Nobody listens; what is connected is cut."""
        self._run(self._down())

    def up(self) -> None:
        self._run(self._up())

    # ── inside ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _open(self) -> None:
        self._session = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
        self._transports: set[asyncio.BaseTransport] = set()
        await self._up()

    async def _close(self) -> None:
        await self._down()
        await self._session.close()

    async def _up(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._serve), access_log=None, shutdown_timeout=0.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()

    async def _down(self) -> None:
        for transport in self._transports:
            transport.abort()  # type: ignore[attr-defined]
        self._transports.clear()
        await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is not None:
            self._transports.add(request.transport)
        data = await request.read()
        self.calls += 1
        operation = request.headers.get("x-amz-target", "").rpartition(".")[2]
        trouble = self.rule(WireRequest(self.calls, operation, json.loads(data)))
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if trouble is None:
            return await self._forward(request, data)
        self.met.append(trouble)
        if trouble in REFUSALS:
            return _refusal(trouble, operation, json.loads(data))
        if trouble.endswith("after"):
            await self._forward(request, data)
        if trouble in (Trouble.RESET_BEFORE, Trouble.RESET_AFTER):
            assert request.transport is not None
            request.transport.abort()
            raise ConnectionResetError
        if trouble in (Trouble.HANG_BEFORE, Trouble.HANG_AFTER):
            while request.transport is not None and not request.transport.is_closing():
                await asyncio.sleep(0.02)
        if trouble is Trouble.NONSENSE:
            return web.Response(status=503, text="<html>upstream connect error</html>")
        return _error(500, "InternalServerError")

    async def _forward(self, request: web.BaseRequest, data: bytes) -> web.Response:
        headers = {
            name: request.headers[name] for name in ("x-amz-target", "content-type", "authorization", "x-amz-date")
        }
        async with self._session.post(self.target, data=data, headers=headers) as answer:
            return web.Response(
                status=answer.status, body=await answer.read(), content_type="application/x-amz-json-1.0"
            )


def _refusal(trouble: Trouble, operation: str, body: dict[str, Any]) -> web.Response:
    """A conflict or a throttle: of a transaction it stands in the reasons, of everything else it is the error."""
    if operation != "TransactWriteItems":
        return _error(400, str(trouble))
    code = {Trouble.CONFLICT: "TransactionConflict", Trouble.THROUGHPUT: "ProvisionedThroughputExceeded"}
    reasons = [{"Code": "None"} for _ in body["TransactItems"]]
    reasons[-1] = {"Code": code.get(trouble, "ThrottlingError"), "Message": "no"}
    return _error(400, "TransactionCanceledException", CancellationReasons=reasons)


def _error(status: int, kind: str, **more: Any) -> web.Response:
    body = {"__type": f"com.amazonaws.dynamodb.v20120810#{kind}", "message": "no", **more}
    return web.Response(status=status, body=json.dumps(body).encode(), content_type="application/x-amz-json-1.0")
