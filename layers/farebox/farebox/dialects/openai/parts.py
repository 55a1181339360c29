"""Content parts that are not text: images and sound in a message, alike in chat and in Responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from farebox.dialects.ask import SentImage

DETAILS = frozenset({"low", "high", "original", "auto"})
IMAGE_TYPES = frozenset({"image_url", "input_image", "image"})
AUDIO_TYPE = "input_audio"
BYTES_PER_AUDIO_TOKEN_MIN = 50
"""A token is 100 ms of sound, and no sound is thinner than 8 kbit/s, a byte a millisecond; halved for safety's sake."""


def is_image(part: Any) -> bool:
    return _type(part) in IMAGE_TYPES


def is_audio(part: Any) -> bool:
    return _type(part) == AUDIO_TYPE


def sent_images(contents: Iterator[Any]) -> tuple[SentImage, ...]:
    """The images in some messages' contents. Never raises, whatever the contents are."""
    return tuple(sent_image(part) for parts in contents if isinstance(parts, list) for part in parts if is_image(part))


def sent_image(part: Mapping[str, Any]) -> SentImage:
    """{"image_url": {"url", "detail"}} as in chat, or {"image_url": "…", "detail"} as in Responses."""
    link: Any = part.get("image_url")
    detail: Any = part.get("detail")
    if isinstance(link, Mapping):
        link, detail = link.get("url"), link.get("detail")
    width, height = _size(link)
    return SentImage(width, height, detail if isinstance(detail, str) and detail in DETAILS else "auto")


def audio_tokens_max(parts: Iterator[Any]) -> int:
    """The most tokens that the sound in these content parts can be. Never raises."""
    total = 0
    for part in parts:
        sound = part[AUDIO_TYPE] if is_audio(part) and AUDIO_TYPE in part else None
        data = sound.get("data") if isinstance(sound, Mapping) else None
        if isinstance(data, str):
            total += -(-len(data) * 3 // 4 // BYTES_PER_AUDIO_TOKEN_MIN) + 1
    return total


def _size(link: Any) -> tuple[int, int]:
    """Width and height of an image in a data: URL; nought where they are not known. A link is never followed."""
    if not isinstance(link, str) or not link.startswith("data:"):
        return 0, 0
    from farebox.dialects.image_size import data_url_size

    return data_url_size(link) or (0, 0)


def _type(part: Any) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    return kind if isinstance(kind, str) else ""
