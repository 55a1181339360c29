"""OpenAI chat completions, read: POST /v1/chat/completions. https://platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from farebox.dialects.ask import Ask, Count, Fields, flag, model_of, refuse, refuse_unpriced, unpriced, whole
from farebox.dialects.openai import counting
from farebox.dialects.openai.charges import (
    OTHERS_FEES,
    refuse_long_cache,
    refuse_storage,
    service_tier,
    stored_elsewhere,
)
from farebox.dialects.openai.parts import audio_tokens_max, sent_images
from farebox.dialects.openai.stream_options import usage_changes
from farebox.dialects.openai.tap import MARKS, OpenAITap
from farebox.dialects.wire import Incoming, Wire

TOKENS_MAX = 10_000_000
CHOICES_MAX = 128
MESSAGES_MAX = 20_000

FREE_OF_CHARGE: dict[str, tuple[Any, ...]] = {
    "prediction": (),  # rejected prediction tokens are billed on top of max_tokens
    **OTHERS_FEES,
}
"""Parameters that cost money of their own, with the values that do not."""
PART_UNITS: dict[str, str | None] = {
    "text": None,
    "image_url": None,
    "refusal": None,
    "input_audio": "audio_input_token",
}
"""The content parts that can be sent, and the unit whose price each needs, if text's price is not enough."""
PRICED_TOOLS = frozenset({"function", "custom"})
SEARCHES = "-search-"
"""Models whose names hold this search before every answer, asked to or not."""


def read(body: Fields) -> Ask:
    """Checks what matters for money and routing; everything else is the upstream's to judge. Raises InvalidRequest."""
    model = model_of(body)
    needs = _check_messages(body.get("messages"))
    _check_tools(body.get("tools"))
    refuse_unpriced(body, FREE_OF_CHARGE)
    refuse_storage(body, "store")
    refuse_long_cache(body, "prompt_cache_options", "prompt_cache_options")
    tier, tier_needs = service_tier(body)
    needs |= tier_needs | _sound_needs(body)
    bounds = {"audio_input_token": audio_tokens_max(_parts(body))} if "audio_input_token" in needs.values() else {}
    if SEARCHES in model:
        bounds["web_search"] = 1
    elif body.get("web_search_options") is not None:
        needs["web_search_options"] = "web_search"
        bounds["web_search"] = 1
    stream = flag(body, "stream")
    strip_usage, changes = usage_changes(body, stream=stream)
    limits = {name: whole(body, name, low=1, high=TOKENS_MAX) for name in ("max_tokens", "max_completion_tokens")}

    def count_input(count: Count) -> int:
        return counting.count_chat(body, count)

    return Ask(
        model=model,
        stream=stream,
        count_input=count_input,
        output_limits={name: limit for name, limit in limits.items() if limit is not None},
        choices=whole(body, "n", low=1, high=CHOICES_MAX) or 1,
        images=sent_images(message.get("content") for message in body["messages"]),
        bounds=bounds,
        needs=needs,
        service_tier=tier,
        strip_usage=strip_usage,
        changes=changes,
    )


def tap(count: Count, ask: Ask) -> OpenAITap:
    """A search is charged once an answer: whether there was one, and how often, is never reported here."""
    return OpenAITap(
        count, choices=ask.choices, stream=ask.stream, web_searches=min(1, ask.bounds.get("web_search", 0))
    )


def _read(incoming: Incoming) -> Ask:
    return read(incoming.fields)


CHAT = Wire(
    "chat.completions", "openai", frozenset({"chat"}), read=_read, tap=tap, limit_param="max_tokens", marks=MARKS
)


def _sound_needs(body: Fields) -> dict[str, str]:
    """Sound that is to come back; its tokens lie within the output limit."""
    modalities = body.get("modalities")
    if modalities is not None and modalities != ["text"]:
        if not isinstance(modalities, list) or not all(each in ("text", "audio") for each in modalities):
            raise unpriced("modalities")
        return {"modalities": "audio_output_token"}
    return {} if body.get("audio") is None else {"audio": "audio_output_token"}


def _parts(body: Fields) -> Iterator[Any]:
    for message in body["messages"]:
        content = message.get("content")
        yield from content if isinstance(content, list) else ()


def _check_messages(messages: Any) -> dict[str, str]:
    """What the messages need, as Ask.needs has it; raises InvalidRequest."""
    if not isinstance(messages, list) or not messages or len(messages) > MESSAGES_MAX:
        raise refuse("messages", zh="必须是非空数组", en="it must be a non-empty array")
    needs: dict[str, str] = {}
    for index, message in enumerate(messages):
        name = f"messages[{index}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise refuse(name, zh="必须是带 role 的对象", en="it must be an object with a role")
        content = message.get("content")
        if isinstance(content, list):
            needs |= _check_parts(content, name)
        elif content is not None and not isinstance(content, str):
            raise refuse(f"{name}.content", zh="必须是字符串或数组", en="it must be a string or an array")
        if message.get("audio") is not None:  # an earlier answer's sound, by its id
            raise stored_elsewhere(f"{name}.audio")
    return needs


def _check_parts(parts: list[Any], name: str) -> dict[str, str]:
    needs: dict[str, str] = {}
    for index, part in enumerate(parts):
        where = f"{name}.content[{index}]"
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise refuse(where, zh="必须是带 type 的对象", en="it must be an object with a type")
        if part["type"] not in PART_UNITS:
            raise unpriced(f"{where}.type")
        refuse_long_cache(part, "prompt_cache_breakpoint", f"{where}.prompt_cache_breakpoint")
        unit = PART_UNITS[part["type"]]
        if unit is not None:
            needs[f"{where}.type"] = unit
    return needs


def _check_tools(tools: Any) -> None:
    if tools is None:
        return
    if not isinstance(tools, list):
        raise refuse("tools", zh="必须是数组", en="it must be an array")
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise refuse(f"tools[{index}]", zh="必须是对象", en="it must be an object")
        kind = tool.get("type", "function")
        if not isinstance(kind, str) or kind not in PRICED_TOOLS:
            raise unpriced(f"tools[{index}].type")
