"""OpenAI chat callers at Gemini: what crosses, what is left out, what is refused by name, and the way back."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from farebox.dialects import sse
from farebox.dialects.bridge import Terms
from farebox.dialects.bridges.chat_to_gemini import BRIDGE, EXPRESSED, LEFT_OUT, NEUTRAL
from farebox.dialects.bridges.chat_to_gemini_messages import FOREIGN_SIGNATURE
from farebox.errors import InvalidRequest

TERMS = Terms(
    model="public-name",
    upstream_model="gemini-2.5-flash",
    stream=False,
    output_tokens_max=65_536,
    reasoning=False,
    limit_param="max_tokens",
    id="abc123",
    created_s=1_700_000_000,
    include_usage=True,
)
HI = [{"role": "user", "content": "hi"}]
PNG = "data:image/png;base64,iVBORw0KGgo="
BLOB = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
DECLARED = {"functionDeclarations": [{"name": "weather", "parametersJsonSchema": {"type": "object"}}]}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"北京","n":1.5}'}}
FUNCTION_CALL = {"functionCall": {"name": "weather", "args": {"city": "北京", "n": 1.5}, "id": "c1"}}
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)


def crossed(terms: Terms = TERMS, **body: Any) -> dict[str, Any]:
    """What Gemini is sent."""
    sent: dict[str, Any] = json.loads(BRIDGE.request({"model": "public-name", "messages": HI, **body}, terms))
    return sent


def config(terms: Terms = TERMS, **body: Any) -> dict[str, Any]:
    found: dict[str, Any] = crossed(terms, **body).get("generationConfig", {})
    return found


def refused(terms: Terms = TERMS, **body: Any) -> str:
    """The parameter that the refusal names, in both languages, and nothing of the caller's text."""
    with pytest.raises(InvalidRequest) as caught:
        crossed(terms, **body)
    error = caught.value
    assert error.param is not None
    assert error.param in error.zh
    assert error.param in error.en
    assert error.en.isascii()
    assert "secret" not in error.zh + error.en
    return error.param


# ── messages ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("messages", "contents"),
    [
        (HI, [{"role": "user", "parts": [{"text": "hi"}]}]),
        ([*HI, *HI], [{"role": "user", "parts": [{"text": "hi"}, {"text": "hi"}]}]),
        (
            [*HI, {"role": "assistant", "content": "a", "refusal": "no"}, {"role": "user", "content": "b"}],
            [
                {"role": "user", "parts": [{"text": "hi"}]},
                {"role": "model", "parts": [{"text": "a"}, {"text": "no"}]},
                {"role": "user", "parts": [{"text": "b"}]},
            ],
        ),
        (
            [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": PNG}}],
                }
            ],
            [{"role": "user", "parts": [{"text": "see"}, BLOB]}],
        ),
        (
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}}]}],
            [{"role": "user", "parts": [{"inlineData": {"mimeType": "audio/wav", "data": "QQ=="}}]}],
        ),
        (
            [*HI, {"role": "assistant", "content": None, "images": [{"type": "image_url", "image_url": {"url": PNG}}]}],
            [{"role": "user", "parts": [{"text": "hi"}]}, {"role": "model", "parts": [BLOB]}],
        ),
        ([*HI, {"role": "assistant", "content": ""}], [{"role": "user", "parts": [{"text": "hi"}]}]),
    ],
)
def test_messages_become_contents_and_turns_of_one_side_are_one(messages: Any, contents: Any) -> None:
    assert crossed(messages=messages)["contents"] == contents


def test_system_and_developer_messages_are_one_instruction_in_their_order() -> None:
    said = [{"role": "system", "content": "a"}, *HI, {"role": "developer", "content": [{"type": "text", "text": "b"}]}]

    sent = crossed(messages=said)

    assert sent["systemInstruction"] == {"parts": [{"text": "a"}, {"text": "b"}]}
    assert len(sent["contents"]) == 1


