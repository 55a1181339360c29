"""Quotas, repeats and wallets that are short, at the doors of Anthropic's and Gemini's callers, and of responses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from farebox.domain.money import format_ca
from farebox.relay.channels import Channel
from farebox.vendors import VENDORS, Vendor
from tests.fakes.caller import INPUT_NANO, OUTPUT_NANO, ask
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import Request, ScriptedUpstream, Step, chat_completion, json_answer

MODEL = "gpt-4o-mini"
MESSAGES = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
CONTENTS: dict[str, Any] = {"contents": [{"parts": [{"text": "hi"}]}]}
GEMINI = f"/v1beta/models/{MODEL}:generateContent"
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]}],
}


def asked(farebox: RunningFarebox, key: Funded, path: str, body: Any, **headers: str) -> Any:
    return ask(farebox, key, body, path, **headers)


# ── The day's units ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_door_counts_on_the_same_day(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    """One key, one day, one count: whatever door a free caller takes."""
    key = farebox.new_key("free")
    doors = [
        ("/v1/chat/completions", {**MESSAGES, "max_tokens": 50}),
        ("/v1/messages", {**MESSAGES, "max_tokens": 50}),
        (GEMINI, CONTENTS),
    ]
    left = []
    for path, body in doors:
        upstream.script = json_answer(chat_completion())
        answer = asked(farebox, key, path, body)
        assert answer.status_code == 200
        left.append(int(answer.headers["x-ratelimit-remaining-requests"]))
    upstream.script = json_answer({"id": "modr-1", "model": "m", "results": [{"flagged": False}]})
    moderation = asked(farebox, key, "/v1/moderations", {"model": "omni-moderation-latest", "input": "hi"})
    left.append(int(moderation.headers["x-ratelimit-remaining-requests"]))

    assert left == [199, 198, 197, 196]
    assert {receipt["cost_nano"] for receipt in farebox.receipts(key.account)} == {0}


@pytest.mark.parametrize("path", ["/v1/messages", GEMINI])
def test_what_failed_gives_its_unit_back_at_every_door(
    farebox: RunningFarebox, upstream: ScriptedUpstream, path: str
) -> None:
    key = farebox.new_key("free")
    body = CONTENTS if path == GEMINI else {**MESSAGES, "max_tokens": 50}
    upstream.script = json_answer({"error": {"message": "down"}}, 500)
    assert asked(farebox, key, path, body).status_code >= 500
    farebox.account(key.account)
    upstream.script = json_answer(chat_completion())

    assert asked(farebox, key, path, body).headers["x-ratelimit-remaining-requests"] == "199"


# ── Repeats ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "body", "other"),
    [
        ("/v1/messages", {**MESSAGES, "max_tokens": 50}, "/v1/chat/completions"),
        (GEMINI, CONTENTS, "/v1beta/models/gpt-4o:generateContent"),
        (GEMINI, CONTENTS, f"/v1beta/models/{MODEL}:streamGenerateContent"),
        (GEMINI, CONTENTS, f"/v1beta/models/{MODEL}:streamGenerateContent?alt=sse"),
    ],
)
def test_a_repeat_runs_once_and_is_known_by_its_path_too(
    farebox: RunningFarebox, upstream: ScriptedUpstream, path: str, body: Any, other: str
) -> None:
    key = farebox.new_key()
    once = {"idempotency-key": "k"}
    first = asked(farebox, key, path, body, **once)
    again = asked(farebox, key, path, body, **once)
    elsewhere = asked(farebox, key, other, body, **once)

    assert (first.status_code, again.status_code, elsewhere.status_code) == (200, 422, 422)
    assert ("already_completed" in again.text, "already_completed" in elsewhere.text) == (True, False)
    assert (len(upstream.requests), len(farebox.receipts(key.account))) == (1, 1)


# ── A wallet that covers a part ─────────────────────────────────────────────────────────────────────────────────────

LOWERED: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "messages": ("/v1/messages", {**MESSAGES, "max_tokens": 16000}, ("max_tokens",)),
    "responses": ("/v1/responses", {"model": MODEL, "input": "hi"}, ("max_output_tokens",)),
    "responses with a limit": (
        "/v1/responses",
        {"model": MODEL, "input": "hi", "max_output_tokens": 9000},
        ("max_output_tokens",),
    ),
    "contents": (GEMINI, CONTENTS, ("max_tokens",)),
    "contents with a limit": (GEMINI, {**CONTENTS, "generationConfig": {"maxOutputTokens": 9000}}, ("max_tokens",)),
    "contents in snake case": (
        GEMINI,
        {**CONTENTS, "generation_config": {"max_output_tokens": 9000, "temperature": 0.5}},
        ("max_tokens",),
    ),
    "contents with another setting": (GEMINI, {**CONTENTS, "generation_config": {"temperature": 0.5}}, ("max_tokens",)),
    "contents with no setting": (GEMINI, {**CONTENTS, "generationConfig": None}, ("max_tokens",)),
}


@pytest.mark.parametrize("case", LOWERED)
def test_the_limit_is_lowered_at_every_door_and_the_vendor_is_told(
    farebox: RunningFarebox, upstream: ScriptedUpstream, case: str
) -> None:
    """The vendor gives all that it may, and what that costs is what the wallet has, to less than a token."""
    path, body, members = LOWERED[case]
    told: list[int] = []

    def generous(request: Request) -> list[Step]:
        (limit,) = {request.json[name] for name in members}
        told.append(limit)
        # The most of the input that a hold allows is unknown here, so the least is taken.
        document = chat_completion(prompt=1, completion=limit)
        if path == "/v1/responses":
            document = {**RESPONSE, "usage": {"input_tokens": 1, "output_tokens": limit, "total_tokens": 1 + limit}}
        return json_answer(document)

    upstream.on_request = generous
    balance = 100 * INPUT_NANO + 40 * OUTPUT_NANO
    key = farebox.new_key(credit=format_ca(balance))
    answer = asked(farebox, key, path, body)
    (receipt,) = farebox.receipts(key.account)

    assert answer.status_code == 200
    assert answer.headers["x-farebox-max-tokens"] == str(told[0])
    assert receipt["hold_nano"] <= balance < receipt["hold_nano"] + OUTPUT_NANO
    assert (receipt["cost_nano"], receipt["overrun_nano"]) == (INPUT_NANO + told[0] * OUTPUT_NANO, 0)


def test_a_limit_of_gemini_s_own_is_lowered_where_it_stands(
    vendors: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    model = vendors.services.catalog.models["gemini-2.0-flash"]
    rates = model.prices[-1].rates
    balance = 100 * rates["input_token"] + 30 * rates["output_token"]
    upstream.script = json_answer(
        {
            "candidates": [{"content": {"parts": [{"text": "hello"}]}, "finishReason": "STOP", "index": 0}],
            "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3},
        }
    )
    for config, spelling in (
        ({"generation_config": {"max_output_tokens": 5000}}, ("generation_config", "max_output_tokens")),
        ({"generationConfig": {"max_output_tokens": 5000}}, ("generationConfig", "max_output_tokens")),
        ({"generationConfig": {"maxOutputTokens": 5000, "topK": 3}}, ("generationConfig", "maxOutputTokens")),
        ({}, ("generationConfig", "maxOutputTokens")),
    ):
        upstream.requests.clear()
        key = vendors.new_key(credit=format_ca(balance))
        answer = asked(vendors, key, "/v1beta/models/gemini-2.0-flash:generateContent", {**CONTENTS, **config})
        limit = int(answer.headers["x-farebox-max-tokens"])
        outer, inner = spelling

        assert answer.status_code == 200
        sent = upstream.requests[0].json
        assert sent[outer][inner] == limit
        assert set(sent) == {"contents", outer}


def test_deepseek_is_told_the_limit_by_the_only_name_it_knows(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    """Else a caller could hold for one token and be answered with thousands."""
    channels = farebox.services.channels
    was, channels.all = channels.all, (_at(VENDORS["deepseek"], upstream),)
    try:
        key = farebox.new_key()
        for limits, wanted in (
            ({"max_completion_tokens": 20}, 20),
            ({"max_tokens": 30}, 30),
            ({"max_completion_tokens": 40, "max_tokens": 10}, 10),
        ):
            upstream.requests.clear()
            body = {"model": "deepseek-reasoner", "messages": MESSAGES["messages"], **limits}
            assert asked(farebox, key, "/v1/chat/completions", body).status_code == 200
            assert json.loads(upstream.requests[0].body)["max_tokens"] == wanted
    finally:
        channels.all = was


def _at(vendor: Vendor, upstream: ScriptedUpstream) -> Channel:
    return Channel(name="ds", vendor=vendor, base_url=upstream.url, keys=("sk-up",))
