"""OpenAI chat completions for a caller, Anthropic messages (version 2023-06-01) at the vendor: the request.

The way back stands in chat_to_anthropic_stream.py. What may surprise:

- System and developer messages, later ones too, become `system`, in order: the vendor's own OpenAI door does the same,
  and most of its models know no other place. Empty texts are left out, since the vendor refuses them.
- Thoughts in the history go back only with their signature, as the vendor demands: `reasoning_details` (OpenRouter's
  shape) or `thinking_blocks` (LiteLLM's). `reasoning_content` is text derived from them, so it is left out.
- `reasoning_effort` is a permission to think, so harder demands go first: no thinking where a tool must be called,
  where the output limit leaves no room, or where the vendor would want thoughts that the history lacks. A model that
  does not reason takes any effort. The caller's own `thinking` passes as it is.
- `response_format` json_object is refused: the vendor can promise a schema, but not "some JSON".
- Ids of calls that the vendor would not take become a digest, the same one in the call and in its result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from farebox.dialects.ask import Fields, flag, refuse, whole
from farebox.dialects.bridge import Bridge, Terms
from farebox.dialects.bridges.chat_to_anthropic_messages import (
    THOUGHTS,
    Block,
    array,
    cache,
    conversation,
    inexpressible,
    must,
    named,
    only,
    path,
)
from farebox.dialects.bridges.chat_to_anthropic_stream import ChatStream, answer

TOKENS_MAX = 10_000_000
BUDGET_TOKENS_MIN = 1024
BUDGET_TOKENS_MAX = 32_000
"""Past this the vendor advises batches: answers take too long for one connection."""
ROOM_TOKENS = 2 * BUDGET_TOKENS_MIN
"""A lower output limit leaves no room for thoughts beside an answer."""

EXPRESSED = frozenset(
    {"model", "messages", "stream", "max_tokens", "max_completion_tokens", "stop", "temperature", "top_p", "top_k"}
    | {"tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "thinking"}
)
"""Parameters that have a translation. `top_k` and `thinking` are the vendor's own, sent by way of extra_body."""
NO_OPS: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "n": (1,),
        "logprobs": (False,),
        "top_logprobs": (0,),
        "presence_penalty": (0,),
        "frequency_penalty": (0,),
        "logit_bias": ({},),
        "store": (False,),
        "service_tier": ("auto", "default"),
        "modalities": (["text"],),
        "verbosity": ("medium",),
    }
)
"""Parameters without a translation, with the values that ask for nothing."""
HINTS = frozenset(
    {"user", "safety_identifier"}  # who asks is never told upstream
    | {"metadata"}  # labels what is stored; nothing is
    | {"prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"}
    | {"seed"}  # a best effort at OpenAI too
    | {"stream_options"}  # obeyed on the way back
)
"""Parameters that promise nothing of the answer, left out whatever they say. All others are refused by name."""

EFFORT_PERCENT: Mapping[str, int] = MappingProxyType(
    {"none": 0, "minimal": 0, "low": 20, "medium": 50, "high": 80, "xhigh": 90, "max": 95}
)
"""Effort → how much of the output limit thoughts may take; "minimal" gets the least that the vendor allows."""
CHOICES: Mapping[str, str] = MappingProxyType({"auto": "auto", "none": "none", "required": "any"})


def request(body: Fields, terms: Terms) -> bytes:
    """The vendor's body. Raises InvalidRequest, naming the caller's parameter."""
    for name, value in body.items():
        if value is not None and name not in EXPRESSED | HINTS and value not in NO_OPS.get(name, ()):
            raise inexpressible(path("", name))
    system, turns = conversation(body.get("messages"), terms)
    made: dict[str, Any] = {
        "model": terms.upstream_model,
        "max_tokens": _limit(body, terms),
        "system": system,
        "messages": turns,
        "stop_sequences": _stops(body.get("stop")),
        "temperature": _fraction(body, "temperature"),
        "top_p": _fraction(body, "top_p"),
        "top_k": whole(body, "top_k", low=1, high=TOKENS_MAX),
        **_tools(body),
        "output_config": _output_config(body.get("response_format")),
        "stream": terms.stream,
    }
    made["thinking"] = _thinking(body, made, terms)
    try:
        return orjson.dumps({name: value for name, value in made.items() if value is not None and value != []})
    except TypeError:
        raise refuse("messages", zh="请求嵌套过深或含有无效字符", en="the request is nested too deeply") from None


# ── the parameters ──────────────────────────────────────────────────────────────────────────────────────────────────


def _fraction(body: Fields, name: str) -> float | None:
    value: Any = body.get(name)
    if value is not None and (type(value) not in (int, float) or not 0 <= value <= 1):
        raise refuse(
            name, zh="该模型的供应商只接受 0 到 1 之间的数", en="this model's vendor takes a number from 0 to 1"
        )
    return value  # type: ignore[no-any-return]  # checked above


def _limit(body: Fields, terms: Terms) -> int:
    """The lowest of the caller's limits and of what the model can give."""
    given = [whole(body, name, low=1, high=TOKENS_MAX) for name in ("max_tokens", "max_completion_tokens")]
    return min([terms.output_tokens_max, *(limit for limit in given if limit is not None)])


