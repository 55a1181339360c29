"""The official Python SDK, sync and async, at our base_url: what it gets, and which of its errors it raises."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.fakes.addresses import addresses
from tests.fakes.process import wait_until
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import (
    DONE,
    Request,
    Reset,
    ScriptedUpstream,
    Send,
    Step,
    WaitFor,
    chat_completion,
    chat_stream,
    chunk,
    json_answer,
    sse_answer,
    sse_head,
    usage_chunk,
)

MESSAGES: Any = [{"role": "user", "content": "hi"}]
MODEL = "gpt-4o-mini"
INPUT_NANO, OUTPUT_NANO = 1050, 4200
VECTOR = [0.5, -0.25, 1.0]
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
]


@pytest.fixture
def key(farebox: RunningFarebox) -> Funded:
    return farebox.new_key(credit="100")


@pytest.fixture
def client(farebox: RunningFarebox, key: Funded) -> Iterator[OpenAI]:
    with OpenAI(api_key=key.text, base_url=farebox.base_url) as made:
        yield made


@pytest.fixture
async def async_client(farebox: RunningFarebox, key: Funded) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(api_key=key.text, base_url=farebox.base_url) as made:
        yield made


class Counted:
    """A client that counts what it really sends; a free key's address is its own."""

    def __init__(self, base_url: str, key: str) -> None:
        self.sent = 0
        self.client = OpenAI(
            api_key=key,
            base_url=base_url,
            default_headers={"x-forwarded-for": next(addresses)},
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [self._count]}),
        )

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def ask(self, model: str = MODEL) -> Any:
        return self.client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=10)

    def _count(self, _: object) -> None:
        self.sent += 1


# ── chat ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_chat_answers_with_content_usage_and_our_request_id(client: OpenAI, upstream: ScriptedUpstream) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES)

    assert answer.choices[0].message.content == "hello"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 15
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")


async def test_the_async_client_gets_the_same_answer(async_client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    answer = await async_client.chat.completions.create(model=MODEL, messages=MESSAGES)

    assert answer.choices[0].message.content == "hello"


def test_a_raw_response_shows_the_cost_and_the_request_id(client: OpenAI, upstream: ScriptedUpstream) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)

    assert raw.headers["x-farebox-cost"] == "0.0000315"
    assert raw.headers["x-request-id"].startswith("req_")
    assert "x-ratelimit-limit-requests" not in raw.headers  # a paid key has no daily limit
    assert raw.parse().choices[0].message.content == "hello"


def test_a_free_keys_raw_response_shows_what_is_left_of_the_day(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    free = farebox.new_key("free", credit="0")
    with Counted(farebox.base_url, free.text) as counted:
        raw = counted.client.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES)

    assert raw.headers["x-ratelimit-limit-requests"] == "5"
    assert raw.headers["x-ratelimit-remaining-requests"] == "4"
    assert raw.headers["x-ratelimit-reset-requests"].endswith("s")
    assert raw.headers["x-farebox-cost"] == "0"


def test_a_stream_gives_every_piece_and_no_usage_that_was_not_asked_for(
    client: OpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.script = sse_answer(chat_stream("你", "好", " 🌍"))
    with client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True) as stream:
        chunks = list(stream)

    assert "".join(each.choices[0].delta.content or "" for each in chunks) == "你好 🌍"
    assert all(each.usage is None for each in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_the_async_client_streams(async_client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    upstream.script = sse_answer(chat_stream("a", "b", "c"))
    stream = await async_client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)

    assert "".join([each.choices[0].delta.content or "" async for each in stream]) == "abc"


def test_a_stream_that_asks_for_usage_gets_the_upstreams(
    farebox: RunningFarebox, client: OpenAI, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = sse_answer(chat_stream("a", "b", prompt=7, completion=2))
    with client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)

    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (7, 2)
    assert farebox.account(key.account).spent_nano == 7 * INPUT_NANO + 2 * OUTPUT_NANO


def test_a_raw_streaming_response_shows_our_request_id_before_its_content(
    client: OpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.script = sse_answer(chat_stream("a"))
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=MESSAGES, stream=True
    ) as response:
        assert response.headers["x-request-id"].startswith("req_")
        assert response.headers["content-type"].startswith("text/event-stream")
        assert list(response.iter_lines())[-2:] == ["data: [DONE]", ""]


def test_the_sdks_own_stream_helper_assembles_the_answer(client: OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.script = sse_answer(chat_stream("he", "llo"))
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES) as stream:
        answer = stream.get_final_completion()

    assert answer.choices[0].message.content == "hello"


def test_tool_calls_come_through_whole(client: OpenAI, upstream: ScriptedUpstream) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"上海"}'}}
    document = chat_completion()
    document["choices"][0] |= {
        "message": {"role": "assistant", "content": None, "tool_calls": [call]},
        "finish_reason": "tool_calls",
    }
    upstream.script = json_answer(document)
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, tools=TOOLS)

    calls: Any = answer.choices[0].message.tool_calls
    assert json.loads(calls[0].function.arguments) == {"city": "上海"}
    assert upstream.requests[0].json["tools"] == TOOLS


