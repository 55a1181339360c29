"""Calls as CSV (RFC 4180): figures and our own words; no prompt, no answer, no address, no name of anybody's."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import tzinfo

from farebox.domain import money
from farebox.domain.call_records import CallRecord
from farebox.http.moments import iso

CSV_CALLS_MAX = 20_000
"""About 4 MB: an answer on Lambda has 6 MB at most."""
COLUMNS = (
    "time",
    "request_id",
    "model",
    "endpoint",
    "stream",
    "outcome",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "usage",
    "cost_ca",
    "took_ms",
)
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What spreadsheets would compute instead of showing."""


def csv_text(calls: Iterable[CallRecord], zone: tzinfo) -> str:
    """A head, then a line for each call, in their order. `usage`: each class as unit=count, a space between."""
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(COLUMNS)
    lines.writerows(_line(call, zone) for call in calls)
    return text.getvalue()


def harmless(cell: str) -> str:
    """The text, with an apostrophe before it where a spreadsheet would take it for a formula."""
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell


def _line(call: CallRecord, zone: tzinfo) -> list[str | int]:
    return [
        iso(call.at_ms, zone),
        call.request_id,
        harmless(call.model),
        harmless(call.endpoint),
        "true" if call.stream else "false",
        harmless(call.outcome),
        call.input_tokens,
        call.output_tokens,
        call.input_tokens + call.output_tokens,
        harmless(" ".join(f"{unit}={count}" for unit, count in call.usage.items())),
        money.format_ca(call.cost_nano),
        call.took_ms,
    ]
