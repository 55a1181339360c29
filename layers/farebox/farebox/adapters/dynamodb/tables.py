"""The four tables: names, keys, and how a local store gets them. The template makes the same ones on AWS."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from farebox.adapters.dynamodb.client import DynamoDB
from farebox.adapters.dynamodb.errors import Rejected, TableMissing

TTL = "ttl"


@dataclass(frozen=True, slots=True)
class Tables:
    """Full table names under one prefix."""

    accounts: str
    ledger: str
    counters: str
    registry: str

    @classmethod
    def under(cls, prefix: str) -> Tables:
        return cls(f"{prefix}accounts", f"{prefix}ledger", f"{prefix}counters", f"{prefix}registry")

    def keys(self) -> dict[str, tuple[str, ...]]:
        """Table name → its key attributes, partition key first."""
        return {
            self.accounts: ("acct",),
            self.ledger: ("acct", "id"),
            self.counters: ("id",),
            self.registry: ("id",),
        }


async def ensure(db: DynamoDB, tables: Tables) -> None:
    """Creates what is missing: for local stores only, on AWS the template does it."""
    await asyncio.gather(*(_ensure(db, name, keys) for name, keys in tables.keys().items()))


async def _ensure(db: DynamoDB, name: str, keys: tuple[str, ...]) -> None:
    try:
        await db.call("DescribeTable", {"TableName": name})
    except TableMissing:
        try:
            await db.call("CreateTable", _definition(name, keys))
        except Rejected as error:
            if str(error) != "ResourceInUseException":  # another process was faster
                raise


def _definition(name: str, keys: tuple[str, ...]) -> dict[str, Any]:
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"} for key in keys],
        "KeySchema": [
            {"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)
        ],
    }
