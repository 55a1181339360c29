"""An account's calls, newest first: queries over a range of ledger ids, which begin with the time. Never a scan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson

from farebox.adapters.dynamodb.client import DynamoDB
from farebox.adapters.dynamodb.tables import Tables
from farebox.adapters.dynamodb.values import Item, plain, s
from farebox.domain import ids
from farebox.domain.call_records import CallPage, CallRecord, call_record
from farebox.domain.spans import Span

PAGE_ROWS_MAX = 1_000
"""The store ends a page at 1 MB, which is fewer."""


class DynamoDBCallLog:
    """See ports.CallLog. Reads may be some milliseconds behind: a consistent one costs twice as much."""

    def __init__(self, db: DynamoDB, tables: Tables) -> None:
        self._db = db
        self._tables = tables

    async def pages(self, account: str, key_number: str | None, span: Span, rows: int) -> AsyncIterator[CallPage]:
        """The partition is the account's own, so no other account's row can be among them, whatever the filter."""
        request = self._request(account, key_number, span)
        if request is None:
            return
        while True:
            answer = await self._db.call("Query", {**request, "Limit": rows})
            last: Item | None = answer.get("LastEvaluatedKey")
            yield CallPage(
                records=tuple(_record_of(item) for item in answer["Items"]),
                read=answer["ScannedCount"],
                reached_ms=ids.time_of(last["id"]["S"]) if last else None,
            )
            if not last:
                return
            request["ExclusiveStartKey"] = last
            rows = max(rows, min(rows * 4, PAGE_ROWS_MAX))

    def _request(self, account: str, key_number: str | None, span: Span) -> dict[str, Any] | None:
        """None for a span in which there is no time."""
        until_ms = ids.END_OF_TIME_MS if span.until_ms is None else span.until_ms
        if not span.from_ms < until_ms <= ids.END_OF_TIME_MS:
            return None
        request: dict[str, Any] = {
            "TableName": self._tables.ledger,
            "KeyConditionExpression": "acct = :a AND #id BETWEEN :first AND :last",
            "ExpressionAttributeNames": {"#id": "id"},
            "ExpressionAttributeValues": {
                ":a": s(account),
                ":first": s(ids.first_at(span.from_ms)),
                ":last": s(ids.last_before(until_ms)),
            },
            "ProjectionExpression": "#id, amount, receipt",
            "ScanIndexForward": False,
        }
        if key_number is not None:
            request["FilterExpression"] = "#key = :key"
            request["ExpressionAttributeNames"]["#key"] = "key"
            request["ExpressionAttributeValues"][":key"] = s(key_number)
        return request


def _record_of(item: Item) -> CallRecord:
    return call_record(item["id"]["S"], -int(item["amount"]["N"]), orjson.loads(plain(item["receipt"])))
