"""OpenAI's usage object, read with suspicion: absent, absurd or contradictory figures are no figures.

Shapes: `prompt_tokens`, `completion_tokens`, `prompt_tokens_details{cached_tokens,cache_write_tokens}`. DeepSeek
says `prompt_cache_hit_tokens` for what is cached.
"""

from __future__ import annotations

from typing import Any

from farebox.domain.usage import AbsurdUsage, Usage, tokens


def read_usage(raw: Any, *, output_tokens_max: int, text_seen: bool) -> Usage | None:
    """The usage in `raw`, or None where it cannot be believed.

    `output_tokens_max` is what was asked for at most; `text_seen` says that output came back, so that an output of
    nought is no figure. An explicit nought for the input is believed.
    """
    if not isinstance(raw, dict):
        return None
    details = raw.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    cached = details.get("cached_tokens") or raw.get("prompt_cache_hit_tokens") or 0
    output_tokens = raw.get("completion_tokens") or 0
    try:
        usage = tokens(
            input_tokens=raw.get("prompt_tokens"),  # type: ignore[arg-type]  # checked by tokens() itself
            output_tokens=output_tokens,
            cached=cached,
            cache_write=details.get("cache_write_tokens") or 0,
            source="upstream",
        )
    except AbsurdUsage:
        return None
    if usage.output_tokens > output_tokens_max or (text_seen and not usage.output_tokens):
        return None
    return usage
