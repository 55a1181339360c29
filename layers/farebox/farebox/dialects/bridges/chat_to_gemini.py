"""OpenAI chat completions, put to Gemini: the request. The way back stands in chat_to_gemini_stream.

https://ai.google.dev/api/generate-content. The model and the method stand in Gemini's URL, not in the body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from farebox.dialects.ask import Fields, flag, refuse, whole
from farebox.dialects.bridge import Bridge, Terms
from farebox.dialects.bridges.chat_to_gemini_messages import read_messages
from farebox.dialects.bridges.chat_to_gemini_stream import ChatStream, answer
from farebox.dialects.bridges.crossing import (
    dump_request,
    inexpressible,
    members,
    number,
    objects,
    refuse_others,
    refuse_unless,
    text,
    texts,
)

Json = dict[str, Any]

LEFT_OUT = frozenset(
    {
        "model",  # in the URL
        "stream",
        "stream_options",  # terms.include_usage
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        "metadata",
    }
)
"""Parameters that do not change what is answered."""
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "store": (False,),
    "service_tier": ("auto", "default"),
    "parallel_tool_calls": (True,),
    "modalities": (["text"],),
    "logit_bias": ({},),
    "verbosity": ("medium",),
    "functions": ([],),
    "function_call": ("none", "auto"),
}
"""Parameters that Gemini has no word for, with the values that ask for nothing; any other value is refused."""
EXPRESSED = frozenset(
    {
        "messages",
        "tools",
        "tool_choice",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "stop",
        "n",
        "seed",
        "logprobs",
        "top_logprobs",
        "response_format",
        "reasoning_effort",
    }
)
KNOWN = LEFT_OUT | EXPRESSED | set(NEUTRAL)

NUMBERS: Mapping[str, tuple[str, float, float]] = {
    "temperature": ("temperature", 0, 2),
    "top_p": ("topP", 0, 1),
    "presence_penalty": ("presencePenalty", -2, 2),
    "frequency_penalty": ("frequencyPenalty", -2, 2),
}
"""Parameter → Gemini's name for it, the least and the most."""
WHOLE_NUMBERS: Mapping[str, tuple[str, int, int]] = {
    "n": ("candidateCount", 1, 8),
    "seed": ("seed", -(2**31), 2**31 - 1),
    "top_logprobs": ("logprobs", 0, 20),
}
TOKENS_MAX = 10_000_000
STOPS_MAX = 5

