"""The receipt of one relayed request: what was used, at which price, how it ended. No text of anybody's in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from farebox.domain.pricing import Line

VERSION = 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """All money in nano-CA. `usage`: unit → {"count", "source"}. `overrun_nano`: what the house bore above the hold.

    `attempts`: each upstream that was tried, as (channel, result, took_ms); `channel` is the last of them.
    """

    request_id: str
    at_ms: int
    account: str
    key_id: str
    model: str
    channel: str
    endpoint: str
    stream: bool
    usage: Mapping[str, Mapping[str, int | str]]
    price_version: str
    lines: tuple[Line, ...]
    cost_nano: int
    hold_nano: int
    overrun_nano: int
    outcome: str
    took_ms: int
    attempts: tuple[tuple[str, str, int], ...] = ()

    def document(self) -> dict[str, Any]:
        """The receipt as JSON values; what `canonical` signs."""
        return {
            "version": VERSION,
            "request_id": self.request_id,
            "time_ms": self.at_ms,
            "account": self.account,
            "key": self.key_id,
            "model": self.model,
            "channel": self.channel,
            "endpoint": self.endpoint,
            "stream": self.stream,
            "usage": {unit: dict(figure) for unit, figure in self.usage.items()},
            "price_version": self.price_version,
            "arithmetic": [
                {
                    "unit": line.unit,
                    "count": line.count,
                    "price_nano": line.price_nano_ca,
                    "cost_nano": line.cost_nano_ca,
                }
                for line in self.lines
            ],
            "cost_nano": self.cost_nano,
            "hold_nano": self.hold_nano,
            "overrun_nano": self.overrun_nano,
            "outcome": self.outcome,
            "took_ms": self.took_ms,
            "attempts": [
                {"channel": channel, "result": result, "took_ms": took_ms} for channel, result, took_ms in self.attempts
            ],
        }


def without_use(
    *, request_id: str, at_ms: int, account: str, key_id: str, model: str, hold_nano: int, outcome: str
) -> Receipt:
    """The receipt of a request of which nobody knows more than that it held: nothing was used, nothing is owed."""
    return Receipt(
        request_id=request_id,
        at_ms=at_ms,
        account=account,
        key_id=key_id,
        model=model,
        channel="",
        endpoint="",
        stream=False,
        usage={},
        price_version="",
        lines=(),
        cost_nano=0,
        hold_nano=hold_nano,
        overrun_nano=0,
        outcome=outcome,
        took_ms=0,
    )


def canonical(document: Mapping[str, Any]) -> bytes:
    """Canonical JSON: keys sorted, no spaces, UTF-8, integers only. The bytes that are signed and stored."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def arithmetic_errors(document: Mapping[str, Any]) -> list[str]:
    """What does not add up in a receipt's document; empty when all does."""
    found = []
    total = 0
    for line in document["arithmetic"]:
        if line["count"] * line["price_nano"] != line["cost_nano"]:
            found.append(f"{line['unit']}: {line['count']} x {line['price_nano']} is not {line['cost_nano']}")
        if document["usage"].get(line["unit"], {}).get("count") != line["count"]:
            found.append(f"{line['unit']}: the line's count is not the usage's")
        total += line["cost_nano"]
    if total - document["overrun_nano"] != document["cost_nano"]:
        found.append(
            f"the lines add up to {total}, less overrun {document['overrun_nano']}, not {document['cost_nano']}"
        )
    if document["cost_nano"] > document["hold_nano"]:
        found.append("the cost is above the hold")
    return found
