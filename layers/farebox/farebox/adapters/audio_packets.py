"""Audio in packets: Ogg and WebM with Opus, Vorbis or (Ogg) FLAC. Each packet tells by its first bytes how long it is.

Positions and times that a container states are no more than its word; packets are what a decoder plays.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from farebox.adapters.audio_frames import TURNS_MAX, Unclear, ceil_ms, flac_frame

HEAD_BYTES = 16
"""So much of a packet its codec looks at."""
_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""Each byte with its bits in reverse."""

# ---- Codecs ---------------------------------------------------------------------------------------------------------


class Codec(Protocol):
    rate: int

    def samples(self, head: bytes) -> int:
        """How many samples a decoder makes of the packet that begins so; 0 for a header. Raises Unclear."""

    def setup(self, packet: bytes) -> None:
        """Takes in a header packet that Vorbis cannot do without."""


class Opus:
    """RFC 6716, 3.1: a byte that says what a frame's length is, and how many there are."""

    rate = 48_000
    _FRAMES = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4
    _PACKET_MAX = 5760  # 120 ms: no decoder takes a longer one

    def samples(self, head: bytes) -> int:
        if len(head) < 1 or head.startswith((b"OpusTags", b"OpusHead")):
            return 0
        code = head[0] & 3
        count = (1, 2, 2)[code] if code < 3 else head[1] & 63 if len(head) > 1 else 0
        return min(self._FRAMES[head[0] >> 3] * count, self._PACKET_MAX)

    def setup(self, packet: bytes) -> None: ...


