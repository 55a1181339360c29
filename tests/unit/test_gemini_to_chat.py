"""Gemini callers at vendors of OpenAI's chat: what crosses, what is left out, what is refused, and the way back."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects import sse
from farebox.dialects.bridge import Terms
from farebox.dialects.bridges.gemini_to_chat import BRIDGE, CONFIG_KNOWN, KNOWN
from farebox.dialects.bridges.gemini_to_chat_stream import CALLS_MAX
from farebox.errors import InvalidRequest

TERMS = Terms(
    model="public-name",
    upstream_model="gpt-4o",
    stream=False,
    output_tokens_max=16_384,
    reasoning=False,
    limit_param="max_completion_tokens",
    id="abc123",
    created_s=1_700_000_000,
)
HI = [{"role": "user", "parts": [{"text": "hi"}]}]
BLOB = {"mimeType": "image/png", "data": "iVBORw0KGgo="}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
FUNCTION_CALL = {"functionCall": {"name": "weather", "args": {"city": "北京", "my_key": 1.5}}}
ARGUMENTS = '{"city":"北京","my_key":1.5}'


def asked(terms: Terms = TERMS, **body: Any) -> dict[str, Any]:
    """What the vendor is sent."""
    sent: dict[str, Any] = json.loads(BRIDGE.request({"contents": HI, **body}, terms))
    return sent


def more(terms: Terms = TERMS, **body: Any) -> dict[str, Any]:
    """What the vendor is sent besides the model and the messages."""
    return {name: value for name, value in asked(terms, **body).items() if name not in ("model", "messages")}


def refused(**body: Any) -> str:
    """The parameter that the refusal names, in both languages, and nothing of the caller's text."""
    with pytest.raises(InvalidRequest) as caught:
        asked(**body)
    error = caught.value
    assert error.param is not None
    assert error.param in error.zh
    assert error.param in error.en
    assert error.en.isascii()
    assert "secret" not in error.zh + error.en
    return error.param


# ── contents ────────────────────────────────────────────────────────────────────────────────────────────────────────


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "parts": list(parts)}


def model(*parts: Any) -> dict[str, Any]:
    return {"role": "model", "parts": list(parts)}


