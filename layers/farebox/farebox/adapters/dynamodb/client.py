"""One signed call to DynamoDB: retries with jitter inside a deadline, errors mapped in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from farebox.adapters.dynamodb.credentials import CredentialSource
from farebox.adapters.dynamodb.errors import ConditionFailed, Reason, Rejected, TableMissing, TransactionCanceled
from farebox.adapters.http_session import Session
from farebox.adapters.sigv4 import Signer
from farebox.errors import StoreUnavailable
from farebox.ports import Clock, Randomness

TARGET = "DynamoDB_20120810."
Request = dict[str, Any] | Callable[[], dict[str, Any]]
TRANSIENT = frozenset(
    {
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ThrottlingException",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
"""Errors worth another try. A write may have happened all the same: every write of ours is conditional, so a second
one finds the first."""
CANCELLED_BY_OTHERS = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try. Backoff doubles from `backoff_ms` with full jitter.

    `silence_s`: how long the store may say nothing to an attempt, and `silences`: how often. It counts from the
    sending, so that a crowd of our own which waits for its turn is not turned away from a store that works.
    `total_s`: the end in any case.
    """

    silence_s: float = 2.0
    silences: int = 2
    total_s: float = 12.0
    attempts: int = 8
    backoff_ms: int = 10
    backoff_ms_max: int = 500


class Retry(Exception):
    """Internal: this attempt failed in a way that may pass. `silent`: the store said nothing at all."""

    def __init__(self, *, silent: bool = False) -> None:
        super().__init__()
        self.silent = silent


class DynamoDB:
    """A client of one endpoint and region."""

    def __init__(
        self,
        session: Session,
        *,
        endpoint: str,
        region: str,
        credentials: CredentialSource,
        clock: Clock,
        random: Randomness,
        patience: Patience = Patience(),
    ) -> None:
        self._session = session
        self._endpoint = endpoint.rstrip("/") + "/"
        self._host = endpoint.split("://", 1)[1].rstrip("/")
        self._signer = Signer(region, "dynamodb", "application/x-amz-json-1.0")
        self._credentials = credentials
        self._clock = clock
        self._random = random
        self._patience = patience

    async def call(self, operation: str, request: Request) -> dict[str, Any]:
        """The answer as DynamoDB's JSON. A request that is a function is made anew for each attempt.

        Raises ConditionFailed, TransactionCanceled, TableMissing, Rejected; StoreUnavailable when patience runs out.
        """
        silences = 0
        try:
            async with asyncio.timeout(self._patience.total_s):
                for attempt in range(self._patience.attempts):
                    try:
                        made = request() if callable(request) else request
                        return await self._attempt(operation, orjson.dumps(made))
                    except Retry as retry:
                        silences += retry.silent
                        if silences >= self._patience.silences:
                            break
                        await self._back_off(attempt)
        except TimeoutError:
            pass
        raise StoreUnavailable(retry_after_s=2)

    async def _attempt(self, operation: str, body: bytes) -> dict[str, Any]:
        now_ms = self._clock.now_ms()
        headers = self._signer.headers(
            host=self._host,
            target=TARGET + operation,
            body=body,
            credentials=await self._credentials.current(now_ms),
            now_ms=now_ms,
        )
        silence_s = self._patience.silence_s
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=silence_s, sock_read=silence_s)
        try:
            async with self._session().post(self._endpoint, data=body, headers=headers, timeout=timeout) as response:
                answer = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Retry(silent=isinstance(error, TimeoutError)) from error
        if status == 200:
            return orjson.loads(answer)  # type: ignore[no-any-return]
        raise _error_of(status, answer)

    async def _back_off(self, attempt: int) -> None:
        ceiling_ms = min(self._patience.backoff_ms << attempt, self._patience.backoff_ms_max)
        await asyncio.sleep(self._random.below(ceiling_ms + 1) / 1000)


def _error_of(status: int, answer: bytes) -> Exception:
    try:
        error = orjson.loads(answer)
        kind = error["__type"].rpartition("#")[2]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return Retry() if status >= 500 else Rejected(f"status {status}")
    if kind == "ConditionalCheckFailedException":
        return ConditionFailed(error.get("Item"))
    if kind == "TransactionCanceledException":
        return _cancelled(error)
    if kind == "ResourceNotFoundException":
        return TableMissing(kind)
    if kind in TRANSIENT or status >= 500:
        return Retry()
    return Rejected(kind)


def _cancelled(error: dict[str, Any]) -> Exception:
    reasons = tuple(Reason(each.get("Code") or "None", each.get("Item")) for each in error["CancellationReasons"])
    cancelled = TransactionCanceled(reasons)
    if any(cancelled.failed(index) for index in range(len(reasons))):
        return cancelled
    if any(reason.code in CANCELLED_BY_OTHERS for reason in reasons):
        return Retry()
    return Rejected("TransactionCanceledException")