def test_tool_calls_come_through_a_stream_piece_by_piece(client: OpenAI, upstream: ScriptedUpstream) -> None:
    def delta(**call: Any) -> bytes:
        choice = {"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}, "finish_reason": None}
        return b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode()

    pieces = [
        delta(id="call_1", type="function", function={"name": "weather", "arguments": ""}),
        delta(function={"arguments": '{"city"'}),
        delta(function={"arguments": ':"北京"}'}),
    ]
    events = [*(piece + b"\n\n" for piece in pieces), chunk(finish="tool_calls"), usage_chunk(20, 9), DONE]
    upstream.script = sse_answer(events)
    with client.chat.completions.create(model=MODEL, messages=MESSAGES, tools=TOOLS, stream=True) as stream:
        deltas: list[Any] = [each.choices[0].delta for each in stream]

    calls = [call for each in deltas for call in each.tool_calls or ()]
    assert calls[0].function.name == "weather"
    assert json.loads("".join(call.function.arguments for call in calls)) == {"city": "北京"}


def test_two_choices_come_back_when_two_are_asked_for(client: OpenAI, upstream: ScriptedUpstream) -> None:
    document = chat_completion("one", completion=8)
    document["choices"].append(
        {**document["choices"][0], "index": 1, "message": {"role": "assistant", "content": "two"}}
    )
    upstream.script = json_answer(document)
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, n=2)

    assert [choice.message.content for choice in answer.choices] == ["one", "two"]
    assert upstream.requests[0].json["n"] == 2


# ── completions, embeddings, models ─────────────────────────────────────────────────────────────────────────────────


def _text(text: str, finish: str | None = None) -> dict[str, Any]:
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
    return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}


def test_a_completion_answers_and_is_billed(
    farebox: RunningFarebox, client: OpenAI, key: Funded, upstream: ScriptedUpstream
) -> None:
    usage = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
    upstream.script = json_answer({**_text("there", "stop"), "usage": usage})
    answer = client.completions.create(model="gpt-3.5-turbo-instruct", prompt="hi", max_tokens=10)

    assert answer.choices[0].text == "there"
    assert upstream.requests[0].path == "/v1/completions"
    assert farebox.account(key.account).spent_nano > 0


def test_a_completion_streams(client: OpenAI, upstream: ScriptedUpstream) -> None:
    documents = [_text("the"), _text("re"), _text("", "stop")]
    events = [b"data: " + json.dumps(each).encode() + b"\n\n" for each in documents]
    upstream.script = sse_answer([*events, usage_chunk(4, 2), DONE])
    with client.completions.create(model="gpt-3.5-turbo-instruct", prompt="hi", max_tokens=10, stream=True) as stream:
        assert "".join(each.choices[0].text for each in stream) == "there"


def _embedding(request: Request) -> list[Step]:
    """As OpenAI answers: base64 or floats, as the request says."""
    packed = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()
    value = packed if request.json.get("encoding_format") == "base64" else VECTOR
    data = [{"object": "embedding", "index": 0, "embedding": value}]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return json_answer({"object": "list", "data": data, "model": "m", "usage": usage})


