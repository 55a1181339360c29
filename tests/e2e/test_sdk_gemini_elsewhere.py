"""Google's official Python SDK at our address, in front of a vendor that speaks as OpenAI does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import (
    DONE,
    Request,
    Reset,
    ScriptedUpstream,
    Send,
    Sleep,
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

MODEL = "gpt-4o"
IN_NANO, OUT_NANO = 17_500, 70_000
EMBEDDING, EMBEDDING_NANO = "text-embedding-3-small", 140
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8ffff3f0005fe02fe"
    "a73581e40000000049454e44ae426082"
)


@pytest.fixture
def key(vendors: RunningFarebox) -> Funded:
    return vendors.new_key(credit="100")


@pytest.fixture
def client(vendors: RunningFarebox, key: Funded) -> Iterator[genai.Client]:
    with genai.Client(api_key=key.text, http_options=types.HttpOptions(base_url=vendors.url)) as made:
        yield made


def weather(city: str) -> str:
    """The weather at a place.

    Args:
        city: its name
    """
    return {"上海": "晴"}.get(city, "unknown")


def calling(*arguments: str) -> dict[str, Any]:
    """A chat.completion that calls the weather."""
    document = chat_completion()
    calls = [
        {"id": f"call_{number}", "type": "function", "function": {"name": "weather", "arguments": each}}
        for number, each in enumerate(arguments)
    ]
    document["choices"][0] |= {
        "message": {"role": "assistant", "content": None, "tool_calls": calls},
        "finish_reason": "tool_calls",
    }
    return document


def test_an_answer_comes_whole_and_the_vendor_hears_its_own_dialect(
    vendors: RunningFarebox, client: genai.Client, key: Funded, upstream: ScriptedUpstream
) -> None:
    answer = client.models.generate_content(
        model=MODEL,
        contents="hi",
        config=types.GenerateContentConfig(
            system_instruction="Be brief.", temperature=0.5, max_output_tokens=100, stop_sequences=["\n\n"]
        ),
    )

    assert answer.text == "hello"
    assert answer.usage_metadata is not None
    assert (answer.usage_metadata.prompt_token_count, answer.usage_metadata.candidates_token_count) == (10, 5)
    assert vendors.account(key.account).spent_nano == 10 * IN_NANO + 5 * OUT_NANO
    (request,) = upstream.requests
    assert (request.path, request.headers["authorization"]) == ("/v1/chat/completions", "Bearer sk-up-openai")
    assert request.json == {
        "model": MODEL,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "temperature": 0.5,
        "max_tokens": 100,
        "stop": ["\n\n"],
    }


def test_a_stream_gives_every_piece(
    vendors: RunningFarebox, client: genai.Client, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = [Send(sse_head()), Sleep(0.7), *(Send(each) for each in chat_stream("你", "好", prompt=7))]
    pieces = list(client.models.generate_content_stream(model=MODEL, contents="hi"))

    assert "".join(each.text or "" for each in pieces) == "你好"
    assert pieces[-1].candidates is not None
    assert pieces[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert pieces[-1].usage_metadata is not None
    assert pieces[-1].usage_metadata.total_token_count == 9
    assert vendors.account(key.account).spent_nano == 7 * IN_NANO + 2 * OUT_NANO


def test_without_alt_sse_a_stream_is_one_json_array(
    vendors: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = sse_answer(chat_stream("a", "b"))
    answer = http.post(
        f"{vendors.url}/v1beta/models/{MODEL}:streamGenerateContent?key={key.text}",
        json={"contents": [{"parts": [{"text": "hi"}]}]},
    )

    assert answer.headers["content-type"].startswith("application/json")
    texts = [each["candidates"][0]["content"]["parts"][0]["text"] for each in answer.json()]
    assert "".join(texts) == "ab"
    assert answer.json()[-1]["candidates"][0]["finishReason"] == "STOP"


def test_a_python_function_is_called_and_its_result_goes_back(client: genai.Client, upstream: ScriptedUpstream) -> None:
    answers: Iterator[list[Step]] = iter(
        [json_answer(calling('{"city":"上海"}', '{"city":"Oslo"}')), json_answer(chat_completion("晴"))]
    )
    upstream.on_request = lambda _: next(answers)
    chat = client.chats.create(model=MODEL, config=types.GenerateContentConfig(tools=[weather]))

    assert chat.send_message("What is the weather?").text == "晴"
    (tool,) = upstream.requests[0].json["tools"]
    assert tool["function"]["name"] == "weather"
    assert tool["function"]["parameters"]["properties"]["city"]["type"] == "string"
    _, called, *told = upstream.requests[1].json["messages"]
    assert [call["id"] for call in called["tool_calls"]] == ["call_0", "call_1"]
    assert [(each["tool_call_id"], json.loads(each["content"])) for each in told] == [
        ("call_0", {"result": "晴"}),
        ("call_1", {"result": "unknown"}),
    ]


def test_a_streamed_call_comes_whole(client: genai.Client, upstream: ScriptedUpstream) -> None:
    def delta(**call: Any) -> bytes:
        choice = {"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}, "finish_reason": None}
        data = {"id": "c", "object": "chat.completion.chunk", "choices": [choice]}
        return b"data: " + json.dumps(data).encode() + b"\n\n"

    pieces = [
        delta(id="call_1", type="function", function={"name": "weather", "arguments": ""}),
        delta(function={"arguments": '{"city"'}),
        delta(function={"arguments": ':"北京"}'}),
    ]
    upstream.script = sse_answer([*pieces, chunk(finish="tool_calls"), usage_chunk(20, 9), DONE])
    config = types.GenerateContentConfig(
        tools=[weather], automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True)
    )
    stream = client.models.generate_content_stream(model=MODEL, contents="hi", config=config)
    (call,) = [call for each in stream for call in each.function_calls or ()]

    assert (call.id, call.name, call.args) == ("call_1", "weather", {"city": "北京"})


def test_thoughts_are_marked_as_such(client: genai.Client, upstream: ScriptedUpstream) -> None:
    document = chat_completion("done")
    document["choices"][0]["message"]["reasoning_content"] = "Let me think."
    upstream.script = json_answer(document)
    config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(thinking_budget=1024))
    answer = client.models.generate_content(model="o4-mini", contents="hi", config=config)

    assert [(part.text, part.thought) for part in answer.parts or ()] == [("Let me think.", True), ("done", None)]
    assert upstream.requests[0].json["reasoning_effort"] == "low"


def test_an_inline_image_and_a_schema_reach_the_vendor(client: genai.Client, upstream: ScriptedUpstream) -> None:
    upstream.script = json_answer(chat_completion('{"city": "上海", "country": null}'))
    schema = types.Schema(
        type=types.Type.OBJECT,
        properties={
            "city": types.Schema(type=types.Type.STRING),
            "country": types.Schema(type=types.Type.STRING, nullable=True),
        },
        required=["city"],
    )
    answer = client.models.generate_content(
        model=MODEL,
        contents=[types.Part.from_bytes(data=PIXEL, mime_type="image/png"), "Where is it?"],
        config=types.GenerateContentConfig(response_mime_type="application/json", response_schema=schema),
    )

    assert answer.parsed == {"city": "上海", "country": None}
    sent = upstream.requests[0].json
    image, text = sent["messages"][0]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert text == {"type": "text", "text": "Where is it?"}
    assert sent["response_format"]["json_schema"]["schema"]["properties"] == {
        "city": {"type": "string"},
        "country": {"type": ["string", "null"]},
    }


def test_tokens_are_counted_here(client: genai.Client, upstream: ScriptedUpstream) -> None:
    counted = client.models.count_tokens(model=MODEL, contents="word " * 100)

    assert 100 <= (counted.total_tokens or 0) <= 120
    assert upstream.requests == []


# ── embeddings ──────────────────────────────────────────────────────────────────────────────────────────────────────


def vectors(request: Request) -> list[Step]:
    """OpenAI's answer: a vector for each text, numbered."""
    given = request.json["input"]
    texts = [given] if isinstance(given, str) else given
    data = [
        {"object": "embedding", "index": index, "embedding": [0.5, -0.25, float(index)]} for index in range(len(texts))
    ]
    usage = {"prompt_tokens": 3 * len(texts), "total_tokens": 3 * len(texts)}
    return json_answer({"object": "list", "data": data, "model": "m", "usage": usage})


