"""An image that stands in a request as base64 (Anthropic, Gemini): only as much of it is decoded as tells its size."""

from __future__ import annotations

import binascii
from typing import Any

from farebox.dialects.ask import SentImage

HEAD_BYTES = 48 * 1024
"""Where an image's size stands; what has it later has it never."""
_HEAD_CHARS = HEAD_BYTES // 3 * 4
_STANDARD = str.maketrans("-_", "+/")
"""Google's SDKs write the alphabet that is safe in URLs."""


def inline_image(data: Any) -> SentImage:
    """`data`: base64 of the file. Of unknown size where it cannot be read. Never raises."""
    from farebox.dialects.image_size import image_size

    width, height = image_size(decoded_head(data)) or (0, 0)
    return SentImage(width, height)


def decoded_head(data: Any) -> bytes:
    """The first HEAD_BYTES of what `data` encodes; b"" where it is no base64."""
    if not isinstance(data, str):
        return b""
    head = data[:_HEAD_CHARS].translate(_STANDARD)
    try:
        return binascii.a2b_base64(head + "=" * (-len(head) % 4))
    except ValueError:  # binascii.Error, and characters beyond ASCII
        return b""
