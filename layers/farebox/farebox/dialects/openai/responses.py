"""OpenAI Responses, read: POST /v1/responses. https://platform.openai.com/docs/api-reference/responses

Nothing is ever kept at the vendor: it would lie under the operator's account, where any caller who knows an id could
reach it. So `store` is sent as false, and whatever refers to something stored is refused.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from farebox.dialects import sse
from farebox.dialects.ask import Ask, Count, Fields, flag, model_of, refuse, refuse_unpriced, unpriced, whole
from farebox.dialects.openai.charges import refuse_long_cache, refuse_storage, service_tier, stored_elsewhere
from farebox.dialects.openai.chat import FREE_OF_CHARGE, MESSAGES_MAX, TOKENS_MAX
from farebox.dialects.openai.parts import audio_tokens_max, sent_images
from farebox.dialects.openai.responses_counting import contents_of, count_response, item_type
from farebox.dialects.openai.responses_tap import ResponsesTap
from farebox.dialects.wire import Incoming, Wire, openai_error_event

STORED = ("store", "background", "previous_response_id", "conversation", "prompt")
"""Parameters that keep something at the vendor, or refer to what is kept there."""
UNPRICED: dict[str, tuple[Any, ...]] = {
    **FREE_OF_CHARGE,
    "context_management": ([],),  # a compaction is output of its own, above max_output_tokens
    "generate": (True,),  # what is only read comes to no answer that could be billed
    "access_programs": (),  # what the operator was admitted to, not the caller
}
SEARCHES_MAX = 1000
ITEM_TYPES = frozenset(
    {
        "message",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "reasoning",
        "web_search_call",
        "local_shell_call",
        "local_shell_call_output",
        "shell_call",
        "shell_call_output",
        "apply_patch_call",
        "apply_patch_call_output",
    }
)
"""Items that are text or images, and that no machine of the vendor's works on."""
PART_UNITS: dict[str, str | None] = {
    "text": None,
    "input_text": None,
    "output_text": None,
    "refusal": None,
    "summary_text": None,
    "reasoning_text": None,
    "input_image": None,
    "input_audio": "audio_input_token",
}
"""The content parts that can be sent, and the unit whose price each needs, if text's price is not enough."""
CALLERS_TOOLS = frozenset({"function", "custom", "local_shell", "shell", "apply_patch"})
"""Tools that the caller runs."""
_WEB_SEARCH = re.compile(r"web_search(_preview)?(_\d{4}_\d{2}_\d{2})?")


def read(body: Fields) -> Ask:
    """Checks what matters for money and routing; everything else is the upstream's to judge. Raises InvalidRequest."""
    model = model_of(body)
    refuse_storage(body, *STORED)
    refuse_unpriced(body, UNPRICED)
    refuse_long_cache(body, "prompt_cache_options", "prompt_cache_options")
    tier, needs = service_tier(body)
    needs |= _check_input(body.get("input")) | _check_tools(body.get("tools"), "tools")
    bounds: dict[str, int] = {}
    if "audio_input_token" in needs.values():
        parts = (part for content in contents_of(body) if isinstance(content, list) for part in content)
        bounds["audio_input_token"] = audio_tokens_max(parts)
    if "web_search" in needs.values():
        bounds["web_search"] = _searches_max(body)
    limit = whole(body, "max_output_tokens", low=1, high=TOKENS_MAX)

    def count_input(count: Count) -> int:
        return count_response(body, count)

    return Ask(
        model=model,
        stream=flag(body, "stream"),
        count_input=count_input,
        output_limits={} if limit is None else {"max_output_tokens": limit},
        images=sent_images(contents_of(body)),
        bounds=bounds,
        needs=needs,
        service_tier=tier,
        changes={} if body.get("store") is False else {"store": b"false"},
    )


def tap(count: Count, ask: Ask) -> ResponsesTap:
    return ResponsesTap(count, stream=ask.stream, searches="web_search" in ask.bounds)


def error_event(envelope: bytes) -> bytes:
    """An error in a stream of Responses: the envelope's members without the envelope. Raises nothing."""
    try:
        error = orjson.loads(envelope)["error"]
        flat = {name: error.get(name) for name in ("code", "message", "param")}
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return openai_error_event(envelope)
    return sse.event(orjson.dumps({"type": "error", **flat, "sequence_number": 0}), "error")


