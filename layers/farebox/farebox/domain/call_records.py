"""One call as its owner may look at it: figures from its receipt, and no text of anybody's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from farebox.domain import ids
from farebox.domain.usage import Usage


@dataclass(frozen=True, slots=True)
class CallRecord:
    """`at_ms`: when the call came in. `usage`: unit → count, empty where nothing came back. Money in nano-CA."""

    request_id: str
    at_ms: int
    model: str
    endpoint: str
    stream: bool
    outcome: str
    usage: Mapping[str, int]
    input_tokens: int
    output_tokens: int
    cost_nano: int
    took_ms: int


@dataclass(frozen=True, slots=True)
class CallPage:
    """Some calls, newest first. `read`: how many ledger rows it took, those of other keys included.

    `reached_ms`: everything that came in later than this has been read; None where the span is read to its end.
    """

    records: tuple[CallRecord, ...]
    read: int
    reached_ms: int | None


def call_record(request_id: str, cost_nano: int, document: Mapping[str, Any]) -> CallRecord:
    """From a receipt's document."""
    usage = {unit: figure["count"] for unit, figure in document["usage"].items()}
    counted = Usage(usage)
    return CallRecord(
        request_id=request_id,
        at_ms=ids.time_of(request_id),
        model=document["model"],
        endpoint=document["endpoint"],
        stream=document["stream"],
        outcome=document["outcome"],
        usage=usage,
        input_tokens=counted.input_tokens,
        output_tokens=counted.output_tokens,
        cost_nano=cost_nano,
        took_ms=document["took_ms"],
    )
