"""Sounds, images and responses that end otherwise than by their proper end; answers that are empty on purpose."""

from __future__ import annotations

import gzip
import json
import threading
import time
from typing import Any

import httpx
import pytest

from tests.fakes.caller import RawCaller
from tests.fakes.openai_vendor import BOUNDARY, answer, form, recorded, response, response_events, stream, wav
from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import ScriptedUpstream, Send, Sleep, Step, WaitFor, head, json_answer, sse_head

SPEECH = {"model": "tts-1", "voice": "alloy", "input": "The lamp is lit now."}
IMAGE = {"model": "gpt-image-1", "prompt": "A lamp", "stream": True, "partial_images": 1}
RESPONSE = {"model": "gpt-4o-mini", "input": "hi", "stream": True}


def settled(farebox: RunningFarebox, key: Funded) -> dict[str, Any]:
    """The account's one receipt, once it is there, which its wallet agrees with."""
    end = time.monotonic() + 10
    while not farebox.receipts(key.account) and time.monotonic() < end:
        time.sleep(0.02)
    account = farebox.account(key.account)
    (receipt,) = farebox.receipts(key.account)
    assert (account.spent_nano, account.held_nano, dict(account.holds)) == (receipt["cost_nano"], 0, {})
    return receipt


def ask(farebox: RunningFarebox, key: Funded, path: str, body: dict[str, Any]) -> httpx.Response:
    return http.post(f"{farebox.base_url}{path}", json=body, headers={"authorization": key.text})


def transcribe(farebox: RunningFarebox, key: Funded, wish: str) -> httpx.Response:
    kind, body = form({"model": "whisper-1", "response_format": wish}, {"file": ("a.wav", wav(1000), "audio/wav")})
    headers = {"authorization": key.text, "content-type": kind}
    return http.post(f"{farebox.base_url}/audio/transcriptions", content=body, headers=headers)


# ── callers who leave, owners who stop ──────────────────────────────────────────────────────────────────────────────


def cut_in_two(path: str) -> tuple[dict[str, Any], list[Step], list[Step], bytes]:
    """A request; what comes before its caller leaves and what after it; what the caller waits for."""
    if path == "/audio/speech":
        sound = recorded("audio.speech.sound.mp3")
        pieces: list[Step] = [Send(sound[:500]), Sleep(0.05), Send(sound[500:600])]
        return SPEECH, [Send(head(content_type="audio/mpeg")), *pieces], [Send(sound[600:])], sound[:500]
    if path == "/images/generations":
        first, last = recorded("images.generations.picture.sse").strip().split(b"\n\n")
        return IMAGE, [Send(sse_head()), Send(first + b"\n\n")], [Send(last + b"\n\n")], b"partial_image"
    events = response_events(response())
    return (
        RESPONSE,
        [Send(sse_head()), *(Send(each) for each in events[:6])],
        [Send(each) for each in events[6:]],
        b"output_text.delta",
    )


PATHS = ("/audio/speech", "/images/generations", "/responses")