# https://ai.google.dev/gemini-api/docs/openai#thinking
BUDGETS: Mapping[str, int] = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
"""What reasoning_effort is to a model of the second generation, in tokens."""
LEVELS: Mapping[str, str] = {"minimal": "LOW", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
"""What it is to later ones."""
MINIMAL_LEVEL = re.compile(r"gemini-3(\.[156])?-flash|flash-lite")
"""Models that have a level below LOW."""
LEVEL_MODELS = re.compile(r"gemini-(?:[3-9]|\d\d|flash-|pro-)")
"""The later ones; the last two are the names of whatever is the newest."""
NO_OFF_SWITCH = re.compile(r"gemini-2\.5-pro")
CHOICES: Mapping[str, str] = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
ALLOWED_MODES: Mapping[str, str] = {"auto": "VALIDATED", "required": "ANY"}


def request(body: Fields, terms: Terms) -> bytes:
    """A chat.completions body → that of generateContent or streamGenerateContent. Raises InvalidRequest."""
    refuse_others(body, KNOWN)
    refuse_unless(body, NEUTRAL)
    history = read_messages(body.get("messages"), needs_signature=bool(LEVEL_MODELS.search(terms.upstream_model)))
    asked: Json = {}
    if history.system:
        asked["systemInstruction"] = {"parts": history.system}
    asked["contents"] = history.contents
    asked |= _tools(body)
    config = _generation_config(body, terms)
    if config:
        asked["generationConfig"] = config
    return dump_request(asked)


# Tools


def _tools(body: Fields) -> Json:
    """tools and tool_choice. `strict` is left out: whether arguments fit the schema is the caller's to check."""
    declared: list[Json] = []
    for index, tool in enumerate(objects(body.get("tools"), "tools")):
        function = members(tool.get("function"))
        if tool.get("type", "function") != "function":
            raise inexpressible(f"tools[{index}].type")
        if not text(function.get("name")):
            raise refuse(f"tools[{index}].function.name", zh="必须是函数名称", en="it must be a function's name")
        made = {"name": function["name"]}
        for name, theirs in (("description", "description"), ("parameters", "parametersJsonSchema")):
            if function.get(name) is not None:
                made[theirs] = function[name]
        declared.append(made)
    choice = _tool_choice(body.get("tool_choice"))
    if not declared:
        if choice.get("mode", "AUTO") not in ("AUTO", "NONE"):
            raise refuse("tool_choice", zh="没有给出 tools", en="there are no tools to choose from")
        return {}
    config = {"toolConfig": {"functionCallingConfig": choice}} if choice else {}
    return {"tools": [{"functionDeclarations": declared}], **config}


def _tool_choice(choice: Any) -> Json:
    if choice is None:
        return {}
    if isinstance(choice, str) and choice in CHOICES:
        return {"mode": CHOICES[choice]}
    given = members(choice)
    if given.get("type") == "function":
        return {"mode": "ANY", "allowedFunctionNames": [_function_name(given, "tool_choice.function.name")]}
    allowed = members(given.get("allowed_tools"))
    mode = text(allowed.get("mode"))
    if given.get("type") != "allowed_tools" or mode not in ALLOWED_MODES:
        raise inexpressible("tool_choice")
    path = "tool_choice.allowed_tools.tools"
    names = [_function_name(tool, path) for tool in objects(allowed.get("tools"), path)]
    return {"mode": ALLOWED_MODES[mode], "allowedFunctionNames": names}


def _function_name(holder: Json, param: str) -> str:
    name = text(members(holder.get("function")).get("name"))
    if not name:
        raise refuse(param, zh="必须是函数名称", en="it must be a function's name")
    return name


# How it is to be generated


def _generation_config(body: Fields, terms: Terms) -> Json:
    config: Json = {}
    limits = [whole(body, name, low=1, high=TOKENS_MAX) for name in ("max_tokens", "max_completion_tokens")]
    if given := [limit for limit in limits if limit is not None]:
        config["maxOutputTokens"] = min(given)
    for name, (theirs, low, high) in NUMBERS.items():
        if (value := number(body, name, low=low, high=high)) is not None:
            config[theirs] = value
    for name, (theirs, least, most) in WHOLE_NUMBERS.items():
        if (amount := whole(body, name, low=least, high=most)) is not None and (name, amount) != ("n", 1):
            config[theirs] = amount
    stop = body.get("stop")
    if stop is not None and stop != []:
        config["stopSequences"] = texts([stop] if isinstance(stop, str) else stop, "stop", at_most=STOPS_MAX)
    if flag(body, "logprobs"):
        config["responseLogprobs"] = True
    elif config.pop("logprobs", 0):
        raise refuse("top_logprobs", zh="须与 logprobs=true 同用", en="it goes with logprobs=true only")
    return config | _response_format(body.get("response_format")) | _thinking(body.get("reasoning_effort"), terms)


def _response_format(wanted: Any) -> Json:
    kind = members(wanted).get("type")
    if wanted is None or kind == "text":
        return {}
    if kind == "json_object":
        return {"responseMimeType": "application/json"}
    if kind != "json_schema":
        raise inexpressible("response_format.type")
    schema = members(wanted.get("json_schema")).get("schema")
    if not isinstance(schema, dict):
        raise refuse("response_format.json_schema.schema", zh="必须是 JSON schema", en="it must be a JSON schema")
    return {"responseMimeType": "application/json", "responseJsonSchema": schema}


def _thinking(effort: Any, terms: Terms) -> Json:
    """Thoughts are asked for wherever there are any: the caller sees them as reasoning_content."""
    if effort is not None and (not isinstance(effort, str) or effort not in BUDGETS):
        raise inexpressible("reasoning_effort")
    if not terms.reasoning:  # it takes any effort: there is none
        return {}
    config: Json = {} if effort == "none" else {"includeThoughts": True}
    if effort is None:
        return {"thinkingConfig": config}
    if not LEVEL_MODELS.search(terms.upstream_model):
        if effort == "none" and NO_OFF_SWITCH.search(terms.upstream_model):
            raise inexpressible("reasoning_effort")
        return {"thinkingConfig": config | {"thinkingBudget": BUDGETS[effort]}}
    if effort == "none":
        raise inexpressible("reasoning_effort")
    minimal = effort == "minimal" and MINIMAL_LEVEL.search(terms.upstream_model)
    return {"thinkingConfig": config | {"thinkingLevel": "MINIMAL" if minimal else LEVELS[effort]}}


BRIDGE = Bridge("chat.completions", "generateContent", request, answer, ChatStream)
