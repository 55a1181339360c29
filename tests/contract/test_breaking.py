"""What vendors do wrong, by every way to them: the caller hears of it in its own dialect, and pays by the table."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from farebox.vendors import VENDORS
from tests.contract.answers import frames_of, read
from tests.contract.conftest import Lead
from tests.contract.exchange import failed, played, receipt_of, send, usage_on
from tests.contract.recordings import Recording, contract
from tests.contract.recordings import read as recorded
from tests.contract.routes import ROUTES, STREAMS, Route, answer_id, ask, channel, routes_of
from tests.fakes.service import RunningFarebox
from tests.fakes.upstream import Reset, ScriptedUpstream, Send, Sleep, Step, sse_head

VENDOR_WORDS = "CANARY-VENDOR-TEXT"
CHAT = ("chat.completions", "messages", "generateContent")
MARKERS = {
    "chat.completions": "data: [DONE]",
    "completions": "data: [DONE]",
    "messages": "message_stop",
    "generateContent": '"finishReason"',
    "responses": "response.completed",
    "images.generations": "image_generation.completed",
    "images.edits": "image_edit.completed",
    "audio.speech": "speech.audio.done",
    "audio.transcriptions": "transcript.text.done",
}
"""What no broken stream may contain."""


def problem(dialect: str, document: Any) -> tuple[int | None, str]:
    """(the status that the envelope itself tells, the stable code), having checked the dialect's shape."""
    error = document["error"]
    assert VENDOR_WORDS not in json.dumps(document)
    match dialect:
        case "anthropic":
            assert document["type"] == "error"
            assert set(error) >= {"type", "message", "code"}
            return None, error["code"]
        case "gemini":
            assert set(error) >= {"code", "message", "status", "details"}
            assert error["status"].isupper()
            return error["code"], error["details"][0]["reason"]
        case _:
            assert set(error) >= {"message", "type", "param", "code"}
            return None, error["code"]


def last_event(route: Route, data: bytes) -> tuple[str, Any]:
    """(the event's name, its document): what ends a broken stream."""
    event = data.decode().rstrip("\n").replace("\r\n", "\n").rpartition("\n\n")[2]
    lines = dict(line.split(": ", 1) for line in event.split("\n"))
    return lines.get("event", ""), json.loads(lines["data"])


def is_told_in_the_stream(route: Route, data: bytes) -> str:
    """The code of the error that ends the stream; no end marker stands before it."""
    name, document = last_event(route, data)
    assert MARKERS[route.caller.name] not in data.decode()
    assert VENDOR_WORDS not in data.decode()
    if route.caller.name == "responses":
        assert (name, document["type"]) == ("error", "error")
        return str(document["code"])
    assert name == ("error" if route.caller.dialect == "anthropic" else "")
    return problem(route.caller.dialect, document)[1]


# ── cut after each frame ────────────────────────────────────────────────────────────────────────────────────────────


def cuts_of(recording: Recording) -> list[bytes]:
    """The stream without its last frames: nothing at first, all but one at last."""
    end = b"\r\n\r\n" if b"\r\n\r\n" in recording.data else b"\n\n"
    frames = [frame + end for frame in recording.data.split(end) if frame.strip()]
    return [b"".join(frames[:count]) for count in range(len(frames))]


CUT = [each for each in STREAMS if each[1].name.endswith(("text.sse", "picture.sse", "sound.sse", "thinking.sse"))]
WITHOUT_A_MIDDLE = ("google", "audio", "images")
"""Where each piece of content may be the last one, or there are but two events."""


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize(("route", "recording"), CUT, ids=answer_id)
def test_a_stream_that_is_cut_after_any_frame(
    route: Route, recording: Recording, step: int, farebox: RunningFarebox, upstream: ScriptedUpstream, lead: Lead
) -> None:
    """Before any content it failed and costs nothing; behind the proper end it is complete; in between it is cut: the
    caller hears so, has a part of the text, and pays for that.
    """
    model, outcomes = route.model(recording), []
    twice = [channel(route.vendor, upstream.url, model, name=name) for name in ("one", "two")]
    parts = cuts_of(recording)
    for count in sorted({*range(0, len(parts), step), len(parts) - 1}):
        lead(*twice)
        upstream.script = played(recording, parts[count], breaks=count % 2 == 1)
        key = farebox.new_key(credit="5")
        answer = send(farebox, key, route.caller.dialect, ask(route, recording))
        receipt = receipt_of(farebox, key)
        outcomes.append(receipt["outcome"])
        OUTCOMES[receipt["outcome"]](route, recording, answer, receipt)

    order = list(OUTCOMES)
    assert outcomes == sorted(outcomes, key=order.index)
    assert outcomes[0] == "failed"
    assert step > 1 or "upstream_cut" in outcomes or any(each in str(route) for each in WITHOUT_A_MIDDLE)


