"""Hostile bytes: taps, usage readers and stream bridges never raise; readers and bridges only refuse."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.dialects.anthropic.usage import merge
from farebox.dialects.anthropic.usage import read_sent as anthropic_sent
from farebox.dialects.anthropic.usage import read_usage as anthropic_usage
from farebox.dialects.bridge import Bridge, Terms
from farebox.dialects.bridges import BRIDGES
from farebox.dialects.form import read_form, replace_text
from farebox.dialects.gemini.usage import read_sent as gemini_sent
from farebox.dialects.gemini.usage import read_usage as gemini_usage
from farebox.dialects.openai.usage import read_io_usage, read_usage
from farebox.dialects.sse import data_of
from farebox.dialects.wire import Incoming, Wire
from farebox.dialects.wires import WIRES
from farebox.domain.usage import COUNT_MAX, Usage
from farebox.errors import InvalidRequest
from farebox.relay.request import Request, read_body
from tests.contract.answers import frames_of
from tests.contract.mutations import ODD, dumped, events, mutated, odd_ones
from tests.contract.recordings import Recording
from tests.contract.routes import ANSWERS, BOUNDARY, BRIDGED, FORMS, STREAMS, Route, answer_id, ask
from tests.contract.stage import play

SCALES = [
    pytest.param(40, id="short"),
    pytest.param(3_000, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
]
NATIVE = [(route, recording) for route, recording in ANSWERS if route.bridge is None]
PLAIN_JSON = [each for each in ANSWERS if each[1].suffix == "json"]
ROUTES_BY_OPERATION = {route.caller.name: (route, recording) for route, recording in reversed(ANSWERS)}
TERMS = Terms(
    model="gpt-4o",
    upstream_model="gpt-4o-north",
    stream=False,
    output_tokens_max=8192,
    reasoning=True,
    limit_param="max_tokens",
    id="01J0FUZZ",
    created_s=1_764_000_000,
    include_usage=True,
)


def scaled(examples: int, test: Callable[..., None]) -> None:
    settings(max_examples=examples)(test)()


def words(text: str) -> int:
    return len(text.split())


def is_sane(usage: Usage | None) -> None:
    """No figure is negative, huge or no count; each has a source."""
    if usage is not None:
        assert set(usage.counts) == set(usage.sources)
        assert all(type(count) is int and 0 <= count <= COUNT_MAX for count in usage.counts.values())


def is_polite(refusal: InvalidRequest) -> None:
    """It names the parameter, in few words, none of them the caller's."""
    assert refusal.param
    assert len(refusal.en) < 400
    assert "z" * 20 not in refusal.en + refusal.zh


def read_out(tap: Any) -> None:
    """Everything that is asked of a tap once no more comes."""
    tap.count_waiting()
    for usage in (tap.reported(), tap.counted(), tap.sent()):
        is_sane(usage)
    assert isinstance(tap.finished, bool)
    assert isinstance(tap.heavy, bool)
    assert isinstance(tap.content_seen, bool)
    assert isinstance(tap.error_seen, bool)
    assert isinstance(tap.done, bool)
    assert tap.service_tier is None or isinstance(tap.service_tier, str)


def tap_for(route: Route, recording: Recording) -> Any:
    """A tap as the relay makes it for a request that fits the recording."""
    asked = ask(route, recording)
    model = route.model(recording)
    named = model if asked.path.startswith("/v1beta/") else None
    incoming = read_body(
        Request(route.caller, asked.body, asked.content_type, named, recording.stream if named else None)
    )
    return route.wire.tap(words, route.caller.read(incoming))


# ── taps ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("examples", SCALES)
@pytest.mark.parametrize("wire", WIRES.values(), ids=lambda wire: wire.name)
def test_no_bytes_make_a_tap_raise(wire: Wire, examples: int) -> None:
    route, recording = ROUTES_BY_OPERATION[wire.name]

    @given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from(ODD).map(dumped)), max_size=6), st.booleans())
    def holds(pieces: list[bytes], stream: bool) -> None:
        for streamed in (stream, not stream):
            asked = replace(_ask_of(route, recording), stream=streamed)
            tap = wire.tap(words, asked)
            for piece in pieces:
                assert isinstance(tap.see(piece), bool)
            read_out(tap)

    scaled(examples, holds)


def _ask_of(route: Route, recording: Recording) -> Any:
    asked = ask(route, recording)
    model = route.model(recording) if asked.path.startswith("/v1beta/") else None
    incoming = read_body(
        Request(route.caller, asked.body, asked.content_type, model, recording.stream if model else None)
    )
    return route.caller.read(incoming)