def test_a_tool_call_and_its_result_find_each_other_by_name() -> None:
    history = [
        *HI,
        {"role": "assistant", "content": "let me see", "tool_calls": [CALL, {**CALL, "id": "c2"}]},
        {"role": "tool", "tool_call_id": "c2", "content": '{"c":20}'},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "sunny"}]},
        {"role": "user", "content": "thanks"},
    ]

    contents = crossed(messages=history)["contents"]

    second = {"functionCall": {**FUNCTION_CALL["functionCall"], "id": "c2"}}
    assert contents[1] == {"role": "model", "parts": [{"text": "let me see"}, FUNCTION_CALL, second]}
    assert contents[2] == {
        "role": "user",
        "parts": [
            {"functionResponse": {"id": "c2", "name": "weather", "response": {"c": 20}}},
            {"functionResponse": {"id": "c1", "name": "weather", "response": {"result": "sunny"}}},
        ],
    }
    # What the user says next is a turn of its own: a turn of results holds nothing but results.
    assert contents[3] == {"role": "user", "parts": [{"text": "thanks"}]}


def test_signatures_of_thoughts_go_back_where_they_came_from() -> None:
    signed = {"google": {"thought_signature": "c2lnbmVk"}}
    message = {"role": "assistant", "content": "x", "tool_calls": [{**CALL, "extra_content": signed}]}

    parts = crossed(messages=[*HI, {**message, "extra_content": signed}])["contents"][1]["parts"]

    assert parts == [{"text": "x", "thoughtSignature": "c2lnbmVk"}, {**FUNCTION_CALL, "thoughtSignature": "c2lnbmVk"}]


@pytest.mark.parametrize(
    ("model", "signature"),
    [("gemini-3-flash-preview", FOREIGN_SIGNATURE), ("gemini-pro-latest", FOREIGN_SIGNATURE), ("gemini-2.5-pro", None)],
)
def test_the_first_call_of_a_step_without_a_signature_gets_the_documented_one(
    model: str, signature: str | None
) -> None:
    history = [*HI, {"role": "assistant", "tool_calls": [CALL, {**CALL, "id": "c2"}]}]

    first, second = crossed(replace(TERMS, upstream_model=model), messages=history)["contents"][1]["parts"]

    assert first.get("thoughtSignature") == signature
    assert "thoughtSignature" not in second


def test_what_came_with_an_earlier_answer_may_come_back_and_is_left_out() -> None:
    derived = {"reasoning_content": "hm", "reasoning": "hm", "reasoning_details": [], "annotations": []}

    with_them = crossed(messages=[*HI, {"role": "assistant", "content": "a", "audio": None, **derived}])

    assert with_them == crossed(messages=[*HI, {"role": "assistant", "content": "a"}])


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://secret/x.png"}}]},
            ".content[0].image_url.url",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:text/html;base64,secret"}}]},
            ".content[0].image_url.url",
        ),
        ({"role": "user", "content": [{"type": "image_url"}]}, ".content[0].image_url.url"),
        ({"role": "user", "content": [{"type": "file", "file": {}}]}, ".content[0].type"),
        ({"role": "user", "content": [{"type": ["secret"]}]}, ".content[0].type"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, ".content[0].text"),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"format": "secret"}}]},
            ".content[0].input_audio.format",
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"format": "wav"}}]},
            ".content[0].input_audio.data",
        ),
        ({"role": "user", "content": 5}, ".content"),
        ({"role": "user", "content": "x", "name": "secret"}, ".name"),
        ({"role": "system", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}, ".content[0].type"),
        ({"role": "assistant", "content": "x", "audio": {"id": "secret"}}, ".audio"),
        ({"role": "assistant", "function_call": {"name": "f"}}, ".function_call"),
        ({"role": "assistant", "content": "x", "a secret text": 1}, ".?"),
        ({"role": "assistant", "tool_calls": {}}, ".tool_calls"),
        ({"role": "assistant", "tool_calls": [{"type": "custom"}]}, ".tool_calls[0].type"),
        ({"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}, ".tool_calls[0].function.name"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]},
            ".tool_calls[0].function.arguments",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"secret'}}]},
            ".tool_calls[0].function.arguments",
        ),
        ({"role": "tool", "tool_call_id": "secret", "content": "x"}, ".tool_call_id"),
        ({"role": "tool", "content": "x"}, ".tool_call_id"),
        ({"role": "function", "name": "secret", "content": "x"}, ".role"),
        ({"role": "secret", "content": "x"}, ".role"),
        ({"role": None}, ".role"),
    ],
)
def test_a_message_that_gemini_has_no_word_for_is_refused_by_name(message: Any, param: str) -> None:
    assert refused(messages=[*HI, message]) == f"messages[1]{param}"


