"""Ending a request: the ledger row decides, the wallet follows.

    1. Put ledger row if there is none for this request     exactly one terminal word, whoever writes it
    2. Update the account if it still holds this request    applies the row that won, once

A crash between the two leaves the hold open; whoever comes next (a retry, the account's next request, the sweep)
finds the row and does step 2 with it. No transaction is needed, so nothing conflicts on a busy account. Only where
daily units go back are the counters changed together with the account, in one transaction.
"""

from __future__ import annotations

from typing import Any

from farebox.adapters.dynamodb.tables import Tables
from farebox.adapters.dynamodb.values import Item, b, n, plain_item, s
from farebox.domain.quota import Limit, Unit
from farebox.ports import Settlement

USAGE = "usage"
CREDIT = "credit"


def ledger_row(settlement: Settlement) -> Item:
    """The row: amount (nano-CA, <= 0), which attempt's hold it ends, do units go back, the receipt as it was signed."""
    attempt = {} if settlement.attempt is None else {"n": n(settlement.attempt)}
    return {
        **attempt,
        "acct": s(settlement.account),
        "id": s(settlement.request_id),
        "kind": s(USAGE),
        "amount": n(-settlement.cost_nano),
        "back": {"BOOL": bool(settlement.units_back)},
        "key": s(settlement.key_number),
        "at": n(settlement.at_ms),
        "receipt": b(settlement.receipt),
        "sig": b(settlement.signature),
        "by": s(settlement.signer_key_id),
    }


def put_row(row: Item, tables: Tables) -> dict[str, Any]:
    return {
        "TableName": tables.ledger,
        "Item": row,
        "ConditionExpression": "attribute_not_exists(id)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def is_of(row: Item, hold: Item) -> bool:
    """Whether the row ends this hold.

    Else the hold is a ghost: a copy of the admitting write that was delayed on its way, and that placed the hold anew
    after the settlement had taken it away. What it would cost has been paid.
    """
    return "n" not in row or row["n"] == hold["n"]


def release_of(row: Item, hold: Item) -> Item:
    """What ends a ghost: nothing is owed. It is applied, never written: the request has its row."""
    return {**row, "amount": n(0), "n": hold["n"]}


def wallet_update(row: Item, hold_nano: int, tables: Tables) -> dict[str, Any]:
    """Applies a row to the wallet, if its hold is still open: the cost leaves, the rest comes back."""
    cost_nano = -int(row["amount"]["N"])
    values = {":rest": n(hold_nano - cost_nano), ":hold": n(hold_nano), ":cost": n(cost_nano)}
    condition = "holds.#r.a = :hold"
    if "n" in row:
        condition += " AND holds.#r.n = :attempt"
        values[":attempt"] = row["n"]
    return {
        "TableName": tables.accounts,
        "Key": {"acct": row["acct"]},
        "UpdateExpression": "SET avail = avail + :rest, held = held - :hold, spent = spent + :cost REMOVE holds.#r",
        "ConditionExpression": condition,
        "ExpressionAttributeNames": {"#r": row["id"]["S"]},
        "ExpressionAttributeValues": values,
    }


def unit_back(unit: Unit, tables: Tables) -> dict[str, Any]:
    """Gives a unit back to the very counter that it was taken from. Below nought it cannot go."""
    names = {f"#f{index}": limit.field for index, limit in enumerate(unit.limits)}
    return {
        "TableName": tables.counters,
        "Key": {"id": s(unit.counter)},
        "UpdateExpression": f"ADD {', '.join(f'{name} :minus' for name in names)}",
        "ConditionExpression": " AND ".join(f"{name} >= :one" for name in names),
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": {":minus": n(-1), ":one": n(1)},
    }


def units_of(hold: Item) -> tuple[Unit, ...]:
    """The units that a hold remembers to have taken; their limits no longer matter."""
    return tuple(
        Unit("key", unit["c"], tuple(Limit(field, 0) for field in unit["f"]), ends_ms=0)
        for unit in plain_item(hold).get("u", ())
    )
