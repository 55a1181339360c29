"""An image's size is read from its first bytes, whatever they are."""

from __future__ import annotations

import base64
import struct
import time
import zlib
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.image_size import HEAD_BYTES, SIDE_MAX, data_url_size, image_size

SIDES = st.integers(1, 16_383)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b";"


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def jpeg(width: int, height: int, *, sof: int = 0xC0, before: bytes = b"") -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00"
    tables = segment(0xE0, b"JFIF\0") + segment(0xC4, b"\0" * 19) + segment(0xDB, b"\0" * 65)
    return b"\xff\xd8" + before + tables + segment(sof, frame) + segment(0xDA, b"\0" * 6) + b"\0" * 20 + b"\xff\xd9"


def riff(kind: bytes, data: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def webp_lossy(width: int, height: int) -> bytes:
    return riff(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width | 0x4000, height | 0xC000) + b"\0" * 10)


def webp_lossless(width: int, height: int) -> bytes:
    return riff(b"VP8L", b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14 | 1 << 28) + b"\0" * 10)


def webp_extended(width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff(b"VP8X", b"\x10\0\0\0" + sides)


MAKERS = {each.__name__: each for each in (png, gif, jpeg, webp_lossy, webp_lossless, webp_extended)}
# An Exif preview is a whole JPEG inside a segment; its size is not the image's.
PREVIEW = segment(0xE1, b"Exif\0\0" + jpeg(160, 120))


@pytest.mark.parametrize("name", MAKERS)
@given(width=SIDES, height=SIDES)
def test_every_format_is_read(name: str, width: int, height: int) -> None:
    image = MAKERS[name](width, height)

    assert image_size(image) == (width, height)
    assert data_url_size(f"data:image/x;base64,{base64.b64encode(image).decode()}") == (width, height)


@pytest.mark.parametrize("sof", [0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA])
def test_every_kind_of_jpeg_is_read(sof: int) -> None:
    assert image_size(jpeg(640, 480, sof=sof)) == (640, 480)


def test_a_preview_is_not_taken_for_the_image() -> None:
    assert image_size(jpeg(4032, 3024, before=PREVIEW + b"\xff\xff\xff")) == (4032, 3024)


def test_a_size_behind_the_head_is_unknown() -> None:
    assert image_size(jpeg(1, 1, before=segment(0xE2, b"\0" * (HEAD_BYTES - 400)))) == (1, 1)
    assert image_size(jpeg(1, 1, before=segment(0xE2, b"\0" * HEAD_BYTES))) is None


@pytest.mark.parametrize("side", [0, SIDE_MAX + 1, 2**31, 2**32 - 1])
def test_an_absurd_side_is_unknown(side: int) -> None:
    assert image_size(png(side, 100)) is None
    assert image_size(png(100, side)) is None
    assert image_size(png(SIDE_MAX, SIDE_MAX)) == (SIDE_MAX, SIDE_MAX)


def test_an_empty_image_is_unknown() -> None:
    assert image_size(gif(0, 1)) is None
    assert image_size(jpeg(1, 0)) is None
    assert image_size(webp_lossy(0, 1)) is None


@pytest.mark.parametrize("name", MAKERS)
def test_a_truncated_head_is_unknown_or_enough(name: str) -> None:
    image = MAKERS[name](640, 480)
    found = [image_size(image[:end]) for end in range(len(image) + 1)]

    assert set(found) == {None, (640, 480)}
    assert found == sorted(found, key=lambda size: size is not None)


@given(
    st.sampled_from([b"", *(make(9, 9)[:n] for make in MAKERS.values() for n in (4, 12, 20))]), st.binary(max_size=90)
)
def test_no_bytes_make_it_raise(start: bytes, rest: bytes) -> None:
    size = image_size(start + rest)

    assert size is None or all(0 < side <= SIDE_MAX for side in size)


@pytest.mark.parametrize("fill", [b"\xff", b"\0", b"\xff\xd8", b"\xff\xe0\0\0", b"\xff\xe0\0\2", b"\xff\xd0"])
def test_garbage_takes_no_time(fill: bytes) -> None:
    started = time.monotonic()

    assert image_size(b"\xff\xd8" + fill * (30_000_000 // len(fill))) is None
    assert time.monotonic() - started < 1


# ── data: URLs ──────────────────────────────────────────────────────────────────────────────────────────────────────

PLAIN = base64.b64encode(png(640, 480)).decode()


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64,{PLAIN}",
        f"DATA:image/png;charset=utf-8;BASE64,{PLAIN}",
        f"data:;base64,{PLAIN}",
        f"data:image/png;base64,{PLAIN.rstrip('=')}",
        f"data:image/png;base64,{PLAIN[:30]}\r\n {PLAIN[30:]}",
        f"data:image/png;base64,{quote(PLAIN)}",
        f"data:image/png;base64,{base64.urlsafe_b64encode(png(640, 480)).decode()}",
        f"data:image/png,{quote(png(640, 480))}",
    ],
)
def test_a_data_url_is_read_as_clients_write_it(url: str) -> None:
    assert data_url_size(url) == (640, 480)


@pytest.mark.parametrize(
    "url", ["", "data:", "data:,", "data:image/png;base64", "https://x.test/a,b.png", f"data:image/png;base64;{PLAIN}"]
)
def test_what_is_no_data_url_is_unknown(url: str) -> None:
    assert data_url_size(url) is None


def test_only_the_beginning_of_a_data_url_is_decoded() -> None:
    url = f"data:image/png;base64,{PLAIN.rstrip('=')}" + "A" * 30_000_000
    started = time.monotonic()

    assert data_url_size(url) == (640, 480)
    assert time.monotonic() - started < 0.5


@given(st.sampled_from(["", "data:", "data:image/png;base64,", "data:image/jpeg,"]), st.text(max_size=60))
def test_no_text_makes_it_raise(start: str, rest: str) -> None:
    data_url_size(start + rest)
