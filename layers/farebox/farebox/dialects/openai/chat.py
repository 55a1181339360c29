"""OpenAI chat completions, read: POST /v1/chat/completions. https://platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

from typing import Any

from farebox.dialects.ask import Ask, Count, Fields, flag, model_of, refuse, refuse_unpriced, unpriced, whole
from farebox.dialects.openai import counting
from farebox.dialects.openai.stream_options import usage_changes

TOKENS_MAX = 10_000_000
CHOICES_MAX = 128
MESSAGES_MAX = 20_000

FREE_OF_CHARGE: dict[str, tuple[Any, ...]] = {
    "modalities": (["text"],),
    "audio": (),
    "service_tier": ("auto", "default"),
    "prediction": (),  # rejected prediction tokens are billed on top of max_tokens
    "search_parameters": (),  # xAI live search: a fee per source
    "plugins": (),
    "enable_search": (False,),
}
"""Parameters that cost money of their own, with the values that do not."""
PRICED_PARTS = frozenset({"text", "image_url", "refusal"})
PRICED_TOOLS = frozenset({"function", "custom"})


def read(body: Fields) -> Ask:
    """Checks what matters for money and routing; everything else is the upstream's to judge. Raises InvalidRequest."""
    model = model_of(body)
    _check_messages(body.get("messages"))
    _check_tools(body.get("tools"))
    refuse_unpriced(body, FREE_OF_CHARGE)
    if body.get("web_search_options") is not None and "-search-" not in model:
        raise unpriced("web_search_options")
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
        images=counting.image_parts(body),
        strip_usage=strip_usage,
        changes=changes,
    )


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages or len(messages) > MESSAGES_MAX:
        raise refuse("messages", zh="必须是非空数组", en="it must be a non-empty array")
    for index, message in enumerate(messages):
        name = f"messages[{index}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise refuse(name, zh="必须是带 role 的对象", en="it must be an object with a role")
        content = message.get("content")
        if isinstance(content, list):
            _check_parts(content, name)
        elif content is not None and not isinstance(content, str):
            raise refuse(f"{name}.content", zh="必须是字符串或数组", en="it must be a string or an array")


def _check_parts(parts: list[Any], name: str) -> None:
    for index, part in enumerate(parts):
        where = f"{name}.content[{index}]"
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise refuse(where, zh="必须是带 type 的对象", en="it must be an object with a type")
        if part["type"] not in PRICED_PARTS:
            raise unpriced(f"{where}.type")


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
