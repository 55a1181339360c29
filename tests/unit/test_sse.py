"""Framing of event streams: whatever the chunks, the same frames; joined, they are the stream."""

from __future__ import annotations

import itertools
import re
import time
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from farebox.dialects.sse import FRAME_BYTES_MAX, Framer, FrameTooLarge, data_of, event

MEBI = 1024 * 1024
BYTES = [b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"data: ", b"data:", b":", b"x", b"\xe4\xbd", b"\xa0", b"\x00"]
LETTERS = ["你好 🌍", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"]
PIECES = st.sampled_from([*BYTES, *(each.encode() for each in LETTERS)])
STREAMS = st.one_of(st.lists(PIECES, max_size=40).map(b"".join), st.binary(max_size=60))
CUTS = st.lists(st.integers(0, 200), max_size=30)


def framed(*chunks: bytes) -> list[bytes]:
    """The frames of a stream that came in these chunks, what is left at its end included."""
    framer = Framer()
    frames = [frame for chunk in chunks for frame in framer.feed(chunk)]
    rest = framer.flush()
    return [*frames, rest] if rest else frames


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(each, len(stream)) for each in at), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


def by_the_book(stream: bytes) -> list[bytes]:
    """The slow reference: lines one by one, a frame ends with each empty line that is not the frame's first."""
    lines = re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", stream)
    frames, frame = [], b""
    for line in lines:
        empty_line = frame != b"" and line in (b"\r\n", b"\n", b"\r")
        frame += line
        if empty_line:
            frames.append(frame)
            frame = b""
    return [*frames, frame] if frame else frames


# ── any chunks, the same frames ─────────────────────────────────────────────────────────────────────────────────────


@given(STREAMS, CUTS)
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", [8, 9, 10])
@example(b"a\r\r\nb", [2])
@example(b"a\n\r\nb", [3])
@example(b"a\r\n\rb\r\r", [3, 4])
def test_any_chunks_of_any_bytes_give_the_same_frames(stream: bytes, at: list[int]) -> None:
    assert framed(*cut(stream, at)) == framed(stream)


@given(STREAMS, CUTS)
def test_the_frames_joined_are_the_stream(stream: bytes, at: list[int]) -> None:
    assert b"".join(framed(*cut(stream, at))) == stream


@given(STREAMS)
def test_byte_by_byte_gives_the_same_frames(stream: bytes) -> None:
    assert framed(*(stream[at : at + 1] for at in range(len(stream)))) == framed(stream)


@given(STREAMS)
def test_frames_end_where_the_specification_says(stream: bytes) -> None:
    # A CR at the very end may be half of a CRLF, so only a stream that goes on can be compared.
    stream += b"data: on"
    assert framed(stream) == by_the_book(stream)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_ending_ends_events(end: bytes) -> None:
    first, second = b"event: a" + end + b"data: 1" + end * 2, b"data: 2" + end * 2

    assert framed(first + second) == [first, second]
    assert [data_of(frame) for frame in framed(first + second)] == [b"1", b"2"]


@pytest.mark.parametrize("blank", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n", b"\n\r", b"\r\n\r"])
def test_mixed_line_endings_make_a_blank_line_too(blank: bytes) -> None:
    assert framed(b"data: 1" + blank + b"data: 2\n\n") == [b"data: 1" + blank, b"data: 2\n\n"]


def test_one_crlf_split_over_chunks_is_no_blank_line() -> None:
    assert framed(b"data: 1\r", b"\ndata: 2\r", b"\n\r", b"\n") == [b"data: 1\r\ndata: 2\r\n\r\n"]


def test_an_event_leaves_with_the_byte_that_completes_it() -> None:
    framer = Framer()

    assert framer.feed(b"data: 1\n") == []
    assert framer.feed(b"\n") == [b"data: 1\n\n"]
    assert framer.feed(b"data: 2\r\n\r") == []
    assert framer.feed(b"\ndata: 3") == [b"data: 2\r\n\r\n"]
    assert framer.flush() == b"data: 3"
    assert framer.flush() == b""


def test_a_character_split_over_chunks_is_whole_again() -> None:
    frame = "data: 你好🌍\n\n".encode()
    for at in range(len(frame)):
        assert framed(frame[:at], frame[at:]) == [frame]


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x00"])
def test_what_only_unicode_calls_a_line_end_splits_nothing(odd: str) -> None:
    frame = f"data: a{odd}{odd}b\n\n".encode()

    assert framed(frame) == [frame]
    assert data_of(frame) == f"a{odd}{odd}b".encode()


# ── what stands in a frame ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("frame", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\n\n", b"x"),
        (b"data:  x\n\n", b" x"),
        (b"data: x \n\n", b"x "),
        (b"data:x\r\n\r\n", b"x"),
        (b"data: x\r\r", b"x"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data: a\r\ndata:b\r\n\r\n", b"a\nb"),
        (b"event: e\nid: 1\nretry: 5\ndata: x\n\n", b"x"),
        (b": c\ndata: x\n\n", b"x"),
        (b"\ndata: x\n\n", b"x"),
        (b"data: x", b"x"),
        (b"data: data: x\n\n", b"data: x"),
        (b"data: [DONE]\n\n", b"[DONE]"),
        (b"data:\n\n", b""),
        (b"data: \n\n", b""),
        (b": keep-alive\n\n", None),
        (b":\n\n", None),
        (b"event: ping\n\n", None),
        (b"id: 1\n\n", None),
        (b"retry: 3000\n\n", None),
        (b"\n\n", None),
        (b"xdata: x\n\n", None),
        (b" data: x\n\n", None),
        (b"", None),
    ],
)
def test_the_data_of_a_frame(frame: bytes, data: bytes | None) -> None:
    assert data_of(frame) == data


@given(
    st.binary(max_size=40).filter(lambda data: b"\r" not in data and b"\n" not in data), st.sampled_from([None, "e"])
)
def test_an_event_that_we_make_reads_as_it_was_meant(data: bytes, name: str | None) -> None:
    frame = event(data, name)

    assert framed(frame) == [frame]
    assert data_of(frame) == data


# ── bounded ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("filler", [b"x", b"x\n", b"\r\nx", b"data: x\r"], ids=["one line", "LF", "CRLF", "CR"])
def test_64_mib_without_an_end_are_refused_in_bounded_memory(filler: bytes) -> None:
    framer, chunk = Framer(), filler * 16_384
    fed = 0
    tracemalloc.start()
    try:
        with suppress(FrameTooLarge):
            while fed < 64 * MEBI:
                framer.feed(chunk)
                fed += len(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert fed <= FRAME_BYTES_MAX
    assert peak < 3 * FRAME_BYTES_MAX


def test_a_long_event_in_small_chunks_takes_linear_time() -> None:
    def took(size: int) -> float:
        framer, chunk = Framer(), b"x" * 512
        start = time.perf_counter()
        for _ in range(size // len(chunk)):
            framer.feed(chunk)
        return time.perf_counter() - start

    # A scan from the start at each chunk would read 250 GB; this takes some hundredths of a second.
    assert took(15 * MEBI) < 10


def test_a_million_small_events_take_linear_time() -> None:
    stream, start = b"data: x\n\n" * 1_000_000, time.perf_counter()
    framer = Framer()
    count = sum(len(framer.feed(stream[at : at + 65_536])) for at in range(0, len(stream), 65_536))

    assert count == 1_000_000
    assert time.perf_counter() - start < 20
