"""An image that stands in a request as base64 (Anthropic, Gemini)."""

from __future__ import annotations

from typing import Any

from farebox.dialects.ask import SentImage
from farebox.dialects.image_size import HEAD_BYTES, data_url_size


def inline_image(data: Any) -> SentImage:
    """`data`: base64 of the file, in either alphabet. Of unknown size where it cannot be read. Never raises."""
    if not isinstance(data, str):
        return SentImage()
    width, height = data_url_size(f"data:;base64,{data[: HEAD_BYTES // 3 * 4]}") or (0, 0)
    return SentImage(width, height)