@pytest.mark.parametrize(
    ("contents", "messages"),
    [
        (HI, [{"role": "user", "content": "hi"}]),
        ({"parts": {"text": "hi"}}, [{"role": "user", "content": "hi"}]),  # as Google's own examples have it
        ([user({"text": "a"}, {"text": "b"})], [{"role": "user", "content": "a\nb"}]),
        (
            [user({"text": "a"}, {"inlineData": BLOB})],
            [{"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]}],
        ),
        (
            [user({"inline_data": {"mime_type": "image/png", "data": "iVBORw0KGgo="}})],
            [{"role": "user", "content": [IMAGE]}],
        ),
        (
            [*HI, model({"text": "hm", "thought": True}, {"text": "Ha"}, {"text": "llo", "thoughtSignature": "x"})],
            [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hallo"}],
        ),
        ([*HI, model({"text": ""}), user()], [{"role": "user", "content": "hi"}]),
    ],
)
def test_contents_become_messages(contents: Any, messages: Any) -> None:
    assert asked(contents=contents)["messages"] == messages


def test_images_in_the_alphabet_of_googles_sdks_come_out_in_the_one_that_all_others_read() -> None:
    (message,) = asked(contents=[user({"inlineData": {"mimeType": "image/png", "data": "-_8="}})])["messages"]

    assert message["content"][0]["image_url"]["url"] == "data:image/png;base64,+/8="


@pytest.mark.parametrize("name", ["systemInstruction", "system_instruction"])
def test_the_instruction_is_the_first_message(name: str) -> None:
    sent = asked(**{name: {"role": "system", "parts": [{"text": "a"}, {"text": ""}, {"text": "b"}]}})

    assert sent["messages"] == [{"role": "system", "content": "a\nb"}, {"role": "user", "content": "hi"}]


def called(identity: str, arguments: str = ARGUMENTS, name: str = "weather") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_calls_without_ids_get_the_same_ones_every_time_and_their_results_find_them_by_name_and_order() -> None:
    other = {"function_call": {"name": "time"}}
    results = [
        {"functionResponse": {"name": "time", "response": {"h": 1}}},
        {"functionResponse": {"name": "weather", "response": {"result": "sunny"}}},
        {"functionResponse": {"name": "weather"}},
    ]
    contents = [*HI, model(FUNCTION_CALL, other, FUNCTION_CALL), {"role": "function", "parts": results}]

    messages = asked(contents=contents)["messages"]

    assert messages[1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [called("call_1_0"), called("call_1_1", "{}", "time"), called("call_1_2")],
    }
    assert messages[2:] == [
        {"role": "tool", "tool_call_id": "call_1_1", "content": '{"h":1}'},
        {"role": "tool", "tool_call_id": "call_1_0", "content": '{"result":"sunny"}'},
        {"role": "tool", "tool_call_id": "call_1_2", "content": "{}"},
    ]
    assert asked(contents=contents)["messages"] == messages


def test_ids_of_the_caller_are_kept_and_results_stand_before_what_the_user_says() -> None:
    calls = [{"functionCall": {**FUNCTION_CALL["functionCall"], "id": each}} for each in ("a", "b")]
    answer = {"functionResponse": {"id": "b", "name": "weather", "response": {}}}

    messages = asked(contents=[*HI, model({"text": "see"}, *calls), user({"text": "so?"}, answer)])["messages"]

    assert messages[1] == {"role": "assistant", "content": "see", "tool_calls": [called("a"), called("b")]}
    assert messages[2:] == [
        {"role": "tool", "tool_call_id": "b", "content": "{}"},
        {"role": "user", "content": "so?"},
    ]


@pytest.mark.parametrize(("upstream", "kept"), [("google/gemini-3-pro", True), ("gpt-4o", False)])
def test_signatures_go_to_gemini_alone(upstream: str, kept: bool) -> None:
    contents = [*HI, model({"text": "x", "thoughtSignature": "c2ln"}, {**FUNCTION_CALL, "thought_signature": "c2ln"})]

    message = asked(replace(TERMS, upstream_model=upstream), contents=contents)["messages"][1]

    signed = {"google": {"thought_signature": "c2ln"}} if kept else None
    assert message.get("extra_content") == signed
    assert message["tool_calls"][0].get("extra_content") == signed


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ({"role": "secret", "parts": []}, "role"),
        ({"role": 5, "parts": []}, "role"),
        ({"role": "user", "parts": "secret"}, "parts"),
        ({"role": "user", "other": 1}, "other"),
        (user({"text": 5}), "parts[0].text"),
        (user({"fileData": {"fileUri": "secret"}}), "parts[0].fileData"),
        (user({"file_data": {"fileUri": "secret"}}), "parts[0].fileData"),
        (user({"inlineData": {"mimeType": "video/secret", "data": ""}}), "parts[0].inlineData.mimeType"),
        (user({"inlineData": "secret"}), "parts[0].inlineData"),
        (user({"text": "x", "videoMetadata": {}}), "parts[0].videoMetadata"),
        (user({"executableCode": {}}), "parts[0].executableCode"),
        (user({"text": "x", "mediaResolution": {}}), "parts[0].mediaResolution"),
        (user(FUNCTION_CALL), "parts[0].functionCall"),
        (user({"functionResponse": {"name": "secret"}}), "parts[0].functionResponse.name"),
        (user({"functionResponse": {"name": "f", "parts": [1]}}), "parts[0].functionResponse.parts"),
        (model({"inlineData": BLOB}), "parts[0].inlineData"),
        (model({"functionCall": {"args": {}}}), "parts[0].functionCall.name"),
        (model({"functionCall": {"name": "f", "args": []}}), "parts[0].functionCall.args"),
        (model({"functionCall": {"name": "f", "partialArgs": []}}), "parts[0].functionCall.partialArgs"),
        (model({"text": "x", "a secret text": 1}), "parts[0].?"),
    ],
)
def test_content_that_chat_has_no_word_for_is_refused_by_name(content: Any, param: str) -> None:
    assert refused(contents=[*HI, content]) == f"contents[1].{param}"


@pytest.mark.parametrize("contents", [None, "secret", [], [user()], ["secret"]])
def test_contents_without_content_are_refused(contents: Any) -> None:
    assert refused(contents=contents) == "contents"


# ── how it is to be generated ───────────────────────────────────────────────────────────────────────────────────────

SCHEMA = {
    "type": "OBJECT",
    "propertyOrdering": ["a", "b"],
    "required": ["a"],
    "properties": {
        "a_key": {"type": "STRING", "nullable": True, "enum": ["x"], "format": "enum", "example": "x"},
        "b": {"type": "array", "min_items": "1", "items": {"type": "INTEGER", "maximum": 5}},
        "c": {"any_of": [{"type": "STRING"}, {"$ref": "#/$defs/d"}], "nullable": True},
        "d": {"type": "TYPE_UNSPECIFIED", "additionalProperties": {"type": "NUMBER"}, "description": None},
    },
    "defs": {"d": {"type": "BOOLEAN"}},
}
JSON_SCHEMA = {
    "type": "object",
    "required": ["a"],
    "properties": {
        "a_key": {"type": ["string", "null"], "enum": ["x", None]},
        "b": {"type": "array", "minItems": 1, "items": {"type": "integer", "maximum": 5}},
        "c": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/d"}, {"type": "null"}]},
        "d": {"additionalProperties": {"type": "number"}},
    },
    "$defs": {"d": {"type": "boolean"}},
}


def formatted(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "response", "schema": schema}}}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"maxOutputTokens": 7}, {"max_completion_tokens": 7}),
        ({"max_output_tokens": 7}, {"max_completion_tokens": 7}),
        ({"temperature": 0.3, "topP": 1}, {"temperature": 0.3, "top_p": 1}),
        (
            {"presencePenalty": -1, "frequency_penalty": 0.5, "seed": 5},
            {"presence_penalty": -1, "frequency_penalty": 0.5, "seed": 5},
        ),
        ({"stopSequences": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"stopSequences": []}, {}),
        ({"candidateCount": 3}, {"n": 3}),
        ({"candidateCount": 1}, {}),
        ({"responseLogprobs": True, "logprobs": 4}, {"logprobs": True, "top_logprobs": 4}),
        ({"responseMimeType": "text/plain", "responseModalities": ["TEXT"]}, {}),
        ({"responseMimeType": "application/json"}, {"response_format": {"type": "json_object"}}),
        ({"responseMimeType": "application/json", "responseSchema": SCHEMA}, formatted(JSON_SCHEMA)),
        ({"response_mime_type": "application/json", "response_json_schema": JSON_SCHEMA}, formatted(JSON_SCHEMA)),
        ({"thinkingConfig": {"thinkingBudget": 0}}, {}),  # the model does not reason
        ({"mediaResolution": "MEDIA_RESOLUTION_UNSPECIFIED", "speechConfig": None}, {}),
    ],
)
def test_a_member_of_the_configuration_crosses_under_openais_name(config: Any, expected: Any) -> None:
    assert more(generationConfig=config) == more(generation_config=config) == expected


