"""POST /v1/estimate: what a request would hold, told without sending it and without holding anything."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fakes.addresses import addresses
from tests.fakes.openai_vendor import PNG, form, tones, wav
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


# ── the same as what is then held, whatever the body ────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Same:
    """A request, and how its estimate is asked for. `estimated`: the body there, where it is another one."""

    path: str
    body: dict[str, Any]
    endpoint: str = ""
    file: tuple[str, bytes] | None = None
    estimated: dict[str, Any] | None = None

    def sent(self, body: dict[str, Any]) -> tuple[str, bytes]:
        """(content type, bytes)"""
        if self.file is None:
            return "application/json", json.dumps(body).encode()
        name, data = self.file
        return form({each: str(value) for each, value in body.items()}, {name: ("灯.bin", data, "a/b")})


LINK = {"type": "image_url", "image_url": {"url": "https://images.example/a.png"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
SAID = [{"role": "user", "content": "灯亮着吗？" * 20}]
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hi " * 50}]}]}
CLAUDE = "claude-3-7-sonnet-20250219"
GEMINI = "gemini-2.5-pro-exp-03-25"
SEEN = {"contents": [{"parts": [{"text": "hi"}, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}]}]}
SAME: dict[str, Same] = {
    "chat": Same("chat/completions", CHAT),
    "chat without a limit": Same("chat/completions", {"model": "o4-mini", "messages": SAID}),
    "chat with choices": Same("chat/completions", {"model": "gpt-4o", "messages": SAID, "n": 3, "max_tokens": 9}),
    "chat with tools": Same("chat/completions", {"model": "gpt-4.1", "messages": SAID, "tools": [TOOL]}),
    "chat with a link to an image": Same(
        "chat/completions", {"model": "gpt-4o", "messages": [{"role": "user", "content": [LINK]}], "max_tokens": 9}
    ),
    "chat with an image at a price of its own": Same(
        "chat/completions",
        {"model": "gpt-4o-ca", "messages": [{"role": "user", "content": [LINK]}], "max_tokens": 9, "stream": True},
    ),
    "a stream": Same("chat/completions", {**CHAT, "stream": True}),
    "completions": Same("completions", {"model": "gpt-3.5-turbo-instruct", "prompt": ["a", "b"], "best_of": 2}),
    "responses": Same("responses", {"model": "gpt-4o", "input": "hi", "instructions": "Be brief.", "stream": True}),
    "embeddings": Same("embeddings", {"model": "text-embedding-3-large", "input": ["a", "b" * 100]}),
    "images": Same("images/generations", {"model": "dall-e-3", "prompt": "a", "quality": "hd", "size": "1024x1792"}),
    "images by tokens": Same(
        "images/generations",
        {"model": "gpt-image-1", "prompt": "a", "n": 2, "stream": True, "partial_images": 2},
    ),
    "edits": Same("images/edits", {"model": "gpt-image-1", "prompt": "a"}, file=("image", PNG)),
    "edits in JSON": Same(
        "images/edits", {"model": "gpt-image-1", "prompt": "a", "images": [{"image_url": "https://a"}]}
    ),
    "variations": Same("images/variations", {"model": "dall-e-2", "n": 4}, file=("image", PNG)),
    "speech": Same("audio/speech", {"model": "tts-1-hd", "input": "hi" * 99, "voice": "alloy"}),
    "speech by the minute": Same(
        "audio/speech",
        {"model": "gpt-4o-mini-tts", "input": "hi there", "instructions": "calm", "voice": "a", "speed": 0.5},
    ),
    "moderations": Same("moderations", {"model": "omni-moderation-latest", "input": ["a", "b"]}),
    "transcriptions": Same("audio/transcriptions", {"model": "whisper-1", "prompt": "a"}, file=("file", wav(12_345))),
    "transcriptions, streamed": Same(
        "audio/transcriptions", {"model": "gpt-4o-transcribe", "stream": "true"}, file=("file", tones()["opus.ogg"])
    ),
    "translations": Same("audio/translations", {"model": "whisper-1"}, "audio.translations", ("file", wav(1))),
    "messages": Same(
        "messages", {"model": "claude-3-7-sonnet-20250219", "max_tokens": 99, "messages": SAID}, "messages"
    ),
    "generateContent": Same(
        f"models/{GEMINI}:generateContent", CONTENTS, "generateContent", estimated={"model": GEMINI, **CONTENTS}
    ),
    "streamGenerateContent with an image": Same(
        "models/gpt-4o-ca:streamGenerateContent?alt=sse",
        SEEN,
        "streamGenerateContent",
        estimated={"model": "models/gpt-4o-ca", **SEEN},
    ),
    "embedContent": Same(
        "models/text-embedding-3-small:embedContent",
        {"content": {"parts": [{"text": "hi"}]}},
        estimated={"model": "text-embedding-3-small", "content": {"parts": [{"text": "hi"}]}},
    ),
    "batchEmbedContents": Same(
        "models/text-embedding-3-small:batchEmbedContents",
        {"requests": [{"model": "models/text-embedding-3-small", "content": {"parts": [{"text": "hi"}]}}] * 3},
        "batchEmbedContents",
        estimated={
            "model": "text-embedding-3-small",
            "requests": [{"model": "models/text-embedding-3-small", "content": {"parts": [{"text": "hi"}]}}] * 3,
        },
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_the_estimate_of_any_body_is_the_hold_that_it_then_takes(
    name: str, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    same, key = SAME[name], farebox.new_key(credit="1000")
    header = {"x-api-key": key.text} if same.path == "messages" else {"authorization": key.text}
    kind, body = same.sent(same.estimated or same.body)
    answer = http.post(
        f"{farebox.base_url}/estimate",
        params={"endpoint": same.endpoint} if same.endpoint else {},
        content=body,
        headers={**header, "content-type": kind},
    )
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (upstream.requests, farebox.account(key.account).held_nano, farebox.receipts(key.account)) == ([], 0, [])
    kind, body = same.sent(same.body)
    base = f"{farebox.url}/v1beta" if same.path.startswith("models/") else farebox.base_url
    http.post(f"{base}/{same.path}", content=body, headers={**header, "content-type": kind})
    (receipt,) = farebox.receipts(key.account)

    assert len(upstream.requests) >= 1
    assert (told["max_cost_nano"], told["endpoint"]) == (receipt["hold_nano"], receipt["endpoint"])
    assert (told["model"], told["can_pay"]) == (receipt["model"], True)
    assert told["price_version"] == receipt["price_version"]


# ── who can pay ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_wallet_covers_the_hold_to_the_nano(farebox: RunningFarebox) -> None:
    hold_nano = estimate(farebox, farebox.new_key(credit="1"), CHAT)["max_cost_nano"]
    exact, short = (f"0.{hold_nano - less:09}" for less in (0, 1))

    assert estimate(farebox, farebox.new_key(credit=exact), CHAT)["can_pay"] is True
    assert estimate(farebox, farebox.new_key(credit=short), CHAT)["can_pay"] is False


def test_a_free_keys_last_request_of_the_day(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key(kind="free", credit="0")
    headers = {"authorization": key.text, "x-forwarded-for": next(addresses)}
    body = {**CHAT, "model": "gpt-4o"}
    seen = []
    for number in range(6):
        for _ in range(2):  # looking takes nothing
            told = http.post(f"{farebox.base_url}/estimate", json=body, headers=headers).json()
        seen.append((told["requests_left"], told["can_pay"]))
        status = http.post(f"{farebox.base_url}/chat/completions", json=body, headers=headers).status_code
        assert status == (200 if number < 5 else 429)

    assert seen == [(5, True), (4, True), (3, True), (2, True), (1, True), (0, False)]


# ── what the relay would refuse is refused here ─────────────────────────────────────────────────────────────────────

REFUSED: dict[str, tuple[int, str, dict[str, Any]]] = {
    "no such model": (404, "model_not_found", {"body": {**CHAT, "model": "gpt-9"}}),
    "a model of another kind": (404, "model_not_found", {"body": {**CHAT, "model": "whisper-1"}}),
    "no model": (400, "invalid_request", {"body": {"messages": []}}),
    "nothing in it": (400, "invalid_request", {"body": {}}),
    "no price": (400, "invalid_request", {"body": {**CHAT, "web_search_options": {}}}),
    "a paid model": (403, "model_not_allowed", {"body": {**CHAT, "model": "o3"}, "kind": "free"}),
    "a long prompt": (
        403,
        "prompt_too_long",
        {"body": {**CHAT, "messages": [{"role": "user", "content": "hi " * 5000}]}, "kind": "free"},
    ),
    "a model that the key may not use": (403, "model_not_allowed", {"body": CHAT, "models": ("gpt-4o",)}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_the_relays_own_error(
    case: str, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    status, code, given = REFUSED[case]
    key = farebox.new_key(kind=given.get("kind", "paid"), credit="1", models=given.get("models", ()))
    answer = http.post(f"{farebox.base_url}/estimate", json=given["body"], headers={"authorization": key.text})
    relayed = http.post(f"{farebox.base_url}/chat/completions", json=given["body"], headers={"authorization": key.text})

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert (relayed.status_code, relayed.json()) == (answer.status_code, answer.json())
    assert upstream.requests == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"model":"gpt-4o","model":"o3","messages":[]}', b"\xff"])
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "multipart/form-data; boundary=x", "x"])
def test_what_is_no_body_is_refused(body: bytes, kind: str, farebox: RunningFarebox) -> None:
    headers = {"authorization": farebox.new_key().text, "content-type": kind}
    for query in ("", "?endpoint=audio.transcriptions", "?endpoint=generateContent", "?endpoint=&endpoint=messages"):
        answer = http.post(f"{farebox.base_url}/estimate{query}", content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_sound_is_measured_here_too(farebox: RunningFarebox) -> None:
    kind, body = form({"model": "whisper-1"}, {"file": ("a.mp3", b"no sound at all", "audio/mpeg")})
    headers = {"authorization": farebox.new_key().text, "content-type": kind}
    answer = http.post(f"{farebox.base_url}/estimate", content=body, headers=headers)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer sk-nobody"}, {"x-api-key": "x"}])
def test_nobody_is_told_anything(headers: dict[str, str], farebox: RunningFarebox) -> None:
    answer = http.post(f"{farebox.base_url}/estimate", json=CHAT, headers=headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
