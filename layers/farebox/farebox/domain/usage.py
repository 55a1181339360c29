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


INPUT_TOKENS = (
    "input_token",
    "cached_input_token",
    "cache_write_token",
    "cache_write_1h_token",
    "audio_input_token",
    "image_input_token",
)
OUTPUT_TOKENS = ("output_token", "reasoning_token", "audio_output_token", "image_output_token")


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
        """All tokens that were sent, of whatever class."""
        return sum(self.of(unit) for unit in INPUT_TOKENS)

    @property
    def output_tokens(self) -> int:
        """All tokens that came back, of whatever class."""
        return sum(self.of(unit) for unit in OUTPUT_TOKENS)


def tokens(
    *,
    input_tokens: int,
    output_tokens: int,
    cached: int = 0,
    cache_write: int = 0,
    cache_write_1h: int = 0,
    audio_input: int = 0,
    image_input: int = 0,
    reasoning: int = 0,
    audio_output: int = 0,
    image_output: int = 0,
    web_searches: int = 0,
    source: Source,
) -> Usage:
    """Usage from overlapping counters: `input_tokens` and `output_tokens` are the wholes, the others parts of them.

    Searches are no tokens. Raises AbsurdUsage.
    """
    sent = {
        "cached_input_token": cached,
        "cache_write_token": cache_write,
        "cache_write_1h_token": cache_write_1h,
        "audio_input_token": audio_input,
        "image_input_token": image_input,
    }
    came = {"reasoning_token": reasoning, "audio_output_token": audio_output, "image_output_token": image_output}
    for figure in (input_tokens, output_tokens, web_searches, *sent.values(), *came.values()):
        if type(figure) is not int or not 0 <= figure <= COUNT_MAX:
            raise AbsurdUsage("a figure is not a count")
    counts = {
        "input_token": _rest("input", input_tokens, sent),
        **sent,
        "output_token": _rest("output", output_tokens, came),
        **came,
        "web_search": web_searches,
    }
    kept = {unit: count for unit, count in counts.items() if count or unit in ("input_token", "output_token")}
    return Usage(kept, dict.fromkeys(kept, source))


def _rest(what: str, whole: int, parts: Mapping[str, int]) -> int:
    """What is left of the whole; a contradiction raises, it is never clamped."""
    named = sum(parts.values())
    if named > whole:
        raise AbsurdUsage(f"{named} of {whole} {what} tokens in classes of their own")
    return whole - named