@pytest.mark.parametrize(
    ("thinking", "effort"),
    [
        ({"thinkingBudget": 0}, "none"),
        ({"thinking_budget": 1024}, "low"),
        ({"thinkingBudget": 1025}, "medium"),
        ({"thinkingBudget": 24576}, "high"),
        ({"thinkingBudget": -1}, None),
        ({"includeThoughts": True}, None),
        ({"thinkingLevel": "MINIMAL"}, "minimal"),
        ({"thinking_level": "high", "includeThoughts": True}, "high"),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, None),
    ],
)
def test_thinking_is_an_effort_for_a_model_that_reasons(thinking: Any, effort: str | None) -> None:
    sent = more(replace(TERMS, reasoning=True), generationConfig={"thinkingConfig": thinking})

    assert sent.get("reasoning_effort") == effort


@pytest.mark.parametrize(
    ("config", "param"),
    [
        ({"topK": 5}, "topK"),
        ({"top_k": 5}, "topK"),
        ({"temperature": 3}, "temperature"),
        ({"topP": "x"}, "topP"),
        ({"maxOutputTokens": 0}, "maxOutputTokens"),
        ({"maxOutputTokens": 5, "max_output_tokens": 6}, "maxOutputTokens"),
        ({"stopSequences": ["a", "b", "c", "d", "e"]}, "stopSequences"),
        ({"stopSequences": "secret"}, "stopSequences"),
        ({"candidateCount": True}, "candidateCount"),
        ({"logprobs": 3}, "logprobs"),
        ({"responseLogprobs": "yes"}, "responseLogprobs"),
        ({"responseMimeType": "text/x.enum"}, "responseMimeType"),
        ({"responseSchema": "secret"}, "responseSchema"),
        ({"responseSchema": {"properties": {"a": 5}}}, "responseSchema"),
        ({"responseSchema": {}, "responseJsonSchema": {}}, "responseSchema"),
        ({"responseJsonSchema": []}, "responseJsonSchema"),
        ({"responseModalities": ["TEXT", "IMAGE"]}, "responseModalities"),
        ({"mediaResolution": "MEDIA_RESOLUTION_LOW"}, "mediaResolution"),
        ({"speechConfig": {}}, "speechConfig"),
        ({"imageConfig": {}}, "imageConfig"),
        ({"thinkingConfig": {"thinkingLevel": "secret"}}, "thinkingConfig.thinkingLevel"),
        ({"thinkingConfig": {"thinkingBudget": -2}}, "thinkingConfig.thinkingBudget"),
        ({"thinkingConfig": {"other": 1}}, "thinkingConfig.other"),
        ({"thinkingConfig": "secret"}, "thinkingConfig"),
    ],
)
def test_a_configuration_that_chat_has_no_word_for_is_refused_by_name(config: Any, param: str) -> None:
    assert refused(generationConfig=config) == f"generationConfig.{param}"


