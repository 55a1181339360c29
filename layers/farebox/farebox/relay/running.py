"""The streams that run in this process, so that their owners can cancel them.

A cancellation is a mark on the request's hold in the store. It takes effect here at once when it came in here, and
within POLL_S when it came in elsewhere: one task looks for marks, for all streams that have run for a while.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from farebox.errors import StoreUnavailable
from farebox.ports import Store

POLL_S = 2.0


@dataclass(slots=True)
class Running:
    """One stream. `limit` is its time limit, which a cancellation brings to now; `stops_billing`: see Vendor, of the
    one that is asked at present.
    """

    account: str
    limit: asyncio.Timeout
    since_s: float
    stops_billing: bool = True
    cancelled: bool = False

    def cancel(self) -> None:
        """Where the vendor stops billing the upstream is left at once; elsewhere it is heard out, for nobody."""
        if not self.cancelled:
            self.cancelled = True
            if self.stops_billing:
                self.limit.reschedule(asyncio.get_running_loop().time())


class Streams:
    """All that run here, by request id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: dict[str, Running] = {}
        self._watch: asyncio.Task[None] | None = None

    def add(self, request_id: str, account: str, limit: asyncio.Timeout) -> Running:
        running = Running(account, limit, asyncio.get_running_loop().time())
        self._running[request_id] = running
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._look_for_marks())
        return running

    def remove(self, request_id: str) -> None:
        self._running.pop(request_id, None)

    async def cancel(self, account: str, request_id: str) -> None:
        """Raises NotFound unless the account has such a stream running somewhere."""
        await self._store.mark_cancelled(account, request_id)
        running = self._running.get(request_id)
        if running is not None:
            running.cancel()

    async def close(self) -> None:
        """Stops looking."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})

    async def _look_for_marks(self) -> None:
        while self._running:
            await asyncio.sleep(POLL_S)
            before = asyncio.get_running_loop().time() - POLL_S
            accounts = {running.account for running in self._running.values() if running.since_s <= before}
            for account in accounts:
                with suppress(StoreUnavailable):
                    for request_id in await self._store.cancelled(account):
                        if request_id in self._running:
                            self._running[request_id].cancel()