def _read(incoming: Incoming) -> Ask:
    return read(incoming.fields)


RESPONSES = Wire(
    "responses",
    "openai",
    frozenset({"chat"}),
    read=_read,
    tap=tap,
    error_event=error_event,
    limit_param="max_output_tokens",
    marks=(b'"response.',),
)


def _searches_max(body: Fields) -> int:
    """Without a limit of the caller's nobody knows what the searches will cost."""
    limit = whole(body, "max_tool_calls", low=1, high=SEARCHES_MAX)
    if limit is None:
        raise refuse(
            "max_tool_calls",
            zh="使用网络搜索时必须给出，以限定费用",
            en="it must be given with web search, to bound what the searches cost",
        )
    return limit


def _check_input(given: Any) -> dict[str, str]:
    """What the input needs, as Ask.needs has it; raises InvalidRequest."""
    if isinstance(given, str) and given:
        return {}
    if not isinstance(given, list) or not given or len(given) > MESSAGES_MAX:
        raise refuse("input", zh="必须是非空字符串或数组", en="it must be a non-empty string or array")
    needs: dict[str, str] = {}
    for index, item in enumerate(given):
        needs |= _check_item(item, f"input[{index}]")
    return needs


def _check_item(item: Any, name: str) -> dict[str, str]:
    if not isinstance(item, dict):
        raise refuse(name, zh="必须是对象", en="it must be an object")
    kind = item_type(item)
    if kind == "item_reference":
        raise stored_elsewhere(name)
    if kind not in ITEM_TYPES:
        raise unpriced(f"{name}.type")
    if kind == "shell_call" and item.get("environment") is not None:
        _check_local(item["environment"], f"{name}.environment")
    needs: dict[str, str] = {}
    for member in ("content", "output"):
        parts = item.get(member)
        if isinstance(parts, list) and not kind.startswith("shell_call"):  # whose output is no content
            needs |= _check_parts(parts, f"{name}.{member}")
        elif kind == "message" and member == "content" and not isinstance(parts, str | list):
            raise refuse(f"{name}.content", zh="必须是字符串或数组", en="it must be a string or an array")
    return needs


def _check_parts(parts: list[Any], name: str) -> dict[str, str]:
    needs: dict[str, str] = {}
    for index, part in enumerate(parts):
        where = f"{name}[{index}]"
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise refuse(where, zh="必须是带 type 的对象", en="it must be an object with a type")
        if part["type"] not in PART_UNITS:
            raise unpriced(f"{where}.type")
        if part.get("file_id") is not None:
            raise stored_elsewhere(f"{where}.file_id")
        refuse_long_cache(part, "prompt_cache_breakpoint", f"{where}.prompt_cache_breakpoint")
        unit = PART_UNITS[part["type"]]
        if unit is not None:
            needs[f"{where}.type"] = unit
    return needs


def _check_tools(tools: Any, name: str) -> dict[str, str]:
    """What the tools need; raises InvalidRequest for those that have no price."""
    if tools is None:
        return {}
    if not isinstance(tools, list):
        raise refuse(name, zh="必须是数组", en="it must be an array")
    needs: dict[str, str] = {}
    for index, tool in enumerate(tools):
        where = f"{name}[{index}]"
        if not isinstance(tool, dict):
            raise refuse(where, zh="必须是对象", en="it must be an object")
        kind = tool.get("type")
        if not isinstance(kind, str):
            raise unpriced(f"{where}.type")
        if kind == "namespace" and name == "tools":
            needs |= _check_tools(tool.get("tools"), f"{where}.tools")
        elif _WEB_SEARCH.fullmatch(kind) and name == "tools":
            needs[f"{where}.type"] = "web_search"
        elif kind not in CALLERS_TOOLS:
            raise unpriced(f"{where}.type")
        elif kind == "shell":
            _check_local(tool.get("environment"), f"{where}.environment")
    return needs


def _check_local(environment: Any, name: str) -> None:
    """A shell is the caller's own; the vendor's containers are charged by time."""
    if not isinstance(environment, dict) or environment.get("type") != "local":
        raise unpriced(name)
