"""Audio that is a row of frames, each with a header of its own: MPEG layers I to III, AAC in ADTS, FLAC.

Frames are walked one by one; what stands between them is passed over, as decoders do, and whatever a decoder would
still take for a frame is counted. Bounded in turns, so in time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import islice

TURNS_MAX = 1_200_000
"""Frames, packets or false starts of one file: 25 MB of the shortest MP3 frames."""
FLAC_CANDIDATES_MAX = 300_000
KINDS_MAX = 8
FALSE_HEADERS_MAX, FALSE_HEADER_BYTES = 20, 50_000
"""So many headers that are none may stand in a file; chance puts one into some 150,000 bytes."""

AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
AAC_SAMPLES = 1024
AAC_CHANNEL_BYTES_MAX = 768
"""A channel's most in one AAC frame; what is larger holds several frames, and decoders play them all."""
_TAG_BYTES = 200
"""So near to its beginning a frame of Xing's, LAME's or Fraunhofer's, which holds no sound, says so."""
_FLAC_FRAME = re.compile(rb"\xff[\xf8\xf9][\x10-\xff][\x00-\xaf]")
_FLAC_SIZES = (0, 192, 576, 1152, 2304, 4608, 0, 0, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
"""By code; codes 6 and 7 stand for a size of one and of two bytes that follows."""
_FLAC_RATES = (0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)


class Unclear(Exception):
    """The duration cannot be told for sure."""


Frame = tuple[int, int, int, int]
"""Its kind (frames of one stream have one), its size in bytes, its samples, its samples per second."""


def ceil_ms(samples: int, rate: int) -> int:
    """Samples at `rate` per second → milliseconds, rounded up."""
    return -(-samples * 1000 // rate)


def total_ms(samples: dict[int, int]) -> int:
    """Rate → samples at that rate, all played one after the other. Raises Unclear if there are none."""
    if not any(samples.values()):
        raise Unclear
    return sum(ceil_ms(count, rate) for rate, count in samples.items())


def is_mpeg(data: bytes, start: int) -> bool:
    """Whether MPEG frames stand there, or one up to the end."""
    return _is_row(data, start, _mpeg_frame)


def is_adts(data: bytes, start: int) -> bool:
    """Whether ADTS frames stand there, or one up to the end."""
    return _is_row(data, start, _adts_frame)


def _is_row(data: bytes, start: int, frame_at: Callable[[bytes, int], Frame | None]) -> bool:
    frame = frame_at(data, start)
    if frame is None:
        return False
    follower = start + frame[1]
    return follower >= len(data) - 4 or frame_at(data, follower) is not None


def mpeg_ms(data: bytes, start: int, end: int) -> int:
    """Raises Unclear, also for a free bit rate, whose frames do not tell their size."""
    header = int.from_bytes(data[start : start + 3], "big")
    if header & 0xFFE0F0 == 0xFFE000 and header & 0x600 and header & 0xC != 0xC:
        raise Unclear
    return _walk(data, start, end, _mpeg_frame)


def adts_ms(data: bytes, start: int, end: int) -> int:
    """Raises Unclear."""
    return _walk(data, start, end, _adts_frame)


def _walk(data: bytes, start: int, end: int, frame_at: Callable[[bytes, int], Frame | None]) -> int:
    """Counts frames: generously, since one that nothing follows still counts if others of its kind came before; and
    passes over the content only of those that have another of their kind right behind them.

    Raises Unclear also where many more headers of these kinds stand in the data than were met in this way.
    """
    samples: dict[int, int] = {}
    met: dict[int, int] = {}
    position = start
    for _ in range(TURNS_MAX):
        frame = frame_at(data, position)
        step = 1
        if frame:
            kind, size, count, rate = frame
            follower = frame_at(data, position + size)
            if follower and follower[0] == kind:
                step = size
            if step > 1 or kind in met or position == start:
                met[kind] = met.get(kind, 0) + 1
                if position > start or not _is_tag(data[position : position + min(size, _TAG_BYTES)]):
                    samples[rate] = samples.get(rate, 0) + count
        position += step
        if step == 1:
            position = data.find(b"\xff", position, end)
        if not 0 <= position < end:
            break
    else:
        raise Unclear
    _check_hidden(data[start:end], met, frame_at is _adts_frame)
    return total_ms(samples)


def _check_hidden(data: bytes, met: dict[int, int], adts: bool) -> None:  # noqa: FBT001
    """Raises Unclear if there are far more headers of these kinds than frames of them were met."""
    if len(met) > KINDS_MAX:
        raise Unclear
    for kind, count in met.items():
        if adts:
            seconds, thirds = {0xF0, 0xF1, 0xF8, 0xF9}, {byte for byte in range(256) if byte & 0x3C == kind}
        else:
            keys = [key for key, frame in _mpeg_headers().items() if frame[0] == kind]
            seconds = {key >> 8 | bit for key in keys for bit in (0, 1)}
            thirds = {key & 0xFF | bit for key in keys for bit in (0, 1)}
        header = re.compile(b"\xff[%b][%b]" % (re.escape(bytes(sorted(seconds))), re.escape(bytes(sorted(thirds)))))
        bound = count + count // 8 + FALSE_HEADERS_MAX + len(data) // FALSE_HEADER_BYTES
        if sum(1 for _ in islice(header.finditer(data), bound + 1)) > bound:
            raise Unclear


def _is_tag(frame: bytes) -> bool:
    return any(name in frame for name in (b"Xing", b"Info", b"VBRI"))


def _mpeg_frame(data: bytes, position: int) -> Frame | None:
    if data[position : position + 1] != b"\xff":
        return None
    return _mpeg_headers().get(int.from_bytes(data[position + 1 : position + 3], "big") & 0xFEFE)


@cache
def _mpeg_headers() -> dict[int, Frame]:
    """The second and third byte, without their lowest bits (checksum, private) → the frame. ISO 11172-3, 13818-3."""
    kbits = {
        (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
        (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
        (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
        (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
        (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
        (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    }
    headers: dict[int, Frame] = {}
    for version_bits, divisor in ((3, 1), (2, 2), (0, 4)):  # MPEG 1, 2, 2.5
        for layer in (1, 2, 3):
            samples = 384 if layer == 1 else 576 if layer == 3 and divisor > 1 else 1152
            slot = 4 if layer == 1 else 1
            for index, kbit in enumerate(kbits[min(divisor, 2), layer], 1):
                for rate_bits, base in enumerate((44100, 48000, 32000)):
                    rate = base // divisor
                    second = 0xE0 | version_bits << 3 | (4 - layer) << 1
                    for padding in (0, 1):
                        size = (samples // 8 // slot * kbit * 1000 // rate + padding) * slot
                        third = index << 4 | rate_bits << 2 | padding << 1
                        headers[second << 8 | third] = (second << 2 | rate_bits, size, samples, rate)
    return headers


def _adts_frame(data: bytes, position: int) -> Frame | None:
    header = data[position : position + 7]
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return None
    rate_index = header[2] >> 2 & 15
    size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    channels = (header[2] & 1) << 2 | header[3] >> 6
    size_max = AAC_CHANNEL_BYTES_MAX * ((header[6] & 3) + 1) * (channels if 0 < channels < 7 else 8) + 9
    if rate_index >= len(AAC_RATES) or not 7 <= size <= size_max:
        return None
    return header[2] & 0x3C, size, AAC_SAMPLES * ((header[6] & 3) + 1), AAC_RATES[rate_index]


def flac_ms(data: bytes) -> int:
    """A native FLAC stream. Its frames do not tell their size: each header with a right checksum counts. Raises
    Unclear.
    """
    rate = int.from_bytes(data[18:21], "big") >> 4
    position, last = 4, False
    while not last:
        last = bool(data[position] & 0x80)
        position += 4 + int.from_bytes(data[position + 1 : position + 4], "big")
    samples: dict[int, int] = {}
    for turn, match in enumerate(_FLAC_FRAME.finditer(data, position)):
        if turn > FLAC_CANDIDATES_MAX:
            raise Unclear
        if frame := flac_frame(data[match.start() : match.start() + 16], rate):
            samples[frame[1]] = samples.get(frame[1], 0) + frame[0]
    return total_ms(samples)


def flac_frame(head: bytes, stream_rate: int) -> tuple[int, int] | None:
    """(samples, rate) of the FLAC frame that begins with `head`, 16 bytes of it; None if none does. RFC 9639."""
    if len(head) < 6 or not _FLAC_FRAME.match(head) or head[3] & 1:
        return None
    size_bits, rate_bits = head[2] >> 4, head[2] & 15
    # The frame's number, coded as UTF-8 codes letters, says by its first byte how long it is.
    ones = 8 - (~head[4] & 0xFF).bit_length()
    at = 4 + max(1, ones)
    if ones in (1, 8) or rate_bits == 15:
        return None
    samples = _FLAC_SIZES[size_bits]
    if not samples:
        width = size_bits - 5
        samples = int.from_bytes(head[at : at + width], "big") + 1
        at += width
    rate = _FLAC_RATES[rate_bits] if rate_bits < len(_FLAC_RATES) else 0
    if rate_bits >= 12:
        width = 1 if rate_bits == 12 else 2
        rate = int.from_bytes(head[at : at + width], "big") * (1000, 1, 10)[rate_bits - 12]
        at += width
    rate = rate or stream_rate
    if at >= len(head) or not rate or _crc8(head[:at]) != head[at]:
        return None
    return samples, rate


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _crc8_table()[value ^ byte]
    return value


@cache
def _crc8_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ 0x07) & 0xFF if value & 0x80 else value << 1  # noqa: PLW2901
        table.append(value)
    return table