@pytest.mark.parametrize("messages", [None, "secret", [], ["secret"], [{"role": "system", "content": "secret"}]])
def test_messages_without_a_turn_are_refused(messages: Any) -> None:
    assert refused(messages=messages) == "messages"


# ── parameters ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"max_tokens": 7}, {"maxOutputTokens": 7}),
        ({"max_completion_tokens": 7, "max_tokens": 9}, {"maxOutputTokens": 7}),
        ({"temperature": 0.3, "top_p": 1}, {"temperature": 0.3, "topP": 1}),
        ({"presence_penalty": -1, "frequency_penalty": 0.5}, {"presencePenalty": -1, "frequencyPenalty": 0.5}),
        ({"stop": "END"}, {"stopSequences": ["END"]}),
        ({"stop": ["a", "b", "c", "d", "e"]}, {"stopSequences": ["a", "b", "c", "d", "e"]}),
        ({"stop": []}, {}),
        ({"n": 3, "seed": 5}, {"candidateCount": 3, "seed": 5}),
        ({"n": 1}, {}),
        ({"logprobs": True, "top_logprobs": 4}, {"responseLogprobs": True, "logprobs": 4}),
        ({"logprobs": False, "top_logprobs": 0}, {}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"responseMimeType": "application/json"}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "strict": True, "schema": {"type": "array"}},
                }
            },
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "array"}},
        ),
        ({"reasoning_effort": "high"}, {}),  # the model does not reason: it takes any effort
    ],
)
def test_a_parameter_crosses_under_geminis_name(body: dict[str, Any], expected: dict[str, Any]) -> None:
    assert config(**body) == expected


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemini-2.5-flash", None, {"includeThoughts": True}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "minimal", {"includeThoughts": True, "thinkingBudget": 1024}),
        ("gemini-2.5-pro", "medium", {"includeThoughts": True, "thinkingBudget": 8192}),
        ("gemini-2.5-flash-lite", "high", {"includeThoughts": True, "thinkingBudget": 24576}),
        ("gemini-3.1-pro-preview", "minimal", {"includeThoughts": True, "thinkingLevel": "LOW"}),
        ("gemini-3-flash-preview", "minimal", {"includeThoughts": True, "thinkingLevel": "MINIMAL"}),
        ("gemini-3.7-flash", "minimal", {"includeThoughts": True, "thinkingLevel": "LOW"}),
        ("gemini-3.5-flash-lite", "minimal", {"includeThoughts": True, "thinkingLevel": "MINIMAL"}),
        ("models/gemini-flash-latest", "medium", {"includeThoughts": True, "thinkingLevel": "MEDIUM"}),
    ],
)
def test_effort_is_a_budget_for_the_second_generation_and_a_level_later(model: str, effort: Any, thinking: Any) -> None:
    terms = replace(TERMS, upstream_model=model, reasoning=True)

    assert config(terms, reasoning_effort=effort) == {"thinkingConfig": thinking}


