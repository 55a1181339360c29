"""The ledger as a pure specification: accounts, entries, and what an entry does to an account.

The store adapter does the same with conditional writes; tests drive both side by side. An account's wallet is
explained by its entries:  avail + held - debt == Σ entry.amount_nano  over its applied entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


class LedgerError(Exception):
    """A step that the rules forbid; the account is as it was."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside for one running request, until `expires_ms` (epoch ms)."""

    amount_nano: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Wallet:
    """All amounts are nano-CA and never negative."""

    avail_nano: int = 0
    held_nano: int = 0
    spent_nano: int = 0
    credited_nano: int = 0
    holds: Mapping[str, Hold] = field(default_factory=dict)
    debt_nano: int = 0
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One append-only row: `amount_nano` > 0 for a credit, <= 0 for a request's cost, < 0 for a reversal."""

    id: str
    amount_nano: int


def credit(wallet: Wallet, entry: Entry) -> Wallet:
    """Adds money from outside. A debt is paid first."""
    if entry.amount_nano <= 0:
        raise LedgerError("a credit is positive")
    return collect(
        replace(
            wallet,
            avail_nano=wallet.avail_nano + entry.amount_nano,
            credited_nano=wallet.credited_nano + entry.amount_nano,
        )
    )


def reverse(wallet: Wallet, entry: Entry) -> Wallet:
    """Takes back what a credit gave, because its payer got it back. What is not there becomes a debt, and freezes."""
    amount_nano = -entry.amount_nano
    if not 0 < amount_nano <= wallet.credited_nano:
        raise LedgerError("a reversal takes back what was credited")
    reversed_ = replace(wallet, credited_nano=wallet.credited_nano - amount_nano)
    if wallet.avail_nano >= amount_nano and not wallet.debt_nano:
        return replace(reversed_, avail_nano=wallet.avail_nano - amount_nano)
    return collect(replace(reversed_, debt_nano=wallet.debt_nano + amount_nano, frozen=True))


def collect(wallet: Wallet) -> Wallet:
    """Pays the debt from what is available; whoever owes nothing is not frozen. No entry: the sum is as before."""
    paid_nano = min(wallet.debt_nano, wallet.avail_nano)
    return replace(
        wallet,
        avail_nano=wallet.avail_nano - paid_nano,
        debt_nano=wallet.debt_nano - paid_nano,
        frozen=wallet.debt_nano > paid_nano,
    )


def hold(wallet: Wallet, request_id: str, new: Hold) -> Wallet:
    """Sets money aside before the upstream sees a byte."""
    if request_id in wallet.holds:
        raise LedgerError("this request holds already")
    if wallet.frozen:
        raise LedgerError("the account is frozen")
    if not 0 <= new.amount_nano <= wallet.avail_nano:
        raise LedgerError("the wallet does not cover the hold")
    return replace(
        wallet,
        avail_nano=wallet.avail_nano - new.amount_nano,
        held_nano=wallet.held_nano + new.amount_nano,
        holds={**wallet.holds, request_id: new},
    )


def settle(wallet: Wallet, entry: Entry) -> Wallet:
    """Ends a hold: its cost leaves the wallet, the rest comes back. A hold that is not there was ended before."""
    held = wallet.holds.get(entry.id)
    if held is None:
        return wallet
    cost_nano = -entry.amount_nano
    if not 0 <= cost_nano <= held.amount_nano:
        raise LedgerError("a request never costs more than its hold")
    return replace(
        wallet,
        avail_nano=wallet.avail_nano + held.amount_nano - cost_nano,
        held_nano=wallet.held_nano - held.amount_nano,
        spent_nano=wallet.spent_nano + cost_nano,
        holds={other: kept for other, kept in wallet.holds.items() if other != entry.id},
    )


def violations(wallet: Wallet) -> list[str]:
    """What is wrong with a wallet by itself; empty when all is well."""
    found = [
        name
        for name in ("avail_nano", "held_nano", "spent_nano", "credited_nano", "debt_nano")
        if getattr(wallet, name) < 0
    ]
    if wallet.held_nano != sum(each.amount_nano for each in wallet.holds.values()):
        found.append("held_nano is not the sum of the holds")
    if wallet.avail_nano + wallet.held_nano - wallet.debt_nano != wallet.credited_nano - wallet.spent_nano:
        found.append("avail + held - debt is not credited - spent")
    if wallet.debt_nano and not wallet.frozen:
        found.append("who owes is not frozen")
    return found