def test_a_stream_is_asked_for_with_its_usage() -> None:
    assert more(replace(TERMS, stream=True)) == {"stream": True, "stream_options": {"include_usage": True}}


# ── tools and the rest ──────────────────────────────────────────────────────────────────────────────────────────────

WEATHER = {
    "name": "weather",
    "description": "d",
    "parameters": {"type": "OBJECT", "properties": {"c": {"type": "STRING"}}},
}
TIME = {"name": "time", "parametersJsonSchema": {"type": "object"}, "response": {"type": "STRING"}}
DECLARED = {
    "weather": {
        "name": "weather",
        "description": "d",
        "parameters": {"type": "object", "properties": {"c": {"type": "string"}}},
    },
    "time": {"name": "time", "parameters": {"type": "object"}},
}


@pytest.mark.parametrize(
    ("calling", "tools", "choice"),
    [
        (None, ["weather", "time"], None),
        ({"mode": "AUTO"}, ["weather", "time"], None),
        ({"mode": "VALIDATED"}, ["weather", "time"], None),
        ({"mode": "NONE"}, ["weather", "time"], "none"),
        ({"mode": "ANY"}, ["weather", "time"], "required"),
        ({"mode": "any", "allowed_function_names": ["time"]}, ["time"], "required"),
    ],
)
def test_functions_and_the_choice_among_them_cross(calling: Any, tools: list[str], choice: str | None) -> None:
    declared = [{"functionDeclarations": [WEATHER]}, {"function_declarations": [TIME]}]

    sent = more(tools=declared, toolConfig={"functionCallingConfig": calling})

    expected = {"tools": [{"type": "function", "function": DECLARED[name]} for name in tools]}
    assert sent == (expected if choice is None else {**expected, "tool_choice": choice})


