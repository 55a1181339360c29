"""Ends the holds of dead processes, account by account. Safe to run twice, never, half, or late."""

from __future__ import annotations

from farebox.ports import Accounts, Clock, Store, Telemetry


async def sweep(accounts: Accounts, store: Store, clock: Clock, telemetry: Telemetry) -> dict[str, int]:
    """Counts of accounts looked at, holds ended, and accounts that could not be read (they do not stop the others)."""
    counts = {"accounts": 0, "expired": 0, "failed": 0}
    for account in await accounts.ids():
        counts["accounts"] += 1
        try:
            counts["expired"] += await store.expire(account, clock.now_ms())
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one account, the others get their money
            counts["failed"] += 1
            telemetry.trouble("sweep_failed", {"error": type(error).__name__})
    return counts
