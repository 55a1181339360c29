"""How often something was tried this hour: counters whose conditions decide. See ports.Tries."""

from __future__ import annotations

import asyncio
from typing import Any

from farebox.adapters.dynamodb.client import DynamoDB
from farebox.adapters.dynamodb.errors import TransactionCanceled
from farebox.adapters.dynamodb.tables import TTL, Tables
from farebox.adapters.dynamodb.values import n, s
from farebox.domain.quota import Unit
from farebox.domain.tries import FIELD
from farebox.errors import TooMany

LIFE_S = 3 * 3600


class DynamoDBTries:
    """Counters of tries in the counters table."""

    def __init__(self, db: DynamoDB, tables: Tables) -> None:
        self._db = db
        self._tables = tables

    async def check(self, units: tuple[Unit, ...], now_ms: int) -> None:
        """Raises TooMany where one is used up. Takes nothing."""
        counts = await asyncio.gather(*(self._count(unit) for unit in units))
        if any(count >= unit.limits[0].limit for count, unit in zip(counts, units, strict=True)):
            raise _too_many(units, now_ms)

    async def take(self, units: tuple[Unit, ...], now_ms: int) -> None:
        """All or none. Raises TooMany."""
        updates = [{"Update": self._raise(unit, now_ms)} for unit in units]
        try:
            await self._db.call("TransactWriteItems", {"TransactItems": updates})
        except TransactionCanceled:
            raise _too_many(units, now_ms) from None

    async def _count(self, unit: Unit) -> int:
        request = {"TableName": self._tables.counters, "Key": {"id": s(unit.counter)}, "ConsistentRead": True}
        item = (await self._db.call("GetItem", request)).get("Item", {})
        return int(item[FIELD]["N"]) if FIELD in item else 0

    def _raise(self, unit: Unit, now_ms: int) -> dict[str, Any]:
        return {
            "TableName": self._tables.counters,
            "Key": {"id": s(unit.counter)},
            "UpdateExpression": f"SET #ttl = :ttl ADD {FIELD} :one",
            "ConditionExpression": f"attribute_not_exists({FIELD}) OR {FIELD} < :limit",
            "ExpressionAttributeNames": {"#ttl": TTL},
            "ExpressionAttributeValues": {
                ":one": n(1),
                ":limit": n(unit.limits[0].limit),
                ":ttl": n(now_ms // 1000 + LIFE_S),
            },
        }


def _too_many(units: tuple[Unit, ...], now_ms: int) -> TooMany:
    ends_ms = max(unit.ends_ms for unit in units)
    return TooMany(
        zh="尝试次数过多，请稍后再试。",
        en="Too many tries; please retry later.",
        retry_after_s=max(1, -((now_ms - ends_ms) // 1000)),
    )