def test_what_asks_for_nothing_is_left_out() -> None:
    settings = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": each} for each in ("BLOCK_NONE", "OFF", None)]
    nothing = {
        "labels": {"a": "b"},
        "store": False,
        "serviceTier": "standard",
        "model": "models/x",
        "cachedContent": None,
    }

    assert asked(safety_settings=settings, tools=[{}], tool_config={}, **nothing) == asked()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"safetySettings": [{"threshold": "BLOCK_ONLY_HIGH"}]}, "safetySettings[0].threshold"),
        ({"safety_settings": [{"threshold": 5}]}, "safetySettings[0].threshold"),
        ({"cachedContent": "cachedContents/secret"}, "cachedContent"),
        ({"cached_content": "cachedContents/secret"}, "cachedContent"),
        ({"serviceTier": "flex"}, "serviceTier"),
        ({"store": True}, "store"),
        ({"anythingNew": 1}, "anythingNew"),
        ({"generationConfig": {}, "generation_config": {}}, "generationConfig"),
        ({"systemInstruction": "secret"}, "systemInstruction"),
        ({"systemInstruction": {"parts": [{"inlineData": BLOB}]}}, "systemInstruction.parts[0].inlineData"),
        ({"tools": "secret"}, "tools"),
        ({"tools": [{"googleSearch": {}}]}, "tools[0].googleSearch"),
        ({"tools": [{"code_execution": {}}]}, "tools[0].codeExecution"),
        ({"tools": [{"urlContext": {}}]}, "tools[0].urlContext"),
        ({"tools": [{"functionDeclarations": [{}]}]}, "tools[0].functionDeclarations[0].name"),
        (
            {"tools": [{"functionDeclarations": [{"name": "f", "behavior": "NON_BLOCKING"}]}]},
            "tools[0].functionDeclarations[0].behavior",
        ),
        (
            {"tools": [{"functionDeclarations": [{"name": "f", "parameters": 5}]}]},
            "tools[0].functionDeclarations[0].parameters",
        ),
        ({"toolConfig": {"retrievalConfig": {}}}, "toolConfig.retrievalConfig"),
        ({"toolConfig": {"functionCallingConfig": {"mode": "secret"}}}, "toolConfig.functionCallingConfig.mode"),
        ({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}, "toolConfig.functionCallingConfig.mode"),
        (
            {
                "toolConfig": {"functionCallingConfig": {"allowedFunctionNames": ["secret"]}},
                "tools": [{"functionDeclarations": [WEATHER]}],
            },
            "toolConfig.functionCallingConfig.allowedFunctionNames",
        ),
    ],
)
def test_what_chat_has_no_word_for_is_refused_by_name(body: Any, param: str) -> None:
    assert refused(**body) == param


def test_a_schema_nested_without_end_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"items": deep}

    assert refused(generationConfig={"responseSchema": deep}) == "generationConfig.responseSchema"
    results = [model(FUNCTION_CALL), user({"functionResponse": {"name": "weather", "response": deep}})]
    assert refused(contents=results) == "contents[1].parts[0].functionResponse.response"
    assert refused(generationConfig={"responseJsonSchema": deep}) == "body"
    assert (
        refused(contents=[*HI, model({"functionCall": {"name": "f", "args": deep}})])
        == "contents[1].parts[0].functionCall.args"
    )


# ── the answer ──────────────────────────────────────────────────────────────────────────────────────────────────────

USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 12,
    "total_tokens": 24,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 7},
}
METADATA = {
    "promptTokenCount": 12,
    "cachedContentTokenCount": 4,
    "candidatesTokenCount": 5,
    "thoughtsTokenCount": 7,
    "totalTokenCount": 24,
}


def answered(said: Any) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(BRIDGE.answer(json.dumps(said).encode(), TERMS))
    return whole


def completion(finish: Any = "stop", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, "logprobs": None}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": USAGE}


def test_a_plain_answer_is_a_response() -> None:
    assert answered(completion(content="Hallo")) == {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "Hallo"}]}, "index": 0, "finishReason": "STOP"}
        ],
        "modelVersion": "public-name",
        "responseId": "chatcmpl-1",
        "usageMetadata": METADATA,
    }


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": "a", "reasoning_content": "hm"}, [{"text": "hm", "thought": True}, {"text": "a"}]),
        ({"content": "a", "reasoning": "hm"}, [{"text": "hm", "thought": True}, {"text": "a"}]),
        ({"content": None, "refusal": "no"}, [{"text": "no"}]),
        ({"content": "a", "images": [IMAGE]}, [{"text": "a"}, {"inlineData": BLOB}]),
        (
            {"content": None, "tool_calls": [called("c1")]},
            [{"functionCall": {**FUNCTION_CALL["functionCall"], "id": "c1"}}],
        ),
        (
            {"tool_calls": [{**called("c1", ""), "extra_content": {"google": {"thought_signature": "c2ln"}}}]},
            [{"functionCall": {"name": "weather", "args": {}, "id": "c1"}, "thoughtSignature": "c2ln"}],
        ),
        (
            {"content": "a", "extra_content": {"google": {"thought_signature": "x"}}},
            [{"text": "a", "thoughtSignature": "x"}],
        ),
        ({"function_call": {"name": "weather", "arguments": ARGUMENTS}}, [FUNCTION_CALL]),
        ({"content": ""}, [{"text": ""}]),
    ],
)
def test_what_a_message_says_stands_in_parts(message: Any, parts: Any) -> None:
    assert answered(completion(**message))["candidates"][0]["content"]["parts"] == parts


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", "STOP"),
        ("tool_calls", "STOP"),
        ("function_call", "STOP"),
        ("length", "MAX_TOKENS"),
        ("content_filter", "SAFETY"),
        ("insufficient_system_resource", "OTHER"),
        (None, "STOP"),
        (["x"], "STOP"),
    ],
)
def test_the_reason_for_the_end_crosses(reason: Any, finish: str) -> None:
    assert answered(completion(reason, content="x"))["candidates"][0]["finishReason"] == finish


