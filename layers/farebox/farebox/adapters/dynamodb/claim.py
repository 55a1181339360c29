"""Idempotency claims in the counters table: who runs a body under a caller's key, for a day.

The claim names a request; whether that one still runs, and what it brought, is what the ledger says of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farebox.adapters.dynamodb.tables import TTL, Tables
from farebox.adapters.dynamodb.values import n, s
from farebox.domain import money
from farebox.domain.idempotency import LIFE_MS, Claim

BROUGHT_NOTHING = frozenset({"failed", "refused", "expired", "cancelled"})
"""Outcomes that, at no cost, leave the claim free for another try: nothing came back that could come twice."""
LINGER_S = 3600


def put_claim(claim: Claim, now_ms: int, tables: Tables) -> dict[str, Any]:
    """Takes the claim if it is free, has lapsed, is this request's own, or is that of the request it replaces."""
    condition = "attribute_not_exists(id) OR expires <= :now OR rid = :rid"
    values = {":now": n(now_ms), ":rid": s(claim.request_id)}
    if claim.replaces is not None:
        condition += " OR rid = :old"
        values[":old"] = s(claim.replaces)
    expires_ms = now_ms + LIFE_MS
    item = {
        "id": s(claim.id),
        "rid": s(claim.request_id),
        "body": s(claim.body_digest),
        "expires": n(expires_ms),
        TTL: n(expires_ms // 1000 + LINGER_S),
    }
    return {
        "TableName": tables.counters,
        "Item": item,
        "ConditionExpression": condition,
        "ExpressionAttributeValues": values,
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def told(receipt: Mapping[str, Any]) -> dict[str, object]:
    """What the caller of a completed request is told about it."""
    return {
        "request_id": receipt["request_id"],
        "outcome": receipt["outcome"],
        "usage": receipt["usage"],
        "cost": money.format_ca(receipt["cost_nano"]),
    }
