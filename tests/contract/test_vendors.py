"""Every vendor by every way to it, over sockets: what it is sent, what the caller gets, what that costs."""

from __future__ import annotations

import json

import pytest

from tests.contract.answers import TYPES, read, told_usage, valid
from tests.contract.conftest import Lead
from tests.contract.exchange import CANARY, cost_nano, played, receipt_of, send, usage_on
from tests.contract.recordings import Recording, contract
from tests.contract.routes import (
    ANSWERS,
    BRIDGED,
    FORMS,
    SAID,
    Asked,
    Route,
    answer_id,
    ask,
    channel,
    upstream_name,
)
from tests.fakes.service import RunningFarebox
from tests.fakes.upstream import DONE, Request, ScriptedUpstream

METHODS = {False: "generateContent", True: "streamGenerateContent?alt=sse"}
PASSED = {"anthropic-version": "2026-10-21", "anthropic-beta": "some-beta-2026-01-01"}


def answered(route: Route, recording: Recording) -> bytes:
    """What a caller of the vendor's own dialect gets: every byte, but the empty lines before a plain answer, and
    what some send behind the event that is a stream's end.
    """
    if recording.suffix == "json":
        return recording.data.lstrip()
    no_marker = route.wire.name in ("responses", "audio.transcriptions")
    return recording.data.removesuffix(DONE) if no_marker else recording.data


def sent_as_told(route: Route, recording: Recording, request: Request) -> None:
    """Asserts the URL, the key, and that nothing of the caller's own goes along."""
    told, model = contract(route.vendor), upstream_name(route.model(recording))
    path = told.paths[route.wire.name].replace("MODEL", model).replace("METHOD", METHODS[recording.stream])
    header, value = told.auth[route.door.dialect]

    assert (request.method, request.path) == ("POST", f"/v1{path}")
    assert request.headers[header] == value.replace("KEY", f"sk-up-{route.vendor}")
    assert request.headers["accept-encoding"] == "identity"
    assert not {
        name for name in ("authorization", "x-api-key", "x-goog-api-key", "api-key") if name in request.headers
    } - {header}


@pytest.mark.parametrize(("route", "recording"), ANSWERS, ids=answer_id)
def test_an_exchange(
    route: Route, recording: Recording, farebox: RunningFarebox, upstream: ScriptedUpstream, lead: Lead
) -> None:
    """The request reaches the vendor as told, its answer the caller as told, and the receipt has the vendor's usage."""
    model = route.model(recording)
    lead(channel(route.vendor, upstream.url, model))
    upstream.script = played(recording)
    key = farebox.new_key(credit="5")
    answer = send(farebox, key, route.caller.dialect, ask(route, recording), **PASSED)
    receipt = receipt_of(farebox, key)

    assert answer.status_code == 200, answer.text
    (request,) = upstream.requests
    sent_as_told(route, recording, request)
    whole = str(request.path) + str(request.headers) + request.body.decode("latin-1")
    assert CANARY not in whole
    assert key.text not in whole
    passed = {name: request.headers.get(name) for name in PASSED}
    own = route.caller.dialect == route.door.dialect == "anthropic"
    assert passed == (PASSED if own else dict.fromkeys(PASSED) | _versions(route))
    if route.bridge is None:
        assert answer.content == answered(route, recording)
    _is_billed(farebox, route, recording, receipt)


def _versions(route: Route) -> dict[str, str]:
    return {"anthropic-version": "2023-06-01"} if route.door.dialect == "anthropic" else {}


def _is_billed(farebox: RunningFarebox, route: Route, recording: Recording, receipt: dict) -> None:  # type: ignore[type-arg]
    facts, usage = recording.facts, usage_on(receipt)
    model = route.model(recording)
    if facts.usage is None:  # the vendor says nothing: our own count
        count = farebox.services.tokenizer.count("o200k_base", facts.text)
        assert usage.get("output_token", 0) == count
        assert usage["input_token"] >= len(SAID) // 5
    else:
        assert usage == facts.usage
    assert {figure["source"] for figure in receipt["usage"].values()} == {facts.source}
    assert (receipt["outcome"], receipt["overrun_nano"]) == ("completed", 0)
    assert receipt["cost_nano"] == cost_nano(farebox, model, usage)
    assert (receipt["model"], receipt["endpoint"], receipt["stream"]) == (model, route.caller.name, recording.stream)
    assert [(each["channel"], each["result"]) for each in receipt["attempts"]] == [(f"to-{route.vendor}", "answered")]


