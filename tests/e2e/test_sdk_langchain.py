"""LangChain's OpenAI package at our address, in front of OpenAI and, over the bridge, of Anthropic."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from tests.fakes import anthropic_vendor as claude
from tests.fakes.process import wait_until
from tests.fakes.service import ENCODINGS, Funded, RunningFarebox
from tests.fakes.upstream import (
    DONE,
    Request,
    ScriptedUpstream,
    Step,
    chat_completion,
    chat_stream,
    chunk,
    json_answer,
    sse_answer,
    usage_chunk,
)

MODELS = {"openai": "gpt-4o", "anthropic": claude.MODEL}
PRICES_NANO = {"openai": (17_500, 70_000), "anthropic": (claude.IN_NANO, claude.OUT_NANO)}
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
VECTOR = [0.5, -0.25, 1.0]

pytestmark = pytest.mark.parametrize("vendor", ["openai", "anthropic"])


class City(BaseModel):
    """A city and its weather."""

    name: str
    weather: str


@tool
def weather(city: str) -> str:
    """The weather at a place."""
    return {"上海": "晴"}.get(city, "unknown")


@pytest.fixture
def key(vendors: RunningFarebox) -> Funded:
    return vendors.new_key(credit="100")


@pytest.fixture
async def options(vendors: RunningFarebox, key: Funded) -> AsyncIterator[dict[str, Any]]:
    """Where and as whom, with connections of its own: LangChain would keep one client for all event loops."""
    with openai.DefaultHttpxClient() as client:
        async with openai.DefaultAsyncHttpxClient() as async_client:
            yield {
                "api_key": key.text,
                "base_url": vendors.base_url,
                "http_client": client,
                "http_async_client": async_client,
            }


@pytest.fixture
def chat(options: dict[str, Any], vendor: str) -> ChatOpenAI:
    return ChatOpenAI(model=MODELS[vendor], max_tokens=1000, **options)


def plain(vendor: str, text: str) -> list[Step]:
    """An answer in the vendor's dialect: 10 tokens sent, 5 came."""
    if vendor == "openai":
        return json_answer(chat_completion(text))
    return json_answer(claude.message({"type": "text", "text": text}))


def stream(vendor: str, *texts: str) -> list[Step]:
    """A stream in the vendor's dialect: 10 tokens sent, 5 came."""
    if vendor == "openai":
        return sse_answer(chat_stream(*texts, completion=5))
    return sse_answer([claude.start(), *claude.said(*texts), *claude.end()])


def call(vendor: str, name: str, arguments: dict[str, Any]) -> list[Step]:
    """A plain answer that calls a tool."""
    if vendor == "anthropic":
        used = {"type": "tool_use", "id": "toolu_1", "name": name, "input": arguments}
        return json_answer(claude.message(used, stop="tool_use"))
    document = chat_completion()
    made = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
    message = {"role": "assistant", "content": None, "tool_calls": [made]}
    document["choices"][0] |= {"message": message, "finish_reason": "tool_calls"}
    return json_answer(document)


def streamed_call(vendor: str, name: str, *pieces: str) -> list[Step]:
    """A stream that calls a tool, piece by piece."""
    if vendor == "anthropic":
        begun = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}
        deltas = ({"type": "input_json_delta", "partial_json": piece} for piece in pieces)
        return sse_answer([claude.start(), *claude.block(0, begun, *deltas), *claude.end("tool_use")])

    def delta(**made: Any) -> bytes:
        choice = {"index": 0, "delta": {"tool_calls": [{"index": 0, **made}]}, "finish_reason": None}
        return b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode()

    deltas_of = [delta(function={"arguments": piece}) + b"\n\n" for piece in pieces]
    first = delta(id="call_1", type="function", function={"name": name, "arguments": ""}) + b"\n\n"
    return sse_answer([first, *deltas_of, chunk(finish="tool_calls"), usage_chunk(10, 5), DONE])


def cost_nano(vendor: str, requests: int = 1) -> int:
    into, out = PRICES_NANO[vendor]
    return requests * (10 * into + 5 * out)


def test_an_invocation_answers_with_its_usage(
    vendors: RunningFarebox, chat: ChatOpenAI, key: Funded, upstream: ScriptedUpstream, vendor: str
) -> None:
    upstream.script = plain(vendor, "你好")
    answer = chat.invoke([SystemMessage("Be brief."), HumanMessage("hi")])

    assert (answer.text, answer.response_metadata["finish_reason"]) == ("你好", "stop")
    assert answer.usage_metadata is not None
    assert (answer.usage_metadata["input_tokens"], answer.usage_metadata["output_tokens"]) == (10, 5)
    assert upstream.requests[0].path == PATHS[vendor]
    assert vendors.account(key.account).spent_nano == cost_nano(vendor)


async def test_the_async_way_gives_the_same(chat: ChatOpenAI, upstream: ScriptedUpstream, vendor: str) -> None:
    upstream.script = plain(vendor, "hello")
    answer = await chat.ainvoke("hi")
    upstream.script = stream(vendor, "he", "llo")
    pieces = [each.text async for each in chat.astream("hi")]

    assert answer.text == "".join(pieces) == "hello"


