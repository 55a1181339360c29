"""OpenAI's Python SDK on Responses; what it keeps at the vendor is refused; what is not served is not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.fakes.openai_vendor import (
    CALL,
    REASONING,
    answer,
    event,
    recorded,
    response,
    response_events,
    said,
    stream,
)
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import Reset, ScriptedUpstream, Send, Sleep, json_answer, sse_answer, sse_head

MODEL, THINKER = "gpt-4o-mini", "o4-mini"
IN_NANO, OUT_NANO = 1050, 4200
"""What a token of MODEL costs."""
TOOLS: Any = [{"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}]
SECRET = "sk-upstream-secret at host-17.internal"


@pytest.fixture
def key(farebox: RunningFarebox) -> Funded:
    return farebox.new_key(credit="10")


@pytest.fixture
def client(farebox: RunningFarebox, key: Funded) -> Iterator[OpenAI]:
    with OpenAI(api_key=key.text, base_url=farebox.base_url, max_retries=0) as made:
        yield made


def receipt_of(farebox: RunningFarebox, key: Funded) -> dict[str, Any]:
    """The account's one receipt, which its wallet agrees with."""
    account = farebox.account(key.account)
    (receipt,) = farebox.receipts(key.account)
    assert (account.spent_nano, account.held_nano, dict(account.holds)) == (receipt["cost_nano"], 0, {})
    return receipt


# ── plain ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_response_comes_whole_and_is_never_kept_at_the_vendor(
    client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = answer(recorded("responses.text.json"))
    got = client.responses.create(model=MODEL, input="Which lamp is lit?", max_output_tokens=200)
    receipt = receipt_of(farebox, key)

    assert got.output_text == "The lamp in bay 3 is lit. 灯亮着 💡"
    assert got._request_id is not None
    assert got._request_id == receipt["request_id"]
    assert upstream.requests[0].path == "/v1/responses"
    assert upstream.requests[0].json == {
        "store": False,
        "model": MODEL,
        "input": "Which lamp is lit?",
        "max_output_tokens": 200,
    }
    assert receipt["cost_nano"] == 31 * IN_NANO + 17 * OUT_NANO
    assert (receipt["endpoint"], receipt["outcome"]) == ("responses", "completed")


