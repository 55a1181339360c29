"""Audio in MP4 boxes (ISO 14496-12): AAC and ALAC, counted by their samples, whole files and fragmented ones.

What is stated twice, or strangely, is refused: players differ about which of the two they play.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from farebox.adapters.audio_frames import AAC_CHANNEL_BYTES_MAX, AAC_RATES, Unclear, ceil_ms

BOXES_MAX = 200_000
_AAC_TYPES = frozenset({0x40, 0x66, 0x67, 0x68})
_AAC_FRAMES = {1: 1024, 2: 1024, 3: 1024, 4: 1024, 5: 1024, 29: 1024, 23: 512, 39: 512}
"""MPEG-4 audio object types: samples a frame, at the rate of the core."""
_UNHEARD = frozenset(
    {
        b"tx3g",
        b"text",
        b"wvtt",
        b"stpp",
        b"c608",
        b"sbtl",
        b"tmcd",
        b"mett",
        b"metx",
        b"mebx",
        b"gpmd",
        b"fdsc",
        b"rtmd",
    }
    | {b"mp4s", b"jpeg", b"png "}
)
"""Sample entries of tracks that are neither sound nor moving pictures."""
Span = tuple[int, int]


@dataclass(slots=True)
class _Track:
    """`ticks`: the samples' durations as stated, in units of `timescale`."""

    frame_samples: int
    rate: int
    sample_bytes_max: int
    timescale: int
    samples: int = 0
    ticks: int = 0
    default_ticks: int = 0
    default_bytes: int = 0


def mp4_ms(data: bytes) -> int:
    """The longest audio track: its samples, or their stated durations where these are longer. Raises Unclear."""
    top = list(_boxes(data, 0, len(data)))
    movies = [span for name, *span in top if name == b"moov"]
    if len(movies) != 1:
        raise Unclear
    start, end = movies[0]
    tracks = dict(_tracks(data, start, end))
    for name, fragment_start, fragment_end in _children(data, start, end, b"mvex"):
        if name == b"trex":
            track = tracks.get(_word(data, fragment_start + 4))
            if track and fragment_end - fragment_start >= 20:
                track.default_ticks = _word(data, fragment_start + 12)
                track.default_bytes = _word(data, fragment_start + 16)
    for name, *span in top:
        if name == b"moof":
            for child, child_start, child_end in _boxes(data, *span):
                if child == b"traf":
                    _add_fragment(data, child_start, child_end, tracks)
    found = max((_track_ms(track) for track in tracks.values()), default=0)
    if not found:
        raise Unclear
    return found


def _track_ms(track: _Track) -> int:
    stated = ceil_ms(track.ticks, track.timescale)
    return max(ceil_ms(track.samples * track.frame_samples, track.rate), stated)


