"""Money from outside: the ledger row that says so, and what it does to the account. Always in one transaction."""

from __future__ import annotations

from typing import Any

from farebox.adapters.dynamodb.settlement import CREDIT
from farebox.adapters.dynamodb.tables import Tables
from farebox.adapters.dynamodb.values import n, s


def credit_row(
    account: str, row_id: str, amount_nano: int, tables: Tables, *, reason: str, at_ms: int, kind: str = CREDIT
) -> dict[str, Any]:
    """The Put of a row that is no request's, if it is not there yet."""
    item = {
        "acct": s(account),
        "id": s(row_id),
        "kind": s(kind),
        "amount": n(amount_nano),
        "reason": s(reason),
        "at": n(at_ms),
    }
    return {
        "TableName": tables.ledger,
        "Item": item,
        "ConditionExpression": "attribute_not_exists(id)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def credit_update(account: str, amount_nano: int, tables: Tables) -> dict[str, Any]:
    """The Update of the account."""
    return {
        "TableName": tables.accounts,
        "Key": {"acct": s(account)},
        "UpdateExpression": "SET avail = avail + :amount, credited = credited + :amount",
        "ConditionExpression": "attribute_exists(acct)",
        "ExpressionAttributeValues": {":amount": n(amount_nano)},
    }