@pytest.mark.parametrize("usage", [True, False], ids=["with usage", "without"])
def test_a_stream_gives_every_piece_and_the_usage_if_it_is_wished(
    vendors: RunningFarebox, chat: ChatOpenAI, key: Funded, upstream: ScriptedUpstream, vendor: str, usage: bool
) -> None:
    upstream.script = stream(vendor, "你", "好")
    pieces = list(chat.stream("hi", stream_usage=usage))
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece

    assert [each.text for each in pieces if each.text] == ["你", "好"]
    assert (whole.usage_metadata is not None) == usage
    assert whole.response_metadata["finish_reason"] == "stop"
    wait_until(lambda: vendors.account(key.account).spent_nano == cost_nano(vendor))  # it leaves at the end marker


def test_a_bound_tool_is_called_and_its_result_goes_back(
    vendors: RunningFarebox, chat: ChatOpenAI, key: Funded, upstream: ScriptedUpstream, vendor: str
) -> None:
    bound = chat.bind_tools([weather], tool_choice="required")
    upstream.script = call(vendor, "weather", {"city": "上海"})
    asked = HumanMessage("What is the weather at 上海?")
    called = bound.invoke([asked])
    result = weather.invoke(called.tool_calls[0])
    upstream.script = plain(vendor, "It is 晴.")
    answer = bound.invoke([asked, called, result])

    assert isinstance(called, AIMessage)
    assert isinstance(result, ToolMessage)
    assert [(each["name"], each["args"]) for each in called.tool_calls] == [("weather", {"city": "上海"})]
    assert answer.text == "It is 晴."
    assert "晴" in json.dumps(upstream.requests[1].json["messages"][2], ensure_ascii=False)
    chosen = {"openai": "required", "anthropic": {"type": "any"}}[vendor]
    assert upstream.requests[0].json["tool_choice"] == chosen
    assert vendors.account(key.account).spent_nano == cost_nano(vendor, requests=2)


def test_a_streamed_call_comes_piece_by_piece(chat: ChatOpenAI, upstream: ScriptedUpstream, vendor: str) -> None:
    upstream.script = streamed_call(vendor, "weather", '{"city"', ': "北京"}')
    pieces = list(chat.bind_tools([weather]).stream("hi"))
    whole: Any = pieces[0]
    for piece in pieces[1:]:
        whole += piece

    assert [(each["name"], each["args"]) for each in whole.tool_calls] == [("weather", {"city": "北京"})]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_is_an_object_of_its_class(
    chat: ChatOpenAI, upstream: ScriptedUpstream, vendor: str, method: Any
) -> None:
    city = {"name": "上海", "weather": "晴"}
    if method == "json_schema":
        upstream.script = plain(vendor, json.dumps(city))
    else:
        upstream.script = call(vendor, "City", city)

    assert chat.with_structured_output(City, method=method).invoke("Where?") == City(name="上海", weather="晴")


def test_an_image_reaches_the_vendor(chat: ChatOpenAI, upstream: ScriptedUpstream, vendor: str) -> None:
    upstream.script = plain(vendor, "a pixel")
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    image = {"type": "image", "base64": pixel, "mime_type": "image/png"}
    chat.invoke([HumanMessage([{"type": "text", "text": "What is it?"}, image])])

    assert pixel in upstream.requests[0].body.decode()


def test_errors_are_those_of_openais_sdk(
    options: dict[str, Any], chat: ChatOpenAI, upstream: ScriptedUpstream, vendor: str
) -> None:
    upstream.script = json_answer({"error": {"message": "at host-9.internal", "type": "x"}}, 400)
    with pytest.raises(openai.BadRequestError) as raised:
        chat.invoke("hi")
    assert "host-9" not in str(raised.value)

    wrong = ChatOpenAI(model=MODELS[vendor], **options | {"api_key": "sk-wrong"})
    with pytest.raises(openai.AuthenticationError):
        wrong.invoke("hi")


def test_texts_are_embedded_as_tokens_and_as_texts(
    options: dict[str, Any], upstream: ScriptedUpstream, vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(ENCODINGS))
    upstream.on_request = embedded
    by_tokens = OpenAIEmbeddings(model="text-embedding-3-small", **options)
    by_text = OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False, **options)

    assert by_tokens.embed_documents(["one", "two"]) == [VECTOR, VECTOR]
    assert by_text.embed_query("one") == VECTOR
    tokens, texts = (each.json["input"] for each in upstream.requests)
    assert [type(each) for row in tokens for each in row] == [int, int]
    assert texts == ["one"]


def embedded(request: Request) -> list[Step]:
    """As OpenAI answers: base64 or floats, as the request says; a vector for each text."""
    packed = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()
    value = packed if request.json.get("encoding_format") == "base64" else VECTOR
    data = [{"object": "embedding", "index": index, "embedding": value} for index in range(len(request.json["input"]))]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return json_answer({"object": "list", "data": data, "model": "m", "usage": usage})
