"""Two bridges in a row: a Gemini caller at Anthropic's models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects import sse
from farebox.dialects.bridge import Terms
from farebox.dialects.bridges import BRIDGES
from farebox.errors import InvalidRequest

BRIDGE = BRIDGES["generateContent", "anthropic"]
TERMS = Terms(
    model="claude-3-5-haiku-20241022",
    upstream_model="claude-3-5-haiku-20241022",
    stream=False,
    output_tokens_max=8192,
    reasoning=False,
    limit_param="max_tokens",
    id="0123",
    created_s=1_700_000_000,
)
STREAMED = Terms(**{**{name: getattr(TERMS, name) for name in TERMS.__dataclass_fields__}, "stream": True})
DECLARED = [{"name": "weather", "description": "tells it", "parameters": {"type": "OBJECT", "properties": {}}}]
ASKED: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {"role": "user", "parts": [{"text": "How is it?"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {"in": "Rome"}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"sky": "blue"}}}]},
    ],
    "tools": [{"functionDeclarations": DECLARED}],
    "generationConfig": {"maxOutputTokens": 50, "temperature": 0.5},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-3-5-haiku-20241022",
    "content": [
        {"type": "text", "text": "It is blue."},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"in": "Oslo"}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 20, "output_tokens": 9},
}
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "It is "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "blue."}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
    },
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"in":"Oslo"}'}},
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
]


def parts_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    return document["candidates"][0]["content"]["parts"]


def test_a_geminis_request_becomes_one_of_anthropics() -> None:
    sent = json.loads(BRIDGE.request(ASKED, TERMS))
    call = sent["messages"][1]["content"][0]
    result = sent["messages"][2]["content"][0]

    assert sent["system"] == [{"type": "text", "text": "Be brief."}]
    assert (sent["max_tokens"], sent["temperature"], sent["model"]) == (50, 0.5, "claude-3-5-haiku-20241022")
    assert (call["type"], call["name"], call["input"]) == ("tool_use", "weather", {"in": "Rome"})
    assert (result["type"], result["tool_use_id"]) == ("tool_result", call["id"])
    assert sent["tools"][0]["name"] == "weather"


def test_what_anthropic_cannot_say_is_refused_by_the_callers_name_for_it() -> None:
    with pytest.raises(InvalidRequest) as refused:
        BRIDGE.request({**ASKED, "generationConfig": {"topK": 3}}, TERMS)

    assert refused.value.param == "generationConfig.topK"


def test_the_answer_comes_back_as_geminis() -> None:
    told = json.loads(BRIDGE.answer(json.dumps(MESSAGE).encode(), TERMS))
    text, call = parts_of(told)

    assert text["text"] == "It is blue."
    assert (call["functionCall"]["name"], call["functionCall"]["args"]) == ("weather", {"in": "Oslo"})
    assert told["usageMetadata"]["promptTokenCount"] == 20
    assert told["usageMetadata"]["candidatesTokenCount"] == 9


def test_a_stream_says_what_the_plain_answer_says() -> None:
    stream = BRIDGE.stream(STREAMED)
    frames = [frame for event in EVENTS for frame in stream.feed(json.dumps(event).encode())] + stream.end()
    told = [json.loads(sse.data_of(frame) or b"null") for frame in frames]
    parts = [part for document in told for part in parts_of(document)]

    assert "".join(part.get("text", "") for part in parts) == "It is blue."
    assert [part["functionCall"]["args"] for part in parts if "functionCall" in part] == [{"in": "Oslo"}]
    assert told[-1]["usageMetadata"]["promptTokenCount"] == 20
    assert b"[DONE]" not in b"".join(frames)


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_no_event_whatever_it_is_raises(events: list[bytes]) -> None:
    stream = BRIDGE.stream(STREAMED)
    for event in events:
        stream.feed(event)
    stream.end()