@pytest.mark.parametrize(
    ("model", "effort"),
    [("gemini-2.5-pro", "none"), ("gemini-3-flash", "none"), ("gemini-3-flash", "xhigh"), ("gemini-2.5-flash", 5)],
)
def test_an_effort_that_the_model_has_no_word_for_is_refused(model: str, effort: Any) -> None:
    terms = replace(TERMS, upstream_model=model, reasoning=True)

    assert refused(terms, reasoning_effort=effort) == "reasoning_effort"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "weather"}}, {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "weather"}}]},
            },
            {"mode": "VALIDATED", "allowedFunctionNames": ["weather"]},
        ),
    ],
)
def test_tools_and_the_choice_among_them_cross(choice: Any, expected: Any) -> None:
    sent = crossed(tools=[WEATHER], tool_choice=choice)

    assert sent["tools"] == [DECLARED]
    assert sent.get("toolConfig") == (None if expected is None else {"functionCallingConfig": expected})


def test_a_choice_that_changes_nothing_needs_no_tools() -> None:
    assert crossed(tool_choice="auto", tools=[]) == crossed()


def test_what_promises_nothing_of_the_answer_is_left_out() -> None:
    hints = dict.fromkeys(LEFT_OUT - {"model"}, "x")
    neutral = {name: values[0] for name, values in NEUTRAL.items()}

    assert crossed(**hints, **neutral, anything_new=None) == crossed()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": float("nan")}, "top_p"),
        ({"presence_penalty": True}, "presence_penalty"),
        ({"stop": ["a", "b", "c", "d", "e", "f"]}, "stop"),
        ({"stop": [5]}, "stop"),
        ({"stop": 5}, "stop"),
        ({"n": 9}, "n"),
        ({"seed": 2**31}, "seed"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": 1}, "logprobs"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": "json"}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function.name"),
        ({"tools": "secret"}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "secret"}, "tool_choice"),
        ({"tool_choice": ["secret"]}, "tool_choice"),
        ({"tool_choice": {"type": "function"}, "tools": [WEATHER]}, "tool_choice.function.name"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"store": True}, "store"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"verbosity": "low"}, "verbosity"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"prediction": {"type": "content"}}, "prediction"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"anything_new": 1}, "anything_new"),
        ({"a secret text": 1}, "?"),
    ],
)
def test_what_gemini_has_no_word_for_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    assert refused(**body) == param


# ── the answer ──────────────────────────────────────────────────────────────────────────────────────────────────────

USAGE = {
    "promptTokenCount": 10,
    "toolUsePromptTokenCount": 2,
    "candidatesTokenCount": 5,
    "thoughtsTokenCount": 7,
    "cachedContentTokenCount": 4,
    "totalTokenCount": 24,
}
OPENAI_USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 12,
    "total_tokens": 24,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 7},
}
ANSWER: dict[str, Any] = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Hallo"}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": USAGE,
    "modelVersion": "gemini-2.5-flash",
    "responseId": "resp1",
}


def answered(said: Any, terms: Terms = TERMS) -> dict[str, Any]:
    """The caller's answer, which OpenAI's SDK must understand."""
    whole: dict[str, Any] = json.loads(BRIDGE.answer(json.dumps(said).encode(), terms))
    ChatCompletion.model_validate(whole, strict=True)
    return whole


def candidate(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts)}, "finishReason": "STOP", **more}]}


def test_a_plain_answer_is_a_chat_completion() -> None:
    assert answered(ANSWER) == {
        "id": "chatcmpl-resp1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "public-name",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hallo", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": OPENAI_USAGE,
    }


def test_thoughts_images_and_signatures_have_their_places_in_the_message() -> None:
    parts = [{"text": "hm", "thought": True}, {"text": "a"}, BLOB, {"text": "b", "thoughtSignature": "c2ln"}]

    message = answered(candidate(*parts))["choices"][0]["message"]

    assert message == {
        "role": "assistant",
        "content": "ab",
        "refusal": None,
        "reasoning_content": "hm",
        "images": [{"type": "image_url", "image_url": {"url": PNG}}],
        "extra_content": {"google": {"thought_signature": "c2ln"}},
    }


