"""Redeem codes in the registry table: `code#<digest>`, worth something once.

    TransactWriteItems(code unused → used by this account · ledger row if there is none · account)

The code's state decides who gets it; the ledger row's id comes from the code's, so even a code that somehow became
unused again would pay nobody twice on one account.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from farebox.adapters.dynamodb.client import DynamoDB
from farebox.adapters.dynamodb.crediting import credit_row, credit_update
from farebox.adapters.dynamodb.debt import collect
from farebox.adapters.dynamodb.errors import TransactionCanceled
from farebox.adapters.dynamodb.tables import Tables
from farebox.adapters.dynamodb.values import Item, n, s
from farebox.domain.codes import Code
from farebox.errors import InvalidCode, NotFound

UNUSED, USED = "unused", "used"
PER_TRANSACTION = 100
"""DynamoDB's limit."""


class DynamoDBCodes:
    """See ports.Codes."""

    def __init__(self, db: DynamoDB, tables: Tables) -> None:
        self._db = db
        self._tables = tables

    async def add(self, codes: Sequence[Code], at_ms: int) -> None:
        """Raises StoreUnavailable; what was written until then is lost with the texts that nobody has seen."""
        for start in range(0, len(codes), PER_TRANSACTION):
            puts = [{"Put": self._put(code, at_ms)} for code in codes[start : start + PER_TRANSACTION]]
            await self._db.call("TransactWriteItems", {"TransactItems": puts})

    async def redeem(self, code_id: str, account: str, at_ms: int) -> int:
        """Raises InvalidCode, NotFound."""
        item = await self._item(code_id)
        if item is None:
            raise InvalidCode
        value_nano = int(item["value"]["N"])
        if not _is_done(item, account):
            try:
                await self._db.call("TransactWriteItems", self._redemption(code_id, account, value_nano, at_ms))
            except TransactionCanceled as cancelled:
                if not _is_done(cancelled.reasons[0].item, account):
                    raise (InvalidCode if cancelled.failed(0) else NotFound) from None
        await collect(self._db, self._tables, account)
        return value_nano

    def _redemption(self, code_id: str, account: str, value_nano: int, at_ms: int) -> dict[str, Any]:
        use = {
            "TableName": self._tables.registry,
            "Key": {"id": s(code_id)},
            "UpdateExpression": "SET st = :used, acct = :account, used_at = :now",
            "ConditionExpression": "st = :unused AND x > :now",
            "ExpressionAttributeValues": {
                ":used": s(USED),
                ":unused": s(UNUSED),
                ":account": s(account),
                ":now": n(at_ms),
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        row_id = f"crd_{code_id.replace('#', '_')}"
        return {
            "TransactItems": [
                {"Update": use},
                {"Put": credit_row(account, row_id, value_nano, self._tables, reason="code", at_ms=at_ms)},
                {"Update": credit_update(account, value_nano, self._tables)},
            ]
        }

    def _put(self, code: Code, at_ms: int) -> dict[str, Any]:
        item = {
            "id": s(code.id),
            "st": s(UNUSED),
            "value": n(code.value_nano),
            "x": n(code.expires_ms),
            "at": n(at_ms),
        }
        # A copy that comes late must not make a code that was used meanwhile unused again.
        return {"TableName": self._tables.registry, "Item": item, "ConditionExpression": "attribute_not_exists(id)"}

    async def _item(self, code_id: str) -> Item | None:
        request = {"TableName": self._tables.registry, "Key": {"id": s(code_id)}, "ConsistentRead": True}
        return (await self._db.call("GetItem", request)).get("Item")


def _is_done(item: Item | None, account: str) -> bool:
    """Whether this very account has redeemed it: our own write, whose acknowledgement was lost, or a repeat."""
    return item is not None and item["st"]["S"] == USED and item["acct"]["S"] == account
