"""A DynamoDB client that goes wrong at its k-th call: what stands behind it is the real embedded store.

One `Injector` numbers the calls of all processes of a run, so that every call of a run is hit once as k goes up.
A `Life` is a process: once it has crashed, everything in it raises Crash.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from farebox.adapters.dynamodb.errors import ConditionFailed, DynamoDBError, TransactionCanceled
from farebox.errors import StoreUnavailable

READS = frozenset({"BatchGetItem", "DescribeTable", "GetItem", "Query", "Scan"})


class Crash(BaseException):
    """The process is dead."""


class Fault(StrEnum):
    """What happens to one call. "retried": as the real client does, within its patience."""

    LOST_ONCE = "request lost, retried"
    LOST = "request lost"
    ACK_LOST_ONCE = "acknowledgement lost, retried"
    ACK_LOST = "acknowledgement lost"
    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    DUPLICATED = "duplicated"
    LATE_TWIN = "retried, first copy comes late"
    DELAYED = "delayed past the deadline"
    OUTAGE = "store away from here on"
    FROZEN = "process frozen past the hold's life"


@dataclass
class Life:
    """One process."""

    dead: bool = False

    def check(self) -> None:
        if self.dead:
            raise Crash

    def end(self) -> None:
        self.dead = True
        raise Crash


Request = dict[str, Any] | Callable[[], dict[str, Any]]
"""A function makes each copy that is sent anew, as the real client takes it."""
Seen = Callable[[str, dict[str, Any]], Awaitable[None]]


@dataclass
class Injector:
    """`faults`: number of a call → what happens to it. `late` are requests under way that will still arrive.

    `on_freeze` is what the world does while a process stands still. `on_write` sees every write that the store took.
    """

    faults: dict[int, Fault] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    hits: dict[int, Fault] = field(default_factory=dict)
    late: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    twins: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    away: bool = False
    armed: bool = True
    next: Fault | None = None
    on_freeze: Callable[[], Awaitable[None]] | None = None
    on_write: Seen | None = None

    def fault(self, operation: str) -> Fault | None:
        """Numbers a call; the fault that it meets."""
        if not self.armed:
            return None
        self.calls.append(operation)
        number = len(self.calls)
        found = self.faults.get(number)
        if self.next is not None:
            found, self.next = self.next, None
        if found is not None:
            self.hits[number] = found
        return found


class FaultyDB:
    """`call` as adapters.dynamodb.client.DynamoDB has it."""

    def __init__(self, inner: Any, injector: Injector, life: Life) -> None:
        self._inner = inner
        self._injector = injector
        self._life = life

    async def call(self, operation: str, request: Request) -> dict[str, Any]:
        self._life.check()
        injector = self._injector
        fault = injector.fault(operation)
        if fault is Fault.OUTAGE:
            injector.away = True
        if injector.away:
            raise StoreUnavailable(retry_after_s=2)
        match fault:
            case Fault.LOST:
                raise StoreUnavailable(retry_after_s=2)
            case Fault.ACK_LOST:
                await self._unheard(operation, request)
                raise StoreUnavailable(retry_after_s=2)
            case Fault.ACK_LOST_ONCE:
                await self._unheard(operation, request)
            case Fault.CRASH_BEFORE:
                self._life.end()
            case Fault.CRASH_AFTER:
                await self._unheard(operation, request)
                self._life.end()
            case Fault.LATE_TWIN:
                injector.twins.append((operation, _made(request)))
            case Fault.DELAYED:
                injector.late.append((operation, _made(request)))
                raise StoreUnavailable(retry_after_s=2)
            case Fault.FROZEN:
                assert injector.on_freeze is not None
                await injector.on_freeze()
        made = _made(request)
        try:
            answer = await self.deliver(operation, made)
        finally:
            if fault is Fault.DUPLICATED:
                await self._unheard(operation, made)
        self._life.check()  # it may have died at another call meanwhile
        return answer

    async def deliver(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """The request reaches the store."""
        answer: dict[str, Any] = await self._inner.call(operation, request)
        if operation not in READS and self._injector.on_write is not None:
            await self._injector.on_write(operation, request)
        return answer

    async def _unheard(self, operation: str, request: Request) -> None:
        with suppress(DynamoDBError):
            await self.deliver(operation, _made(request))


def _made(request: Request) -> dict[str, Any]:
    return request() if callable(request) else request


async def arrive(inner: Any, injector: Injector, requests: list[tuple[str, dict[str, Any]]]) -> None:
    """Delivers what was under way. What the store says to it, nobody hears."""
    late = FaultyDB(inner, injector, Life())
    while requests:
        operation, request = requests.pop(0)
        with suppress(ConditionFailed, TransactionCanceled):
            await late.deliver(operation, request)
