"""OpenAI's usage objects, read with suspicion: absent, absurd or contradictory figures are no figures.

Two shapes, of overlapping counters. Chat, completions, embeddings: `prompt_tokens`, `completion_tokens` and their
`_details`. Responses, images, audio: `input_tokens`, `output_tokens` and theirs. DeepSeek says
`prompt_cache_hit_tokens` for what is cached; xAI and Google leave the reasoning out of `completion_tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farebox.domain.usage import COUNT_MAX, AbsurdUsage, Usage, tokens

Details = Mapping[str, Any]


def read_usage(raw: Any, *, web_searches: int = 0) -> Usage | None:
    """The usage in a chat's, a completion's or an embedding's `raw`, or None where it cannot be believed."""
    if not isinstance(raw, Mapping):
        return None
    sent = dict(_details(raw, "prompt_tokens_details"))
    sent["cached_tokens"] = sent.get("cached_tokens") or raw.get("prompt_cache_hit_tokens")
    came = _details(raw, "completion_tokens_details")
    try:
        prompt, completion = _count(raw.get("prompt_tokens")), _said(raw, "completion_tokens")
        beside = beside_completion(raw)
        return _disjoint(
            prompt, sent, completion + beside, came or {"reasoning_tokens": beside}, web_searches=web_searches
        )
    except AbsurdUsage:
        return None


def beside_completion(raw: Details) -> int:
    """Thoughts that stand beside completion_tokens, not in it: only the total includes them. Never raises.

    xAI says how many they are. Google's OpenAI door does not: it gives no details at all.
    """
    try:
        rest = _count(raw.get("total_tokens")) - _count(raw.get("prompt_tokens")) - _count(raw.get("completion_tokens"))
    except AbsurdUsage:
        return 0
    details = raw.get("completion_tokens_details")
    told = rest if not details else _details(raw, "completion_tokens_details").get("reasoning_tokens")
    return rest if rest > 0 and told == rest else 0


def read_io_usage(raw: Any, *, made: str | None = None, web_searches: int = 0) -> Usage | None:
    """The usage in a response's, an image's or a sound's `raw`, or None where it cannot be believed.

    `made`: the part, "image_tokens" or "audio_tokens", that all output is where the details do not say what it is.
    """
    if not isinstance(raw, Mapping):
        return None
    # Responses and images say input_tokens_details, transcriptions input_token_details.
    sent = {**_details(raw, "input_token_details"), **_details(raw, "input_tokens_details")}
    came = {**_details(raw, "output_token_details"), **_details(raw, "output_tokens_details")}
    try:
        given, output = _count(raw.get("input_tokens")), _said(raw, "output_tokens")
        if made is not None and all(came.get(part) is None for part in (made, "text_tokens")):
            came[made] = output
        return _disjoint(given, sent, output, came, web_searches=web_searches)
    except AbsurdUsage:
        return None


def _disjoint(given: int, sent: Details, made: int, came: Details, *, web_searches: int) -> Usage:
    """Classes overlap in two dimensions, cached or not and text, sound or image.

    What is both cached and sound has the cache's price, so the parts of other media are cut to what is not cached.
    """
    cached, cache_write = _part(sent, "cached_tokens"), _part(sent, "cache_write_tokens")
    audio = _within(_part(sent, "audio_tokens"), given)
    images = _within(_part(sent, "image_tokens"), given)
    uncached = max(0, given - cached - cache_write)  # if below nought tokens() raises
    audio = min(audio, uncached)
    audio_output = _within(_part(came, "audio_tokens"), made)
    image_output = _within(_part(came, "image_tokens"), made)
    reasoning = _part(came, "reasoning_tokens")
    return tokens(
        input_tokens=given,
        output_tokens=made,
        cached=cached,
        cache_write=cache_write,
        audio_input=audio,
        image_input=min(images, uncached - audio),
        # More reasoning than output is absurd, and so small a detail that the rest is believed without it.
        reasoning=reasoning if reasoning + audio_output + image_output <= made else 0,
        audio_output=audio_output,
        image_output=image_output,
        web_searches=web_searches,
        source="upstream",
    )


def _details(raw: Details, name: str) -> Details:
    """Details of no shape are no details."""
    value = raw.get(name)
    return value if isinstance(value, Mapping) else {}


def _part(details: Details, name: str) -> int:
    return _count(details.get(name) or 0)


def _said(raw: Details, name: str) -> int:
    """Embeddings say nothing of an output."""
    return 0 if raw.get(name) is None else _count(raw[name])


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= COUNT_MAX:
        raise AbsurdUsage("a figure is not a count")
    return value


def _within(part: int, whole: int) -> int:
    if part > whole:
        raise AbsurdUsage("a part is larger than the whole")
    return part