@pytest.mark.parametrize("examples", SCALES)
def test_no_mutated_event_makes_a_tap_raise(examples: int) -> None:
    @given(st.data(), st.sampled_from([each for each in STREAMS if each[0].bridge is None]))
    def holds(data: st.DataObject, answer: tuple[Route, Recording]) -> None:
        tap = tap_for(*answer)
        for event in data.draw(events(answer[1])):
            tap.see(event)
        read_out(tap)

    scaled(examples * 4, holds)


@pytest.mark.parametrize("examples", SCALES)
def test_no_mutated_plain_answer_makes_a_tap_raise(examples: int) -> None:
    @given(st.data(), st.sampled_from([each for each in PLAIN_JSON if each[0].bridge is None]))
    def holds(data: st.DataObject, answer: tuple[Route, Recording]) -> None:
        tap = tap_for(*answer)
        tap.see(dumped(data.draw(mutated(json.loads(answer[1].data)))))
        read_out(tap)

    scaled(examples * 4, holds)


@pytest.mark.parametrize(
    ("route", "recording"), [each for each in NATIVE if each[1].suffix in ("json", "sse")], ids=answer_id
)
def test_a_tap_bears_anything_at_any_place(route: Route, recording: Recording) -> None:
    """One place at a time, every place: behind the first event of a stream, or in a plain answer."""
    asked = _ask_of(route, recording)
    documents = frames_of(recording.data) if recording.stream else [recording.data.decode()]
    seen: set[Any] = set()
    for document in documents:
        for odd in odd_ones(json.loads(document), seen) if document != "[DONE]" else ():
            tap = route.wire.tap(words, asked)
            if recording.stream:
                tap.see(documents[0].encode())
            tap.see(odd)
            read_out(tap)


# ── usage readers ───────────────────────────────────────────────────────────────────────────────────────────────────


def _anthropic(raw: Any) -> Usage | None:
    figures: dict[str, Any] = {}
    merge(figures, raw)
    merge(figures, raw)
    is_sane(anthropic_sent(figures))
    return anthropic_usage(figures)


USAGE_READERS: list[Callable[[Any], Usage | None]] = [
    read_usage,
    read_io_usage,
    lambda raw: read_io_usage(raw, made="image_tokens"),
    gemini_usage,
    gemini_sent,
    _anthropic,
]


def usages() -> list[Any]:
    """Every usage object of the recordings."""
    found: list[Any] = []

    def gather(value: Any) -> None:
        if isinstance(value, dict):
            found.extend(each for name, each in value.items() if name in ("usage", "usageMetadata") and each)
            for each in value.values():
                gather(each)
        elif isinstance(value, list):
            for each in value:
                gather(each)

    for _, recording in PLAIN_JSON:
        gather(json.loads(recording.data))
    return found


@pytest.mark.parametrize("examples", SCALES)
def test_mutated_usage_is_a_believable_one_or_none(examples: int) -> None:
    @given(st.data(), st.sampled_from(usages()))
    def holds(data: st.DataObject, usage: Any) -> None:
        raw = data.draw(mutated(usage))
        for read in USAGE_READERS:
            is_sane(read(raw))

    scaled(examples * 4, holds)


COUNTS = st.integers(0, 10**6)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_the_classes_of_a_usage_are_its_wholes(prompt: int, completion: int, cached: int, thoughts: int) -> None:
    """Whatever the parts, what is billed is neither more nor less than what was reported, or it is not believed."""
    details = {"prompt_tokens_details": {"cached_tokens": cached}}
    usage = read_usage(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "completion_tokens_details": {"reasoning_tokens": thoughts},
            **details,
        }
    )

    assert (usage is None) == (cached > prompt)
    if usage is not None:
        assert (usage.input_tokens, usage.output_tokens) == (prompt, completion)


# ── forms ───────────────────────────────────────────────────────────────────────────────────────────────────────────

TOKENS = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"--",
        BOUNDARY.encode(),
        b'name="model"',
        b'"',
        b";",
        b"\\",
        b": ",
        b"filename=",
        b"\x00",
        b"\xff",
    ]
)