def test_who_says_himself_that_nothing_is_kept_sends_exactly_what_he_wrote(
    farebox: RunningFarebox, client: OpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer(response())
    client.responses.create(model=MODEL, input="hi", store=False)

    assert upstream.requests[0].body == b'{"model":"gpt-4o-mini","input":"hi","store":false}'


def test_tools_reasoning_and_sealed_thoughts_go_both_ways(
    client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer(response(REASONING, CALL, came=60, thought=40))
    got = client.responses.create(
        model=THINKER, input="Rain?", tools=TOOLS, include=["reasoning.encrypted_content"], store=False
    )
    thoughts: Any = got.output[0]
    call: Any = got.output[1]
    upstream.script = json_answer(response(said("No rain.")))
    history: Any = [
        {"role": "user", "content": "Rain?"},
        *(item.to_dict() for item in got.output),
        {"type": "function_call_output", "call_id": call.call_id, "output": '{"rain":0}'},
    ]
    last = client.responses.create(model=THINKER, input=history, tools=TOOLS, store=False)

    assert (thoughts.encrypted_content, call.name) == (REASONING["encrypted_content"], "weather")
    assert json.loads(call.arguments) == {"city": "上海"}
    assert last.output_text == "No rain."
    assert upstream.requests[1].json["input"] == history
    assert upstream.requests[1].json["input"][1]["encrypted_content"] == REASONING["encrypted_content"]
    usage = farebox.receipts(key.account)[0]["usage"]
    assert (usage["reasoning_token"]["count"], usage["output_token"]["count"]) == (40, 20)


def test_an_answer_by_schema_is_parsed_by_the_sdk(client: OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.script = json_answer(response(said('{"bay":3,"note":"二楼"}')))
    schema: Any = {
        "type": "json_schema",
        "name": "lamp",
        "strict": True,
        "schema": {"type": "object", "properties": {"bay": {"type": "integer"}}, "required": ["bay"]},
    }
    got = client.responses.create(model=MODEL, input="hi", text={"format": schema})

    assert json.loads(got.output_text)["bay"] == 3
    assert upstream.requests[0].json["text"] == {"format": schema}


def test_an_incomplete_response_is_an_answer_that_is_paid(
    client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    cut = response(said("The la"), status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    upstream.script = json_answer(cut)
    got = client.responses.create(model=MODEL, input="hi", max_output_tokens=16)

    assert got.status == "incomplete"
    assert receipt_of(farebox, key)["cost_nano"] == 10 * IN_NANO + 5 * OUT_NANO


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_gives_every_event_in_its_order(
    client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    events = response_events(response(REASONING, said("你好 🌍 world"), CALL, came=60, thought=40))
    upstream.script = stream(events)
    with client.responses.create(model=THINKER, input="hi", tools=TOOLS, stream=True) as got:
        seen: list[Any] = list(got)

    assert [each.sequence_number for each in seen] == list(range(len(events)))
    assert [f"event: {each.type}".encode() for each in seen] == [each.split(b"\n")[0] for each in events]
    assert "".join(each.delta for each in seen if each.type == "response.output_text.delta") == "你好 🌍 world"
    assert seen[-1].response.usage.output_tokens == 60
    assert upstream.requests[0].json["store"] is False
    assert "stream_options" not in upstream.requests[0].json
    usage = receipt_of(farebox, key)["usage"]
    assert {unit: each["count"] for unit, each in usage.items()} == {
        "input_token": 10,
        "output_token": 20,
        "reasoning_token": 40,
    }


def test_the_sdks_own_helper_puts_the_stream_together(client: OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.script = stream(recorded("responses.text.sse"))
    with client.responses.stream(model=MODEL, input="hi") as got:
        whole = got.get_final_response()

    assert whole.output_text == "The lamp in bay 3 is lit. 灯亮着 💡"


def test_a_streams_bytes_are_the_vendors(farebox: RunningFarebox, client: OpenAI, upstream: ScriptedUpstream) -> None:
    data = recorded("responses.tool.sse")
    upstream.script = stream(data)
    with client.responses.with_streaming_response.create(model=MODEL, input="hi", tools=TOOLS, stream=True) as got:
        assert got.read() == data
        assert got.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize(
    "end", [Reset(), Send(event("error", code="server_error", message=SECRET, param=None, sequence_number=9))]
)
def test_a_stream_that_breaks_says_so_in_its_own_words_and_costs_what_came(
    end: Any, client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    events = response_events(response(said("a half of an answer")))[:5]
    upstream.script = [Send(sse_head()), *(Send(each) for each in events), Sleep(0.1), end]
    with client.responses.create(model=MODEL, input="hi", stream=True) as got:
        seen: list[Any] = list(got)
    receipt = receipt_of(farebox, key)

    assert (seen[-1].type, seen[-1].code) == ("error", "upstream_error")
    assert SECRET not in repr(seen)
    assert (receipt["outcome"], receipt["usage"]["output_token"]["source"]) == ("upstream_cut", "counted")
    assert 0 < receipt["cost_nano"] <= receipt["hold_nano"]


def test_a_response_that_failed_with_content_costs_what_the_vendor_says(
    client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    failed = response(said("hello"), status="failed", error={"code": "server_error", "message": "x"})
    # With pauses: what arrives together with the failure has not reached the caller, and another one is asked.
    upstream.script = sse_answer(response_events(failed), pause_s=0.05)
    with client.responses.create(model=MODEL, input="hi", stream=True) as got:
        seen: list[Any] = list(got)

    assert receipt_of(farebox, key)["cost_nano"] == 10 * IN_NANO + 5 * OUT_NANO
    types = [each.type for each in seen]
    assert types[-1] == "error"
    assert not {"response.completed", "response.failed"} & set(types)


# ── what is kept at the vendor ──────────────────────────────────────────────────────────────────────────────────────

KEPT: dict[str, dict[str, Any]] = {
    "background": {"background": True},
    "previous_response_id": {"previous_response_id": "resp_1"},
    "store": {"store": True},
    "conversation": {"conversation": "conv_1"},
    "prompt": {"prompt": {"id": "pmpt_1"}},
    "input[0]": {"input": [{"type": "item_reference", "id": "msg_1"}]},
    "input[0].content[0].file_id": {
        "input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1", "detail": "auto"}]}]
    },
}


@pytest.mark.parametrize("stream_", [False, True])
@pytest.mark.parametrize("param", KEPT)
def test_what_would_be_kept_at_the_vendor_is_refused_by_name(
    param: str, stream_: bool, client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": MODEL, "input": "hi", "stream": stream_, **KEPT[param]})

    assert (caught.value.param, caught.value.code) == (param, "invalid_request")
    assert (upstream.requests, farebox.account(key.account).held_nano, farebox.receipts(key.account)) == ([], 0, [])


ELSEWHERE: dict[str, Any] = {
    "GET /responses/{id}": lambda client: client.responses.retrieve("resp_1"),
    "GET /responses/{id} as a stream": lambda client: list(client.responses.retrieve("resp_1", stream=True)),
    "DELETE /responses/{id}": lambda client: client.responses.delete("resp_1"),
    "POST /responses/{id}/cancel": lambda client: client.responses.cancel("resp_1"),
    "GET /responses/{id}/input_items": lambda client: client.responses.input_items.list("resp_1"),
    "GET /files": lambda client: client.files.list(),
    "GET /files/{id}/content": lambda client: client.files.content("file-1"),
    "POST /files": lambda client: client.files.create(file=b"x", purpose="batch"),
    "POST /uploads": lambda client: client.uploads.create(bytes=1, filename="a", mime_type="a/b", purpose="batch"),
    "GET /batches": lambda client: client.batches.list(),
    "POST /batches": lambda client: client.batches.create(
        completion_window="24h", endpoint="/v1/responses", input_file_id="file-1"
    ),
    "GET /vector_stores": lambda client: client.vector_stores.list(),
    "POST /vector_stores": lambda client: client.vector_stores.create(name="a"),
    "GET /fine_tuning/jobs": lambda client: client.fine_tuning.jobs.list(),
    "GET /chat/completions": lambda client: client.chat.completions.list(),
    "GET /chat/completions/{id}": lambda client: client.chat.completions.retrieve("chatcmpl-1"),
    "POST /chat/completions/{id}": lambda client: client.chat.completions.update("chatcmpl-1", metadata={"a": "b"}),
    "DELETE /chat/completions/{id}": lambda client: client.chat.completions.delete("chatcmpl-1"),
    "DELETE /models/{id}": lambda client: client.models.delete("gpt-4o"),
    "POST /assistants": lambda client: client.post("/assistants", body={"model": MODEL}, cast_to=object),
    "GET /assistants": lambda client: client.get("/assistants", cast_to=object),
    "POST /threads": lambda client: client.post("/threads", body={}, cast_to=object),
    "POST /threads/runs": lambda client: client.post("/threads/runs", body={"assistant_id": "a"}, cast_to=object),
    "POST /conversations": lambda client: client.post("/conversations", body={}, cast_to=object),
    "POST /containers": lambda client: client.post("/containers", body={"name": "a"}, cast_to=object),
    "POST /videos": lambda client: client.post("/videos", body={"prompt": "a"}, cast_to=object),
    "POST /realtime/client_secrets": lambda client: client.post("/realtime/client_secrets", body={}, cast_to=object),
}


@pytest.mark.parametrize("call", ELSEWHERE)
def test_what_is_not_served_is_not_there_and_nothing_is_forwarded(
    call: str, client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ELSEWHERE[call](client)

    assert caught.value.code in ("not_found", "model_not_found")
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id is not None
    assert (upstream.requests, farebox.receipts(key.account)) == ([], [])