def _boxes(data: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name and content's span of each box; what is cut short or no box ends the row."""
    for _ in range(BOXES_MAX):
        if position + 8 > end:
            return
        size, name, start = _word(data, position), data[position + 4 : position + 8], position + 8
        if size == 1:
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        box_end = position + size if size else end
        if box_end < start:
            return
        yield name, start, min(box_end, end)
        position = box_end
    raise Unclear


def _children(data: bytes, start: int, end: int, *path: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The boxes in the box at `path`; none if it is absent. Raises Unclear if it is there twice."""
    for name in path:
        found = [span for each, *span in _boxes(data, start, end) if each == name]
        if len(found) > 1:
            raise Unclear
        if not found:
            return
        start, end = found[0]
    yield from _boxes(data, start, end)


def _only(data: bytes, start: int, end: int, *path: bytes) -> Span | None:
    """The span of the one box of this path."""
    found = [(a, b) for name, a, b in _children(data, start, end, *path[:-1]) if name == path[-1]]
    if len(found) > 1:
        raise Unclear
    return found[0] if found else None


def _needed(span: Span | None, size: int) -> Span:
    if span is None or span[1] - span[0] < size:
        raise Unclear
    return span


def _word(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 4], "big")


def _words(data: bytes, start: int, end: int) -> array[int]:
    """Big-endian whole numbers of 32 bits."""
    words = array("I")
    words.frombytes(data[start : start + (end - start) // 4 * 4])
    if sys.byteorder == "little":
        words.byteswap()
    return words


def _tracks(data: bytes, start: int, end: int) -> Iterator[tuple[int, _Track]]:
    """Numbers and audio tracks of a movie. Raises Unclear for one that might be heard and is not understood."""
    numbers: set[int] = set()
    for name, track_start, track_end in _boxes(data, start, end):
        if name != b"trak":
            continue
        handler = _needed(_only(data, track_start, track_end, b"mdia", b"hdlr"), 12)[0]
        kind = data[handler + 8 : handler + 12]
        header = _needed(_only(data, track_start, track_end, b"tkhd"), 24)[0]
        number = _word(data, header + (20 if data[header] else 12))
        if number in numbers:
            raise Unclear
        numbers.add(number)
        if kind == b"vide":
            continue
        tables = _needed(_only(data, track_start, track_end, b"mdia", b"minf", b"stbl"), 8)
        entries = _needed(_only(data, *tables, b"stsd"), 16)
        if kind != b"soun" and data[entries[0] + 12 : entries[0] + 16] in _UNHEARD:
            continue
        if _word(data, entries[0] + 4) != 1:
            raise Unclear
        media = _needed(_only(data, track_start, track_end, b"mdia", b"mdhd"), 20)[0]
        timescale = _word(data, media + (20 if data[media] else 12))
        if not timescale:
            raise Unclear
        track = _Track(*_codec(data[entries[0] + 8 : entries[1]]), timescale)
        _check_edits(data, track_start, track_end)
        _add_tables(data, tables, track)
        yield number, track


def _check_edits(data: bytes, start: int, end: int) -> None:
    """Raises Unclear where a list of edits plays a part more than once."""
    edits = _only(data, start, end, b"edts", b"elst")
    if edits is None:
        return
    width = 5 if data[edits[0]] else 3
    words = _words(data, edits[0] + 8, edits[1])
    times = words[2::width] if width == 5 else words[1::width]
    if sum(time != 0xFFFFFFFF for time in times) > 1:
        raise Unclear


def _codec(entry: bytes) -> tuple[int, int, int]:
    """(samples a frame, their rate, the most bytes of one) of a sample entry."""
    name = entry[4:8]
    if name == b"alac":
        # The entry is called so itself, and so is the box in it.
        at = entry.find(b"alac", 8) + 8
        if at < 16 or entry.count(b"alac") != 2 or len(entry) < at + 24:
            raise Unclear
        frame_samples, rate = _word(entry, at), _word(entry, at + 20)
        if not 0 < frame_samples <= 1 << 16 or not rate:
            raise Unclear
        return frame_samples, rate, 1 << 32
    at = entry.find(b"esds") + 8
    if name != b"mp4a" or at < 16 or entry.count(b"esds") != 1:
        raise Unclear
    return _aac(_decoder_specific(entry[at:]))


def _decoder_specific(descriptors: bytes) -> bytes:
    """The AudioSpecificConfig within an ES descriptor (ISO 14496-1, 7.2.6)."""
    at = _into(descriptors, 0, 3)
    flags = descriptors[at + 2]
    at += 3 + (2 if flags & 0x80 else 0) + (2 if flags & 0x20 else 0)
    if flags & 0x40:
        raise Unclear
    at = _into(descriptors, at, 4)
    if descriptors[at] not in _AAC_TYPES:
        raise Unclear
    return descriptors[_into(descriptors, at + 13, 5) :]


def _into(descriptors: bytes, at: int, tag: int) -> int:
    """Where the content of the descriptor of this tag begins; its length has four bytes at most."""
    if descriptors[at] != tag:
        raise Unclear
    for width in range(1, 5):
        if descriptors[at + width] < 0x80:
            return at + width + 1
    raise Unclear


def _aac(config: bytes) -> tuple[int, int, int]:
    """From an AudioSpecificConfig (ISO 14496-3, 1.6.2.1): object type, rate, channels."""
    bits, left = int.from_bytes(config[:8].ljust(8, b"\0"), "big"), 64

    def take(width: int) -> int:
        nonlocal left
        left -= width
        return bits >> left & (1 << width) - 1

    kind = take(5)
    kind = 32 + take(6) if kind == 31 else kind
    index = take(4)
    rate = take(24) if index == 15 else AAC_RATES[index]
    channels = take(4)
    if kind not in _AAC_FRAMES or not rate:
        raise Unclear
    return _AAC_FRAMES[kind], rate, AAC_CHANNEL_BYTES_MAX * (channels if 0 < channels < 7 else 8)


def _add_tables(data: bytes, tables: Span, track: _Track) -> None:
    sizes = _needed(_only(data, *tables, b"stsz"), 12)
    size, count = _word(data, sizes[0] + 4), _word(data, sizes[0] + 8)
    if size:
        _check_sample(track, size)
        if count > len(data):
            raise Unclear
    else:
        each = _words(data, sizes[0] + 12, min(sizes[1], sizes[0] + 12 + 4 * count))
        count = len(each)
        _check_sample(track, max(each, default=0))
    times = _needed(_only(data, *tables, b"stts"), 8)
    words = _words(data, times[0] + 8, times[1])
    track.samples += count
    # Durations with the upper bit set are negative ones, to some.
    track.ticks += sum(n * ticks for n, ticks in zip(words[::2], words[1::2], strict=False) if ticks < 1 << 31)


def _check_sample(track: _Track, size: int) -> None:
    if size > track.sample_bytes_max:
        raise Unclear


def _add_fragment(data: bytes, start: int, end: int, tracks: dict[int, _Track]) -> None:
    header = _needed(_only(data, start, end, b"tfhd"), 8)[0]
    flags, at = _word(data, header) & 0xFFFFFF, header + 8
    track = tracks.get(_word(data, header + 4))
    if track is None:
        return
    ticks, size = track.default_ticks, track.default_bytes
    at += (8 if flags & 0x1 else 0) + (4 if flags & 0x2 else 0)
    if flags & 0x8:
        ticks, at = _word(data, at), at + 4
    if flags & 0x10:
        size = _word(data, at)
    for name, run_start, run_end in _boxes(data, start, end):
        if name == b"trun":
            _add_run(track, (ticks, size), data, run_start, run_end)


def _add_run(track: _Track, defaults: tuple[int, int], data: bytes, start: int, end: int) -> None:
    ticks, size = defaults
    flags, count = _word(data, start) & 0xFFFFFF, _word(data, start + 4)
    at = start + 8 + (4 if flags & 0x1 else 0) + (4 if flags & 0x4 else 0)
    width = sum(bool(flags & flag) for flag in (0x100, 0x200, 0x400, 0x800))
    if count > len(data):
        raise Unclear
    if width:
        words = _words(data, at, min(end, at + 4 * width * count))
        count = -(-len(words) // width)
        if flags & 0x100:
            track.ticks += sum(words[::width])
        if flags & 0x200:
            size = max(words[(1 if flags & 0x100 else 0) :: width], default=0)
    if not flags & 0x100:
        track.ticks += count * ticks
    _check_sample(track, size)
    track.samples += count
