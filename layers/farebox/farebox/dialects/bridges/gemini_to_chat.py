"""Gemini's generateContent and streamGenerateContent, put to a vendor of OpenAI's chat completions: the request.

The way back stands in gemini_to_chat_stream. https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from farebox.dialects.ask import Fields, flag, refuse, whole
from farebox.dialects.bridge import Bridge, Terms
from farebox.dialects.bridges.crossing import (
    dump,
    dump_request,
    extra_content,
    image_url,
    inexpressible,
    members,
    number,
    refuse_others,
    refuse_unless,
    text,
    texts,
)
from farebox.dialects.bridges.gemini_fields import camel, json_schema, member, parts_of, repeated
from farebox.dialects.bridges.gemini_to_chat_stream import GeminiStream, answer

Json = dict[str, Any]

LEFT_OUT = frozenset({"model", "labels"})
NEUTRAL: Mapping[str, tuple[Any, ...]] = {"serviceTier": ("unspecified", "standard"), "store": (False,)}
EXPRESSED = frozenset({"contents", "systemInstruction", "generationConfig", "tools", "toolConfig", "safetySettings"})
KNOWN = LEFT_OUT | EXPRESSED | set(NEUTRAL)
"""What is not in it is refused: cachedContent, and whatever may yet come."""

NUMBERS: Mapping[str, tuple[str, float, float]] = {
    "temperature": ("temperature", 0, 2),
    "topP": ("top_p", 0, 1),
    "presencePenalty": ("presence_penalty", -2, 2),
    "frequencyPenalty": ("frequency_penalty", -2, 2),
}
"""Member of generationConfig → OpenAI's name for it, the least and the most."""
TOKENS_MAX = 10_000_000
WHOLE_NUMBERS: Mapping[str, tuple[str, int, int]] = {
    "candidateCount": ("n", 1, 128),
    "seed": ("seed", -(2**31), 2**31 - 1),
    "logprobs": ("top_logprobs", 0, 20),
}
STOPS_MAX = 4
CONFIG_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "responseModalities": (["TEXT"], []),
    "mediaResolution": ("MEDIA_RESOLUTION_UNSPECIFIED",),
    "enableEnhancedCivicAnswers": (False,),
    "audioTimestamp": (False,),
}
CONFIG_EXPRESSED = frozenset(
    {"maxOutputTokens", "stopSequences", "responseLogprobs", "thinkingConfig"}
    | {"responseMimeType", "responseSchema", "responseJsonSchema"}
)
CONFIG_KNOWN = CONFIG_EXPRESSED | set(NUMBERS) | set(WHOLE_NUMBERS) | set(CONFIG_NEUTRAL)
"""topK, speechConfig, imageConfig and the like are refused."""

# The other way round in https://ai.google.dev/gemini-api/docs/openai#thinking
EFFORTS: Mapping[str, str] = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high", "XHIGH": "xhigh"}
BUDGETS = ((0, "none"), (1024, "low"), (8192, "medium"))
"""The largest thinkingBudget, in tokens → the effort that it is."""
BUDGET_DYNAMIC = -1

ROLES: Mapping[str, str] = {"user": "user", "function": "user", "model": "assistant"}
CONTENT = frozenset({"role", "parts"})
PART_LEFT_OUT = frozenset({"thought", "partMetadata"})
USER_PART = PART_LEFT_OUT | {"text", "inlineData", "functionResponse", "thoughtSignature"}
MODEL_PART = PART_LEFT_OUT | {"text", "functionCall", "thoughtSignature"}
MODES: Mapping[str, str] = {"MODE_UNSPECIFIED": "auto", "AUTO": "auto", "VALIDATED": "auto", "NONE": "none"}
MODES_REQUIRED = "ANY"
UNBLOCKED = frozenset({"BLOCK_NONE", "OFF", "HARM_BLOCK_THRESHOLD_UNSPECIFIED"})
"""Thresholds that ask for nothing. A stricter one would be a promise that another vendor's model cannot keep."""