def _stops(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else array(value, "stop")
    for text in texts:
        if not must(str, text, "stop").strip():
            raise refuse("stop", zh="该模型的供应商不接受空白的停止序列", en="this model's vendor takes no blank ones")
    return texts


def _tools(body: Fields) -> dict[str, Any]:
    tools = [_tool(item, f"tools[{index}]") for index, item in enumerate(array(body.get("tools"), "tools"))]
    choice = _tool_choice(body.get("tool_choice"))
    flag(body, "parallel_tool_calls")
    if not tools:
        if choice and choice["type"] in ("any", "tool"):
            raise refuse("tool_choice", zh="没有可调用的工具", en="there are no tools to call")
        return {}
    if body.get("parallel_tool_calls") is False and choice != {"type": "none"}:
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return {"tools": tools, "tool_choice": choice}


def _tool(item: Any, where: str) -> Block:
    tool = must(dict, item, where)
    if tool.get("type", "function") != "function":
        raise inexpressible(f"{where}.type")
    only(tool, where, "type", "function", "cache_control")
    where = f"{where}.function"
    function = must(dict, tool.get("function"), where)
    only(function, where, "name", "description", "parameters", "strict", "cache_control")
    made: Block = {"name": named(function.get("name"), f"{where}.name")}
    if function.get("description") is not None:
        made["description"] = must(str, function["description"], f"{where}.description")
    schema: Any = function.get("parameters")
    schema = {"properties": {}} if schema is None else must(dict, schema, f"{where}.parameters")
    made["input_schema"] = {"type": "object", **schema}
    strict: Any = function.get("strict")
    if strict is not None and type(strict) is not bool:
        raise refuse(f"{where}.strict", zh="必须是布尔值", en="it must be true or false")
    if strict:
        made["strict"] = True
    cache(made, function, where)
    cache(made, tool, where.removesuffix(".function"))
    return made


def _tool_choice(value: Any) -> Block | None:
    if value is None:
        return None
    if isinstance(value, str):
        if value not in CHOICES:
            raise inexpressible("tool_choice")
        return {"type": CHOICES[value]}
    choice = must(dict, value, "tool_choice")
    if choice.get("type", "function") != "function":
        raise inexpressible("tool_choice.type")
    only(choice, "tool_choice", "type", "function")
    function = must(dict, choice.get("function"), "tool_choice.function")
    only(function, "tool_choice.function", "name")
    return {"type": "tool", "name": named(function.get("name"), "tool_choice.function.name")}


def _output_config(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    wanted = must(dict, value, "response_format")
    if wanted.get("type") == "text":
        return None
    if wanted.get("type") == "json_object":
        raise refuse(
            "response_format.type",
            zh="该模型的供应商无法保证任意 JSON，请改用 json_schema",
            en="this model's vendor cannot promise just any JSON: use json_schema",
        )
    if wanted.get("type") != "json_schema":
        raise inexpressible("response_format.type")
    only(wanted, "response_format", "type", "json_schema")
    wished = must(dict, wanted.get("json_schema"), "response_format.json_schema")
    # A schema binds whether strict or not; its name says nothing to the model.
    only(wished, "response_format.json_schema", "name", "description", "schema", "strict")
    schema = must(dict, wished.get("schema"), "response_format.json_schema.schema")
    if wished.get("description") is not None:
        described = must(str, wished["description"], "response_format.json_schema.description")
        schema = {"description": described, **schema}
    return {"format": {"type": "json_schema", "schema": schema}}


def _thinking(body: Fields, made: Fields, terms: Terms) -> dict[str, Any] | None:
    """`made`: the rest of the vendor's body. Sampling that thinking does not go with is refused, as OpenAI does."""
    effort: Any = body.get("reasoning_effort")
    if effort is not None and (not isinstance(effort, str) or effort not in EFFORT_PERCENT):
        raise inexpressible("reasoning_effort")
    if body.get("thinking") is not None:
        return must(dict, body["thinking"], "thinking")
    if effort is None or not terms.reasoning:
        return None
    limit: int = made["max_tokens"]
    forced = (made.get("tool_choice") or {}).get("type") in ("any", "tool")
    if effort == "none" or limit < ROOM_TOKENS or forced or _wants_thoughts(made["messages"]):
        return {"type": "disabled"}
    for name, low in (("temperature", 1), ("top_p", 0.95), ("top_k", math.inf)):
        if made[name] is not None and made[name] < low:
            raise refuse(
                name, zh="不能与 reasoning_effort 同用", en="this model's vendor does not take it with reasoning_effort"
            )
    budget = min(max(limit * EFFORT_PERCENT[effort] // 100, BUDGET_TOKENS_MIN), BUDGET_TOKENS_MAX)
    return {"type": "enabled", "budget_tokens": budget}


def _wants_thoughts(turns: list[dict[str, Any]]) -> bool:
    """Whether the vendor would want thoughts that are not there: in the midst of calls, or of an answer to go on."""
    spoken = turns[-1] if turns[-1]["role"] == "assistant" else turns[-2] if len(turns) > 1 else None
    midst = turns[-1]["role"] == "assistant" or turns[-1]["content"][0]["type"] == "tool_result"
    return midst and (spoken is None or spoken["content"][0]["type"] not in THOUGHTS)


BRIDGE: Bridge = Bridge(caller="chat.completions", vendor="messages", request=request, answer=answer, stream=ChatStream)