@pytest.mark.parametrize(("reason", "finish"), [("tool_calls", "MALFORMED_FUNCTION_CALL"), ("length", "MAX_TOKENS")])
def test_a_call_whose_arguments_are_broken_is_left_out_and_said_to_be(reason: str, finish: str) -> None:
    candidate = answered(completion(reason, content="a", tool_calls=[called("c", '{"cit')]))["candidates"][0]

    assert candidate["content"]["parts"] == [{"text": "a"}]
    assert candidate["finishReason"] == finish


@pytest.mark.parametrize(
    ("usage", "metadata"),
    [
        (USAGE, METADATA),
        (
            {"prompt_tokens": 3, "completion_tokens": 4},
            {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7},
        ),
        (
            {"prompt_tokens": 3, "completion_tokens": 4, "prompt_cache_hit_tokens": 2},
            {"promptTokenCount": 3, "cachedContentTokenCount": 2, "candidatesTokenCount": 4, "totalTokenCount": 7},
        ),
        (
            {**USAGE, "total_tokens": 31},  # xAI: thoughts are not in completion_tokens
            {**METADATA, "candidatesTokenCount": 12, "totalTokenCount": 31},
        ),
        ("junk", None),
        (
            {"prompt_tokens": -1, "completion_tokens": 1e9, "completion_tokens_details": 5},
            {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0},
        ),
    ],
)
def test_usage_crosses_with_thoughts_beside_the_rest(usage: Any, metadata: Any) -> None:
    assert answered({**completion(content="x"), "usage": usage}).get("usageMetadata") == metadata


def test_log_probabilities_cross() -> None:
    said = completion(content="x")
    token = {"token": "x", "logprob": -0.5, "bytes": [120]}
    said["choices"][0]["logprobs"] = {"content": [{**token, "top_logprobs": [token]}]}

    result = answered(said)["candidates"][0]["logprobsResult"]

    chosen = {"token": "x", "logProbability": -0.5}
    assert result == {"chosenCandidates": [chosen], "topCandidates": [{"candidates": [chosen]}]}


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"null", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[5]}', b'{"error":{}}']
)
def test_what_is_no_answer_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ValueError):
        BRIDGE.answer(data, TERMS)


# ── the stream ──────────────────────────────────────────────────────────────────────────────────────────────────────


def chunk(delta: Any = None, finish: Any = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}], **more}


def streamed(*chunks: Any) -> list[dict[str, Any]]:
    """The caller's frames, read as Google's SDK reads them: they must begin with "data: "."""
    bridge = BRIDGE.stream(TERMS)
    frames = [frame for each in chunks for frame in bridge.feed(json.dumps(each).encode())]
    frames += bridge.feed(b"[DONE]") + bridge.end()
    assert all(frame.startswith(b"data: {") and frame.endswith(b"}\n\n") for frame in frames)
    return [json.loads(sse.data_of(frame) or b"") for frame in frames]


def test_text_crosses_as_it_comes_and_the_last_frame_says_why_it_ended_and_what_it_used() -> None:
    first, second, last = streamed(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "Ha"}),
        chunk({}, "stop"),
        {"id": "chatcmpl-1", "choices": [], "usage": USAGE},
    )

    response = {"modelVersion": "public-name", "responseId": "chatcmpl-1"}
    content = {"role": "model", "parts": [{"text": "hm", "thought": True}]}
    assert first == {"candidates": [{"content": content, "index": 0}], **response}
    assert second["candidates"][0]["content"]["parts"] == [{"text": "Ha"}]
    # Content without parts would be taken for a failure by Google's SDK.
    end = {"content": {"role": "model", "parts": [{"text": ""}]}, "index": 0, "finishReason": "STOP"}
    assert last == {"candidates": [end], **response, "usageMetadata": METADATA}


