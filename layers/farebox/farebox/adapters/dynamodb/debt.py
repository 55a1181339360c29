"""Debts: what was paid back to the payer after it had been spent here.

    take     avail >= amount:  avail -= amount
             otherwise:        debt += amount, and the account is frozen     both in the ledger row's transaction
    collect  avail -= x, debt -= x                                           no row: avail + held - debt is as it was

A frozen account lets no request in, so from then on `avail` only grows: by what open holds give back, and by credits.
Collecting is done after each of those that goes past here, and by the sweep; twice or never, no sum changes.
"""

from __future__ import annotations

from typing import Any

from farebox.adapters.dynamodb.client import DynamoDB
from farebox.adapters.dynamodb.errors import ConditionFailed
from farebox.adapters.dynamodb.tables import Tables
from farebox.adapters.dynamodb.values import Item, n, s
from farebox.domain.accounts import ACTIVE, DEBT, FROZEN

LOOKS_MAX = 5


def take_update(account: str, amount_nano: int, tables: Tables) -> dict[str, Any]:
    """The Update that takes it out of the wallet, if that covers it and owes nothing."""
    return {
        "TableName": tables.accounts,
        "Key": {"acct": s(account)},
        "UpdateExpression": "SET avail = avail - :amount, credited = credited - :amount",
        "ConditionExpression": "avail >= :amount AND (attribute_not_exists(debt) OR debt = :none)",
        "ExpressionAttributeValues": {":amount": n(amount_nano), ":none": n(0)},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def owe_update(account: str, amount_nano: int, tables: Tables, *, frozen_before: bool) -> dict[str, Any]:
    """The Update that writes it down as a debt and freezes the account.

    `frozen_before`: as it was seen. An account that somebody else froze stays frozen when the debt is paid.
    """
    freeze = "" if frozen_before else ", st = :frozen, why = :debt"
    values = {":amount": n(amount_nano), ":none": n(0), ":active": s(ACTIVE)}
    return {
        "TableName": tables.accounts,
        "Key": {"acct": s(account)},
        "UpdateExpression": "SET debt = if_not_exists(debt, :none) + :amount, credited = credited - :amount" + freeze,
        "ConditionExpression": "st <> :active" if frozen_before else "st = :active",
        "ExpressionAttributeValues": values if frozen_before else {**values, ":frozen": s(FROZEN), ":debt": s(DEBT)},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def owes(item: Item | None) -> int:
    """An account's debt, nano-CA."""
    return int(item["debt"]["N"]) if item and "debt" in item else 0


async def collect(db: DynamoDB, tables: Tables, account: str, item: Item | None = None) -> None:
    """Pays the debt from what is available; once nothing is owed, what the debt had frozen is active again.

    `item`: the account as it was just read, where it was.
    """
    for _ in range(LOOKS_MAX):
        item = item or await _read(db, tables, account)
        if item is None or not owes(item) or not int(item["avail"]["N"]):
            return
        try:
            await db.call("UpdateItem", _payment(item, tables))
        except ConditionFailed:
            item = None  # it has changed: look again
        else:
            return


def _payment(item: Item, tables: Tables) -> dict[str, Any]:
    debt_nano = owes(item)
    paid_nano = min(debt_nano, int(item["avail"]["N"]))
    thaws = paid_nano == debt_nano and item.get("why") == s(DEBT)
    values = {":paid": n(paid_nano), ":debt": n(debt_nano)}
    return {
        "TableName": tables.accounts,
        "Key": {"acct": item["acct"]},
        "UpdateExpression": "SET avail = avail - :paid, debt = debt - :paid"
        + (", st = :active REMOVE why" if thaws else ""),
        "ConditionExpression": "avail >= :paid AND debt = :debt" + (" AND why = :why" if thaws else ""),
        "ExpressionAttributeValues": {**values, ":active": s(ACTIVE), ":why": s(DEBT)} if thaws else values,
    }


async def _read(db: DynamoDB, tables: Tables, account: str) -> Item | None:
    request = {"TableName": tables.accounts, "Key": {"acct": s(account)}, "ConsistentRead": True}
    return (await db.call("GetItem", request)).get("Item")