def test_an_embedding_is_a_vector_though_the_sdk_asks_for_base64(
    farebox: RunningFarebox, client: OpenAI, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.on_request = _embedding
    answer = client.embeddings.create(model="text-embedding-3-small", input="hi")

    assert list(answer.data[0].embedding) == VECTOR
    assert upstream.requests[0].json["encoding_format"] == "base64"
    assert farebox.account(key.account).spent_nano == 3 * 140


def test_an_embedding_in_floats_is_the_same_vector(client: OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.on_request = _embedding
    answer = client.embeddings.create(model="text-embedding-3-small", input=["hi"], encoding_format="float")

    assert answer.data[0].embedding == VECTOR


async def test_the_async_client_embeds(async_client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    upstream.on_request = _embedding
    answer = await async_client.embeddings.create(model="text-embedding-3-small", input="hi")

    assert list(answer.data[0].embedding) == VECTOR


def test_models_can_be_listed_and_retrieved_without_an_upstream(client: OpenAI, upstream: ScriptedUpstream) -> None:
    listed = list(client.models.list())
    one = client.models.retrieve("gpt-4o")

    assert {"gpt-4o", "gpt-4o-mini", "text-embedding-3-small", "gpt-4o-ca"} <= {each.id for each in listed}
    assert (one.id, one.object, one.owned_by) == ("gpt-4o", "model", "openai")
    assert upstream.requests == []


def test_a_free_key_lists_only_what_it_may_use(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    free = farebox.new_key("free", credit="0")
    with OpenAI(api_key=free.text, base_url=farebox.base_url) as client:
        listed = {each.id for each in client.models.list()}
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-4o-ca")

    assert "gpt-4o" in listed
    assert "gpt-4o-ca" not in listed


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["sk-wrong", "sk-fb-p" + "0" * 54])
def test_a_wrong_key_raises_authentication_error_at_once(
    farebox: RunningFarebox, upstream: ScriptedUpstream, text: str
) -> None:
    with Counted(farebox.base_url, text) as counted, pytest.raises(openai.AuthenticationError) as raised:
        counted.ask()

    assert raised.value.code == "invalid_api_key"
    assert raised.value.request_id is not None
    assert counted.sent == 1
    assert upstream.requests == []


def test_an_empty_wallet_raises_status_402_at_once(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    poor = farebox.new_key(credit="0.000000001")
    with Counted(farebox.base_url, poor.text) as counted, pytest.raises(openai.APIStatusError) as raised:
        counted.ask()

    assert (raised.value.status_code, raised.value.code) == (402, "insufficient_balance")
    assert counted.sent == 1
    assert upstream.requests == []


def test_a_paid_model_on_a_free_key_raises_permission_denied(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    free = farebox.new_key("free", credit="0")
    with Counted(farebox.base_url, free.text) as counted, pytest.raises(openai.PermissionDeniedError) as raised:
        counted.ask("gpt-4o-ca")

    assert (raised.value.code, raised.value.param) == ("model_not_allowed", "model")
    assert counted.sent == 1


def test_an_unknown_model_raises_not_found(farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream) -> None:
    with Counted(farebox.base_url, key.text) as counted, pytest.raises(openai.NotFoundError) as raised:
        counted.ask("no-such-model")

    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    assert counted.sent == 1


def test_a_bad_parameter_raises_bad_request_and_names_it(client: OpenAI, upstream: ScriptedUpstream) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=-1)

    assert (raised.value.code, raised.value.param) == ("invalid_request", "max_tokens")
    assert upstream.requests == []


def test_a_used_up_day_raises_rate_limit_error_after_exactly_one_request(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    free = farebox.new_key("free", credit="0")
    with Counted(farebox.base_url, free.text) as counted:
        for _ in range(5):
            counted.ask("gpt-4o")
        counted.sent = 0
        with pytest.raises(openai.RateLimitError) as raised:
            counted.ask("gpt-4o")

    assert raised.value.code == "daily_quota_exceeded"
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert 0 < int(raised.value.response.headers["retry-after"]) <= 24 * 3600
    assert counted.sent == 1
    assert len(upstream.requests) == 5


@pytest.mark.parametrize(("theirs", "ours", "code"), [(500, 502, "upstream_error"), (503, 503, "upstream_unavailable")])
def test_an_upstreams_failure_is_retried_by_the_sdk_then_raised_and_costs_nothing(
    farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream, theirs: int, ours: int, code: str
) -> None:
    upstream.script = json_answer({"error": {"message": "secret-host.internal is down"}}, theirs)
    with Counted(farebox.base_url, key.text) as counted, pytest.raises(openai.InternalServerError) as raised:
        counted.ask()

    assert (raised.value.status_code, raised.value.code) == (ours, code)
    assert "secret-host" not in raised.value.response.text
    assert counted.sent == 3
    assert farebox.account(key.account).spent_nano == 0


def test_a_failure_that_passes_is_not_seen_by_the_sdks_user(
    farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    answers = iter([json_answer({}, 503), json_answer(chat_completion("at last"))])
    upstream.on_request = lambda _: next(answers)
    with Counted(farebox.base_url, key.text) as counted:
        answer = counted.ask()

    assert answer.choices[0].message.content == "at last"
    assert (counted.sent, len(upstream.requests)) == (1, 2)  # the relay itself tried again


def test_a_stream_that_breaks_after_content_raises_api_error(
    farebox: RunningFarebox, client: OpenAI, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = [Send(sse_head()), Send(chunk("some")), Reset()]
    seen = []
    with (
        pytest.raises(openai.APIError) as raised,
        client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True) as stream,
    ):
        seen.extend(stream)

    assert [each.choices[0].delta.content for each in seen] == ["some"]
    assert type(raised.value) is openai.APIError  # said in the stream, not a broken connection
    assert raised.value.code == "upstream_error"
    assert len(upstream.requests) == 1
    assert [each["outcome"] for each in farebox.receipts(key.account)] == ["upstream_cut"]


async def test_the_async_client_raises_api_error_too(async_client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    upstream.script = [Send(sse_head()), Send(chunk("some")), Reset()]
    stream = await async_client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError) as raised:
        [each async for each in stream]

    assert raised.value.code == "upstream_error"


def test_an_upstreams_error_event_raises_api_error_without_its_text(client: OpenAI, upstream: ScriptedUpstream) -> None:
    error = b'data: {"error":{"message":"key sk-up of secret-host is bad","code":"x"}}\n\n'
    upstream.script = sse_answer([chunk("some"), error])
    with (
        pytest.raises(openai.APIError) as raised,
        client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True) as stream,
    ):
        list(stream)

    assert raised.value.code == "upstream_error"
    assert "secret-host" not in str(raised.value.body)


# ── leaving early ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_closing_a_stream_in_the_middle_drains_it_and_bills_what_came(
    farebox: RunningFarebox, client: OpenAI, key: Funded, upstream: ScriptedUpstream
) -> None:
    go_on = WaitFor()
    rest = [chunk(f"{number} ") for number in range(200)]
    upstream.script = [Send(sse_head()), Send(chunk("first")), go_on]
    upstream.script += [Send(each) for each in (*rest, chunk(finish="stop"), usage_chunk(10, 401), DONE)]
    stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    first = next(iter(stream))
    stream.close()
    go_on.event.set()

    assert first.choices[0].delta.content == "first"
    assert _only_receipt(farebox, key)["outcome"] == "client_gone"
    assert farebox.account(key.account).spent_nano == 10 * INPUT_NANO + 401 * OUTPUT_NANO
    assert farebox.account(key.account).held_nano == 0
    assert upstream.writes_failed == 0


async def test_the_async_client_may_close_in_the_middle_and_go_on_with_the_next_request(
    farebox: RunningFarebox, async_client: AsyncOpenAI, key: Funded, upstream: ScriptedUpstream
) -> None:
    go_on = WaitFor()
    upstream.script = [Send(sse_head()), Send(chunk("first")), go_on, Send(usage_chunk(10, 3)), Send(DONE)]
    stream = await async_client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    await anext(aiter(stream))
    await stream.close()
    upstream.script = json_answer(chat_completion())
    answer = await async_client.chat.completions.create(model=MODEL, messages=MESSAGES)
    go_on.event.set()

    assert answer.choices[0].message.content == "hello"
    wait_until(lambda: len(farebox.receipts(key.account)) == 2)
    assert sorted(each["outcome"] for each in farebox.receipts(key.account)) == ["client_gone", "completed"]


def _only_receipt(farebox: RunningFarebox, key: Funded) -> dict[str, Any]:
    wait_until(lambda: len(farebox.receipts(key.account)) == 1)
    return farebox.receipts(key.account)[0]
