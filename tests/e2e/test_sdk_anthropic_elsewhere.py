"""Anthropic's official Python SDK at our address, in front of a vendor that speaks as OpenAI does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import (
    DONE,
    Reset,
    ScriptedUpstream,
    Send,
    Sleep,
    WaitFor,
    chat_completion,
    chat_stream,
    chunk,
    json_answer,
    sse_answer,
    sse_head,
    usage_chunk,
)

MODEL = "gpt-4o"
IN_NANO, OUT_NANO = 17_500, 70_000
MESSAGES: Any = [{"role": "user", "content": "hi"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [{"name": "weather", "description": "The weather at a place", "input_schema": SCHEMA}]


@pytest.fixture
def key(vendors: RunningFarebox) -> Funded:
    return vendors.new_key(credit="100")


@pytest.fixture
def client(vendors: RunningFarebox, key: Funded) -> Iterator[Anthropic]:
    with Anthropic(api_key=key.text, base_url=vendors.url, max_retries=0) as made:
        yield made


def delta(finish: str | None = None, **members: Any) -> bytes:
    choice = {"index": 0, "delta": members, "finish_reason": finish}
    data = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def call_delta(index: int, **call: Any) -> bytes:
    return delta(tool_calls=[{"index": index, **call}])


TWO_CALLS = [
    delta(role="assistant", content="Checking."),
    call_delta(0, id="call_1", type="function", function={"name": "weather", "arguments": ""}),
    call_delta(0, function={"arguments": '{"city": "'}),
    call_delta(0, function={"arguments": '上海"}'}),
    call_delta(1, id="call_2", type="function", function={"name": "weather", "arguments": '{"city": "Oslo"}'}),
    delta("tool_calls"),
    usage_chunk(20, 30),
    DONE,
]


def test_a_message_comes_whole_and_the_vendor_hears_its_own_dialect(
    vendors: RunningFarebox, client: Anthropic, key: Funded, upstream: ScriptedUpstream
) -> None:
    raw = client.messages.with_raw_response.create(
        model=MODEL,
        max_tokens=100,
        messages=MESSAGES,
        system="Be brief.",
        stop_sequences=["\n\n"],
        metadata={"user_id": "person-17"},
    )
    answer = raw.parse()

    assert [each.to_dict() for each in answer.content] == [{"type": "text", "text": "hello"}]
    assert (answer.role, answer.stop_reason, answer.usage.input_tokens) == ("assistant", "end_turn", 10)
    assert raw.headers["request-id"].startswith("req_")
    assert vendors.account(key.account).spent_nano == 10 * IN_NANO + 5 * OUT_NANO
    (request,) = upstream.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer sk-up-openai"
    assert not [name for name in request.headers if name.startswith("anthropic")]
    assert request.json == {
        "model": MODEL,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "max_tokens": 100,
        "stop": ["\n\n"],
    }


def test_a_stream_is_a_proper_stream_of_anthropics(
    vendors: RunningFarebox, client: Anthropic, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = sse_answer(chat_stream("你", "好", " 🌍", prompt=7))
    with client.messages.stream(model=MODEL, max_tokens=100, messages=MESSAGES) as stream:
        kinds = [each.type for each in stream]
        final = stream.get_final_message()

    assert [each.to_dict() for each in final.content] == [{"type": "text", "text": "你好 🌍"}]
    assert (final.stop_reason, final.usage.input_tokens, final.usage.output_tokens) == ("end_turn", 7, 3)
    assert (kinds[0], kinds[-1], kinds.count("content_block_delta")) == ("message_start", "message_stop", 3)
    assert vendors.account(key.account).spent_nano == 7 * IN_NANO + 3 * OUT_NANO
    assert upstream.requests[0].json["stream_options"] == {"include_usage": True}


def test_our_pings_before_content_do_not_disturb_the_sdk(client: Anthropic, upstream: ScriptedUpstream) -> None:
    upstream.script = [Send(sse_head()), Sleep(0.7), *(Send(each) for each in chat_stream("slow"))]
    with client.messages.stream(model=MODEL, max_tokens=100, messages=MESSAGES) as stream:
        assert stream.get_final_text() == "slow"


def test_parallel_tool_calls_come_through_a_stream_and_their_results_go_back(
    client: Anthropic, upstream: ScriptedUpstream
) -> None:
    upstream.script = sse_answer(TWO_CALLS)
    with client.messages.stream(model=MODEL, max_tokens=100, messages=MESSAGES, tools=TOOLS) as stream:
        first = stream.get_final_message()
    text, one, two = (each.to_dict() for each in first.content)
    upstream.script = json_answer(chat_completion("done"))
    results: Any = [
        {"type": "tool_result", "tool_use_id": one["id"], "content": "晴"},
        {
            "type": "tool_result",
            "tool_use_id": two["id"],
            "content": [{"type": "text", "text": "no such city"}],
            "is_error": True,
        },
    ]
    turns: Any = [*MESSAGES, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    client.messages.create(model=MODEL, max_tokens=100, messages=turns, tools=TOOLS, tool_choice={"type": "any"})

    assert (text["text"], first.stop_reason) == ("Checking.", "tool_use")
    assert [(call["id"], call["name"], call["input"]) for call in (one, two)] == [
        ("call_1", "weather", {"city": "上海"}),
        ("call_2", "weather", {"city": "Oslo"}),
    ]
    sent = upstream.requests[1].json
    assert sent["tools"] == [
        {
            "type": "function",
            "function": {"name": "weather", "description": "The weather at a place", "parameters": SCHEMA},
        }
    ]
    assert sent["tool_choice"] == "required"
    assert [call["id"] for call in sent["messages"][1]["tool_calls"]] == ["call_1", "call_2"]
    assert [(each["tool_call_id"], each["content"]) for each in sent["messages"][2:]] == [
        ("call_1", "晴"),
        ("call_2", "[tool error]\n\nno such city"),
    ]


def test_a_plain_tool_call_comes_through(client: Anthropic, upstream: ScriptedUpstream) -> None:
    document = chat_completion()
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"上海"}'}}
    document["choices"][0] |= {
        "message": {"role": "assistant", "content": None, "tool_calls": [call]},
        "finish_reason": "tool_calls",
    }
    upstream.script = json_answer(document)
    answer = client.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES, tools=TOOLS)

    (block,) = (each.to_dict() for each in answer.content)
    assert (block["type"], block["input"], answer.stop_reason) == ("tool_use", {"city": "上海"}, "tool_use")


def test_thoughts_come_as_thinking_blocks_and_go_back_to_the_model_that_had_them(
    vendors: RunningFarebox, key: Funded, client: Anthropic, upstream: ScriptedUpstream
) -> None:
    thoughts = [delta(role="assistant", reasoning_content="Let me "), delta(reasoning_content="think.")]
    upstream.script = sse_answer([*thoughts, *TWO_CALLS])
    with client.messages.stream(
        model="o4-mini",
        max_tokens=4000,
        messages=MESSAGES,
        tools=TOOLS,
        thinking={"type": "enabled", "budget_tokens": 2000},
    ) as stream:
        first = stream.get_final_message()
    upstream.script = json_answer(chat_completion("done"))
    result: Any = [{"type": "tool_result", "tool_use_id": "call_1", "content": "晴"}]
    result += [{"type": "tool_result", "tool_use_id": "call_2", "content": "Regen"}]
    turns: Any = [*MESSAGES, {"role": "assistant", "content": first.content}, {"role": "user", "content": result}]
    client.messages.create(model="o4-mini", max_tokens=100, messages=turns, tools=TOOLS)

    thought = first.content[0].to_dict()
    assert (thought["type"], thought["thinking"]) == ("thinking", "Let me think.")
    assert thought["signature"]
    assert upstream.requests[1].json["messages"][1]["reasoning_content"] == "Let me think."
    assert upstream.requests[1].json["max_completion_tokens"] == 100


@pytest.mark.parametrize(
    ("finish", "stop"), [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal")]
)
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_the_reason_why_it_stopped_is_said_in_anthropics_words(
    client: Anthropic, upstream: ScriptedUpstream, finish: str, stop: str, streamed: bool
) -> None:
    if streamed:
        upstream.script = sse_answer([chunk("some"), chunk(finish=finish), usage_chunk(3, 1), DONE])
        with client.messages.stream(model=MODEL, max_tokens=100, messages=MESSAGES) as stream:
            assert stream.get_final_message().stop_reason == stop
    else:
        document = chat_completion()
        document["choices"][0]["finish_reason"] = finish
        upstream.script = json_answer(document)
        assert client.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES).stop_reason == stop


def test_what_the_vendor_had_in_its_cache_is_told_apart(client: Anthropic, upstream: ScriptedUpstream) -> None:
    document = chat_completion(prompt=1000)
    document["usage"]["prompt_tokens_details"] = {"cached_tokens": 900}
    upstream.script = json_answer(document)
    usage = client.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES, system="word " * 1000).usage

    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (100, 900, 5)


def test_an_image_reaches_the_vendor(client: Anthropic, upstream: ScriptedUpstream) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    turns: Any = [{"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": "?"}]}]
    client.messages.create(model=MODEL, max_tokens=100, messages=turns)

    image, text = upstream.requests[0].json["messages"][0]["content"]
    assert image == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    assert text == {"type": "text", "text": "?"}


def test_tokens_are_counted_here(client: Anthropic, upstream: ScriptedUpstream) -> None:
    counted = client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "word " * 100}])

    assert 100 <= counted.input_tokens <= 120
    assert upstream.requests == []


def test_what_the_vendor_cannot_express_is_refused_by_its_name(client: Anthropic, upstream: ScriptedUpstream) -> None:
    with pytest.raises(anthropic.BadRequestError) as raised:
        client.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES, extra_body={"top_k": 5})

    assert raised.value.type == "invalid_request_error"
    assert "top_k" in str(raised.value)
    assert upstream.requests == []


def test_a_stream_that_breaks_after_content_raises_in_anthropics_words(
    vendors: RunningFarebox, client: Anthropic, key: Funded, upstream: ScriptedUpstream
) -> None:
    go_on = WaitFor()
    upstream.script = [Send(sse_head()), Send(chunk("some")), go_on, Reset()]
    with client.messages.stream(model=MODEL, max_tokens=100, messages=MESSAGES) as stream:
        texts = iter(stream.text_stream)
        assert next(texts) == "some"
        go_on.event.set()
        with pytest.raises(anthropic.APIStatusError) as raised:
            list(texts)

    assert raised.value.type == "api_error"
    assert [each["outcome"] for each in vendors.receipts(key.account)] == ["upstream_cut"]


# ── Claude Code ─────────────────────────────────────────────────────────────────────────────────────────────────────

EPHEMERAL = {"type": "ephemeral"}
CLAUDE_CODE: dict[str, Any] = {
    "model": MODEL,
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>\nUse what fits.\n</system-reminder>"},
                {"type": "text", "text": "hi", "cache_control": EPHEMERAL},
            ],
        },
        {"role": "system", "content": "Available agents:\n- general"},
    ],
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.197.0df; cc_entrypoint=sdk-cli;"},
        {"type": "text", "text": "You are an agent.", "cache_control": EPHEMERAL},
        {"type": "text", "text": "Rules. " * 2000, "cache_control": EPHEMERAL},
    ],
    "tools": [
        {
            "name": f"Tool{number}",
            "description": "Does one thing. " * 50,
            "input_schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {"command": {"type": "string"}, "timeout": {"type": "number"}},
                "required": ["command"],
                "additionalProperties": False,
            },
        }
        for number in range(10)
    ],
    "metadata": {"user_id": '{"device_id":"6720","session_id":"6b60"}'},
    "max_tokens": 32_000,
    "thinking": {"type": "adaptive"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "high"},
    "stream": True,
}
"""What version 2.1 sends to `claude -p hi`, in its shape."""
CLAUDE_CODE_HEADERS = {
    "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27",
    "anthropic-dangerous-direct-browser-access": "true",
    "anthropic-version": "2023-06-01",
    "x-app": "cli",
}


@pytest.mark.parametrize("where", ["authorization", "x-api-key"])
def test_a_request_of_claude_codes_works_with_a_model_that_is_not_anthropics(
    vendors: RunningFarebox, key: Funded, upstream: ScriptedUpstream, where: str
) -> None:
    upstream.script = sse_answer(chat_stream("Hello", "!", prompt=9000))
    secret = f"Bearer {key.text}" if where == "authorization" else key.text
    answer = http.post(
        f"{vendors.base_url}/messages?beta=true", json=CLAUDE_CODE, headers={**CLAUDE_CODE_HEADERS, where: secret}
    )

    assert answer.status_code == 200, answer.text
    assert b'"text":"Hello"' in answer.content
    assert answer.content.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
    sent = upstream.requests[0].json
    assert [each["role"] for each in sent["messages"]] == ["system", "user", "system"]
    assert sent["messages"][0]["content"].startswith("You are an agent.\n\nRules. ")  # never the note to Anthropic
    assert sent["max_tokens"] == 16_384  # the most that this model gives
    assert len(sent["tools"]) == 10
    assert set(sent) == {"model", "messages", "max_tokens", "tools", "stream", "stream_options"}
    assert b"device_id" not in upstream.requests[0].body
