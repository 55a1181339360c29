"""Anthropic messages callers on models whose vendor speaks OpenAI chat: Claude Code on any model. The request.

| member of the request | what becomes of it |
|---|---|
| model, stream, system, messages, stop_sequences (<= 4), temperature, top_p | said in OpenAI's words |
| max_tokens | as `terms.limit_param`, at most what the model can give |
| tools of type "custom" or none, tool_choice | functions; input_examples join the description |
| output_config.format, output_format | response_format, strict |
| output_config.effort, thinking | reasoning_effort, unless there are tools or the model does not reason |
| names of LEFT_OUT | left out: a hint, a permission, or about a person |
| names of HARMLESS | left out with these values, refused with others |
| everything else: top_k, server tools, Anthropic's own client tools … | refused by its name |

A permission may be left out, a demand is refused. The conversation stands in anthropic_to_chat_messages.py, the way
back in anthropic_to_chat_stream.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from farebox.dialects.ask import Fields, refuse, whole
from farebox.dialects.bridge import Bridge, Terms
from farebox.dialects.bridges.anthropic_to_chat_messages import (
    a_flag,
    a_string,
    an_object,
    compact,
    conversation,
    system_message,
)
from farebox.dialects.bridges.anthropic_to_chat_stream import answer, stream
from farebox.dialects.bridges.crossing import (
    dump_request,
    inexpressible,
    number,
    refuse_others,
    refuse_unless,
    texts,
)

Json = dict[str, Any]

TOKENS_MAX = 10_000_000
STOPS_MAX = 4
"""As many stop sequences as OpenAI's dialect takes."""

