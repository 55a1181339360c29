"""Anthropic's usage, read with suspicion: absent, absurd or contradictory figures are no figures.

`input_tokens` leaves out what was written to the cache or read from it; the whole is the sum of the three. A stream
gives the figures in two events, and those of the later one are totals: they replace the earlier ones.
https://docs.claude.com/en/api/messages
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farebox.domain.usage import COUNT_MAX, INPUT_TOKENS, AbsurdUsage, Usage, tokens

Figures = dict[str, Any]
_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
_DETAILS = ("cache_creation", "output_tokens_details", "server_tool_use")


def merge(figures: Figures, raw: Any) -> None:
    """Puts the figures of one more usage object into `figures`.

    Null says nothing; nor does a nought after a figure: totals do not fall, but some gateways send one for what they
    said before.
    """
    if not isinstance(raw, Mapping):
        return
    for name in _COUNTS:
        value = raw.get(name)
        if value is not None and not (value == 0 and figures.get(name)):
            figures[name] = value
    for name in _DETAILS:
        value = raw.get(name)
        if isinstance(value, Mapping):
            figures[name] = value
    if isinstance(raw.get("service_tier"), str):
        figures["service_tier"] = raw["service_tier"]


def read_usage(figures: Figures) -> Usage | None:
    """The usage in merged figures, or None where a side is missing or they cannot be believed."""
    return _read(figures, figures.get("output_tokens"))


def read_sent(figures: Figures) -> Usage | None:
    """Just what was sent: its figures are exact from a stream's first event on. None where there are none."""
    usage = _read(figures, 0)
    if usage is None:
        return None
    sent = {unit: count for unit, count in usage.counts.items() if unit in INPUT_TOKENS}
    return Usage(sent, {unit: usage.sources[unit] for unit in sent})


def _read(figures: Figures, output_tokens: Any) -> Usage | None:
    try:
        written = _count(figures.get("cache_creation_input_tokens") or 0)
        cached = _count(figures.get("cache_read_input_tokens") or 0)
        written_1h = _part(figures, "cache_creation", "ephemeral_1h_input_tokens")
        output = _count(output_tokens)
        reasoning = _part(figures, "output_tokens_details", "thinking_tokens")
        return tokens(
            input_tokens=_count(figures.get("input_tokens")) + written + cached,
            output_tokens=output,
            cached=cached,
            # Without details all is for five minutes. The details may be older than the total, so they never make it.
            cache_write=written - written_1h,
            cache_write_1h=written_1h,
            # More thoughts than output are absurd, and so small a detail that the rest is believed without it.
            reasoning=reasoning if reasoning <= output else 0,
            web_searches=_part(figures, "server_tool_use", "web_search_requests"),
            source="upstream",
        )
    except AbsurdUsage:
        return None


def _part(figures: Figures, details: str, name: str) -> int:
    return _count(figures.get(details, {}).get(name) or 0)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= COUNT_MAX:
        raise AbsurdUsage("a figure is not a count")
    return value
