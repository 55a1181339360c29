"""How long a piece of audio plays, measured from its frames: no header's word is taken for it.

A caller is billed by this figure and may write any duration into a header; whoever decodes the file plays what is in
it. So MPEG, ADTS and FLAC frames (audio_frames), the packets of Ogg and WebM (audio_packets) and the samples of MP4
(audio_boxes) are counted, and a WAV's bytes. Own code, because the libraries (tinytag, libmediainfo) tell what headers
say, and nothing of what browsers record or vendors stream (WebM and FLAC without a duration, WAV without a size).

Where decoders might differ about what there is to play, the answer is None, and the request is refused. The format is
told by the bytes alone, never by a name. Whole frames are counted: up to 0.2 s more than a player shows.
"""

from __future__ import annotations

import re
import struct

from farebox.adapters.audio_frames import Unclear, adts_ms, ceil_ms, flac_ms, is_adts, is_mpeg, mpeg_ms

DURATION_MS_MAX = 24 * 3_600_000
"""What claims to play longer is no recording."""
PCM_BYTES_PER_SECOND = 24_000 * 2
"""OpenAI's speech without a container: 24 kHz, 16 bit, mono."""

_PCM = frozenset({1, 3, 6, 7})
"""WAVE format tags of fixed width: PCM, float, A-law, µ-law."""
_IMA_ADPCM, _MPEG_LAYER_3, _EXTENSIBLE = 0x11, 0x55, 0xFFFE
_TAGS_MAX = 16
_CHUNKS_MAX = 1000
_PADDING = re.compile(rb"\0+")
_CHUNK_NAME = re.compile(rb"[A-Za-z0-9_ ]{4}")


class AudioMeter:
    """Keeps no state, so it may be shared between threads. One call may take a second (25 MB, hostile)."""

    def duration_ms(self, data: bytes | memoryview, filename: str, content_type: str) -> int | None:
        """Whole milliseconds, rounded up; None where they cannot be told for sure. Never raises.

        For MP3 (and layers I, II), AAC (ADTS, M4A, MP4), ALAC in M4A, WAV, FLAC, Opus and Vorbis in Ogg and WebM; of
        several tracks the longest. What is cut short has the length of what is there; MP4's, of what its table tells.

        Raw PCM is told by `content_type` "audio/pcm" and by an empty `filename`: a vendor's answer has none, a caller's
        upload always has one, and its content type is only the caller's word.
        """
        try:
            found = _measure(bytes(data))
            if found is None and not filename and content_type.partition(";")[0].strip().lower() == "audio/pcm":
                found = ceil_ms(len(data), PCM_BYTES_PER_SECOND)
        except (Unclear, IndexError, struct.error):
            return None
        return found if found is not None and 0 < found <= DURATION_MS_MAX else None


def _measure(data: bytes) -> int | None:
    """Milliseconds; None for a format that is not known."""
    data = data[_behind_tags(data) :]
    if read := _CONTAINERS.get(b"ftyp" if data[4:8] == b"ftyp" else data[:4]):
        return read(data)
    for is_row, read_row in ((is_adts, adts_ms), (is_mpeg, mpeg_ms)):
        if is_row(data, 0):
            return read_row(data, 0, len(data))
    return None


def _ogg_ms(data: bytes) -> int:
    # These two and MP4's are loaded when they are needed: few requests carry audio.
    from farebox.adapters.audio_packets import ogg_ms

    return ogg_ms(data)


def _webm_ms(data: bytes) -> int:
    from farebox.adapters.audio_packets import webm_ms

    return webm_ms(data)


def _mp4_ms(data: bytes) -> int:
    from farebox.adapters.audio_boxes import mp4_ms

    return mp4_ms(data)


def _behind_tags(data: bytes) -> int:
    """Where the audio begins: behind ID3v2 tags, which every decoder skips by their size, and their padding."""
    position = 0
    for _ in range(_TAGS_MAX):
        if data[position : position + 3] != b"ID3":
            return position
        size = 0
        for byte in data[position + 6 : position + 10]:
            size = size << 7 | byte & 0x7F
        position += 10 + size + (10 if data[position + 5] & 0x10 else 0)
        if padding := _PADDING.match(data, position):
            position = padding.end()
    raise Unclear


def _wav_ms(data: bytes) -> int:
    """All data chunks, each to the end of the file if its size is none (0, or beyond the end)."""
    if data[8:12] != b"WAVE":
        raise Unclear
    position = 12
    layout: bytes | None = None
    audio: list[tuple[int, int]] = []
    for _ in range(_CHUNKS_MAX):
        if position + 8 > len(data):
            break
        name, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        if not _CHUNK_NAME.fullmatch(name):
            # No chunk: a data chunk with too small a size goes on here.
            if not audio:
                raise Unclear
            audio[-1] = (audio[-1][0], len(data))
            break
        position += 8
        end = position + size
        if name == b"data":
            end = len(data) if not size or end > len(data) else end
            audio.append((position, end))
        elif name == b"fmt ":
            if layout is not None or size < 16:
                raise Unclear
            layout = data[position:end]
        position = end + (end & 1)
    else:
        raise Unclear
    if layout is None or not audio:
        raise Unclear
    return sum(_chunk_ms(data, layout, start, end) for start, end in audio)


def _chunk_ms(data: bytes, layout: bytes, start: int, end: int) -> int:
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", layout)
    if tag == _EXTENSIBLE:
        tag = int.from_bytes(layout[24:26], "little")
    if tag == _MPEG_LAYER_3:
        return mpeg_ms(data, start, end)
    if not channels or not rate or not block:
        raise Unclear
    if tag in _PCM and block == channels * ((bits + 7) // 8):
        return ceil_ms(-(-(end - start) // block), rate)
    if tag == _IMA_ADPCM and bits == 4 and block > 4 * channels:
        # Each block: a whole sample a channel in its header, then four bits a sample.
        samples = (block - 4 * channels) * 2 // channels + 1
        return ceil_ms(-(-(end - start) // block) * samples, rate)
    raise Unclear


_CONTAINERS = {
    b"RIFF": _wav_ms,
    b"RF64": _wav_ms,
    b"fLaC": flac_ms,
    b"OggS": _ogg_ms,
    b"\x1a\x45\xdf\xa3": _webm_ms,
    b"ftyp": _mp4_ms,
}
"""By a file's first four bytes, in MP4's case by the four behind them."""