@pytest.mark.parametrize("examples", SCALES)
def test_a_mutated_form_is_read_exactly_or_refused(examples: int) -> None:
    """What is read lies in the body where it says, and another model can be put in without touching anything else."""

    @given(st.data(), st.sampled_from(sorted(FORMS)))
    def holds(data: st.DataObject, operation: str) -> None:
        route, recording = ROUTES_BY_OPERATION[operation]
        asked = ask(route, recording)
        body = bytearray(asked.body)
        for _ in range(data.draw(st.integers(0, 5))):
            at = data.draw(st.integers(0, len(body)))
            body[at : at + data.draw(st.integers(0, 9))] = data.draw(st.one_of(TOKENS, st.binary(max_size=3)))
        whole = bytes(body)
        try:
            form = read_form(whole, asked.content_type)
        except InvalidRequest:
            return
        for name, (start, end) in form.spans.items():
            text = form.texts[name]
            first = text[0] if isinstance(text, list) else text
            assert whole[start:end].decode() == first
        if isinstance(form.texts.get("model"), str):
            renamed = replace_text(whole, form, "model", b"another")
            again = read_form(renamed, asked.content_type)
            assert again.texts == {**form.texts, "model": "another"}
            assert [renamed[each.start : each.end] for each in again.files] == [
                whole[each.start : each.end] for each in form.files
            ]

    scaled(examples * 4, holds)


# ── readers and bridges ─────────────────────────────────────────────────────────────────────────────────────────────


