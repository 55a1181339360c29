"""Gemini's usageMetadata, read with suspicion: absent, absurd or contradictory figures are no figures.

The prompt includes what was cached; thoughts stand beside the candidates, what tools read beside the prompt.
https://ai.google.dev/api/generate-content#UsageMetadata
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farebox.dialects.json_text import listed
from farebox.domain.usage import COUNT_MAX, INPUT_TOKENS, AbsurdUsage, Usage, tokens

AUDIO, IMAGE = "AUDIO", "IMAGE"


def read_usage(raw: Any, *, web_searches: int = 0) -> Usage | None:
    """The usage in `raw`, or None where a side is missing or it cannot be believed."""
    if not isinstance(raw, Mapping):
        return None
    try:
        return _disjoint(raw, _output(raw), web_searches)
    except AbsurdUsage:
        return None


def read_sent(raw: Any) -> Usage | None:
    """Just what was sent, for an answer that was cut before any figure for its output. None where there are none."""
    if not isinstance(raw, Mapping):
        return None
    try:
        usage = _disjoint({**raw, "candidatesTokensDetails": None, "thoughtsTokenCount": None}, 0, 0)
    except AbsurdUsage:
        return None
    sent = {unit: count for unit, count in usage.counts.items() if unit in INPUT_TOKENS}
    return Usage(sent, {unit: usage.sources[unit] for unit in sent})


def _disjoint(raw: Mapping[str, Any], output: int, web_searches: int) -> Usage:
    prompt = _count(raw.get("promptTokenCount"))
    cached = _optional(raw, "cachedContentTokenCount")
    if cached > prompt:
        raise AbsurdUsage("more was cached than sent")
    audio, image = _uncached(raw, cached, prompt)
    thoughts = _optional(raw, "thoughtsTokenCount")
    came = _by_modality(raw, "candidatesTokensDetails")
    return tokens(
        input_tokens=prompt + _optional(raw, "toolUsePromptTokenCount"),
        output_tokens=output,
        cached=cached,
        audio_input=audio,
        image_input=image,
        reasoning=thoughts,
        audio_output=came.get(AUDIO, 0),
        image_output=came.get(IMAGE, 0),
        web_searches=web_searches,
        source="upstream",
    )


def _output(raw: Mapping[str, Any]) -> int:
    """Candidates and thoughts. An answer cut while it still thought has no candidates: then the total tells."""
    thoughts = _optional(raw, "thoughtsTokenCount")
    if raw.get("candidatesTokenCount") is not None:
        return _count(raw["candidatesTokenCount"]) + thoughts
    if raw.get("totalTokenCount") is None and raw.get("thoughtsTokenCount") is not None:
        return thoughts
    rest = _count(raw.get("totalTokenCount")) - _count(raw.get("promptTokenCount"))
    return _count(rest - _optional(raw, "toolUsePromptTokenCount"))


def _uncached(raw: Mapping[str, Any], cached: int, prompt: int) -> tuple[int, int]:
    """Sound and images of the prompt that were not cached: what is both has the cache's price.

    The prompt's details include what was cached. Where it is not said what that was, they are of no use.
    """
    sent, kept = _by_modality(raw, "promptTokensDetails"), _by_modality(raw, "cacheTokensDetails")
    if cached and not kept:
        return 0, 0
    audio = min(max(0, sent.get(AUDIO, 0) - kept.get(AUDIO, 0)), prompt - cached)
    return audio, min(max(0, sent.get(IMAGE, 0) - kept.get(IMAGE, 0)), prompt - cached - audio)


def _by_modality(raw: Mapping[str, Any], name: str) -> dict[str, int]:
    """[{"modality", "tokenCount"}…] → modality → tokens. Details of no shape are no details."""
    found: dict[str, int] = {}
    for detail in listed(raw.get(name)):
        modality = detail.get("modality") if isinstance(detail, Mapping) else None
        if isinstance(modality, str):
            found[modality] = found.get(modality, 0) + _optional(detail, "tokenCount")
    return found


def _optional(raw: Mapping[str, Any], name: str) -> int:
    """A nought is left out."""
    return _count(raw.get(name) or 0)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= COUNT_MAX:
        raise AbsurdUsage("a figure is not a count")
    return value