def test_function_calls_are_tool_calls_with_ids_and_signatures() -> None:
    mute = {"functionCall": {"name": "weather"}, "thoughtSignature": "c2ln"}

    choice = answered(candidate(FUNCTION_CALL, mute, mute))["choices"][0]

    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    first, second, third = choice["message"]["tool_calls"]
    assert first == CALL
    assert second == {
        "id": "call_abc1231",
        "type": "function",
        "function": {"name": "weather", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "c2ln"}},
    }
    assert third["id"] == "call_abc1232"


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"),
        (None, "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "content_filter"),
        ("SOMETHING_NEW", "content_filter"),
        (5, "stop"),
    ],
)
def test_the_reason_for_the_end_crosses(reason: Any, finish: str) -> None:
    assert answered(candidate({"text": "x"}, finishReason=reason))["choices"][0]["finish_reason"] == finish


def test_a_blocked_prompt_is_an_empty_answer_of_the_filter() -> None:
    choice = answered({"promptFeedback": {"blockReason": "SAFETY"}})["choices"][0]

    assert choice["finish_reason"] == "content_filter"
    assert choice["message"]["content"] == ""


def test_log_probabilities_cross() -> None:
    result = {
        "chosenCandidates": [{"token": "é", "logProbability": -0.25}, {"token": "x"}],
        "topCandidates": [{"candidates": [{"token": "é", "logProbability": -0.25}]}],
    }

    logprobs = answered(candidate({"text": "éx"}, logprobsResult=result))["choices"][0]["logprobs"]

    chosen = {"token": "é", "logprob": -0.25, "bytes": [195, 169]}
    assert logprobs["content"][0] == {**chosen, "top_logprobs": [chosen]}
    assert logprobs["content"][1] == {"token": "x", "logprob": 0, "bytes": [120], "top_logprobs": []}


def test_parts_that_are_none_are_skipped() -> None:
    odd = ["junk", None, {"text": 5}, {"functionCall": "junk"}, {"inlineData": {"mimeType": "text/x", "data": "QQ=="}}]

    message = answered(candidate(*odd, {"text": "x"}))["choices"][0]["message"]

    assert message == {"role": "assistant", "content": "x", "refusal": None}


def test_candidates_without_a_number_are_numbered_by_their_place() -> None:
    one = candidate({"text": "a"})["candidates"][0]

    choices = answered({"candidates": [one, one, "junk", {**one, "index": "x"}]})["choices"]

    assert [choice["index"] for choice in choices] == [0, 1, 3]


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"null", b"[]", b"{}", b'{"candidates":[]}', b'{"candidates":[5]}', b'{"error":{}}']
)
def test_what_is_no_answer_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ValueError):
        BRIDGE.answer(data, TERMS)


# ── the stream ──────────────────────────────────────────────────────────────────────────────────────────────────────


def streamed(*chunks: Any, terms: Terms = TERMS) -> list[dict[str, Any]]:
    """The caller's chunks, which OpenAI's SDK must understand. The last frame is the end marker."""
    bridge = BRIDGE.stream(terms)
    frames = [frame for chunk in chunks for frame in bridge.feed(json.dumps(chunk).encode())] + bridge.end()
    assert frames[-1] == b"data: [DONE]\n\n"
    said = [json.loads(sse.data_of(frame) or b"") for frame in frames[:-1]]
    for chunk in said:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    return said


