"""Anthropic's official Python SDK at our address, in front of Anthropic itself: bytes pass as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic

from tests.fakes.anthropic_vendor import (
    IN_NANO,
    MODEL,
    OUT_NANO,
    SIGNATURE,
    TEXT_STREAM,
    THOUGHTFUL_STREAM,
    USAGE,
    end,
    message,
    said,
    start,
)
from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import Reset, ScriptedUpstream, Send, Sleep, Step, json_answer, sse_answer, sse_head

CACHED_MODEL = "claude-with-cache-prices"
CACHED_NANO, WRITE_NANO, WRITE_1H_NANO = 1_500, 18_750, 30_000
MESSAGES: Any = [{"role": "user", "content": "hi"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TOOLS: Any = [
    {
        "name": "weather",
        "description": "The weather at a place",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]
CACHE_USAGE = {
    **USAGE,
    "cache_creation_input_tokens": 300,
    "cache_read_input_tokens": 1000,
    "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
}
# The SDK knows when Anthropic takes a model away; the price list still has it.
pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")


@pytest.fixture
def key(vendors: RunningFarebox) -> Funded:
    return vendors.new_key(credit="100")


@pytest.fixture
def client(vendors: RunningFarebox, key: Funded) -> Iterator[Anthropic]:
    with Anthropic(api_key=key.text, base_url=vendors.url) as made:
        yield made


@pytest.fixture
async def async_client(vendors: RunningFarebox, key: Funded) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(api_key=key.text, base_url=vendors.url) as made:
        yield made


def raw_stream(vendors: RunningFarebox, key: Funded, **more: Any) -> bytes:
    """What a stream is on the wire, byte by byte."""
    body = {"model": MODEL, "max_tokens": 100, "messages": MESSAGES, "stream": True, **more}
    answer = http.post(f"{vendors.base_url}/messages", json=body, headers={"x-api-key": key.text})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return answer.content


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_message_comes_whole_with_its_usage_and_our_request_id(
    vendors: RunningFarebox, client: Anthropic, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer(message())
    raw = client.messages.with_raw_response.create(model=MODEL, max_tokens=100, messages=MESSAGES, system="Be brief.")
    answer = raw.parse()

    assert [each.to_dict() for each in answer.content] == [{"type": "text", "text": "hello"}]
    assert (answer.stop_reason, answer.usage.input_tokens, answer.usage.output_tokens) == ("end_turn", 10, 5)
    assert str(answer._request_id).startswith("req_")
    assert raw.headers["x-farebox-cost"] == "0.000525"
    assert vendors.account(key.account).spent_nano == 10 * IN_NANO + 5 * OUT_NANO
    (request,) = upstream.requests
    assert request.path == "/v1/messages"
    assert request.json == {"model": MODEL, "max_tokens": 100, "messages": MESSAGES, "system": "Be brief."}


async def test_the_async_client_gets_the_same(async_client: AsyncAnthropic, upstream: ScriptedUpstream) -> None:
    upstream.script = json_answer(message())
    answer = await async_client.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES)

    assert answer.content[0].to_dict()["text"] == "hello"


def test_the_vendor_gets_the_operators_key_the_callers_version_and_betas_and_nothing_else_of_the_caller(
    client: Anthropic, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer(message())
    client.beta.messages.create(
        model=MODEL,
        max_tokens=100,
        messages=MESSAGES,
        betas=["output-128k-2025-02-19", "token-efficient-tools-2025-02-19"],
        metadata={"user_id": "person-17"},
    )

    (request,) = upstream.requests
    assert request.headers["x-api-key"] == "sk-up-anthropic"
    assert request.headers["anthropic-version"] == "2026-10-21"
    assert request.headers["anthropic-beta"] == "output-128k-2025-02-19,token-efficient-tools-2025-02-19"
    assert set(request.headers) == {
        "host",
        "accept",
        "accept-encoding",
        "anthropic-beta",
        "anthropic-version",
        "content-length",
        "content-type",
        "user-agent",
        "x-api-key",
    }
    assert b"person-17" not in request.body
    assert key.text not in str(request)


def test_an_older_client_has_its_key_in_a_header_of_its_own_and_its_own_version(
    vendors: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer(message())
    headers = {"x-api-key": key.text, "anthropic-version": "2023-06-01"}
    with Anthropic(
        api_key="", base_url=vendors.url, default_headers={**headers, "authorization": anthropic.Omit()}
    ) as old:
        answer = old.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES)

    assert answer.usage.output_tokens == 5
    assert upstream.requests[0].headers["anthropic-version"] == "2023-06-01"


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_gives_every_piece(
    vendors: RunningFarebox, client: Anthropic, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = sse_answer(TEXT_STREAM)
    with client.messages.stream(model=MODEL, max_tokens=100, messages=MESSAGES) as stream:
        texts = list(stream.text_stream)
        final = stream.get_final_message()

    assert texts == ["你", "好", " 🌍"]
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 5)
    assert str(stream.response.headers["request-id"]).startswith("req_")
    assert vendors.account(key.account).spent_nano == 10 * IN_NANO + 5 * OUT_NANO


async def test_the_async_client_streams(async_client: AsyncAnthropic, upstream: ScriptedUpstream) -> None:
    upstream.script = sse_answer(TEXT_STREAM)
    stream = await async_client.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES, stream=True)
    kinds = [each.type async for each in stream]

    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"


def test_thoughts_their_signature_and_a_tool_call_come_piece_by_piece(
    client: Anthropic, upstream: ScriptedUpstream
) -> None:
    upstream.script = sse_answer(THOUGHTFUL_STREAM)
    with client.messages.stream(
        model=MODEL,
        max_tokens=4000,
        messages=MESSAGES,
        tools=TOOLS,
        thinking={"type": "enabled", "budget_tokens": 2000},
    ) as stream:
        final = stream.get_final_message()

    thought, redacted, text, call = (each.to_dict() for each in final.content)
    assert (thought["thinking"], thought["signature"]) == ("Let me think.", SIGNATURE)
    assert redacted["data"] == "EmwKAhgBEgy3va3pzix/LafPsn4="
    assert text["text"] == "Checking."
    assert (call["name"], call["input"]) == ("weather", {"city": "上海"})
    assert final.stop_reason == "tool_use"
    assert upstream.requests[0].json["thinking"] == {"type": "enabled", "budget_tokens": 2000}


@pytest.mark.parametrize("events", [TEXT_STREAM, THOUGHTFUL_STREAM], ids=["text", "thoughts and tools"])
@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_a_stream_is_byte_for_byte_the_vendors_however_it_is_cut(
    vendors: RunningFarebox, key: Funded, upstream: ScriptedUpstream, events: list[bytes], cut: int
) -> None:
    whole = b"".join(events)
    upstream.script = sse_answer(whole[at : at + cut] for at in range(0, len(whole), cut))

    # Pings of the vendor's have no content; ours may only come before content.
    assert raw_stream(vendors, key) == whole


def test_our_pings_before_content_do_not_disturb_the_sdk(
    vendors: RunningFarebox, client: Anthropic, key: Funded, upstream: ScriptedUpstream
) -> None:
    slow: list[Step] = [Send(sse_head()), Sleep(0.7), *(Send(each) for each in TEXT_STREAM)]
    upstream.script = slow
    with client.messages.stream(model=MODEL, max_tokens=100, messages=MESSAGES) as stream:
        assert stream.get_final_text() == "你好 🌍"

    raw = raw_stream(vendors, key)
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'
    assert raw.startswith(ping * 2)
    assert raw.replace(ping, b"") == b"".join(TEXT_STREAM).replace(ping, b"")


# ── what is sent ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_tools_result_goes_back_with_the_thoughts_that_led_to_it(
    client: Anthropic, upstream: ScriptedUpstream
) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "上海"}}
    thought = {"type": "thinking", "thinking": "Let me think.", "signature": SIGNATURE}
    upstream.script = json_answer(message(thought, call, stop="tool_use"))
    first = client.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES, tools=TOOLS)
    upstream.script = json_answer(message())
    result: Any = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "晴"}]}
    turns: Any = [*MESSAGES, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    client.messages.create(model=MODEL, max_tokens=100, messages=turns, tools=TOOLS)

    sent = upstream.requests[1].json["messages"]
    assert [each["signature"] for each in sent[1]["content"] if each["type"] == "thinking"] == [SIGNATURE]
    assert sent[2]["content"] == [result]
    assert upstream.requests[1].json["tools"] == TOOLS


def test_images_and_cached_system_texts_reach_the_vendor_as_they_are(
    client: Anthropic, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer(message())
    system: Any = [{"type": "text", "text": "Long rules.", "cache_control": {"type": "ephemeral"}}]
    image: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    turns: Any = [{"role": "user", "content": [image, {"type": "text", "text": "What is it?"}]}]
    client.messages.create(model=MODEL, max_tokens=100, messages=turns, system=system)

    assert (upstream.requests[0].json["system"], upstream.requests[0].json["messages"]) == (system, turns)


# ── the bill ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(
    ("model", "cost_nano"),
    [
        (
            CACHED_MODEL,
            10 * IN_NANO + 1000 * CACHED_NANO + 200 * WRITE_NANO + 100 * WRITE_1H_NANO + 5 * OUT_NANO,
        ),
        (MODEL, 1310 * IN_NANO + 5 * OUT_NANO),  # a class without a price of its own is input
    ],
    ids=["cache prices", "no cache prices"],
)
def test_cache_reads_and_writes_are_billed_class_by_class(
    vendors: RunningFarebox,
    client: Anthropic,
    key: Funded,
    upstream: ScriptedUpstream,
    model: str,
    cost_nano: int,
    streamed: bool,
) -> None:
    system: Any = [{"type": "text", "text": "rule " * 1300, "cache_control": {"type": "ephemeral"}}]
    if streamed:
        upstream.script = sse_answer([start(**CACHE_USAGE), *said("hi"), *end()])
        with client.messages.stream(model=model, max_tokens=100, messages=MESSAGES, system=system) as stream:
            usage = stream.get_final_message().usage
    else:
        upstream.script = json_answer(message(**CACHE_USAGE))
        usage = client.messages.create(model=model, max_tokens=100, messages=MESSAGES, system=system).usage

    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (1000, 300)
    assert usage.cache_creation is not None
    assert usage.cache_creation.ephemeral_1h_input_tokens == 100
    assert vendors.account(key.account).spent_nano == cost_nano
    (receipt,) = vendors.receipts(key.account)
    assert {unit: each["count"] for unit, each in receipt["usage"].items()} == {
        "input_token": 10,
        "cached_input_token": 1000,
        "cache_write_token": 200,
        "cache_write_1h_token": 100,
        "output_token": 5,
    }
    assert {each["source"] for each in receipt["usage"].values()} == {"upstream"}


def test_an_hour_in_the_cache_is_refused_where_it_has_no_price_and_taken_where_it_has(
    client: Anthropic, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer(message())
    system: Any = [{"type": "text", "text": "rules", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    client.messages.create(model=CACHED_MODEL, max_tokens=100, messages=MESSAGES, system=system)
    with pytest.raises(anthropic.BadRequestError) as raised:
        client.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES, system=system)

    assert "system[0].cache_control.ttl" in str(raised.value)
    assert len(upstream.requests) == 1


# ── counting, models ────────────────────────────────────────────────────────────────────────────────────────────────


def test_tokens_are_counted_by_the_vendor_for_nothing(
    vendors: RunningFarebox, client: Anthropic, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer({"input_tokens": 2095})
    counted = client.messages.count_tokens(model=MODEL, messages=MESSAGES, tools=TOOLS, system="Be brief.")

    assert counted.input_tokens == 2095
    assert upstream.requests[0].path == "/v1/messages/count_tokens"
    assert upstream.requests[0].headers["x-api-key"] == "sk-up-anthropic"
    assert upstream.requests[0].headers["anthropic-version"] == "2026-10-21"
    assert vendors.account(key.account).spent_nano == 0
    assert vendors.receipts(key.account) == []


@pytest.mark.parametrize(
    "script",
    [json_answer({"type": "error"}, 529), json_answer({}, 401), [Reset()], json_answer({"tokens": 5}), json_answer([])],
    ids=["overloaded", "bad key", "gone", "other shape", "no object"],
)
def test_tokens_are_counted_here_where_the_vendor_does_not(
    client: Anthropic, upstream: ScriptedUpstream, script: list[Step]
) -> None:
    upstream.script = script
    counted = client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "word " * 100}])

    assert 100 <= counted.input_tokens <= 120


def test_models_are_listed_in_anthropics_shape(client: Anthropic, upstream: ScriptedUpstream) -> None:
    page = client.models.list(limit=5)
    ids = [each.id for each in client.models.list()]
    one = client.models.retrieve(MODEL)

    assert {MODEL, CACHED_MODEL, "gpt-4o", "gemini-2.0-flash"} <= set(ids)
    assert len(ids) == len(set(ids))
    assert "text-embedding-3-small" not in ids
    assert page.has_more is not None
    assert (one.id, one.type, one.display_name) == (MODEL, "model", MODEL)
    assert one.created_at.year == 2025
    assert upstream.requests == []
