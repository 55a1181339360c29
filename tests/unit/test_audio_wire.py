"""OpenAI's audio: speech that is made, transcripts of what was heard."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.ask import Ask
from farebox.dialects.form import read_form
from farebox.dialects.openai.audio import SPEECH, TRANSCRIPTIONS, TRANSLATIONS
from farebox.dialects.openai.audio_tap import AUDIO_BYTES_MAX, HEAD_BYTES, SpeechTap, TranscriptTap
from farebox.dialects.wire import Incoming, Wire
from farebox.errors import InvalidRequest

SPEECH_BODY: dict[str, Any] = {"model": "tts-1", "input": "hello 你好", "voice": "alloy"}
MP3 = b"\xff\xfb\x90\x64" + bytes(200)
Part = tuple[str, str | None, bytes]
FILE: Part = ("file", "talk.mp3", MP3)


def form(*parts: Part) -> Incoming:
    body = b""
    for name, filename, data in parts:
        extra = "" if filename is None else f'; filename="{filename}"\r\nContent-Type: audio/mpeg'
        body += f'--x\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + data + b"\r\n"
    body += b"--x--\r\n"
    read = read_form(body, "multipart/form-data; boundary=x")
    return Incoming(read.texts, body, read.files, form=read)


def sound(*parts: Part, model: bytes = b"gpt-4o-transcribe") -> Incoming:
    return form(("model", None, model), *parts)


def speech(**more: Any) -> Ask:
    return SPEECH.read(Incoming({**SPEECH_BODY, **more}))


def refused(wire: Wire, incoming: Incoming) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        wire.read(incoming)
    assert caught.value.param is not None
    assert caught.value.en.isascii()
    return caught.value.param


# ── speech, read ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_speech_is_bounded_by_its_characters() -> None:
    ask = speech(instructions="calmly", response_format="wav", speed=1.5)

    assert (ask.model, ask.stream, ask.bounds) == ("tts-1", False, {"character": 8, "audio_ms": 4800})
    assert ask.count_input(len) == 8 + 6


@pytest.mark.parametrize(
    ("speed", "milliseconds"), [(None, 4800), (4, 4800), (1, 4800), (0.5, 9600), (0.25, 19_200), (0, 19_200)]
)
def test_slow_speech_is_bounded_by_its_speed(speed: Any, milliseconds: int) -> None:
    assert speech(speed=speed).bounds["audio_ms"] == milliseconds


@pytest.mark.parametrize(("wish", "stream"), [(None, False), ("audio", False), ("sse", True)])
def test_speech_streams_events_if_asked_to(wish: str | None, stream: bool) -> None:
    assert speech(stream_format=wish).stream is stream


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", ""),
        ("input", None),
        ("input", ""),
        ("input", ["x"]),
        ("input", "x" * 100_001),
        ("instructions", 5),
        ("voice", {"id": "voice_1"}),
        ("voice", 5),
        ("response_format", "midi"),
        ("response_format", ["mp3"]),
        ("stream_format", "ndjson"),
        ("stream_format", True),
    ],
)
def test_speech_that_cannot_be_made_is_refused_by_name(name: str, value: Any) -> None:
    assert refused(SPEECH, Incoming({**SPEECH_BODY, name: value})) == name


def test_only_speech_is_a_binary_answer_and_only_files_come_in_forms() -> None:
    assert [(wire.binary, wire.form) for wire in (SPEECH, TRANSCRIPTIONS, TRANSLATIONS)] == [
        (True, False),
        (False, True),
        (False, True),
    ]


# ── transcriptions and translations, read ───────────────────────────────────────────────────────────────────────────


def test_the_file_that_is_to_be_heard_is_found() -> None:
    incoming = sound(
        FILE,
        ("prompt", None, b"names: Ada"),
        ("keywords[]", None, b"Lovelace"),
        ("response_format", None, b"json"),
        ("stream", None, b"true"),
        ("language", None, b"en"),
        ("timestamp_granularities[]", None, b"word"),
        ("chunking_strategy[type]", None, b"server_vad"),
        ("known_speaker_names[]", None, b"Ada"),
    )
    ask = TRANSCRIPTIONS.read(incoming)

    assert (ask.model, ask.stream) == ("gpt-4o-transcribe", True)
    assert ask.sound is not None
    assert incoming.body[ask.sound.start : ask.sound.end] == MP3
    assert (ask.sound.filename, ask.sound.content_type) == ("talk.mp3", "audio/mpeg")
    assert ask.count_input(len) == len("names: Ada") + len("Lovelace")


def test_what_never_streams_does_not_whatever_it_is_asked() -> None:
    asked = ("stream", None, b"true")

    assert TRANSCRIPTIONS.read(sound(FILE, asked, model=b"whisper-1")).stream is False
    assert TRANSLATIONS.read(sound(FILE, asked)).stream is False
    assert TRANSCRIPTIONS.read(sound(FILE, ("stream", None, b"false"))).stream is False


@pytest.mark.parametrize("wire", [TRANSCRIPTIONS, TRANSLATIONS], ids=lambda wire: wire.name)
@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([], "file"),
        ([("file", None, b"https://example.org/talk.mp3")], "file"),
        ([FILE, ("url", None, b"https://example.org/talk.mp3")], "url"),
        ([FILE, ("file_id", None, b"file_1")], "file_id"),
        ([FILE, ("other", "b.mp3", MP3)], "other"),
        ([("file[]", "b.mp3", MP3)], "file[]"),
        ([FILE, ("model[]", None, b"x")], "model[]"),
        ([FILE, ("stream[0]", None, b"true")], "stream[0]"),
        ([FILE, ("stream", None, b"yes")], "stream"),
        ([FILE, ("response_format", None, b"docx")], "response_format"),
        ([FILE, ("known_speaker_references[]", None, b"data:audio/wav;base64,AA")], "known_speaker_references[]"),
        ([FILE, ("known_speaker_references", None, b"data:audio/wav;base64,AA")], "known_speaker_references"),
    ],
)
def test_a_form_that_is_none_is_refused_by_name(wire: Wire, parts: list[Part], param: str) -> None:
    assert refused(wire, sound(*parts)) == param


def test_a_form_names_a_model() -> None:
    assert refused(TRANSCRIPTIONS, form(FILE)) == "model"


@pytest.mark.parametrize("more", [{}, {"file": "https://example.org/talk.mp3"}, {"url": "x"}])
def test_sound_never_comes_in_json(more: dict[str, Any]) -> None:
    assert refused(TRANSCRIPTIONS, Incoming({"model": "whisper-1", **more})) in ("file", "url")


# ── speech, metered ─────────────────────────────────────────────────────────────────────────────────────────────────


def spoken(*chunks: bytes, stream: bool = False) -> SpeechTap:
    tap = SpeechTap(characters=8, stream=stream)
    for chunk in chunks:
        assert not tap.see(chunk)
    return tap


def test_sound_is_content_from_its_first_byte() -> None:
    tap = spoken(b"\xff")

    assert (tap.content_seen, tap.finished, tap.error_seen, tap.done) == (True, True, False, False)
    assert dict(tap.counted().counts) == {"character": 8}
    assert tap.reported() is None


def test_no_sound_is_no_answer() -> None:
    tap = spoken(b"")

    assert (tap.content_seen, tap.finished, dict(tap.counted().counts)) == (False, False, {})


@pytest.mark.parametrize("cut", [1, 3, 9, 10, 30])
@pytest.mark.parametrize(
    "error", [b'{"error":{"message":"overloaded"}}', b' {\n "error" : "x"}', b'{"detail": "not found"}']
)
def test_an_error_in_place_of_sound_is_one_wherever_it_is_cut(error: bytes, cut: int) -> None:
    tap = spoken(error[:cut], error[cut:])

    assert tap.error_seen
    assert not tap.content_seen
    assert not tap.finished


def test_a_page_in_place_of_sound_is_an_error() -> None:
    assert spoken(b"<!DOCTYPE html><html>").error_seen
    assert spoken(b"<html>").error_seen


def test_raw_samples_may_begin_with_a_brace() -> None:
    samples = b"{\x00" * HEAD_BYTES

    assert not spoken(samples[:10]).content_seen
    assert spoken(samples[:10], samples[10:]).finished


@pytest.mark.parametrize(
    ("begins", "kind"),
    [
        (b"ID3\x04", "audio/mpeg"),
        (b"\xff\xfb\x90", "audio/mpeg"),
        (b"\xff\xf3\x84", "audio/mpeg"),
        (b"\xff\xf1\x50", "audio/aac"),
        (b"OggS\x00", "audio/ogg"),
        (b"fLaC", "audio/flac"),
        (b"RIFF", "audio/wav"),
        (b"\xff\xff\x01\x00", "audio/pcm"),
        (b"\x00\x00", "audio/pcm"),
    ],
)
def test_sound_is_kept_with_the_type_that_its_beginning_says(begins: bytes, kind: str) -> None:
    assert spoken(begins, b"rest").audio() == (begins + b"rest", "", kind)


def test_no_more_sound_is_kept_than_can_be_measured() -> None:
    chunk = bytes(AUDIO_BYTES_MAX // 2 + 1)

    assert len(spoken(chunk, chunk, chunk).audio()[0]) == AUDIO_BYTES_MAX


SPOKEN_EVENTS = [
    json.dumps({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()}).encode()
    for piece in (MP3[:50], MP3[50:])
]
SPOKEN_DONE = json.dumps(
    {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}}
).encode()


def test_speech_in_events_is_collected_and_has_usage() -> None:
    begun = spoken(SPOKEN_EVENTS[0], stream=True)
    whole = spoken(*SPOKEN_EVENTS, SPOKEN_DONE, stream=True)

    assert (begun.content_seen, begun.done, begun.finished) == (True, False, False)
    assert (whole.done, whole.finished) == (True, True)
    assert whole.audio() == (MP3, "", "audio/mpeg")
    assert dict(whole.reported().counts) == {"input_token": 14, "output_token": 0, "audio_output_token": 101}


@pytest.mark.parametrize("event", [b'{"type":"error","message":"x"}', b'{"error":{"message":"x"}}'])
def test_an_error_among_the_events_is_one(event: bytes) -> None:
    tap = spoken(SPOKEN_EVENTS[0], event, SPOKEN_DONE, stream=True)

    assert tap.error_seen
    assert not tap.finished


def test_sound_that_is_no_base64_is_not_kept() -> None:
    tap = spoken(
        b'{"type":"speech.audio.delta","audio":"A"}', b'{"type":"speech.audio.delta","audio":"\\u4f60"}', stream=True
    )

    assert tap.audio()[0] == b""


# ── transcripts, metered ────────────────────────────────────────────────────────────────────────────────────────────

USAGE = {
    "type": "tokens",
    "input_tokens": 60,
    "input_token_details": {"text_tokens": 10, "audio_tokens": 50},
    "output_tokens": 8,
    "total_tokens": 68,
}
COUNTS = {"input_token": 10, "audio_input_token": 50, "output_token": 8}
SEGMENT = {"type": "transcript.text.segment", "id": "seg_1", "start": 0.0, "end": 1.2, "text": "Hello", "speaker": "A"}
EVENTS: list[dict[str, Any]] = [
    {"type": "transcript.text.delta", "delta": "Hello"},
    {"type": "transcript.text.delta", "delta": " there"},
    {"type": "transcript.text.done", "text": "Hello there", "usage": USAGE},
]


def heard(*documents: Any, stream: bool = False) -> TranscriptTap:
    tap = TranscriptTap(len, stream=stream)
    for each in documents:
        assert not tap.see(each if isinstance(each, bytes) else json.dumps(each).encode())
    return tap


def test_a_transcript_reports_its_tokens() -> None:
    tap = heard({"text": "Hello there", "usage": USAGE})

    assert (tap.finished, tap.content_seen, tap.error_seen, tap.service_tier) == (True, True, False, None)
    assert dict(tap.reported().counts) == COUNTS
    assert tap.counted().output_tokens == len("Hello there")


@pytest.mark.parametrize("usage", [{"type": "duration", "seconds": 3}, None, "x", [], {"type": "tokens"}, {"type": []}])
def test_a_length_is_no_count_of_tokens(usage: Any) -> None:
    assert heard({"text": "Hello", "task": "transcribe", "duration": 2.9, "usage": usage}).reported() is None


def test_that_nothing_was_said_is_an_answer() -> None:
    tap = heard({"text": "", "usage": {"type": "duration", "seconds": 3}})

    assert (tap.content_seen, tap.finished) == (True, True)


@pytest.mark.parametrize(
    "plain",
    [
        "Hello there\n",
        "1\n00:00:00,000 --> 00:00:01,200\nHello\n",
        "WEBVTT\n\n00:00.000 --> 00:01.200\nHello\n",
        "你好",
    ],
)
def test_a_transcript_may_be_plain_text(plain: str) -> None:
    tap = heard(plain.encode())

    assert (tap.content_seen, tap.finished, tap.reported()) == (True, True, None)
    assert tap.counted().output_tokens == len(plain.strip())


@pytest.mark.parametrize("plain", [b"\n", b"", b"WEBVTT\n\n"])
def test_that_nothing_was_said_is_an_answer_in_plain_text_too(plain: bytes) -> None:
    tap = heard(plain)

    assert (tap.content_seen, tap.finished) == (True, True)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("document", [{"error": {"message": "x"}}, {"type": "error", "error": {"message": "x"}}])
def test_an_error_in_place_of_a_transcript_is_one(stream: bool, document: Any) -> None:
    tap = heard(document, stream=stream)

    assert tap.error_seen
    assert not tap.finished


@pytest.mark.parametrize(
    "data", [b"<!DOCTYPE html>", b"\n<html>", b'{"text":', b"{}", b'{"text":5}', b'{"segments":[]}']
)
def test_what_is_no_transcript_is_not_finished(data: bytes) -> None:
    tap = heard(data)

    assert not tap.finished
    assert not tap.content_seen


def test_a_streamed_transcript_is_counted_once() -> None:
    begun, whole = heard(*EVENTS[:2], stream=True), heard(*EVENTS, stream=True)

    assert (begun.content_seen, begun.done, begun.finished) == (True, False, False)
    assert (whole.done, whole.finished) == (True, True)
    assert begun.counted().output_tokens == whole.counted().output_tokens == len("Hello there")
    assert dict(whole.reported().counts) == COUNTS


def test_segments_count_where_no_deltas_come() -> None:
    assert heard(SEGMENT, EVENTS[2], stream=True).counted().output_tokens == len("Hello")
    assert heard(EVENTS[0], SEGMENT, stream=True).counted().output_tokens == len("Hello")
    assert heard(EVENTS[2], stream=True).counted().output_tokens == len("Hello there")


def test_long_transcripts_are_counted_on_the_way() -> None:
    tap = heard({"type": "transcript.text.delta", "delta": "x" * 100_000}, stream=True)
    assert tap.heavy

    tap.count_waiting()
    assert not tap.heavy


def test_the_wires_tap_what_was_asked() -> None:
    assert SPEECH.tap(len, speech()).finished is False
    streamed = TRANSCRIPTIONS.tap(len, TRANSCRIPTIONS.read(sound(FILE, ("stream", None, b"true"))))
    streamed.see(json.dumps(EVENTS[2]).encode())
    plain = TRANSLATIONS.tap(len, TRANSLATIONS.read(sound(FILE)))
    plain.see(b"Hello")

    assert streamed.done
    assert plain.finished


# ── nothing raises ──────────────────────────────────────────────────────────────────────────────────────────────────

WORDS = st.sampled_from(
    [
        *("model", "input", "voice", "instructions", "response_format", "stream_format", "stream", "file", "prompt"),
        *("type", "audio", "usage", "text", "delta", "error", "input_tokens", "output_tokens", "input_token_details"),
        *("speech.audio.delta", "speech.audio.done", "transcript.text.delta", "transcript.text.done", "tokens", "sse"),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("wire", [SPEECH, TRANSCRIPTIONS, TRANSLATIONS], ids=lambda wire: wire.name)
@given(more=st.dictionaries(WORDS, JSON, max_size=4))
def test_no_json_makes_a_reader_raise_anything_but_a_refusal(wire: Wire, more: dict[str, Any]) -> None:
    try:
        ask = wire.read(Incoming({**SPEECH_BODY, **more}))
    except InvalidRequest:
        return
    assert ask.count_input(len) >= 0


PARTS = st.tuples(
    st.sampled_from(["model", "prompt", "stream", "file", "response_format", "keywords[]", "file[]", "url", "other"]),
    st.none() | st.just("f.mp3"),
    st.sampled_from([b"", b"json", b"true", b"gpt-4o-transcribe", MP3, b"x"]),
)


@pytest.mark.parametrize("wire", [TRANSCRIPTIONS, TRANSLATIONS], ids=lambda wire: wire.name)
@given(parts=st.lists(PARTS, max_size=5))
def test_no_form_does_either(wire: Wire, parts: list[Part]) -> None:
    try:
        ask = wire.read(form(*parts))
    except InvalidRequest:
        return
    assert ask.sound is not None
    assert ask.count_input(len) >= 0


@pytest.mark.parametrize("stream", [True, False])
@given(st.lists(st.binary(max_size=30) | JSON | st.dictionaries(WORDS, JSON, max_size=5), max_size=4))
def test_no_bytes_make_a_tap_raise(stream: bool, documents: list[Any]) -> None:
    said = spoken(
        *(each if isinstance(each, bytes) else json.dumps(each).encode() for each in documents), stream=stream
    )
    tap = heard(*documents, stream=stream)

    for each in (said, tap):
        assert all(count >= 0 for count in each.counted().counts.values())
        assert each.reported() is None or each.reported().sources
    assert isinstance(said.audio()[0], bytes)