@pytest.mark.parametrize(("contents", "count"), [("one", 1), (["one", "two", "three"], 3)], ids=["one", "many"])
def test_texts_are_embedded_in_one_request(
    vendors: RunningFarebox,
    client: genai.Client,
    key: Funded,
    upstream: ScriptedUpstream,
    contents: str | list[str],
    count: int,
) -> None:
    upstream.on_request = vectors
    config = types.EmbedContentConfig(task_type="RETRIEVAL_QUERY", output_dimensionality=3)
    answer = client.models.embed_content(model=EMBEDDING, contents=contents, config=config)

    assert [each.values for each in answer.embeddings or ()] == [[0.5, -0.25, float(index)] for index in range(count)]
    (request,) = upstream.requests
    assert request.path == "/v1/embeddings"
    assert request.json == {
        "model": EMBEDDING,
        "input": ["one", "two", "three"][:count],
        "encoding_format": "float",
        "dimensions": 3,
    }
    assert vendors.account(key.account).spent_nano == 3 * count * EMBEDDING_NANO


def test_a_single_text_by_plain_http_has_a_single_vector(
    vendors: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.on_request = vectors
    answer = http.post(
        f"{vendors.url}/v1beta/models/{EMBEDDING}:embedContent",
        json={"content": {"parts": [{"text": "one"}]}},
        headers={"x-goog-api-key": key.text},
    )

    assert answer.json() == {"embedding": {"values": [0.5, -0.25, 0.0]}}


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_the_vendor_cannot_express_is_refused_by_its_name(
    client: genai.Client, upstream: ScriptedUpstream
) -> None:
    with pytest.raises(errors.ClientError) as raised:
        client.models.generate_content(
            model=MODEL, contents="hi", config=types.GenerateContentConfig(top_k=5, max_output_tokens=5)
        )

    assert (raised.value.code, raised.value.status) == (400, "INVALID_ARGUMENT")
    assert "generationConfig.topK" in str(raised.value.message)
    assert upstream.requests == []


@pytest.mark.parametrize(("theirs", "ours"), [(400, 400), (401, 502), (429, 503), (500, 502)])
def test_an_error_of_the_vendors_is_told_in_googles_words(
    client: genai.Client, upstream: ScriptedUpstream, theirs: int, ours: int
) -> None:
    upstream.script = json_answer({"error": {"message": "at host-9.internal", "type": "x"}}, theirs)
    with pytest.raises(errors.APIError) as raised:
        client.models.generate_content(model=MODEL, contents="hi")

    assert raised.value.code == ours
    assert isinstance(raised.value, errors.ClientError if ours < 500 else errors.ServerError)
    assert "host-9" not in str(raised.value)


def test_a_stream_that_breaks_after_content_raises(
    vendors: RunningFarebox, client: genai.Client, key: Funded, upstream: ScriptedUpstream
) -> None:
    go_on = WaitFor()
    upstream.script = [Send(sse_head()), Send(chunk("some")), go_on, Reset()]
    stream = iter(client.models.generate_content_stream(model=MODEL, contents="hi"))
    assert next(stream).text == "some"
    go_on.event.set()
    with pytest.raises(errors.ServerError) as raised:
        list(stream)

    assert (raised.value.code, raised.value.status) == (502, "INTERNAL")
    assert [each["outcome"] for each in vendors.receipts(key.account)] == ["upstream_cut"]
