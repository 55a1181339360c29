"""Google's official Python SDK at our address: in front of Google itself, where bytes pass as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import Reset, ScriptedUpstream, Send, Sleep, Step, WaitFor, json_answer, sse_answer, sse_head

MODEL = "gemini-2.0-flash"
THINKER = "gemini-2.5-pro-preview-05-06"
SECRET = "AIza-secret of project-17 at host-9.internal"
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8ffff3f0005fe02fe"
    "a73581e40000000049454e44ae426082"
)
SIGNATURE = "vr/AwcLDxMXGx8jJysvMzc7P0NH7/w=="
USAGE = {
    "promptTokenCount": 10,
    "candidatesTokenCount": 5,
    "totalTokenCount": 15,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}],
}
CONTENTS: Any = [{"role": "user", "parts": [{"text": "hi"}]}]
Json = dict[str, Any]


def response(*parts: Json, finish: str | None = "STOP", **more: Any) -> Json:
    """A GenerateContentResponse, as the vendor gives it; without parts it says hello."""
    candidate: Json = {"content": {"parts": list(parts) or [{"text": "hello"}], "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": MODEL, "responseId": "r1", **more}


def event(*parts: Json, finish: str | None = None, **more: Any) -> bytes:
    """One event of a stream, with the CRLFs that Google ends lines with."""
    return b"data: " + json.dumps(response(*parts, finish=finish, **more), ensure_ascii=False).encode() + b"\r\n\r\n"


STREAM = [event({"text": "你"}), event({"text": "好"}), event({"text": " 🌍"}, finish="STOP")]
THOUGHTS = [
    event({"text": "Let me think.", "thought": True}),
    event({"functionCall": {"name": "weather", "args": {"city": "上海"}}, "thoughtSignature": SIGNATURE}),
    event({"text": ""}, finish="STOP", usageMetadata={**USAGE, "thoughtsTokenCount": 7, "totalTokenCount": 22}),
]


@pytest.fixture
def key(vendors: RunningFarebox) -> Funded:
    return vendors.new_key(credit="100")


def client_of(vendors: RunningFarebox, key: str, **options: Any) -> genai.Client:
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=vendors.url, **options))


@pytest.fixture
def client(vendors: RunningFarebox, key: Funded) -> Iterator[genai.Client]:
    with client_of(vendors, key.text) as made:
        yield made


def weather(city: str) -> str:
    """The weather at a place.

    Args:
        city: its name
    """
    return {"上海": "晴"}.get(city, "unknown")


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [None, "v1", "v1beta", "v1alpha"])
def test_an_answer_comes_whole_whichever_version_is_called(
    vendors: RunningFarebox, key: Funded, upstream: ScriptedUpstream, version: str | None
) -> None:
    upstream.script = json_answer(response())
    options = {} if version is None else {"api_version": version}
    with client_of(vendors, key.text, **options) as client:
        answer = client.models.generate_content(
            model=MODEL,
            contents="hi",
            config=types.GenerateContentConfig(system_instruction="Be brief.", temperature=0.5, max_output_tokens=100),
        )

    assert (answer.text, answer.response_id) == ("hello", "r1")
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.total_token_count == 15
    (request,) = upstream.requests
    assert request.path == f"/v1beta/models/{MODEL}:generateContent"
    assert request.headers["x-goog-api-key"] == "sk-up-google"
    assert set(request.headers) == {
        "host",
        "accept",
        "accept-encoding",
        "content-length",
        "content-type",
        "user-agent",
        "x-goog-api-key",
    }
    assert request.json["contents"] == [{"role": "user", "parts": [{"text": "hi"}]}]
    assert request.json["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    (receipt,) = vendors.receipts(key.account)
    assert {unit: each["count"] for unit, each in receipt["usage"].items()} == {"input_token": 10, "output_token": 5}
    assert vendors.account(key.account).spent_nano == receipt["cost_nano"] > 0


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
async def test_the_async_client_answers_and_streams(
    vendors: RunningFarebox, client: genai.Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer(response())
    answer = await client.aio.models.generate_content(model=MODEL, contents="hi")
    upstream.script = sse_answer(STREAM)
    stream = await client.aio.models.generate_content_stream(model=MODEL, contents="hi")
    texts = [each.text async for each in stream]
    await client.aio.aclose()

    assert answer.text == "hello"
    assert texts == ["你", "好", " 🌍"]


def test_an_answer_is_byte_for_byte_the_vendors(
    vendors: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    said = b'{"content": {"parts": [{"text": "\\u4f60"}]}, "finishReason": "STOP", "avgLogprobs": -1.0e-2}'
    body = b'{\n  "candidates": [%s]\n}\n' % said
    upstream.script = json_answer(body)
    answer = http.post(
        f"{vendors.url}/v1beta/models/{MODEL}:generateContent",
        json={"contents": CONTENTS},
        headers={"x-goog-api-key": key.text},
    )

    assert answer.content == body
    assert answer.headers["x-farebox-cost"]
    assert answer.headers["x-request-id"].startswith("req_")


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_gives_every_piece(
    vendors: RunningFarebox, client: genai.Client, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = sse_answer(STREAM)
    pieces = list(client.models.generate_content_stream(model=MODEL, contents="hi"))

    assert [each.text for each in pieces] == ["你", "好", " 🌍"]
    assert str(pieces[-1].candidates[0].finish_reason) == "FinishReason.STOP"  # type: ignore[index]
    assert upstream.requests[0].path == f"/v1beta/models/{MODEL}:streamGenerateContent?alt=sse"
    (receipt,) = vendors.receipts(key.account)
    assert (receipt["outcome"], receipt["usage"]["output_token"]["count"]) == ("completed", 5)


def test_our_pings_before_content_are_empty_texts_to_the_sdk(
    vendors: RunningFarebox, key: Funded, client: genai.Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = [Send(sse_head()), Sleep(0.7), *(Send(each) for each in STREAM)]
    chat = client.chats.create(model=MODEL)
    texts = [each.text for each in chat.send_message_stream("hi")]

    assert texts[:2] == ["", ""]
    assert texts[-3:] == ["你", "好", " 🌍"]
    assert raw_stream(vendors, key, "?alt=sse").content.endswith(b"".join(STREAM))


def raw_stream(vendors: RunningFarebox, key: Funded, query: str, model: str = MODEL) -> Any:
    return http.post(
        f"{vendors.url}/v1beta/models/{model}:streamGenerateContent{query}",
        json={"contents": CONTENTS},
        headers={"x-goog-api-key": key.text},
    )


@pytest.mark.parametrize("events", [STREAM, THOUGHTS], ids=["text", "thoughts and a call"])
@pytest.mark.parametrize("cut", [1, 9, 10_000])
def test_a_stream_is_byte_for_byte_the_vendors_however_it_is_cut(
    vendors: RunningFarebox, key: Funded, upstream: ScriptedUpstream, events: list[bytes], cut: int
) -> None:
    whole = b"".join(events)
    upstream.script = sse_answer(whole[at : at + cut] for at in range(0, len(whole), cut))
    answer = raw_stream(vendors, key, "?alt=sse", THINKER)

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content == whole


def test_without_alt_sse_a_stream_is_one_json_array_of_the_same_elements(
    vendors: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = sse_answer(THOUGHTS)
    answer = raw_stream(vendors, key, "", THINKER)

    assert answer.headers["content-type"].startswith("application/json")
    elements = [each.removeprefix(b"data: ").strip() for each in THOUGHTS]
    assert answer.content == b"[" + b",\r\n".join(elements) + b"]"
    assert len(answer.json()) == 3


def test_thoughts_and_their_signature_come_through_and_go_back(
    vendors: RunningFarebox, key: Funded, client: genai.Client, upstream: ScriptedUpstream
) -> None:
    declared = types.FunctionDeclaration.from_callable(client=client._api_client, callable=weather)
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[declared])],
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=2000),
    )
    upstream.script = sse_answer(THOUGHTS)
    chat = client.chats.create(model=THINKER, config=config)
    pieces = list(chat.send_message_stream("hi"))
    upstream.script = json_answer(response())
    result = types.Part.from_function_response(name="weather", response={"result": "晴"})
    chat.send_message([result])

    parts = [part for piece in pieces for part in piece.parts or ()]
    assert (parts[0].thought, parts[0].text) == (True, "Let me think.")
    assert parts[1].function_call is not None
    assert parts[1].function_call.args == {"city": "上海"}
    sent = upstream.requests[1].json["contents"]
    signatures = [part["thoughtSignature"] for each in sent for part in each["parts"] if "thoughtSignature" in part]
    assert [each.replace("-", "+").replace("_", "/") for each in signatures] == [
        SIGNATURE.replace("-", "+").replace("_", "/")
    ]
    first = vendors.receipts(key.account)[0]
    assert first["usage"]["reasoning_token"] == {"count": 7, "source": "upstream"}


# ── what is sent ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_python_function_is_called_and_its_result_goes_back(client: genai.Client, upstream: ScriptedUpstream) -> None:
    call = {"functionCall": {"name": "weather", "args": {"city": "上海"}}}
    answers: Iterator[list[Step]] = iter([json_answer(response(call)), json_answer(response({"text": "It is 晴."}))])
    upstream.on_request = lambda _: next(answers)
    chat = client.chats.create(model=MODEL, config=types.GenerateContentConfig(tools=[weather]))
    answer = chat.send_message("What is the weather at 上海?")

    assert answer.text == "It is 晴."
    assert upstream.requests[0].json["tools"][0]["functionDeclarations"][0]["name"] == "weather"
    _, called, told = upstream.requests[1].json["contents"]
    assert called["parts"][0]["functionCall"]["args"] == {"city": "上海"}
    assert told["parts"][0]["functionResponse"]["response"] == {"result": "晴"}


def test_an_inline_image_and_a_schema_reach_the_vendor(client: genai.Client, upstream: ScriptedUpstream) -> None:
    upstream.script = json_answer(response({"text": '{"city": "上海"}'}))
    schema = types.Schema(type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)})
    answer = client.models.generate_content(
        model=MODEL,
        contents=[types.Part.from_bytes(data=PIXEL, mime_type="image/png"), "Where is it?"],
        config=types.GenerateContentConfig(response_mime_type="application/json", response_schema=schema),
    )

    assert answer.parsed == {"city": "上海"}
    sent = upstream.requests[0].json
    assert set(sent["contents"][0]["parts"][0]) == {"inlineData"}
    assert "image/png" in sent["contents"][0]["parts"][0]["inlineData"].values()
    assert sent["generationConfig"]["responseSchema"]["type"] == "OBJECT"


# ── counting, embeddings, models ────────────────────────────────────────────────────────────────────────────────────


def test_tokens_are_counted_by_the_vendor_for_nothing(
    vendors: RunningFarebox, key: Funded, client: genai.Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer({"totalTokens": 31, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 31}]})
    counted = client.models.count_tokens(model=MODEL, contents="hi")

    assert counted.total_tokens == 31
    assert upstream.requests[0].path == f"/v1beta/models/{MODEL}:countTokens"
    assert vendors.receipts(key.account) == []


@pytest.mark.parametrize("script", [json_answer({}, 500), [Reset()], json_answer({})], ids=["500", "gone", "nothing"])
def test_tokens_are_counted_here_where_the_vendor_does_not(
    client: genai.Client, upstream: ScriptedUpstream, script: list[Step]
) -> None:
    upstream.script = script
    counted = client.models.count_tokens(model=MODEL, contents="word " * 100)

    assert 100 <= (counted.total_tokens or 0) <= 120


def test_texts_are_embedded_by_google_itself(
    vendors: RunningFarebox, key: Funded, client: genai.Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer({"embeddings": [{"values": [0.5, -0.25]}, {"values": [1e-05, 1.0]}]})
    answer = client.models.embed_content(
        model="gemini-embedding-001",
        contents=["one", "two"],
        config=types.EmbedContentConfig(task_type="RETRIEVAL_DOCUMENT", output_dimensionality=2),
    )

    assert [each.values for each in answer.embeddings or ()] == [[0.5, -0.25], [1e-05, 1.0]]
    (request,) = upstream.requests
    assert request.path == "/v1beta/models/gemini-embedding-001:batchEmbedContents"
    assert [each["outputDimensionality"] for each in request.json["requests"]] == [2, 2]
    (receipt,) = vendors.receipts(key.account)
    assert (receipt["endpoint"], receipt["outcome"]) == ("batchEmbedContents", "completed")
    assert receipt["cost_nano"] == receipt["usage"]["input_token"]["count"] * 1050


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_models_are_listed_in_googles_shape(
    vendors: RunningFarebox, key: Funded, upstream: ScriptedUpstream, version: str
) -> None:
    with client_of(vendors, key.text, api_version=version) as client:
        listed = {each.name: each for each in client.models.list()}
        one = client.models.get(model=MODEL)

    assert {f"models/{MODEL}", "models/gpt-4o", "models/text-embedding-3-small"} <= set(listed)
    assert listed["models/text-embedding-3-small"].supported_actions == ["embedContent", "batchEmbedContents"]
    assert (one.name, one.output_token_limit) == (f"models/{MODEL}", 8192)
    assert "generateContent" in (one.supported_actions or ())
    assert upstream.requests == []


# ── keys and errors ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["header", "query", "bearer"])
@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_a_key_may_come_in_any_of_googles_ways(
    vendors: RunningFarebox, key: Funded, upstream: ScriptedUpstream, way: str, version: str
) -> None:
    upstream.script = json_answer(response())
    headers = {"header": {"x-goog-api-key": key.text}, "bearer": {"authorization": f"Bearer {key.text}"}}.get(way, {})
    query = f"?key={key.text}" if way == "query" else ""
    answer = http.post(
        f"{vendors.url}/{version}/models/{MODEL}:generateContent{query}", json={"contents": CONTENTS}, headers=headers
    )

    assert answer.status_code == 200, answer.text
    assert key.text not in str(upstream.requests)


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_a_key_in_the_query_lists_models_in_googles_shape(vendors: RunningFarebox, key: Funded, version: str) -> None:
    answer = http.get(f"{vendors.url}/{version}/models?key={key.text}")

    assert answer.json()["models"][0]["name"].startswith("models/")


def test_a_wrong_key_raises_client_error_401(vendors: RunningFarebox, upstream: ScriptedUpstream) -> None:
    with client_of(vendors, "sk-wrong") as client, pytest.raises(errors.ClientError) as raised:
        client.models.generate_content(model=MODEL, contents="hi")

    assert (raised.value.code, raised.value.status) == (401, "UNAUTHENTICATED")
    assert upstream.requests == []


def test_an_empty_wallet_raises_client_error_402(vendors: RunningFarebox, upstream: ScriptedUpstream) -> None:
    poor = vendors.new_key(credit="0.000000001")
    with client_of(vendors, poor.text) as client, pytest.raises(errors.ClientError) as raised:
        client.models.generate_content(model=MODEL, contents="hi")

    assert raised.value.code == 402
    assert raised.value.details["error"]["details"][0]["reason"] == "insufficient_balance"


def test_an_unknown_model_raises_client_error_404(client: genai.Client, upstream: ScriptedUpstream) -> None:
    with pytest.raises(errors.ClientError) as raised:
        client.models.generate_content(model="no-such-model", contents="hi")

    assert (raised.value.code, raised.value.status) == (404, "NOT_FOUND")
    with pytest.raises(errors.ClientError) as raised:
        client.models.get(model="no-such-model")
    assert (raised.value.code, raised.value.status) == (404, "NOT_FOUND")


def test_what_has_no_price_raises_client_error_400_and_is_named(
    client: genai.Client, upstream: ScriptedUpstream
) -> None:
    config = types.GenerateContentConfig(tools=[types.Tool(google_search=types.GoogleSearch())])
    with pytest.raises(errors.ClientError) as raised:
        client.models.generate_content(model=MODEL, contents="hi", config=config)

    assert (raised.value.code, raised.value.status) == (400, "INVALID_ARGUMENT")
    assert "googleSearch" in str(raised.value.message)


def ask(client: genai.Client, streamed: bool) -> None:
    """One request, read to its end."""
    if streamed:
        list(client.models.generate_content_stream(model=MODEL, contents="hi"))
    else:
        client.models.generate_content(model=MODEL, contents="hi")


@pytest.mark.parametrize(
    ("theirs", "ours", "status", "raises"),
    [
        (400, 400, "INVALID_ARGUMENT", errors.ClientError),
        (403, 502, "INTERNAL", errors.ServerError),  # the operator's key is no fault of the caller's
        (429, 503, "UNAVAILABLE", errors.ServerError),
        (500, 502, "INTERNAL", errors.ServerError),
        (503, 503, "UNAVAILABLE", errors.ServerError),
        (504, 504, "DEADLINE_EXCEEDED", errors.ServerError),
    ],
)
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_an_error_of_the_vendors_raises_its_class_without_its_words_and_costs_nothing(
    vendors: RunningFarebox,
    key: Funded,
    client: genai.Client,
    upstream: ScriptedUpstream,
    theirs: int,
    ours: int,
    status: str,
    raises: type[errors.APIError],
    streamed: bool,
) -> None:
    upstream.script = json_answer({"error": {"code": theirs, "message": SECRET, "status": "X", "details": []}}, theirs)
    with pytest.raises(raises) as raised:
        ask(client, streamed)

    assert (raised.value.code, raised.value.status) == (ours, status)
    assert SECRET not in str(raised.value)
    assert vendors.account(key.account).spent_nano == 0


def test_a_weakness_that_passes_is_the_relays_to_bear(client: genai.Client, upstream: ScriptedUpstream) -> None:
    answers: Iterator[list[Step]] = iter([json_answer({"error": {}}, 429), json_answer(response())])
    upstream.on_request = lambda _: next(answers)

    assert client.models.generate_content(model=MODEL, contents="hi").text == "hello"
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("how", ["reset", "silent end", "error event"])
def test_a_stream_that_breaks_after_content_raises_and_is_billed_for_what_came(
    vendors: RunningFarebox, key: Funded, client: genai.Client, upstream: ScriptedUpstream, how: str
) -> None:
    go_on = WaitFor()
    error = json.dumps({"error": {"code": 503, "message": SECRET, "status": "UNAVAILABLE"}}).encode()
    last: dict[str, list[Step]] = {
        "reset": [Reset()],
        "silent end": [],
        "error event": [Send(b"data: " + error + b"\r\n\r\n")],
    }
    upstream.script = [Send(sse_head()), Send(STREAM[0]), go_on, *last[how]]
    stream = iter(client.models.generate_content_stream(model=MODEL, contents="hi"))
    first = next(stream)
    go_on.event.set()
    with pytest.raises(errors.APIError) as raised:
        list(stream)

    assert first.text == "你"
    assert (raised.value.code, raised.value.status) == (502, "INTERNAL")
    assert SECRET not in str(raised.value)
    assert [each["outcome"] for each in vendors.receipts(key.account)] == ["upstream_cut"]
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("how", ["reset", "silent end"])
def test_a_broken_json_array_ends_with_the_error_as_its_last_element(
    vendors: RunningFarebox, key: Funded, upstream: ScriptedUpstream, how: str
) -> None:
    upstream.script = [Send(sse_head()), Send(STREAM[0]), WaitFor(), *([Reset()] if how == "reset" else [])]
    upstream.script[2].event.set()  # type: ignore[union-attr]
    answer = raw_stream(vendors, key, "")
    if answer.status_code == 200:
        *said, last = answer.json()
        assert said[0]["candidates"][0]["content"]["parts"] == [{"text": "你"}]
        assert last["error"]["code"] == 502
    else:  # it broke before the relay had passed anything on
        assert answer.json()["error"]["code"] == 502