@pytest.mark.parametrize("path", PATHS)
def test_who_leaves_pays_for_the_whole_which_is_heard_out(
    path: str, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    body, before, after, seen = cut_in_two(path)
    gate, key = threading.Event(), farebox.new_key(credit="10")
    upstream.script = [*before, WaitFor(gate), *after]
    with RawCaller(farebox) as caller:
        caller.post(key, body, f"/v1{path}")
        caller.read_until(seen)
        caller.reset()
    time.sleep(0.05)
    gate.set()
    receipt = settled(farebox, key)

    assert receipt["outcome"] == "client_gone"
    assert (upstream.sent_all, upstream.writes_failed) == (1, 0)
    assert {figure["source"] for figure in receipt["usage"].values()} == {
        "counted" if path == "/audio/speech" else "upstream"
    }


@pytest.mark.parametrize("path", PATHS[1:])
def test_an_owner_stops_a_stream(path: str, farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    body, before, after, seen = cut_in_two(path)
    gate, key = threading.Event(), farebox.new_key(credit="10")
    upstream.script = [*before, WaitFor(gate), *after]
    with RawCaller(farebox) as caller:
        caller.post(key, body, f"/v1{path}")
        came = caller.read_until(seen).decode()
        name = came.partition("x-request-id: ")[2].partition("\r\n")[0]
        stopped = http.post(f"{farebox.base_url}/requests/{name}/cancel", headers={"authorization": key.text})
        said = caller.read_until(b'"code":"cancelled"')
    gate.set()

    assert (stopped.status_code, b"completed" in said) == (200, False)
    assert settled(farebox, key)["outcome"] == "cancelled"


def test_an_upload_that_breaks_off_is_nothing(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    kind, body = form({"model": "whisper-1"}, {"file": ("a.wav", wav(5000), "audio/wav")})
    key = farebox.new_key(credit="10")
    for sent in (10, len(body) // 2, len(body) - 1):
        with RawCaller(farebox) as caller:
            lines = ["POST /v1/audio/transcriptions HTTP/1.1", "host: farebox", f"content-length: {len(body)}"]
            lines += [f"content-type: {kind}", f"authorization: {key.text}"]
            caller.send("\r\n".join([*lines, "", ""]).encode() + body[:sent])
            time.sleep(0.05)
    time.sleep(0.1)

    assert BOUNDARY in kind
    assert (upstream.requests, farebox.account(key.account).held_nano, farebox.receipts(key.account)) == ([], 0, [])


def test_a_response_is_cut_to_what_the_wallet_covers(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = json_answer(response())
    key = farebox.new_key(credit="0.01")
    told = ask(farebox, key, "/responses", {"model": "gpt-4o-mini", "input": "hi"})
    limit = int(told.headers["x-farebox-max-tokens"])
    sent = upstream.requests[0].json

    assert sent == {"model": "gpt-4o-mini", "input": "hi", "max_output_tokens": limit, "store": False}
    assert 16 <= limit < 10_000_000 // 4200
    assert settled(farebox, key)["hold_nano"] <= 10_000_000


# ── empty on purpose, and unreadable ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wish", "body", "kind"),
    [
        ("srt", b"", "text/plain; charset=utf-8"),
        ("text", b"\n", "text/plain; charset=utf-8"),
        ("vtt", b"WEBVTT\n\n", "text/vtt"),
        ("json", b'{"text":""}', "application/json"),
    ],
)
def test_silence_is_a_transcript_at_its_price(
    wish: str, body: bytes, kind: str, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    upstream.script = answer(body, kind)
    key = farebox.new_key(credit="1")
    told = transcribe(farebox, key, wish)
    receipt = settled(farebox, key)

    assert (told.status_code, told.content, told.headers["content-type"]) == (200, body, kind)
    assert (receipt["outcome"], receipt["cost_nano"]) == ("completed", 1000 * 700)


@pytest.mark.parametrize("wish", ["srt", "json"])
def test_nothing_at_all_is_no_transcript(wish: str, farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    kind = "application/json" if wish == "json" else "text/plain"
    upstream.script = answer(b"", kind) if wish == "json" else [Send(head(content_type=kind))]
    key = farebox.new_key(credit="1")

    assert transcribe(farebox, key, wish).status_code == 502
    assert settled(farebox, key)["outcome"] == "failed"


@pytest.mark.parametrize("path", ["/audio/speech", "/images/generations", "/responses", "/audio/transcriptions"])
def test_an_answer_in_a_coding_that_nobody_asked_for_is_none(
    path: str, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    plain = {"/audio/speech": recorded("audio.speech.sound.mp3"), "/audio/transcriptions": b"The lamp is lit."}
    kinds = {"/audio/speech": "audio/mpeg", "/audio/transcriptions": "text/plain"}
    data = plain.get(path, json.dumps(response()).encode())
    upstream.script = answer(gzip.compress(data), kinds.get(path, "application/json"), content_encoding="gzip")
    key = farebox.new_key(credit="10")
    bodies: dict[str, dict[str, Any]] = {
        "/audio/speech": SPEECH,
        "/images/generations": {"model": "gpt-image-1", "prompt": "a"},
        "/responses": {"model": "gpt-4o-mini", "input": "hi"},
    }
    told = ask(farebox, key, path, bodies[path]) if path in bodies else transcribe(farebox, key, "text")

    assert upstream.requests[0].headers["accept-encoding"] == "identity"
    assert (told.status_code, told.json()["error"]["code"]) == (502, "upstream_error")
    assert settled(farebox, key)["cost_nano"] == 0


def test_an_image_without_the_vendors_figures_is_charged_by_the_published_table(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer({"created": 1, "data": [{"b64_json": "iVBORw0KGgo="}]})
    key = farebox.new_key(credit="10")
    ask(farebox, key, "/images/generations", {**IMAGE, "stream": False, "quality": "low", "size": "1024x1024"})
    usage = settled(farebox, key)["usage"]

    assert usage["image_output_token"] == {"count": 272, "source": "estimated"}
    assert usage["input_token"]["source"] == "counted"


def test_a_stream_of_images_that_ends_early_costs_what_was_made(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    first = recorded("images.generations.picture.sse").strip().split(b"\n\n")[0] + b"\n\n"
    upstream.script = stream([first])
    key = farebox.new_key(credit="10")
    told = ask(farebox, key, "/images/generations", IMAGE)
    receipt = settled(farebox, key)

    assert told.content.startswith(first)
    assert (receipt["outcome"], receipt["usage"]["image_output_token"]["source"]) == ("upstream_cut", "estimated")
    assert 0 < receipt["cost_nano"] <= receipt["hold_nano"]