def joined(chunks: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """What a client makes of the chunks: each choice's message and why it ended."""
    made: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            whole = made.setdefault(choice["index"], {"content": "", "tool_calls": [], "images": [], "tokens": []})
            delta = choice["delta"]
            for name in ("content", "reasoning_content"):
                whole[name] = whole.get(name, "") + delta.get(name, "")
            for call in delta.get("tool_calls", []):
                assert call["index"] == len(whole["tool_calls"])
                whole["tool_calls"].append({name: value for name, value in call.items() if name != "index"})
            whole["images"] += delta.get("images", [])
            whole["tokens"] += (choice["logprobs"] or {}).get("content", [])
            whole["extra_content"] = delta.get("extra_content", whole.get("extra_content"))
            whole["finish_reason"] = choice["finish_reason"] or whole.get("finish_reason")
    return made


def plainly(answer: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """A plain answer in the shape of `joined`."""
    return {
        choice["index"]: {
            "content": choice["message"]["content"] or "",
            "reasoning_content": choice["message"].get("reasoning_content", ""),
            "tool_calls": choice["message"].get("tool_calls", []),
            "images": choice["message"].get("images", []),
            "tokens": (choice["logprobs"] or {}).get("content", []),
            "extra_content": choice["message"].get("extra_content"),
            "finish_reason": choice["finish_reason"],
        }
        for choice in answer["choices"]
    }


def test_a_stream_says_who_speaks_first_then_what_then_why_it_ended_then_the_usage() -> None:
    first = {**ANSWER, "usageMetadata": {"promptTokenCount": 10}}

    chunks = streamed(first, ANSWER)

    assert [chunk["choices"][0]["delta"] for chunk in chunks[:3]] == [
        {"role": "assistant", "content": "Hallo"},
        {"content": "Hallo"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:3]] == [None, None, "stop"]
    assert [chunk["usage"] for chunk in chunks] == [None, None, None, OPENAI_USAGE]
    assert chunks[3]["choices"] == []
    assert {(chunk["id"], chunk["model"], chunk["created"]) for chunk in chunks} == {
        ("chatcmpl-resp1", "public-name", 1_700_000_000)
    }


def test_usage_that_nobody_asked_for_is_not_shown() -> None:
    chunks = streamed(ANSWER, terms=replace(TERMS, include_usage=False))

    assert all("usage" not in chunk for chunk in chunks)
    assert len(chunks) == 2


@pytest.mark.parametrize(
    ("chunks", "finish"), [([{"promptFeedback": {"blockReason": "OTHER"}}], "content_filter"), ([], "stop")]
)
def test_a_stream_without_a_candidate_ends_as_one(chunks: list[Any], finish: str) -> None:
    said = streamed(*chunks)

    assert [choice["delta"] for chunk in said for choice in chunk["choices"]] == [
        {"role": "assistant", "content": ""},
        {},
    ]
    assert said[-1]["choices"][0]["finish_reason"] == finish


def test_what_is_no_chunk_is_skipped() -> None:
    bridge = BRIDGE.stream(TERMS)

    assert [bridge.feed(data) for data in (b"", b"{", b"[]", b"null", b"{}", b'{"error":{"code":500}}', b"\xff")] == [
        []
    ] * 7


PARTS = st.one_of(
    st.builds(lambda text: {"text": text}, st.text(max_size=5)),
    st.builds(lambda text: {"text": text, "thought": True}, st.text(max_size=5)),
    st.just({**FUNCTION_CALL, "thoughtSignature": "c2ln"}),
    st.just({"functionCall": {"name": "f", "args": {"a": [1, None]}}}),
    st.just(BLOB),
)


@given(
    st.lists(st.tuples(st.integers(0, 1), PARTS, st.booleans()), min_size=1, max_size=8),
    st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY"]),
)
def test_the_stream_joined_is_the_plain_answer(pieces: list[tuple[int, Any, bool]], reason: str) -> None:
    probs = {"chosenCandidates": [{"token": "t", "logProbability": -1.5}]}
    chunks = [
        {
            "candidates": [
                {"index": index, "content": {"parts": [part]}} | ({"logprobsResult": probs} if with_probs else {})
            ],
            "responseId": "r",
        }
        for index, part, with_probs in pieces
    ]
    indexes = sorted({index for index, _, _ in pieces})
    last = {"candidates": [{"index": index, "finishReason": reason} for index in indexes], "usageMetadata": USAGE}
    whole = {
        "candidates": [
            {
                "index": index,
                "content": {"parts": [part for mine, part, _ in pieces if mine == index]},
                "logprobsResult": {
                    "chosenCandidates": [
                        each
                        for mine, _, with_probs in pieces
                        if mine == index and with_probs
                        for each in probs["chosenCandidates"]
                    ]
                },
                "finishReason": reason,
            }
            for index in indexes
        ],
        "usageMetadata": USAGE,
        "responseId": "r",
    }

    stream, plain = streamed(*chunks, last), answered(whole)

    # Our own ids are numbered as they come, and two candidates may take turns.
    assert _without_own_ids(joined(stream)) == _without_own_ids(plainly(plain))
    assert stream[-1]["usage"] == plain["usage"]


def _without_own_ids(said: Any) -> Any:
    return json.loads(re.sub(r"call_abc123\d+", "own", json.dumps(said)))


# ── hostile text ────────────────────────────────────────────────────────────────────────────────────────────────────

VENDOR_NAMES = st.sampled_from(
    [
        "candidates",
        "content",
        "parts",
        "text",
        "thought",
        "functionCall",
        "name",
        "args",
        "id",
        "finishReason",
        "index",
        "usageMetadata",
        "promptTokenCount",
        "promptFeedback",
        "blockReason",
        "logprobsResult",
        "chosenCandidates",
        "topCandidates",
        "token",
        "logProbability",
        "inlineData",
        "mimeType",
        "data",
        "thoughtSignature",
        "responseId",
    ]
)
VENDOR_JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5), st.just("\ud83d")
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(VENDOR_NAMES, inner, max_size=4)),
    max_leaves=12,
)