EXPRESSED = frozenset(
    {"model", "messages", "max_tokens", "stream", "system", "temperature", "top_p", "stop_sequences"}
    | {"tools", "tool_choice", "output_config", "output_format", "thinking"}
)
LEFT_OUT = frozenset(
    {"cache_control"}  # these vendors cache by themselves
    | {"metadata"}  # user_id: who asks is never told upstream
    | {"context_management"}  # a permission to forget older thoughts and results
    | {"diagnostics"}  # a wish to be told why a cache was missed
    | {"betas", "anthropic_beta", "anthropic_version"}  # what headers say elsewhere
)
HARMLESS: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "service_tier": ("auto", "standard_only"),
        "speed": ("standard",),
        "inference_geo": ("global",),
        "mcp_servers": ([],),
        "fallbacks": ([],),
    }
)
OUTPUT_CONFIG = frozenset({"effort", "format", "task_budget"})
"""task_budget is a hint: it limits nothing, a model merely knows of it."""
TOOL_MEMBERS = frozenset(
    {"type", "name", "description", "input_schema", "strict", "input_examples", "allowed_callers"}
    | {"cache_control", "eager_input_streaming", "defer_loading"}  # hints: how and when, never what
)
EFFORTS: Mapping[str, str] = MappingProxyType(
    {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
)
"""Anthropic's words → those that every vendor with reasoning_effort knows."""
BUDGETS = ((4096, "low"), (16_384, "medium"), (TOKENS_MAX, "high"))
"""Tokens of thought, at most → reasoning_effort."""
CHOICES: Mapping[str, str] = MappingProxyType({"auto": "auto", "any": "required", "none": "none"})


def request(body: Fields, terms: Terms) -> bytes:
    """The body of a chat.completions request. Raises InvalidRequest, naming the caller's parameter."""
    refuse_others(body, EXPRESSED | LEFT_OUT | HARMLESS.keys())
    refuse_unless(body, HARMLESS)
    tools = _tools(body.get("tools"))
    sampling = {name: number(body, name, low=0, high=1) for name in ("temperature", "top_p")}
    stops = texts(body.get("stop_sequences") or [], "stop_sequences", at_most=STOPS_MAX)
    chat: Json = {
        "model": terms.upstream_model,
        "messages": [*system_message(body.get("system"), "system"), *conversation(body.get("messages"), terms)],
        terms.limit_param: _limit(body, terms),
        **{name: value for name, value in sampling.items() if value is not None},
        **({"stop": stops} if stops else {}),
        **({"tools": tools} if tools else {}),
        **_tool_choice(body.get("tool_choice"), tools),
        **_output(body, terms, tools),
    }
    if terms.stream:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return dump_request(chat)


def _limit(body: Fields, terms: Terms) -> int:
    """max_tokens. Vendors refuse more than a model can give, Claude Code asks for as much as Claude can give."""
    limit = whole(body, "max_tokens", low=1, high=TOKENS_MAX)
    if limit is None:
        raise refuse("max_tokens", zh="此项必填", en="it is required")
    return min(limit, terms.output_tokens_max) if terms.output_tokens_max > 0 else limit


# ── output ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _output(body: Fields, terms: Terms, tools: list[Json]) -> Json:
    """response_format and reasoning_effort.

    Effort is a permission, so it is left out where it might be refused: beside tools, where OpenAI takes it from no
    model since gpt-5.4 (https://github.com/openai/openai-openapi/issues/541).
    """
    config = an_object(body.get("output_config") or {}, "output_config")
    refuse_others(config, OUTPUT_CONFIG, "output_config.")
    asked: Json = {}
    for where, wanted in (("output_format", body.get("output_format")), ("output_config.format", config.get("format"))):
        if wanted is None:
            continue
        if an_object(wanted, where).get("type") != "json_schema":
            raise inexpressible(f"{where}.type")
        form = {"name": "answer", "strict": True, "schema": an_object(wanted.get("schema"), f"{where}.schema")}
        asked["response_format"] = {"type": "json_schema", "json_schema": form}
    effort = _effort(config.get("effort"), body.get("thinking"))
    if effort and terms.reasoning and not tools:
        asked["reasoning_effort"] = effort
    return asked


def _effort(effort: Any, thinking: Any) -> str | None:
    """How hard to think, in OpenAI's words; None leaves it to the vendor, as "adaptive" does.

    No word for "not at all" is known to all vendors, so "disabled" becomes the least.
    """
    if effort is not None and (not isinstance(effort, str) or effort not in EFFORTS):
        raise inexpressible("output_config.effort")
    kind = "adaptive" if thinking is None else an_object(thinking, "thinking").get("type")
    if kind not in ("adaptive", "between_tools", "enabled", "disabled"):
        raise inexpressible("thinking.type")
    if kind == "disabled":
        return "low"
    if effort is None and kind == "enabled":
        budget = whole(thinking, "budget_tokens", low=0, high=TOKENS_MAX) or 0
        return next(word for most, word in BUDGETS if budget <= most)
    return None if effort is None else EFFORTS[effort]


# ── tools ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _tools(tools: Any) -> list[Json]:
    if tools is not None and not isinstance(tools, list):
        raise refuse("tools", zh="必须是数组", en="it must be an array")
    return [_tool(an_object(tool, f"tools[{index}]"), f"tools[{index}]") for index, tool in enumerate(tools or ())]


def _tool(tool: Fields, where: str) -> Json:
    """A function. Anthropic's own tools, run by it or by the caller, have a type and are known to no other model."""
    if tool.get("type") not in (None, "custom"):
        raise inexpressible(f"{where}.type")
    refuse_others(tool, TOOL_MEMBERS, f"{where}.")
    callers = tool.get("allowed_callers")
    if callers is not None and not (isinstance(callers, list) and "direct" in callers):
        raise inexpressible(f"{where}.allowed_callers")
    described = [a_string(tool.get("description") or "", f"{where}.description")]
    if tool.get("input_examples"):
        described.append(f"Examples of input: {compact(tool['input_examples'], f'{where}.input_examples')}")
    description = "\n\n".join(filter(None, described))
    function: Json = {
        "name": a_string(tool.get("name"), f"{where}.name"),
        **({"description": description} if description else {}),
        "parameters": an_object(tool.get("input_schema"), f"{where}.input_schema"),
        **({"strict": True} if a_flag(tool, "strict", where) else {}),
    }
    return {"type": "function", "function": function}


def _tool_choice(choice: Any, tools: list[Json]) -> Json:
    if choice is None:
        return {}
    kind = an_object(choice, "tool_choice").get("type")
    if not isinstance(kind, str) or kind not in (*CHOICES, "tool"):
        raise inexpressible("tool_choice.type")
    if not tools:
        if kind in ("any", "tool"):
            raise refuse("tool_choice", zh="没有可选的 tools", en="there are no tools to choose from")
        return {}
    said: Json = {"parallel_tool_calls": False} if a_flag(choice, "disable_parallel_tool_use", "tool_choice") else {}
    if kind != "tool":
        return said | {"tool_choice": CHOICES[kind]}
    name = a_string(choice.get("name"), "tool_choice.name")
    return said | {"tool_choice": {"type": "function", "function": {"name": name}}}


BRIDGE = Bridge(caller="messages", vendor="chat.completions", request=request, answer=answer, stream=stream)