def test_a_call_comes_whole_at_the_end() -> None:
    pieces = [
        {"index": 1, "id": "c2", "type": "function", "function": {"name": "time", "arguments": ""}},
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS[:9]}},
        {"index": 0, "function": {"arguments": ARGUMENTS[9:]}},
    ]

    (last,) = streamed(*(chunk({"tool_calls": [piece]}) for piece in pieces), chunk({}, "tool_calls"))

    calls = [part["functionCall"] for part in last["candidates"][0]["content"]["parts"]]
    assert calls == [{**FUNCTION_CALL["functionCall"], "id": "c1"}, {"name": "time", "args": {}, "id": "c2"}]
    assert last["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk({"content": "x"}, "stop", usage=USAGE)],
        [chunk({"content": "x"}), {**chunk({}, "stop"), "usage": USAGE}, {"choices": [], "usage": None}],
        [{"choices": [{"delta": {"content": "x"}, "finish_reason": "stop", "usage": USAGE}]}],
    ],
)
def test_usage_is_found_wherever_a_vendor_puts_it(chunks: list[Any]) -> None:
    assert streamed(*chunks)[-1]["usageMetadata"] == METADATA


def test_what_is_no_chunk_is_skipped_and_an_empty_stream_still_ends() -> None:
    bridge = BRIDGE.stream(TERMS)

    assert [bridge.feed(data) for data in (b"", b"{", b"[]", b"null", b"{}", b'{"error":{}}', b"\xff")] == [[]] * 7
    (last,) = [json.loads(sse.data_of(frame) or b"") for frame in bridge.end()]
    assert last["responseId"] == "abc123"
    assert last["candidates"][0]["finishReason"] == "STOP"


TEXTS = st.text(max_size=5)
DELTAS = st.one_of(
    st.builds(lambda text: {"content": text}, TEXTS),
    st.builds(lambda text: {"refusal": text}, TEXTS),
    st.builds(lambda text: {"reasoning_content": text}, TEXTS),
    st.builds(
        lambda index, text: {"tool_calls": [{"index": index, "function": {"arguments": text}}]},
        st.integers(0, 1),
        st.sampled_from([" ", "1", "{"]),
    ),
)


def _said(candidates: list[dict[str, Any]]) -> dict[str, Any]:
    """What a client makes of one candidate's pieces."""
    parts = [part for each in candidates for part in each["content"]["parts"]]
    return {
        "thoughts": "".join(part.get("text", "") for part in parts if part.get("thought")),
        "text": "".join(part.get("text", "") for part in parts if not part.get("thought")),
        "calls": [part["functionCall"] for part in parts if "functionCall" in part],
        "finish": candidates[-1]["finishReason"],
    }


@given(st.lists(DELTAS, max_size=8), st.sampled_from(["stop", "tool_calls", "length", "content_filter"]))
def test_the_stream_joined_is_the_plain_answer(deltas: list[Any], finish: str) -> None:
    starts = [{"index": index, "id": f"c{index}", "function": {"name": "f", "arguments": '{"a":['}} for index in (0, 1)]
    ends = [{"index": index, "function": {"arguments": "]}"}} for index in (0, 1)]
    deltas = [{"tool_calls": starts}, *deltas, {"tool_calls": ends}]
    message: dict[str, Any] = {"content": "", "reasoning_content": ""}
    arguments = ["", ""]
    for delta in deltas:
        spoken = delta.get("content", "") + delta.get("refusal", "")
        message["content"] += spoken
        message["reasoning_content"] += delta.get("reasoning_content", "")
        for call in delta.get("tool_calls", []):
            arguments[call["index"]] += call["function"]["arguments"]
    message["tool_calls"] = [called(f"c{index}", each, "f") for index, each in enumerate(arguments)]

    stream = streamed(*map(chunk, deltas), chunk({}, finish), {"choices": [], "usage": USAGE})
    plain = answered(completion(finish, **message))

    assert _said([frame["candidates"][0] for frame in stream]) == _said(plain["candidates"])
    assert stream[-1]["usageMetadata"] == plain["usageMetadata"]