@given(st.one_of(VENDOR_JSON, st.lists(VENDOR_JSON).map(lambda them: {"candidates": them})))
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
    assert bridge.feed(data) == [] or data.strip().startswith(b"{")
    assert bridge.end()[-1] == b"data: [DONE]\n\n"


def test_an_answer_nested_without_end_is_no_answer() -> None:
    deep = b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":' + b"[" * 100_000
    bridge = BRIDGE.stream(TERMS)

    assert bridge.feed(deep) == []
    with pytest.raises(ValueError):
        BRIDGE.answer(deep, TERMS)


CALLER_NAMES = st.sampled_from([*sorted(EXPRESSED | LEFT_OUT), *NEUTRAL])
CALLER_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5), st.just(PNG)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "type",
                    "text",
                    "image_url",
                    "url",
                    "tool_calls",
                    "function",
                    "name",
                    "arguments",
                    "tool_call_id",
                    "extra_content",
                    "google",
                    "images",
                    "input_audio",
                    "format",
                    "data",
                    "id",
                    "schema",
                    "json_schema",
                    "allowed_tools",
                    "mode",
                    "tools",
                    "parameters",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)
MESSAGE = st.builds(
    lambda role, rest: {**rest, "role": role},
    st.sampled_from(["system", "user", "assistant", "tool"]),
    st.dictionaries(
        st.sampled_from(["content", "tool_calls", "tool_call_id", "extra_content", "images"]), CALLER_JSON, max_size=3
    ),
)


@given(st.dictionaries(CALLER_NAMES, CALLER_JSON, max_size=4), st.lists(MESSAGE, max_size=3), st.booleans())
def test_no_json_of_a_caller_makes_a_request_raise_anything_but_a_refusal(
    body: Any, messages: Any, reasoning: bool
) -> None:
    try:
        sent = BRIDGE.request({"messages": HI + messages, **body}, replace(TERMS, reasoning=reasoning))
    except InvalidRequest:
        return
    assert json.loads(sent)["contents"]


def test_a_schema_nested_without_end_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"items": deep}

    assert refused(tools=[{"type": "function", "function": {"name": "f", "parameters": deep}}]) == "body"
