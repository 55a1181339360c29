"""The signed receipt of one's own request: anybody can check it, nobody else can see it."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from farebox.domain.receipts import arithmetic_errors, canonical
from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import ScriptedUpstream, Send, chat_stream, head, json_answer, sse_answer

SECRET_PROMPT, SECRET_ANSWER = "pomegranate-prompt-7431", "quince-answer-9924"
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": SECRET_PROMPT}], "max_tokens": 50}


def bearer(key: Funded) -> dict[str, str]:
    return {"authorization": f"Bearer {key.text}"}


def ask(farebox: RunningFarebox, key: Funded, **more: Any) -> httpx.Response:
    return http.post(f"{farebox.base_url}/chat/completions", json={**CHAT, **more}, headers=bearer(key))


def receipt_of(farebox: RunningFarebox, key: Funded, answer: httpx.Response) -> httpx.Response:
    return http.get(f"{farebox.base_url}/receipts/{answer.headers['x-request-id']}", headers=bearer(key))


def verify(farebox: RunningFarebox, document: dict[str, Any]) -> None:
    """Raises InvalidSignature. Only what the service publishes is used, and no code of ours for the bytes."""
    published = http.get(f"{farebox.base_url}/receipts/key").json()
    (key,) = [each for each in published["keys"] if each["id"] == document["signature"]["key_id"]]
    signed = json.dumps(document["receipt"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key["public_key"]))
    public.verify(base64.b64decode(document["signature"]["value"]), signed)


@pytest.mark.parametrize("stream", [False, True])
def test_the_receipt_of_ones_own_request_verifies_and_adds_up(
    farebox: RunningFarebox, upstream: ScriptedUpstream, stream: bool
) -> None:
    if stream:
        upstream.script = sse_answer(chat_stream("he", "llo", prompt=10, completion=5))
    key = farebox.new_key(credit="1")
    answer = ask(farebox, key, stream=stream)
    document = receipt_of(farebox, key, answer).json()
    receipt = document["receipt"]

    verify(farebox, document)
    assert arithmetic_errors(receipt) == []
    assert receipt["request_id"] == answer.headers["x-request-id"]
    assert (receipt["account"], receipt["key"], receipt["model"]) == (key.account, key.id, "gpt-4o-mini")
    assert (receipt["channel"], receipt["endpoint"], receipt["stream"]) == ("scripted", "chat.completions", stream)
    assert (receipt["cost_nano"], document["cost"]) == (31_500, "0.0000315")
    assert receipt["usage"] == {
        "input_token": {"count": 10, "source": "upstream"},
        "output_token": {"count": 5, "source": "upstream"},
    }


def test_a_receipt_that_was_changed_does_not_verify(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key(credit="1")
    document = receipt_of(farebox, key, ask(farebox, key)).json()
    for name, value in document["receipt"].items():
        changed = {**document["receipt"], name: value + 1 if type(value) is int else f"{value}x"}
        with pytest.raises(InvalidSignature):
            verify(farebox, {**document, "receipt": changed})


def test_what_is_answered_is_byte_for_byte_what_was_signed(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key(credit="1")
    answer = ask(farebox, key)
    document = receipt_of(farebox, key, answer).json()["receipt"]
    stored = farebox.run(farebox.services.accounts.receipt(key.account, answer.headers["x-request-id"]))

    assert canonical(document) == stored.document


def test_a_stream_without_usage_is_counted_and_the_receipt_says_so(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    events = [event for event in chat_stream("one", " two", " three") if b'"usage":{' not in event]
    upstream.script = sse_answer(events)
    key = farebox.new_key(credit="1")
    document = receipt_of(farebox, key, ask(farebox, key, stream=True)).json()

    verify(farebox, document)
    assert arithmetic_errors(document["receipt"]) == []
    assert {figure["source"] for figure in document["receipt"]["usage"].values()} == {"counted"}
    assert document["receipt"]["usage"]["output_token"]["count"] == 3


@pytest.mark.parametrize(("status", "outcome"), [(400, "refused"), (500, "failed")])
def test_a_request_that_failed_has_a_receipt_of_nothing(
    farebox: RunningFarebox, upstream: ScriptedUpstream, status: int, outcome: str
) -> None:
    upstream.script = json_answer({"error": {"message": "no", "param": "x"}}, status)
    key = farebox.new_key(credit="1")
    document = receipt_of(farebox, key, ask(farebox, key)).json()

    verify(farebox, document)
    assert (document["receipt"]["outcome"], document["cost"], document["receipt"]["usage"]) == (outcome, "0", {})
    assert arithmetic_errors(document["receipt"]) == []
    assert farebox.account(key.account).avail_nano == 10**9


def test_a_free_request_has_a_receipt_too(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key("free", "0")
    document = receipt_of(farebox, key, ask(farebox, key)).json()

    verify(farebox, document)
    assert (document["cost"], document["receipt"]["usage"]["output_token"]["count"]) == ("0", 5)


def test_every_request_has_one_receipt_whatever_came_of_it(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key(credit="1")
    answers = []
    for script in (None, json_answer({"error": {}}, 500), [Send(head() + b"not json")]):
        upstream.reset()
        upstream.script = script or upstream.script
        answers.append(ask(farebox, key))
    refused = ask(farebox, key, max_tokens=-1)

    assert [answer.status_code for answer in answers] == [200, 502, 502]
    assert [receipt["request_id"] for receipt in farebox.receipts(key.account)] == [
        answer.headers["x-request-id"] for answer in answers
    ]
    assert receipt_of(farebox, key, refused).status_code == 404


def test_another_accounts_key_finds_nothing(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key, other = farebox.new_key(credit="1"), farebox.new_key(credit="1")
    answer = ask(farebox, key)
    found, missing = (
        receipt_of(farebox, other, answer),
        http.get(f"{farebox.base_url}/receipts/req_00000000000000000000000000", headers=bearer(other)),
    )

    assert (found.status_code, found.json()["error"]["code"]) == (404, "not_found")
    assert found.content == missing.content  # whether it is there is nobody's business


def test_a_stranger_is_turned_away(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key(credit="1")
    path = f"{farebox.base_url}/receipts/{ask(farebox, key).headers['x-request-id']}"
    farebox.run(farebox.services.accounts.revoke(key.account, key.id[-6:]))

    for headers in ({}, {"authorization": "Bearer sk-nothing"}, bearer(key)):
        answer = http.get(path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_the_verifying_key_is_for_everybody(farebox: RunningFarebox) -> None:
    published = http.get(f"{farebox.base_url}/receipts/key").json()

    assert published["algorithm"] == "Ed25519"
    assert len(base64.b64decode(published["public_key"])) == 32
    assert published["keys"][0] == {"id": published["id"], "public_key": published["public_key"]}


def test_no_receipt_holds_any_text_of_prompt_or_answer(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = sse_answer(chat_stream(SECRET_ANSWER))
    key = farebox.new_key(credit="1")
    text = receipt_of(farebox, key, ask(farebox, key, stream=True, user="somebody-5512")).text

    assert not [word for word in (SECRET_PROMPT, SECRET_ANSWER, "somebody-5512", key.text) if word in text]


def test_a_path_that_is_no_receipt_is_not_found(farebox: RunningFarebox) -> None:
    key = farebox.new_key(credit="1")
    for odd in ("x", "crd_first_000000", "req_%00", "req_" + "9" * 2000):
        assert http.get(f"{farebox.base_url}/receipts/{odd}", headers=bearer(key)).status_code == 404
