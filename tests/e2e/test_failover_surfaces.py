"""Every surface of OpenAI's in front of two upstreams: what the first does wrong, the second mends; else it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from farebox.relay.call import Limits
from farebox.relay.channels import Channel
from farebox.settings import Settings
from farebox.vendors import VENDORS
from tests.fakes.openai_vendor import PNG, answer, form, recorded, response, stream, tones
from tests.fakes.process import http
from tests.fakes.service import ADMIN_TOKEN, Funded, RunningFarebox
from tests.fakes.upstream import Reset, ScriptedUpstream, Send, Sleep, Step, WaitForLeave, head, json_answer, sse_head

SECRET = "sk-upstream-secret at host-17.internal"
TONE = tones()["bare_vbr.mp3"]
JSON, PIECES = "application/json", 3


@dataclass(frozen=True)
class Surface:
    """A request, and a whole answer to it."""

    path: str
    content_type: str
    body: bytes
    answer: bytes
    answer_type: str = JSON

    @property
    def streams(self) -> bool:
        return self.answer_type.startswith("text/event-stream")

    @property
    def sounds(self) -> bool:
        return self.answer_type == "audio/mpeg"


def _json(path: str, answer_: str, kind: str = JSON, **members: Any) -> Surface:
    return Surface(path, JSON, json.dumps(members).encode(), recorded(answer_), kind)


def _form(path: str, answer_: str, kind: str = JSON, **fields: str) -> Surface:
    file = {"image": ("a.png", PNG, "image/png")} if "images" in path else {"file": ("a.mp3", TONE, "audio/mpeg")}
    return Surface(path, *form(fields, file), recorded(answer_), kind)


SSE = "text/event-stream; charset=utf-8"
PICTURE = {"model": "gpt-image-1", "prompt": "a lamp", "quality": "low"}
SPEECH = {"model": "tts-1", "input": "The lamp is lit now.", "voice": "alloy"}
SURFACES: dict[str, Surface] = {
    "responses": _json("/responses", "responses.text.json", model="gpt-4o", input="hi"),
    "responses, streamed": _json("/responses", "responses.text.sse", SSE, model="gpt-4o", input="hi", stream=True),
    "completions": _json("/completions", "completions.text.json", model="gpt-3.5-turbo-instruct", prompt="hi"),
    "embeddings": _json("/embeddings", "embeddings.vector.json", model="text-embedding-3-small", input="hi"),
    "moderations": _json("/moderations", "moderations.verdict.json", input="hi"),
    "images": _json("/images/generations", "images.generations.picture.json", **PICTURE),
    "images, streamed": _json("/images/generations", "images.generations.picture.sse", SSE, **PICTURE, stream=True),
    "edits": _form("/images/edits", "images.edits.picture.json", **PICTURE),
    "edits, streamed": _form("/images/edits", "images.edits.picture.sse", SSE, **PICTURE, stream="true"),
    "variations": _form("/images/variations", "images.variations.picture.json", model="dall-e-2"),
    "speech": _json("/audio/speech", "audio.speech.sound.mp3", "audio/mpeg", **SPEECH),
    "speech, streamed": _json("/audio/speech", "audio.speech.sound.sse", SSE, **SPEECH, stream_format="sse"),
    "transcriptions": _form("/audio/transcriptions", "audio.transcriptions.text.json", model="gpt-4o-transcribe"),
    "transcriptions, streamed": _form(
        "/audio/transcriptions", "audio.transcriptions.text.sse", SSE, model="gpt-4o-transcribe", stream="true"
    ),
    "transcriptions as text": _form(
        "/audio/transcriptions",
        "audio.transcriptions.plain.txt",
        "text/plain; charset=utf-8",
        model="whisper-1",
        response_format="text",
    ),
    "translations": _form("/audio/translations", "audio.translations.text.json", model="whisper-1"),
}
PLAIN = [name for name, surface in SURFACES.items() if not surface.streams and not surface.sounds]
STREAMS = [name for name, surface in SURFACES.items() if surface.streams]


@pytest.fixture(scope="module")
def first() -> Iterator[ScriptedUpstream]:
    upstream = ScriptedUpstream().start()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="module")
def _service(
    first: ScriptedUpstream, _upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningFarebox]:
    channels = tuple(
        Channel(name, VENDORS["openai"], url, (f"sk-{name}",), priority=priority, first_content_s=2)
        for name, url, priority in (("first", first.url, 1), ("second", _upstream.url, 0))
    )
    settings = Settings(admin_token=ADMIN_TOKEN, trusted_proxies=("127.0.0.1",))
    folder = tmp_path_factory.mktemp("surfaces")
    service = RunningFarebox(folder, _upstream.url, settings, limits=Limits(ping_s=60), channels=channels).start()
    yield service
    service.stop()


@pytest.fixture
def service(_service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream) -> RunningFarebox:
    """Two upstreams behind it, none of which rests."""
    first.reset()
    _service.services.channels._rests_until_ms.clear()
    return _service


def ask(service: RunningFarebox, key: Funded, surface: Surface) -> httpx.Response:
    headers = {"authorization": f"Bearer {key.text}", "content-type": surface.content_type}
    return http.post(service.base_url + surface.path, content=surface.body, headers=headers)


def whole(surface: Surface) -> list[Step]:
    return [Send(head(200, surface.answer_type) + surface.answer)]


def settled(service: RunningFarebox, key: Funded) -> dict[str, Any]:
    """The account's one receipt, which its wallet agrees with."""
    account = service.account(key.account)
    (receipt,) = service.receipts(key.account)
    assert (account.spent_nano, account.held_nano, dict(account.holds)) == (receipt["cost_nano"], 0, {})
    return receipt


def attempts(receipt: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["channel"], each["result"]) for each in receipt["attempts"]]


