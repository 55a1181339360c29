"""An image's width and height from its first bytes: PNG, JPEG, GIF and WebP.

Own code: `imagesize`, the library for it, loads an HTTP client and an XML parser (30 ms) and opens links and paths that
it is given as text; it takes a WebP's scaling bits for width, and a GIF above 32,767 pixels for a negative one.
"""

from __future__ import annotations

import binascii
import re
from urllib.parse import unquote, unquote_to_bytes

HEAD_BYTES = 48 * 1024
"""So much of a file is looked at; a multiple of three, so that base64 can be cut there. A JPEG's size may stand behind
a preview and a colour profile."""
SIDE_MAX = 100_000

_SIZED = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""JPEG's frame headers, SOF0 to SOF15 without DHT, JPG and DAC, which stand between them."""
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
"""JPEG markers without a length: TEM, RST0 to RST7, SOI."""
_FOREIGN = re.compile(r"[^A-Za-z0-9+/]+")
Size = tuple[int, int]


def image_size(head: bytes) -> Size | None:
    """(width, height) in pixels of the image that begins with `head`; None where they are not among its first
    HEAD_BYTES, are zero or above SIDE_MAX. Never raises.

    As stored: an orientation in a JPEG's Exif data, by which a viewer would swap the two, is not looked at.
    """
    head = head[:HEAD_BYTES]
    for signature, read in _FORMATS.items():
        if head.startswith(signature):
            size = read(head)
            return size if size and all(0 < side <= SIDE_MAX for side in size) else None
    return None


def data_url_size(url: str) -> Size | None:
    """The same of a data: URL, of which only the beginning is decoded. Any other URL is None. Never raises."""
    # A scheme is short; what stands before the comma is a media type and its parameters.
    comma = url.find(",", 0, 1000)
    if comma < 0 or url[:5].lower() != "data:":
        return None
    start, encoded = comma + 1, url[:comma].rstrip().lower().endswith(";base64")
    if not encoded:
        return image_size(unquote_to_bytes(url[start : start + 3 * HEAD_BYTES]))
    text = unquote(url[start : start + HEAD_BYTES // 3 * 4]).replace("-", "+").replace("_", "/")
    text = _FOREIGN.sub("", text)
    try:
        return image_size(binascii.a2b_base64(text[: len(text) // 4 * 4]))
    except binascii.Error:
        return None


def _png(head: bytes) -> Size | None:
    if head[12:16] != b"IHDR" or len(head) < 24:
        return None
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def _gif(head: bytes) -> Size | None:
    if head[3:6] not in (b"87a", b"89a") or len(head) < 10:
        return None
    return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")


def _jpeg(head: bytes) -> Size | None:
    position = 2
    while position + 4 <= len(head) and head[position] == 0xFF:
        marker = head[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker in _BARE:
            position += 2
        elif marker in _SIZED:
            if position + 9 > len(head):
                return None
            height, width = head[position + 5 : position + 7], head[position + 7 : position + 9]
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
        else:
            position += 2 + max(2, int.from_bytes(head[position + 2 : position + 4], "big"))
    return None


def _webp(head: bytes) -> Size | None:
    if head[8:12] != b"WEBP" or len(head) < 30:
        return None
    kind = head[12:16]
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L" and head[20] == 0x2F:
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        # The upper two bits of each are a wish for scaling.
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None


_FORMATS = {b"\x89PNG\r\n\x1a\n": _png, b"\xff\xd8": _jpeg, b"GIF8": _gif, b"RIFF": _webp}