def request(body: Fields, terms: Terms) -> bytes:
    """A generateContent body → that of chat.completions. Raises InvalidRequest."""
    given = camel(body)
    refuse_others(given, KNOWN)
    refuse_unless(given, NEUTRAL)
    for path, setting in repeated(given, "safetySettings"):
        if setting.get("threshold") is not None and text(setting["threshold"]).upper() not in UNBLOCKED:
            raise inexpressible(path + "threshold")
    asked: Json = {"model": terms.upstream_model, "messages": _messages(given, terms)}
    asked |= _generation_config(member(given, "generationConfig"), terms)
    asked |= _tools(given)
    if terms.stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return dump_request(asked)


# Contents


@dataclass(slots=True)
class _History:
    """`waiting`: the calls that have no response yet, id and name, in order. `signed`: signatures mean something."""

    signed: bool
    messages: list[Json] = field(default_factory=list)
    waiting: list[tuple[str, str]] = field(default_factory=list)


def _messages(given: Json, terms: Terms) -> list[Json]:
    # Another vendor would not know a signature, and some refuse what they do not know.
    history = _History(signed="gemini" in terms.upstream_model.lower())
    instruction = member(given, "systemInstruction")
    refuse_others(instruction, CONTENT, "systemInstruction.")
    said = [_text(path, part) for path, part in parts_of(instruction, "systemInstruction.")]
    if any(said):
        history.messages.append({"role": "system", "content": "\n".join(filter(None, said))})
    before = len(history.messages)
    for path, content in repeated(given, "contents"):
        refuse_others(content, CONTENT, path)
        role = content.get("role")
        if role is not None and (not isinstance(role, str) or role not in ROLES):
            raise inexpressible(path + "role")
        read = _model if ROLES[role or "user"] == "assistant" else _user
        read(content, path, history)
    if len(history.messages) == before:
        raise refuse("contents", zh="至少要有一条非空内容", en="there must be content in it")
    return history.messages


def _text(path: str, part: Json) -> str:
    refuse_others(part, PART_LEFT_OUT | {"text"}, path)
    words = part.get("text", "")
    if not isinstance(words, str):
        raise refuse(path + "text", zh="必须是字符串", en="it must be a string")
    return words


def _user(content: Json, path: str, history: _History) -> None:
    """Results come first: OpenAI wants them right behind the calls."""
    spoken: list[str] = []
    parts: list[Json] = []
    pictures = False
    for where, part in parts_of(content, path):
        refuse_others(part, USER_PART, where)
        if part.get("functionResponse") is not None:
            history.messages.append(_result(member(part, "functionResponse", where), where, history))
        elif part.get("inlineData") is not None:
            url = image_url(member(part, "inlineData", where))
            if url is None:
                raise inexpressible(where + "inlineData.mimeType")
            parts.append({"type": "image_url", "image_url": {"url": url}})
            pictures = True
        elif words := _text(where, {"text": part.get("text", "")}):
            parts.append({"type": "text", "text": words})
            spoken.append(words)
    if parts:
        # Several vendors take an array for images only.
        history.messages.append({"role": "user", "content": parts if pictures else "\n".join(spoken)})


def _result(response: Json, path: str, history: _History) -> Json:
    where = path + "functionResponse."
    refuse_others(response, ("id", "name", "response", "willContinue", "scheduling"), where)
    refuse_unless(response, {"willContinue": (False,), "scheduling": ("SCHEDULING_UNSPECIFIED",)}, where)
    identity, name = response.get("id"), response.get("name")
    exact = [each for each in history.waiting if each[0] == identity]
    of_name = [each for each in history.waiting if each[1] == name]
    if not exact and not of_name:
        raise refuse(where + "name", zh="前文没有这个函数调用", en="no call before this is waiting for it")
    call = (exact or of_name)[0]
    history.waiting.remove(call)
    try:
        said = dump(members(response.get("response"))).decode()
    except ValueError:
        raise refuse(where + "response", zh="嵌套过深", en="it is nested too deeply") from None
    return {"role": "tool", "tool_call_id": call[0], "content": said}