def failing(status: int) -> list[Step]:
    return json_answer({"error": {"message": SECRET, "type": "x", "param": None, "code": None}}, status)


def told_in_an_event(surface: Surface) -> list[Step]:
    said = {"type": "error", "error": {"message": SECRET, "code": "server_error"}, "code": "x", "message": SECRET}
    return stream(b"event: error\ndata: " + json.dumps(said).encode() + b"\n\n")


SETBACKS: dict[str, Any] = {
    "429": (lambda _: failing(429), "status_429"),
    "500": (lambda _: failing(500), "status_5xx"),
    "a reset at once": (lambda _: [Reset()], "unreachable"),
    "200 and an error": (lambda _: json_answer({"error": {"message": SECRET}}), "error_answer"),
    "200 and a page": (lambda _: answer(b"<!doctype html><html>" + SECRET.encode(), "text/html"), "error_answer"),
    "half of it": (
        lambda each: [
            Send(head(200, each.answer_type, content_length=str(len(each.answer))) + each.answer[:-5]),
            Sleep(0.05),
            Reset(),
        ],
        "cut",
    ),
    "silence": (lambda _: [WaitForLeave()], "stalled"),
}
STREAM_SETBACKS: dict[str, Any] = {
    **{name: SETBACKS[name] for name in ("429", "500", "a reset at once", "silence")},
    "JSON instead": (lambda _: json_answer({"error": {"message": SECRET}}), "cut"),
    "an error event": (told_in_an_event, "error_answer"),
    "nothing": (lambda _: [Send(sse_head())], "cut"),
}


@pytest.mark.parametrize("setback", SETBACKS)
@pytest.mark.parametrize("name", [*PLAIN, "speech"])
def test_a_plain_answer_comes_from_the_second(
    name: str, setback: str, service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream
) -> None:
    surface, (steps, word) = SURFACES[name], SETBACKS[setback]
    first.script, upstream.script = steps(surface), whole(surface)
    key = service.new_key(credit="5")
    got = ask(service, key, surface)
    receipt = settled(service, key)

    assert (got.status_code, got.content) == (200, surface.answer)
    assert got.headers["content-type"] == surface.answer_type
    assert attempts(receipt) == [("first", word), ("second", "answered")]
    assert (receipt["outcome"], len(first.requests), len(upstream.requests)) == ("completed", 1, 1)
    assert first.requests[0].body == upstream.requests[0].body


@pytest.mark.parametrize("setback", STREAM_SETBACKS)
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_comes_from_the_second(
    name: str, setback: str, service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream
) -> None:
    surface, (steps, word) = SURFACES[name], STREAM_SETBACKS[setback]
    first.script, upstream.script = steps(surface), whole(surface)
    key = service.new_key(credit="5")
    got = ask(service, key, surface)
    receipt = settled(service, key)

    assert (got.status_code, got.content) == (200, surface.answer)
    assert attempts(receipt) == [("first", word), ("second", "answered")]
    assert receipt["outcome"] == "completed"


@pytest.mark.parametrize("name", SURFACES)
def test_when_both_fail_it_is_told_and_costs_nothing(
    name: str, service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream
) -> None:
    first.script, upstream.script = failing(500), failing(503)
    key = service.new_key(credit="5")
    got = ask(service, key, SURFACES[name])
    receipt = settled(service, key)

    assert (got.status_code, got.json()["error"]["code"]) == (503, "upstream_unavailable")
    assert (receipt["outcome"], receipt["cost_nano"], SECRET in got.text) == ("failed", 0, False)


@pytest.mark.parametrize("name", SURFACES)
def test_a_request_that_is_refused_bothers_nobody_else_and_names_the_parameter(
    name: str, service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream
) -> None:
    surface = SURFACES[name]
    param = "input" if name == "moderations" else "model"
    first.script = json_answer({"error": {"message": SECRET, "type": "x", "param": param, "code": "x"}}, 400)
    key = service.new_key(credit="5")
    got = ask(service, key, surface)
    receipt = settled(service, key)

    assert (got.status_code, got.json()["error"]["param"]) == (400, param)
    assert (receipt["outcome"], receipt["cost_nano"], upstream.requests) == ("refused", 0, [])
    assert SECRET not in got.text


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("end", ["a reset", "an error event", "an early end"])
def test_a_stream_that_breaks_after_content_ends_with_an_error_and_nobody_else_is_asked(
    name: str, end: str, service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream
) -> None:
    surface = SURFACES[name]
    events = [each + b"\n\n" for each in surface.answer.strip().split(b"\n\n")][:-1]
    last: dict[str, list[Step]] = {
        "a reset": [Reset()],
        "an error event": told_in_an_event(surface)[1:],
        "an early end": [],
    }
    first.script = [Send(sse_head()), *(Send(each) for each in events), Sleep(0.05), *last[end]]
    key = service.new_key(credit="5")
    got = ask(service, key, surface)
    receipt = settled(service, key)
    final = json.loads(got.content.rpartition(b"data: ")[2])

    assert got.content.startswith(b"".join(events))
    assert (final["error"]["code"] if "error" in final else final["code"]) == "upstream_error"
    assert (receipt["outcome"], upstream.requests, SECRET.encode() in got.content) == ("upstream_cut", [], False)
    assert 0 < receipt["cost_nano"] <= receipt["hold_nano"]


def test_a_response_that_failed_before_content_comes_from_the_second(
    service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream
) -> None:
    surface = SURFACES["responses"]
    first.script = json_answer(response(status="failed", error={"code": "server_error", "message": SECRET}))
    upstream.script = whole(surface)
    key = service.new_key(credit="5")

    assert ask(service, key, surface).content == surface.answer
    assert attempts(settled(service, key)) == [("first", "error_answer"), ("second", "answered")]