def test_of_endless_calls_no_more_than_a_thousand_are_kept() -> None:
    pieces = [{"index": index, "function": {"name": "f"}} for index in range(2 * CALLS_MAX)]

    (last,) = streamed(chunk({"tool_calls": ["junk", *pieces]}))

    assert len(last["candidates"][0]["content"]["parts"]) == CALLS_MAX


def test_choices_are_candidates_in_the_stream_too() -> None:
    said = streamed(
        chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk({}, "stop", 1), chunk({}, "length")
    )

    assert [candidate["index"] for frame in said[:-1] for candidate in frame["candidates"]] == [0, 1]
    assert [candidate["finishReason"] for candidate in said[-1]["candidates"]] == ["MAX_TOKENS", "STOP"]


def test_half_an_emoji_crosses_as_it_came() -> None:
    bridge = BRIDGE.stream(TERMS)

    (first,) = bridge.feed(b'{"choices":[{"delta":{"content":"\\ud83d"}}]}')
    (second,) = bridge.feed(b'{"choices":[{"delta":{"content":"\\ude00"}}]}')

    halves = [
        json.loads(sse.data_of(frame) or b"")["candidates"][0]["content"]["parts"][0]["text"]
        for frame in (first, second)
    ]
    assert "".join(halves).encode("utf-16", "surrogatepass").decode("utf-16") == "😀"


# ── hostile text ────────────────────────────────────────────────────────────────────────────────────────────────────

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5), st.just("\ud83d")
)
VENDOR_NAMES = st.one_of(
    st.sampled_from(["choices", "message", "delta", "content", "refusal", "reasoning_content", "reasoning", "index"]),
    st.sampled_from(["tool_calls", "function", "name", "arguments", "function_call", "id", "finish_reason", "usage"]),
    st.sampled_from(["prompt_tokens", "completion_tokens", "completion_tokens_details", "reasoning_tokens", "images"]),
    st.sampled_from(["image_url", "url", "logprobs", "token", "logprob", "top_logprobs", "extra_content", "google"]),
)
VENDOR_JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(VENDOR_NAMES, inner, max_size=4)),
    max_leaves=12,
)


@given(st.one_of(VENDOR_JSON, st.lists(VENDOR_JSON).map(lambda them: {"choices": them})))
def test_nothing_that_a_vendor_sends_breaks_the_way_back(said: Any) -> None:
    data = json.dumps(said).encode()
    with contextlib.suppress(ValueError):
        json.loads(BRIDGE.answer(data, TERMS))
    bridge = BRIDGE.stream(TERMS)
    for frame in bridge.feed(data) + bridge.feed(data) + bridge.end():
        assert frame.endswith(b"\n\n")


@given(st.binary(max_size=40))
def test_no_bytes_break_the_way_back(data: bytes) -> None:
    bridge = BRIDGE.stream(TERMS)

    assert bridge.feed(data) == []
    assert len(bridge.end()) == 1


CALLER_NAMES = st.one_of(
    st.sampled_from(
        ["role", "parts", "text", "thought", "inlineData", "inline_data", "mimeType", "data", "id", "name"]
    ),
    st.sampled_from(["functionCall", "functionResponse", "args", "response", "functionDeclarations", "parameters"]),
    st.sampled_from(["functionCallingConfig", "mode", "allowedFunctionNames", "threshold", "type", "properties"]),
    st.sampled_from(["items", "anyOf", "nullable", "enum", "minItems", "defs", "additionalProperties"]),
    st.sampled_from(sorted(CONFIG_KNOWN)),
)
CALLER_JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(CALLER_NAMES, inner, max_size=4)),
    max_leaves=12,
)
CONTENT = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "model", "function"]),
        "parts": st.lists(st.dictionaries(CALLER_NAMES, CALLER_JSON, max_size=2), max_size=3),
    }
)


@given(st.dictionaries(st.sampled_from(sorted(KNOWN)), CALLER_JSON, max_size=3), st.lists(CONTENT, max_size=2))
def test_no_json_of_a_caller_makes_a_request_raise_anything_but_a_refusal(body: Any, contents: Any) -> None:
    try:
        sent = BRIDGE.request({"contents": HI + contents, **body}, replace(TERMS, reasoning=True))
    except InvalidRequest:
        return
    assert json.loads(sent)["messages"]