def _model(content: Json, path: str, history: _History) -> None:
    """Thoughts of the past are no input; a signature stays with its call, or with the message."""
    spoken: list[str] = []
    calls: list[Json] = []
    message: Json = {"role": "assistant", "content": None}
    for place, (where, part) in enumerate(parts_of(content, path)):
        refuse_others(part, MODEL_PART, where)
        signature = text(part.get("thoughtSignature")) if history.signed else ""
        signed = extra_content(signature) if signature else {}
        if part.get("functionCall") is not None:
            # The number of messages and the place make an id that is the same whenever the history comes again.
            own = f"call_{len(history.messages)}_{place}"
            calls.append(_call(member(part, "functionCall", where), where, own, history) | signed)
        elif part.get("thought") is not True:
            spoken.append(_text(where, {"text": part.get("text", "")}))
            message |= signed
    if any(spoken):
        message["content"] = "".join(spoken)
    if calls:
        message["tool_calls"] = calls
    if len(message) > 2 or message["content"]:
        history.messages.append(message)


def _call(call: Json, path: str, own: str, history: _History) -> Json:
    where = path + "functionCall."
    refuse_others(call, ("id", "name", "args"), where)
    name = text(call.get("name"))
    if not name:
        raise refuse(where + "name", zh="必须是函数名称", en="it must be a function's name")
    identity = text(call.get("id")) or own
    history.waiting.append((identity, name))
    args = call.get("args")
    if args is not None and not isinstance(args, dict):
        raise refuse(where + "args", zh="必须是对象", en="it must be an object")
    try:
        arguments = dump(args or {}).decode()
    except ValueError:
        raise refuse(where + "args", zh="嵌套过深", en="it is nested too deeply") from None
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


# How it is to be generated


def _generation_config(given: Json, terms: Terms) -> Json:
    path = "generationConfig."
    refuse_others(given, CONFIG_KNOWN, path)
    refuse_unless(given, CONFIG_NEUTRAL, path)
    asked: Json = {}
    for name, (theirs, low, high) in NUMBERS.items():
        if (value := number(given, name, low=low, high=high, path=path)) is not None:
            asked[theirs] = value
    wholes = {**WHOLE_NUMBERS, "maxOutputTokens": (terms.limit_param, 1, TOKENS_MAX)}
    for name, (theirs, least, most) in wholes.items():
        amount = whole({path + name: given.get(name)}, path + name, low=least, high=most)
        if amount is not None and (name, amount) != ("candidateCount", 1):
            asked[theirs] = amount
    if given.get("stopSequences"):
        asked["stop"] = texts(given["stopSequences"], path + "stopSequences", at_most=STOPS_MAX)
    if flag({path + "responseLogprobs": given.get("responseLogprobs")}, path + "responseLogprobs"):
        asked["logprobs"] = True
    elif asked.pop("top_logprobs", 0):
        raise refuse(path + "logprobs", zh="须与 responseLogprobs=true 同用", en="it goes with responseLogprobs only")
    effort = _effort(member(given, "thinkingConfig", path), path + "thinkingConfig.")
    if effort is not None and terms.reasoning:
        asked["reasoning_effort"] = effort
    return asked | _response_format(given, path)


def _effort(given: Json, path: str) -> str | None:
    """includeThoughts is left out: a vendor shows its thoughts or does not, and the SDKs tell them from the text."""
    refuse_others(given, ("includeThoughts", "thinkingBudget", "thinkingLevel"), path)
    level = given.get("thinkingLevel")
    if level is not None and level != "THINKING_LEVEL_UNSPECIFIED":
        if text(level).upper() not in EFFORTS:
            raise inexpressible(path + "thinkingLevel")
        return EFFORTS[level.upper()]
    param = path + "thinkingBudget"
    budget = whole({param: given.get("thinkingBudget")}, param, low=BUDGET_DYNAMIC, high=TOKENS_MAX)
    if budget is None or budget == BUDGET_DYNAMIC:
        return None
    return next((effort for most, effort in BUDGETS if budget <= most), "high")