@pytest.mark.parametrize(("route", "recording"), BRIDGED, ids=answer_id)
def test_an_answer_across_dialects_is_what_the_vendor_said_in_the_callers_own_types(
    route: Route, recording: Recording, farebox: RunningFarebox, upstream: ScriptedUpstream, lead: Lead
) -> None:
    lead(channel(route.vendor, upstream.url, route.model(recording)))
    upstream.script = played(recording)
    key = farebox.new_key(credit="5")
    answer = send(farebox, key, route.caller.dialect, ask(route, recording))
    operation = route.caller.name

    valid(operation, answer.content, stream=recording.stream)
    if operation in ("embedContent", "batchEmbedContents"):
        (given,) = json.loads(recording.data)["data"]
        document = answer.json()
        vector = document["embedding"] if operation == "embedContent" else document["embeddings"][0]
        assert vector["values"] == given["embedding"]
        return
    said = read(operation, answer.content, stream=recording.stream)
    said.agrees_with(recording.facts, bridged=True)
    assert said.ended
    if recording.facts.usage is not None:
        told = dict(recording.facts.usage)
        # Nobody but Anthropic tells one life in the cache from another.
        told["cache_write_token"] = told.pop("cache_write_1h_token", 0) + told.get("cache_write_token", 0)
        if operation == "generateContent":  # which has no word for what was written to a cache
            told["input_token"] += told.pop("cache_write_token", 0)
        assert told_usage(operation, said.usage) == {unit: count for unit, count in told.items() if count}


@pytest.mark.parametrize(
    ("route", "recording"),
    [each for each in ANSWERS if each[0].bridge is None and each[1].facts.text and each[0].caller.name in TYPES],
    ids=answer_id,
)
def test_the_facts_are_those_of_the_recordings(route: Route, recording: Recording) -> None:
    said = read(route.caller.name, recording.data, stream=recording.stream)

    said.agrees_with(recording.facts, bridged=False)


@pytest.mark.parametrize(
    ("route", "recording"),
    [
        (route, recording)
        for route, recording in ANSWERS
        if recording.name.endswith("text.sse") and "usage" in ask(route, recording).body.decode("latin-1")
    ],
    ids=answer_id,
)
def test_a_stream_without_the_wish_for_usage_shows_none_of_its_own(
    route: Route, recording: Recording, farebox: RunningFarebox, upstream: ScriptedUpstream, lead: Lead
) -> None:
    """The vendor is asked for it all the same, and it is billed."""
    lead(channel(route.vendor, upstream.url, route.model(recording)))
    upstream.script = played(recording)
    key = farebox.new_key(credit="5")
    answer = send(farebox, key, "openai", ask(route, recording, include_usage=False))
    alone = [frame for frame in answer.text.split("\n\n") if '"choices":[]' in frame and '"usage":{' in frame]

    assert alone == []
    assert '"usage":null' not in answer.text
    assert usage_on(receipt_of(farebox, key)) == recording.facts.usage
    read(route.caller.name, answer.content, stream=True).agrees_with(recording.facts, bridged=route.bridge is not None)
    if route.door.dialect == "openai":
        assert upstream.requests[0].json["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(("route", "recording"), [each for each in ANSWERS if each[1].tools], ids=answer_id)
def test_the_vendor_is_shown_the_callers_tools(
    route: Route, recording: Recording, farebox: RunningFarebox, upstream: ScriptedUpstream, lead: Lead
) -> None:
    lead(channel(route.vendor, upstream.url, route.model(recording)))
    upstream.script = played(recording)
    send(farebox, farebox.new_key(credit="5"), route.caller.dialect, ask(route, recording))
    body = upstream.requests[0].body

    assert b'"lamp_state"' in body
    assert b'"Whether it is lit."' in body or route.wire.name == "responses"
    assert SAID.encode() in body
    assert b"Be brief." in body


COUNTED = {"messages.count_tokens": ("anthropic", "messages"), "countTokens": ("google", "generateContent")}


@pytest.mark.parametrize("operation", COUNTED)
def test_a_count_of_tokens_is_the_vendors_own(
    operation: str, farebox: RunningFarebox, upstream: ScriptedUpstream, lead: Lead
) -> None:
    vendor, whole = COUNTED[operation]
    recording = next(each for each in contract(vendor).recordings if each.operation == operation)
    route = next(
        route for route, _ in ANSWERS if (route.vendor, route.caller.name) == (vendor, whole) and not route.bridge
    )
    model = contract(vendor).models["chat"]
    lead(channel(vendor, upstream.url, model))
    upstream.script = played(recording)
    asked = ask(route, route.recording("text.json"))
    path = asked.path.replace("generateContent", "countTokens") if vendor == "google" else f"{asked.path}/count_tokens"
    key = farebox.new_key(credit="5")
    answer = send(farebox, key, route.caller.dialect, Asked(path, asked.content_type, asked.body))

    assert (answer.status_code, answer.content) == (200, recording.data)
    assert recording.facts.count in answer.json().values()
    assert upstream.requests[0].path == "/v1" + contract(vendor).paths[operation].replace("MODEL", upstream_name(model))
    assert farebox.receipts(key.account) == []


def test_forms_reach_the_vendor_byte_for_byte_but_for_the_model(
    farebox: RunningFarebox, upstream: ScriptedUpstream, lead: Lead
) -> None:
    for route, recording in ANSWERS:
        if route.caller.name in FORMS and recording.suffix == "json":
            model = route.model(recording)
            lead(channel(route.vendor, upstream.url, model))
            upstream.reset()
            upstream.script = played(recording)
            asked = ask(route, recording)
            send(farebox, farebox.new_key(credit="5"), "openai", asked)

            (request,) = upstream.requests
            assert request.headers["content-type"].replace('"', "") == asked.content_type
            assert request.body == asked.body.replace(model.encode(), upstream_name(model).encode())
