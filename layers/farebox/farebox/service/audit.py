"""Recomputes every wallet from its ledger. What does not add up is a violation; there must never be one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from farebox.domain.accounts import ACTIVE, Account
from farebox.errors import NotFound
from farebox.ports import Accounts, Clock

READS_MAX = 8
"""How often an account may change under the audit before that itself is reported."""


@dataclass(slots=True)
class Audit:
    """Sums over all accounts, nano-CA. A wallet is what is available and held, less what is owed."""

    accounts: int = 0
    ledger_sum_nano: int = 0
    wallet_sum_nano: int = 0
    open_holds: int = 0
    stale_holds: int = 0
    violations: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        return {
            "accounts": self.accounts,
            "ledger_sum_nano": self.ledger_sum_nano,
            "wallet_sum_nano": self.wallet_sum_nano,
            "difference_nano": self.ledger_sum_nano - self.wallet_sum_nano,
            "open_holds": self.open_holds,
            "stale_holds": self.stale_holds,
            "violations": self.violations,
        }


async def audit(accounts: Accounts, clock: Clock) -> Audit:
    """Looks at every account. Safe while requests run: an account is judged on a moment in which it stood still."""
    found = Audit()
    for account_id in await accounts.ids():
        still = await _standing_still(accounts, account_id)
        if still is None:
            found.violations.append(f"{account_id}: changed at every look, not judged")
            continue
        account, ledger_nano = still
        found.accounts += 1
        found.ledger_sum_nano += ledger_nano
        found.wallet_sum_nano += account.net_nano
        found.open_holds += len(account.holds)
        found.stale_holds += sum(hold.expires_ms < clock.now_ms() for hold in account.holds.values())
        found.violations += [f"{account_id}: {wrong}" for wrong in violations(account, ledger_nano)]
    return found


def violations(account: Account, ledger_nano: int) -> list[str]:
    """What is wrong with one account, given the sum of its applied ledger rows."""
    held_nano = sum(hold.amount_nano for hold in account.holds.values())
    rules = (
        (account.avail_nano < 0, f"available is {account.avail_nano}"),
        (account.held_nano < 0, f"held is {account.held_nano}"),
        (account.debt_nano < 0, f"debt is {account.debt_nano}"),
        (account.debt_nano > 0 and account.status == ACTIVE, f"owes {account.debt_nano} and is not frozen"),
        (account.held_nano != held_nano, f"held is {account.held_nano}, its holds sum to {held_nano}"),
        (
            account.net_nano != ledger_nano,
            f"wallet is {account.net_nano}, ledger says {ledger_nano}",
        ),
        (
            account.credited_nano - account.spent_nano != ledger_nano,
            f"credited less spent is {account.credited_nano - account.spent_nano}, ledger says {ledger_nano}",
        ),
    )
    return [sentence for broken, sentence in rules if broken]


async def _standing_still(accounts: Accounts, account_id: str) -> tuple[Account, int] | None:
    """The account and its ledger's sum, read while nothing changed; rows that are written but not yet applied wait."""
    try:
        before = await accounts.get(account_id)
        for _ in range(READS_MAX):
            entries = await accounts.entries(account_id)
            after = await accounts.get(account_id)
            if after == before:
                waiting = await _waiting(accounts, after, {entry for entry, _ in entries})
                return after, sum(amount for entry, amount in entries if entry not in waiting)
            before = after
    except NotFound:
        pass
    return None


async def _waiting(accounts: Accounts, account: Account, written: set[str]) -> set[str]:
    """The rows that are written and not yet applied: their holds are still open."""
    holds = {request_id: hold for request_id, hold in account.holds.items() if request_id in written}
    return {
        request_id
        for request_id, hold in holds.items()
        if await accounts.awaits_its_row(account.id, request_id, hold.attempt)
    }
