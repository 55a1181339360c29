"""What one request used, in disjoint counters.

Vendors report overlapping figures (input including cached, output including reasoning). They are made disjoint here,
once; a contradiction raises, it is never clamped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Source = Literal["upstream", "counted", "estimated"]
COUNT_MAX = 10**12
"""No honest figure is larger; a larger one is a lie or a bug."""


class AbsurdUsage(ValueError):
    """A reported figure that cannot be true."""


@dataclass(frozen=True, slots=True)
class Usage:
    """`counts`: unit of the catalog → how many (>= 0). `sources`: the same units → where each figure comes from."""

    counts: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)

    def of(self, unit: str) -> int:
        return self.counts.get(unit, 0)

    @property
    def input_tokens(self) -> int:
        """All input tokens, cached or not."""
        return self.of("input_token") + self.of("cached_input_token") + self.of("cache_write_token")

    @property
    def output_tokens(self) -> int:
        return self.of("output_token")


def tokens(*, input_tokens: int, output_tokens: int, cached: int = 0, cache_write: int = 0, source: Source) -> Usage:
    """Usage from OpenAI's counters, in which `input_tokens` includes what was cached and written to the cache."""
    for figure in (input_tokens, output_tokens, cached, cache_write):
        if type(figure) is not int or not 0 <= figure <= COUNT_MAX:
            raise AbsurdUsage("a figure is not a count")
    if cached + cache_write > input_tokens:
        raise AbsurdUsage(f"{cached} cached and {cache_write} written of {input_tokens} input tokens")
    counts = {
        "input_token": input_tokens - cached - cache_write,
        "cached_input_token": cached,
        "cache_write_token": cache_write,
        "output_token": output_tokens,
    }
    kept = {unit: count for unit, count in counts.items() if count or unit in ("input_token", "output_token")}
    return Usage(kept, dict.fromkeys(kept, source))