def _response_format(given: Json, path: str) -> Json:
    mime, schema = given.get("responseMimeType"), given.get("responseJsonSchema")
    if mime not in (None, "", "text/plain", "application/json"):
        raise inexpressible(path + "responseMimeType")
    if given.get("responseSchema") is not None:
        if schema is not None:
            raise refuse(path + "responseSchema", zh="与 responseJsonSchema 不能同用", en="one schema is enough")
        schema = json_schema(given["responseSchema"], path + "responseSchema")
    if schema is not None:
        if not isinstance(schema, dict):
            raise refuse(path + "responseJsonSchema", zh="必须是 JSON schema", en="it must be a JSON schema")
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "response", "schema": schema}}}
    return {"response_format": {"type": "json_object"}} if mime == "application/json" else {}


# Tools


def _tools(given: Json) -> Json:
    tools: list[Json] = []
    for path, tool in repeated(given, "tools"):
        refuse_others(tool, ("functionDeclarations",), path)  # googleSearch, codeExecution, urlContext, …
        tools += [_declared(each, where) for where, each in repeated(tool, "functionDeclarations", path)]
    config = member(given, "toolConfig")
    refuse_others(config, ("functionCallingConfig", "includeServerSideToolInvocations"), "toolConfig.")
    refuse_unless(config, {"includeServerSideToolInvocations": (False,)}, "toolConfig.")
    path = "toolConfig.functionCallingConfig."
    calling = member(config, "functionCallingConfig", "toolConfig.")
    refuse_others(calling, ("mode", "allowedFunctionNames", "streamFunctionCallArguments"), path)
    refuse_unless(calling, {"streamFunctionCallArguments": (False,)}, path)
    mode = text(calling.get("mode", "AUTO")).upper()
    if mode != MODES_REQUIRED and mode not in MODES:
        raise inexpressible(path + "mode")
    if allowed := texts(calling.get("allowedFunctionNames") or [], path + "allowedFunctionNames", at_most=1024):
        # OpenAI's own way of allowing a few is known to few vendors; the few alone come to the same.
        tools = [tool for tool in tools if tool["function"]["name"] in allowed]
        if not tools:
            raise refuse(path + "allowedFunctionNames", zh="没有声明这些函数", en="none of them is declared")
    if not tools:
        if mode == MODES_REQUIRED:
            raise refuse(path + "mode", zh="没有给出 tools", en="there are no tools to choose from")
        return {}
    choice = MODES.get(mode, "required")
    return {"tools": tools} | ({"tool_choice": choice} if choice != "auto" else {})


def _declared(given: Json, path: str) -> Json:
    """`response` and its schema describe what only the caller's function gives back; they are left out."""
    known = ("name", "description", "parameters", "parametersJsonSchema", "response", "responseJsonSchema", "behavior")
    refuse_others(given, known, path)
    refuse_unless(given, {"behavior": ("UNSPECIFIED", "BLOCKING")}, path)
    if not text(given.get("name")):
        raise refuse(path + "name", zh="必须是函数名称", en="it must be a function's name")
    function: Json = {"name": given["name"]}
    if given.get("description") is not None:
        function["description"] = given["description"]
    if given.get("parametersJsonSchema") is not None:
        function["parameters"] = given["parametersJsonSchema"]
    elif given.get("parameters") is not None:
        function["parameters"] = json_schema(given["parameters"], path + "parameters")
    return {"type": "function", "function": function}


BRIDGE = Bridge("generateContent", "chat.completions", request, answer, GeminiStream)