def loaded(data: bytes) -> dict[str, Any]:
    """A body as the relay reads it: what is no JSON object, or half an emoji, never gets as far as a reader."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


JSON_CALLERS = [each for each in ROUTES_BY_OPERATION.values() if each[0].caller.name not in FORMS]
BY_BRIDGE = {id(route.bridge): (route, recording) for route, recording in BRIDGED}


@pytest.mark.parametrize("examples", SCALES)
def test_a_mutated_request_is_read_or_refused(examples: int) -> None:
    @given(st.data(), st.sampled_from(JSON_CALLERS))
    def holds(data: st.DataObject, caller: tuple[Route, Recording]) -> None:
        route, recording = caller
        body = loaded(dumped(data.draw(mutated(json.loads(ask(route, recording).body)))))
        try:
            asked = route.caller.read(Incoming(body, b"", model="m", stream=False))
        except InvalidRequest as refusal:
            is_polite(refusal)
            return
        assert asked.count_input(words) >= 0
        assert asked.choices >= 1

    scaled(examples * 4, holds)


REQUESTS = [each for each in BRIDGED if each[1].name.endswith(("tool.json", "text.json", "vector.json"))]


@pytest.mark.parametrize("examples", SCALES)
def test_a_bridge_makes_json_of_a_mutated_request_or_refuses_it(examples: int) -> None:
    @given(st.data(), st.sampled_from(REQUESTS), st.booleans(), st.booleans())
    def holds(data: st.DataObject, answer: tuple[Route, Recording], stream: bool, reasoning: bool) -> None:
        route, recording = answer
        assert route.bridge is not None
        body = loaded(dumped(data.draw(mutated(json.loads(ask(route, recording).body)))))
        terms = replace(TERMS, stream=stream, reasoning=reasoning)
        try:
            made = route.bridge.request(body, terms)
        except InvalidRequest as refusal:
            is_polite(refusal)
            return
        assert isinstance(json.loads(made), dict)
        assert b"NaN" not in made.replace(b'"NaN"', b"")

    scaled(examples * 4, holds)


@pytest.mark.parametrize("examples", SCALES)
def test_a_bridge_makes_an_answer_of_a_mutated_one_or_says_that_it_is_none(examples: int) -> None:
    @given(st.data(), st.sampled_from([each for each in BRIDGED if each[1].suffix == "json"]))
    def holds(data: st.DataObject, answer: tuple[Route, Recording]) -> None:
        route, recording = answer
        assert route.bridge is not None
        try:
            made = route.bridge.answer(dumped(data.draw(mutated(json.loads(recording.data)))), TERMS)
        except ValueError:
            return
        assert isinstance(json.loads(made), dict)

    scaled(examples * 4, holds)


@pytest.mark.parametrize("examples", SCALES)
@pytest.mark.parametrize("bridge", BRIDGES.values(), ids=lambda bridge: f"{bridge.caller}-to-{bridge.vendor}")
def test_no_bytes_make_an_answer_bridge_do_anything_but_refuse(bridge: Bridge, examples: int) -> None:
    @given(st.one_of(st.binary(max_size=60), st.sampled_from(ODD).map(dumped)))
    def holds(data: bytes) -> None:
        try:
            json.loads(bridge.answer(data, TERMS))
        except ValueError:
            return

    scaled(examples, holds)


def well_formed(frames: list[bytes], bridge: Bridge) -> None:
    """Whole frames of the caller's dialect: JSON data, Anthropic's named by their type."""
    for frame in frames:
        assert frame.endswith(b"\n\n")
        assert frame.count(b"\n\n") == 1
        data = data_of(frame)
        assert data is not None
        if data == b"[DONE]":
            assert bridge.caller == "chat.completions"
            continue
        document = json.loads(data)
        assert isinstance(document, dict)
        if bridge.caller == "messages":
            assert frame.startswith(f"event: {document['type']}\n".encode())
        elif bridge.caller == "chat.completions":
            assert document["object"] == "chat.completion.chunk"


@pytest.mark.parametrize("examples", SCALES)
def test_no_mutated_stream_makes_a_bridge_raise_and_its_frames_are_well_formed(examples: int) -> None:
    @given(st.data(), st.sampled_from([each for each in BRIDGED if each[1].stream]), st.booleans())
    def holds(data: st.DataObject, answer: tuple[Route, Recording], include_usage: bool) -> None:
        route, recording = answer
        assert route.bridge is not None
        stream = route.bridge.stream(replace(TERMS, stream=True, include_usage=include_usage))
        frames: list[bytes] = []
        for event in data.draw(events(recording)):
            frames += stream.feed(event)
        frames += stream.end()
        well_formed(frames, route.bridge)

    scaled(examples * 6, holds)


@pytest.mark.parametrize(("route", "recording"), [each for each in BRIDGED if not each[1].facts.ask], ids=answer_id)
def test_a_bridge_bears_anything_at_any_place_of_an_answer(route: Route, recording: Recording) -> None:
    assert route.bridge is not None
    documents = frames_of(recording.data) if recording.stream else [recording.data.decode()]
    seen: set[Any] = set()
    for document in documents:
        for odd in odd_ones(json.loads(document), seen) if document != "[DONE]" else ():
            if recording.stream:
                stream = route.bridge.stream(TERMS)
                frames = stream.feed(documents[0].encode()) + stream.feed(odd)
                well_formed(frames + stream.feed(documents[-1].encode()) + stream.end(), route.bridge)
            else:
                with contextlib.suppress(ValueError):
                    json.loads(route.bridge.answer(odd, TERMS))


@pytest.mark.parametrize(("route", "recording"), REQUESTS, ids=answer_id)
def test_a_reader_and_a_bridge_bear_anything_at_any_place_of_a_request(route: Route, recording: Recording) -> None:
    assert route.bridge is not None
    for odd in odd_ones(json.loads(ask(route, recording).body), set()):
        fields = loaded(odd)
        with contextlib.suppress(InvalidRequest):
            route.caller.read(Incoming(fields, odd, model="m", stream=False)).count_input(words)
        with contextlib.suppress(InvalidRequest):
            assert isinstance(json.loads(route.bridge.request(fields, TERMS)), dict)


@pytest.mark.parametrize("examples", SCALES)
@pytest.mark.parametrize("bridge", BRIDGES.values(), ids=lambda bridge: f"{bridge.caller}-to-{bridge.vendor}")
def test_no_bytes_make_a_stream_bridge_raise(bridge: Bridge, examples: int) -> None:
    @given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(ODD).map(dumped)), max_size=5))
    def holds(pieces: list[bytes]) -> None:
        stream = bridge.stream(replace(TERMS, stream=True))
        frames = [frame for piece in pieces for frame in stream.feed(piece)]
        well_formed([*frames, *stream.end()], bridge)

    scaled(examples, holds)


# ── the whole core ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("examples", SCALES)
def test_no_mutated_stream_breaks_the_relay(examples: int) -> None:
    """It is answered or it has failed; what is billed is sane; where a bridge stands, what the caller gets is whole."""

    @given(st.data(), st.sampled_from(STREAMS), st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]))
    def holds(data: st.DataObject, answer: tuple[Route, Recording], end: bytes) -> None:
        route, recording = answer
        chunks = [
            b"data: " + event.replace(b"\n", b" ").replace(b"\r", b" ") + end for event in data.draw(events(recording))
        ]
        result = play(route, recording, *chunks, b"")
        is_sane(result.usage)
        assert (result.failure is None) == result.finished
        if route.bridge is not None and result.data:
            frames = [frame + b"\n\n" for frame in result.data.split(b"\n\n") if frame]
            well_formed(frames, route.bridge)

    scaled(examples * 4, holds)


@pytest.mark.parametrize("examples", SCALES)
def test_no_bytes_break_the_relay(examples: int) -> None:
    @given(st.sampled_from(ANSWERS), st.lists(st.binary(max_size=60), max_size=4))
    def holds(answer: tuple[Route, Recording], chunks: list[bytes]) -> None:
        result = play(*answer, *chunks, b"")
        is_sane(result.usage)
        assert (result.failure is None) == result.finished

    scaled(examples * 2, holds)