def failed_wholly(route: Route, _: Recording, answer: httpx.Response, receipt: dict[str, Any]) -> None:
    assert answer.status_code == 502
    assert problem(route.caller.dialect, answer.json())[1] == "upstream_error"
    assert (receipt["cost_nano"], receipt["usage"]) == (0, {})


def was_cut(route: Route, recording: Recording, answer: httpx.Response, receipt: dict[str, Any]) -> None:
    assert answer.status_code == 200
    assert is_told_in_the_stream(route, answer.content) == "upstream_error"
    assert receipt["cost_nano"] > 0
    if route.caller.name in CHAT:
        shown = answer.content[: answer.content.rindex(b"data:")].removesuffix(b"event: error\n")
        said = read(route.caller.name, shown, stream=True)
        assert recording.facts.text.startswith(said.text)
        assert recording.facts.thoughts.startswith(said.thoughts)
        assert not said.ended


def was_whole(route: Route, recording: Recording, answer: httpx.Response, _: dict[str, Any]) -> None:
    assert answer.status_code == 200
    if route.caller.name in CHAT:
        said = read(route.caller.name, answer.content, stream=True)
        said.agrees_with(recording.facts, bridged=route.bridge is not None)


OUTCOMES = {"failed": failed_wholly, "upstream_cut": was_cut, "completed": was_whole}
"""In the order in which they come when a stream is cut ever later."""


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────────────────────

ANSWERED: dict[int, tuple[int, str, str]] = {
    400: (400, "invalid_request", "refused"),
    401: (502, "upstream_error", "failed"),
    429: (503, "upstream_unavailable", "failed"),
    500: (502, "upstream_error", "failed"),
    529: (503, "upstream_unavailable", "failed"),
}
"""A vendor's status → the caller's, its code, and the outcome on the receipt."""
ONE_EACH = [(route, route.recordings[0]) for route in ROUTES]


@pytest.mark.parametrize(("route", "recording"), ONE_EACH, ids=answer_id)
def test_a_vendors_errors_are_told_in_the_callers_words(
    route: Route, recording: Recording, farebox: RunningFarebox, upstream: ScriptedUpstream, lead: Lead
) -> None:
    model = route.model(recording)
    both = [channel(route.vendor, upstream.url, model, name=name) for name in ("one", "two")]
    for status, (told, code, outcome) in ANSWERED.items():
        lead(*both)
        data = recorded(route.vendor, "error.param.json" if status == 400 else "error.json")
        wait = {"retry_after": "3"} if told == 503 else {}
        upstream.script = failed(data, status, **wait)
        upstream.requests.clear()
        key = farebox.new_key(credit="5")
        answer = send(farebox, key, route.caller.dialect, ask(route, recording))
        receipt = receipt_of(farebox, key)
        embedded, found = problem(route.caller.dialect, answer.json())

        assert (answer.status_code, found) == (told, code)
        assert embedded in (None, told)
        assert (receipt["outcome"], receipt["cost_nano"]) == (outcome, 0)
        assert len(upstream.requests) == (1 if status == 400 else 2)
        assert ("retry-after" in answer.headers) == (told == 503)
        assert VENDOR_WORDS not in answer.text + str(answer.headers)


@pytest.mark.parametrize(
    ("route", "recording"), [each for each in STREAMS if each[1].name.endswith("text.sse")], ids=answer_id
)
def test_an_error_in_the_midst_of_a_stream_is_told_in_the_callers_words(
    route: Route, recording: Recording, farebox: RunningFarebox, upstream: ScriptedUpstream, lead: Lead
) -> None:
    lead(channel(route.vendor, upstream.url, route.model(recording)))
    word = (recording.facts.text.split() or ["lamp"])[0].encode()
    begun = next(part for part in cuts_of(recording) if word in part)
    head, content = played(recording, begun)
    upstream.script = [head, content, Sleep(0.05), Send(recorded(route.vendor, "error.sse"))]
    key = farebox.new_key(credit="5")
    answer = send(farebox, key, route.caller.dialect, ask(route, recording))
    receipt = receipt_of(farebox, key)

    assert is_told_in_the_stream(route, answer.content) == "upstream_error"
    assert receipt["outcome"] == "upstream_cut"
    assert receipt["cost_nano"] > 0