class Vorbis:
    """Vorbis I: a packet's mode says whether its block is short or long; two neighbours overlap by half of each."""

    _MODES_MAX = 64
    _MODE_BITS = 41
    _PLAIN_BITS = (1 << 32) - 1

    def __init__(self, identification: bytes) -> None:
        self.rate = int.from_bytes(identification[12:16], "little")
        self._blocks = (1 << (identification[28] & 15), 1 << (identification[28] >> 4))
        self._long: list[bool] = []
        self._before = 0
        if not self.rate:
            raise Unclear

    def samples(self, head: bytes) -> int:
        if len(head) < 1 or head[0] & 1:
            return 0
        if not self._long:
            raise Unclear
        mode = head[0] >> 1 & (1 << (len(self._long) - 1).bit_length()) - 1
        block = self._blocks[self._long[mode] if mode < len(self._long) else 1]
        before, self._before = self._before, block
        return (before + block) // 4 if before else 0

    def setup(self, packet: bytes) -> None:
        """The modes, read from the setup header's end, before which everything has its own variable length: a bit for
        long blocks, 32 bits that are zero, a mapping below 64; before all, six bits for how many there are.
        """
        bits = int.from_bytes(packet[-(self._MODES_MAX * self._MODE_BITS // 8 + 8) :], "little")
        at = bits.bit_length() - 1
        modes: list[bool] = []
        while at >= self._MODE_BITS + 6 and len(modes) < self._MODES_MAX:
            at -= self._MODE_BITS
            mode = bits >> at & (1 << self._MODE_BITS) - 1
            if mode >> 1 & self._PLAIN_BITS or mode >> 33 > 63:
                break
            modes.insert(0, bool(mode & 1))
            if (bits >> at - 6 & 63) + 1 == len(modes):
                self._long = list(modes)


class OggFlac:
    """RFC 9639, 10.1: each packet is a frame."""

    def __init__(self, mapping: bytes) -> None:
        self.rate = int.from_bytes(mapping[27:30], "big") >> 4
        if not self.rate:
            raise Unclear

    def samples(self, head: bytes) -> int:
        frame = flac_frame(head, self.rate)
        if frame and frame[1] != self.rate:
            raise Unclear
        return frame[0] if frame else 0

    def setup(self, packet: bytes) -> None: ...


def _codec(first_packet: bytes) -> Codec | None:
    """The codec of a stream; None for one that is not heard. Raises Unclear for an unknown one."""
    if first_packet.startswith(b"OpusHead"):
        return Opus()
    if first_packet.startswith(b"\x01vorbis"):
        return Vorbis(first_packet)
    if first_packet.startswith(b"\x7fFLAC"):
        return OggFlac(first_packet)
    if first_packet.startswith((b"fishead\0", b"\x80theora")):
        return None
    raise Unclear


# ---- Ogg ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Stream:
    """One logical stream. `whole` collects a header packet."""

    codec: Codec | None = None
    started: bool = False
    within: bool = False
    whole: bytearray | None = None
    samples: int = 0

    def begin(self, head: bytes) -> None:
        if not self.started or head.startswith(b"\x05vorbis"):
            self.whole = bytearray()
        elif self.codec is not None:
            self.samples += self.codec.samples(head)

    def finish(self) -> None:
        if self.whole is None:
            return
        packet, self.whole = bytes(self.whole), None
        if not self.started:
            self.codec, self.started = _codec(packet), True
        elif self.codec is not None:
            self.codec.setup(packet)


def ogg_ms(data: bytes) -> int:
    """All logical streams together: they follow each other, or are chained. Raises Unclear.

    A damaged page is not passed over: it may hide others, which some decoders find. Only the last may be cut.
    """
    open_streams: dict[bytes, _Stream] = {}
    streams: list[_Stream] = []
    position = turns = 0
    while data.startswith(b"OggS", position) and position + 27 <= len(data):
        start = position + 27 + data[position + 26]
        sizes = data[position + 27 : start]
        end = start + sum(sizes)
        turns += 1 + len(sizes)
        if turns > TURNS_MAX or not _is_whole(data, position, end):
            raise Unclear
        serial, first = data[position + 14 : position + 18], bool(data[position + 5] & 2)
        if first or serial not in open_streams:
            open_streams[serial] = _Stream()
            streams.append(open_streams[serial])
        stream = open_streams[serial]
        if not data[position + 5] & 1:
            stream.within = False
        _add_page(stream, data, start, sizes)
        position = end
    if data.find(b"OggS", position) >= 0:
        raise Unclear
    found = sum(ceil_ms(each.samples, each.codec.rate) for each in streams if each.codec is not None)
    if not found:
        raise Unclear
    return found


def _is_whole(data: bytes, start: int, end: int) -> bool:
    """Whether a page's checksum is right; or, if it is cut, nothing like another page is in it.

    Ogg's CRC-32 is zlib's with every byte and the result mirrored, and nothing inverted (RFC 3533, 6).
    """
    if end > len(data):
        return data.find(b"OggS", start + 4) < 0
    page = data[start : start + 22] + b"\0\0\0\0" + data[start + 26 : end]
    mirrored = zlib.crc32(page.translate(_MIRROR), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return data[start + 22 : start + 26] == mirrored.to_bytes(4, "big").translate(_MIRROR)


def _add_page(stream: _Stream, data: bytes, position: int, sizes: bytes) -> None:
    for size in sizes:
        if not stream.within:
            stream.begin(data[position : position + min(size, HEAD_BYTES)])
        if stream.whole is not None:
            stream.whole += data[position : position + size]
        position += size
        stream.within = size == 255
        if not stream.within:
            stream.finish()


# ---- WebM -----------------------------------------------------------------------------------------------------------

SEGMENT, CLUSTER, BLOCK_GROUP = 0x18538067, 0x1F43B675, 0xA0
INFO, TIMESTAMP_SCALE = 0x1549A966, 0x2AD7B1
TRACKS, TRACK_ENTRY, TRACK_NUMBER, TRACK_TYPE = 0x1654AE6B, 0xAE, 0xD7, 0x83
CODEC_ID, CODEC_PRIVATE, CONTENT_ENCODINGS = 0x86, 0x63A2, 0x6D80
TIMESTAMP, SIMPLE_BLOCK, BLOCK = 0xE7, 0xA3, 0xA1
AUDIO = 2
_CLUSTER_NAME = CLUSTER.to_bytes(4, "big")
LACING = 0x06
_HOLDING_BLOCKS = frozenset({SEGMENT, CLUSTER, BLOCK_GROUP})
_PASSED_OVER = frozenset(
    {0x114D9B74, 0x1C53BB6B, 0x1043A770, 0x1941A469, 0x1254C367}  # SeekHead, Cues, Chapters, Attachments, Tags
    | {0x1A45DFA3, 0xEC, 0xBF, 0xA7, 0xAB, 0x5854}  # the file's own header, Void, CRC-32, Position, PrevSize, silence
    | {0x9B, 0xFA, 0xFB, 0x75A1, 0x75A2, 0xA4, 0x8E}  # of a block: duration, references, additions, padding, state
)
TICKS_PER_MS = 1_000_000
"""Nanoseconds: a scale is given in them, and is a millisecond unless it says otherwise."""


@dataclass(slots=True)
class _Track:
    codec: Codec
    samples: int = 0
    first: int | None = None
    last: int = 0
    end_samples: int = 0


def webm_ms(data: bytes) -> int:
    """The longest audio track: its packets, or its blocks' times where these leave gaps. Raises Unclear.

    Descends into what holds blocks and passes over the rest, so that a recording whose sizes are unknown, because they
    were not known when it was sent, needs no ends. Damage is not passed over: decoders go on behind it.
    """
    tracks: dict[int, _Track] | None = None
    scale, cluster_time = TICKS_PER_MS, 0
    for turn, (name, start, end) in enumerate(_elements(data, 0, len(data), descend=True)):
        if turn > TURNS_MAX:
            raise Unclear
        if name == TIMESTAMP:
            cluster_time = _number(data, start, end)
        elif name in (SIMPLE_BLOCK, BLOCK):
            _add_block(tracks or {}, data, start, end, cluster_time)
        elif name == TRACKS and tracks is None:
            tracks = _tracks(data, start, end)
        elif name == INFO:
            scale = next(
                (_number(data, a, b) for n, a, b in _elements(data, start, end) if n == TIMESTAMP_SCALE), scale
            )
        elif name not in _PASSED_OVER:
            raise Unclear
    found = max((_track_ms(track, scale) for track in (tracks or {}).values()), default=0)
    if not found:
        raise Unclear
    return found


def _track_ms(track: _Track, scale: int) -> int:
    spoken = ceil_ms(track.samples, track.codec.rate)
    lasting = -(-(track.last - (track.first or 0)) * scale // TICKS_PER_MS)
    return max(spoken, lasting + ceil_ms(track.end_samples, track.codec.rate))


def _elements(data: bytes, position: int, end: int, *, descend: bool = False) -> Iterator[tuple[int, int, int]]:
    """EBML elements: name, span of the content. `descend`: what holds blocks is gone into, not passed. Raises Unclear
    for one that reaches out of what holds it. The file itself may be cut, but not where more clusters follow.
    """
    ends = [end]
    while position < end:
        width = 9 - data[position].bit_length()
        name = int.from_bytes(data[position : position + width], "big")
        position += width
        if position >= end:
            break
        size_width = 9 - data[position].bit_length()
        if width > 4 or size_width > 8:
            raise Unclear
        size = int.from_bytes(data[position : position + size_width], "big") & (1 << 7 * size_width) - 1
        unknown = size == (1 << 7 * size_width) - 1
        position += size_width
        while position > ends[-1]:
            ends.pop()
        content_end = ends[-1] if unknown else position + size
        holding = descend and name in _HOLDING_BLOCKS
        if content_end > ends[-1] and (
            ends[-1] < len(data) or (not holding and data.find(_CLUSTER_NAME, position) >= 0)
        ):
            raise Unclear
        if holding:
            ends.append(min(content_end, ends[-1]))
            continue
        if unknown:
            raise Unclear
        yield name, position, min(content_end, end)
        position = content_end


def _number(data: bytes, start: int, end: int) -> int:
    return int.from_bytes(data[start : min(end, start + 8)], "big")


def _tracks(data: bytes, start: int, end: int) -> dict[int, _Track]:
    """The audio tracks, by number. Raises Unclear for one of which nothing is known."""
    tracks: dict[int, _Track] = {}
    numbers: set[int] = set()
    for name, entry_start, entry_end in _elements(data, start, end):
        if name != TRACK_ENTRY:
            continue
        fields = {child: data[a:b] for child, a, b in _elements(data, entry_start, entry_end)}
        number = int.from_bytes(fields.get(TRACK_NUMBER, b"")[:8], "big")
        if number in numbers:
            raise Unclear
        numbers.add(number)
        if int.from_bytes(fields.get(TRACK_TYPE, b"")[:8], "big") == AUDIO:
            if CONTENT_ENCODINGS in fields:
                raise Unclear
            tracks[number] = _Track(_track_codec(fields.get(CODEC_ID, b""), fields.get(CODEC_PRIVATE, b"")))
    return tracks


def _track_codec(name: bytes, private: bytes) -> Codec:
    if name.rstrip(b"\0") == b"A_OPUS":
        return Opus()
    if name.rstrip(b"\0") != b"A_VORBIS" or private[:1] != b"\x02":
        raise Unclear
    # Vorbis's three headers: the lengths of the first two, in bytes of which all but the last are 255, then all three.
    sizes, at = [0], 1
    while len(sizes) < 3:
        sizes[-1] += private[at]
        if private[at] < 255:
            sizes.append(0)
        at += 1
    codec = Vorbis(private[at : at + sizes[0]])
    codec.setup(private[at + sizes[0] + sizes[1] :])
    return codec


def _add_block(tracks: dict[int, _Track], data: bytes, start: int, end: int, cluster_time: int) -> None:
    if start >= end:
        return
    width = 9 - data[start].bit_length()
    number = int.from_bytes(data[start : start + width], "big") & (1 << 7 * width) - 1
    track = tracks.get(number)
    head = start + width + 3
    if track is None or head >= end:
        return
    if data[head - 1] & LACING:
        raise Unclear
    time = cluster_time + int.from_bytes(data[head - 3 : head - 1], "big", signed=True)
    track.first = time if track.first is None else min(track.first, time)
    if time >= track.last:
        track.last, track.end_samples = time, track.codec.samples(data[head : min(end, head + HEAD_BYTES)])
        track.samples += track.end_samples
    else:
        track.samples += track.codec.samples(data[head : min(end, head + HEAD_BYTES)])
