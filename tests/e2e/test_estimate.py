"""POST /v1/estimate: what a request would hold, told without sending it and without holding anything."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import ScriptedUpstream, chat_completion, json_answer

CHAT = {"model": "gpt-4o-mini", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
MEMBERS = {
    *("model", "endpoint", "input_tokens", "at_most", "price_version"),
    *("max_cost", "max_cost_nano", "available", "requests_left", "can_pay"),
}
KEY_HEADERS = {
    "as a bearer": lambda key: {"authorization": f"Bearer {key}"},
    "bare": lambda key: {"authorization": key},
    "as Anthropic's clients send it": lambda key: {"x-api-key": key},
    "as Gemini's clients send it": lambda key: {"x-goog-api-key": key},
}
BODIES: dict[str, dict[str, Any]] = {
    "chat.completions": CHAT,
    "completions": {"model": "gpt-3.5-turbo-instruct", "prompt": "hi"},
    "responses": {"model": "gpt-4o-mini", "input": "hi"},
    "embeddings": {"model": "text-embedding-3-small", "input": "hi"},
    "moderations": {"model": "omni-moderation-latest", "input": "hi"},
    "images.generations": {"model": "dall-e-3", "prompt": "a lamp"},
    "audio.speech": {"model": "tts-1", "input": "hi", "voice": "alloy"},
    "generateContent": {"model": "models/gpt-4o-mini", "contents": [{"parts": [{"text": "hi"}]}]},
    "embedContent": {"model": "models/text-embedding-3-small", "content": {"parts": [{"text": "hi"}]}},
}


def estimate(farebox: RunningFarebox, key: Funded, body: dict[str, Any], endpoint: str = "") -> dict[str, Any]:
    answer = http.post(
        f"{farebox.base_url}/estimate",
        params={"endpoint": endpoint} if endpoint else {},
        json=body,
        headers={"authorization": f"Bearer {key.text}"},
    )
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def test_an_estimate_is_what_the_request_then_holds_and_nothing_is_sent_or_held(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    key = farebox.new_key(credit="1")
    told = estimate(farebox, key, CHAT)

    assert set(told) == MEMBERS
    assert (told["can_pay"], told["requests_left"]) == (True, None)
    assert (upstream.requests, farebox.account(key.account).held_nano, farebox.receipts(key.account)) == ([], 0, [])

    upstream.script = json_answer(chat_completion())
    http.post(f"{farebox.base_url}/chat/completions", json=CHAT, headers={"authorization": key.text})
    (receipt,) = farebox.receipts(key.account)
    assert receipt["hold_nano"] == told["max_cost_nano"]


def test_a_wallet_that_is_too_small_is_told_so(farebox: RunningFarebox) -> None:
    told = estimate(farebox, farebox.new_key(credit="0.000001"), CHAT)
    assert (told["can_pay"], told["available"]) == (False, "0.000001")


def test_a_free_key_is_told_how_many_requests_are_left(farebox: RunningFarebox) -> None:
    told = estimate(farebox, farebox.new_key(kind="free"), {**CHAT, "model": "gpt-4o"})
    assert (told["requests_left"], told["max_cost_nano"], told["can_pay"]) == (5, 0, True)


@pytest.mark.parametrize("headers", KEY_HEADERS.values(), ids=KEY_HEADERS)
def test_the_key_may_stand_wherever_any_client_puts_it(headers: Any, farebox: RunningFarebox) -> None:
    key = farebox.new_key(credit="1")
    answer = http.post(f"{farebox.base_url}/estimate", json=CHAT, headers=headers(key.text))
    assert (answer.status_code, answer.json().get("endpoint")) == (200, "chat.completions")


@pytest.mark.parametrize("operation", BODIES)
def test_the_operation_is_told_by_the_body_and_its_model(operation: str, farebox: RunningFarebox) -> None:
    assert estimate(farebox, farebox.new_key(credit="10"), BODIES[operation])["endpoint"] == operation


def test_an_operation_that_the_body_does_not_tell_is_named_in_the_query(farebox: RunningFarebox) -> None:
    assert estimate(farebox, farebox.new_key(credit="1"), CHAT, "messages")["endpoint"] == "messages"


def test_an_operation_that_there_is_not_is_refused(farebox: RunningFarebox) -> None:
    key = farebox.new_key(credit="1")
    answer = http.post(
        f"{farebox.base_url}/estimate?endpoint=telepathy", json=CHAT, headers={"authorization": key.text}
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "endpoint")