# ── another vendor of another dialect answers ───────────────────────────────────────────────────────────────────────


def pairs() -> list[tuple[Route, Route]]:
    """Two ways for one operation, to vendors that speak differently."""
    found = []
    for first in ROUTES:
        if first.caller.name in (*CHAT, "embedContent", "batchEmbedContents"):
            others = [route for vendor in VENDORS for route in routes_of(vendor) if route.caller is first.caller]
            found += [(first, second) for second in others if second.wire.dialect != first.wire.dialect]
    return found


def broken(route: Route, *, stream: bool, how: int) -> list[Step]:
    """One of the ways in which this vendor lets a request down before any content."""
    recording = next(each for each in route.recordings if each.stream is stream)
    if how == 0:
        return failed(recorded(route.vendor, "error.json"), 500)
    if how == 1:
        return failed(recorded(route.vendor, "error.json"), 429, retry_after="9")
    if stream:
        return played(recording, recorded(route.vendor, "error.sse"))
    return played(recording, recording.data[:20])


@pytest.mark.parametrize(("first", "second"), pairs(), ids=str)
def test_a_vendor_of_another_dialect_answers_in_its_stead(
    first: Route,
    second: Route,
    farebox: RunningFarebox,
    upstream: ScriptedUpstream,
    other: ScriptedUpstream,
    lead: Lead,
) -> None:
    model = contract("openai").models[
        "embedding"
        if first.caller.name.endswith(("Content", "Contents")) and first.caller.name != "generateContent"
        else "chat"
    ]
    for how, stream in enumerate((False, True, False, True, False, True)):
        if stream and first.caller.name not in CHAT:
            continue
        recording = next(each for each in second.recordings if each.stream is stream and not each.tools)
        lead(
            channel(first.vendor, upstream.url, model, name="first", priority=1),
            channel(second.vendor, other.url, model, name="second"),
        )
        upstream.script, other.script = broken(first, stream=stream, how=how // 2), played(recording)
        other.requests.clear()
        key = farebox.new_key(credit="20")
        answer = send(farebox, key, first.caller.dialect, ask(second, recording, model=model))
        receipt = receipt_of(farebox, key)

        assert answer.status_code == 200, answer.text
        assert VENDOR_WORDS not in answer.text
        assert [each["channel"] for each in receipt["attempts"]] == ["first", "second"]
        assert receipt["attempts"][1]["result"] == "answered"
        assert receipt["outcome"] == "completed"
        if recording.facts.usage is not None:
            assert usage_on(receipt) == recording.facts.usage
        if first.caller.name in CHAT:
            said = read(first.caller.name, answer.content, stream=stream)
            said.agrees_with(recording.facts, bridged=second.bridge is not None)
            assert said.ended


def test_frames_are_found_whatever_ends_their_lines() -> None:
    assert frames_of(b"data: a\r\n\r\n: x\r\n\r\ndata:b\n\n") == ["a", "b"]


def test_a_sound_that_breaks_off_has_no_clean_end(
    farebox: RunningFarebox, upstream: ScriptedUpstream, lead: Lead
) -> None:
    """In the midst of it nothing can be said, but that it is not whole."""
    route = next(route for route in ROUTES if route.caller.name == "audio.speech")
    recording = route.recording("sound.mp3")
    lead(channel(route.vendor, upstream.url, route.model(recording)))
    sound = recording.data
    steps = [Send(sse_head().replace(b"text/event-stream; charset=utf-8", b"audio/mpeg\r\ntransfer-encoding: chunked"))]
    for piece in (sound[:500], sound[500:900]):
        steps += [Send(b"%x\r\n%s\r\n" % (len(piece), piece)), Sleep(0.05)]
    upstream.script = [*steps, Reset()]
    key = farebox.new_key(credit="5")
    with pytest.raises(httpx.RemoteProtocolError):
        send(farebox, key, "openai", ask(route, recording))
    receipt = receipt_of(farebox, key)

    assert (receipt["outcome"], receipt["usage"]["character"]["count"]) == ("upstream_cut", 20)
