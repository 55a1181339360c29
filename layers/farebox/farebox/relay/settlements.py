"""Settlements under way in this process.

The caller's last byte does not wait for the store, so for a moment the wallet does not show what was just used.
Whoever reads a wallet in the same process waits here first, and so reads what it wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Settlements:
    """Tasks by account. A task's own failure is its own business: it never reaches a waiter."""

    def __init__(self) -> None:
        self._running: dict[str, set[asyncio.Task[Any]]] = {}

    def start(self, account: str, settlement: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(settlement)
        self._running.setdefault(account, set()).add(task)
        task.add_done_callback(lambda done: self._ended(account, done))
        return task

    def pending(self, account: str) -> bool:
        return account in self._running

    async def settled(self, account: str | None = None) -> None:
        """Returns when all that was under way (for `account`, or at all) has ended."""
        if account is not None:
            tasks = set(self._running.get(account, ()))
        else:
            tasks = {task for each in self._running.values() for task in each}
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, account: str, task: asyncio.Task[Any]) -> None:
        tasks = self._running.get(account)
        if tasks is not None:
            tasks.discard(task)
            if not tasks:
                del self._running[account]
