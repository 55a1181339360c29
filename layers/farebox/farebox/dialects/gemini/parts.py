"""Parts of Gemini's contents: which can be sent, and the images in them.

Only members that are known here pass: another could cost what nobody has priced. A list may be a single item: the
vendor's own examples write it so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from farebox.dialects.ask import SentImage, refuse, unpriced
from farebox.dialects.gemini.spelling import member, spellings
from farebox.dialects.inline_image import inline_image
from farebox.dialects.json_text import listed

TEXTS = spellings(
    "text",
    "thought",
    "thoughtSignature",
    "functionCall",
    "executableCode",
    "codeExecutionResult",
    "partMetadata",
    "mediaResolution",
)
UNPRICED = spellings(
    "fileData",  # a file of the operator's, or a video from anywhere, of any length
    "videoMetadata",
    "audioMetadata",
    "documentMetadata",
    "spreadsheetMetadata",
    "speechMetadata",
    "mediaProcessing",
    "audioTranscription",
    "toolCall",
    "toolResponse",
)
DATA = spellings("inlineData")
RESPONSE = spellings("functionResponse")
SIZED = ("image/", "text/")
"""Types of data whose tokens can be bounded: pages, sound and film hold more than their bytes show."""
DEPTH_MAX = 2
"""A function's response holds data; nothing stands deeper."""


@dataclass(slots=True)
class Found:
    """What a request holds: images, parameters that need a price of their own, bounds of further units (see Ask)."""

    images: list[SentImage] = field(default_factory=list)
    needs: dict[str, str] = field(default_factory=dict)
    bounds: dict[str, int] = field(default_factory=dict)


def check_content(content: Any, where: str, found: Found) -> None:
    """One content, {"role", "parts"}. Raises InvalidRequest."""
    if not isinstance(content, dict):
        raise refuse(where, zh="必须是对象", en="it must be an object")
    check_parts(content.get("parts"), f"{where}.parts", found)


def check_parts(parts: Any, where: str, found: Found, depth: int = 0) -> None:
    """Raises InvalidRequest."""
    for index, part in enumerate(listed(parts)):
        place = f"{where}[{index}]"
        if not isinstance(part, dict):
            raise refuse(place, zh="必须是对象", en="it must be an object")
        if depth >= DEPTH_MAX:
            raise unpriced(place)
        for name, value in part.items():
            if value is not None:
                _check_member(part, name, place, found, depth)


def _check_member(part: dict[str, Any], name: str, where: str, found: Found, depth: int) -> None:
    if name in TEXTS:
        return
    if name in UNPRICED:
        raise unpriced(f"{where}.{name}")
    if name not in DATA and name not in RESPONSE:
        raise unpriced(where)  # the name is the caller's own text
    value = part[name]
    place, _ = member(part, (DATA | RESPONSE)[name], where)
    if not isinstance(value, dict):
        raise refuse(place, zh="必须是对象", en="it must be an object")
    if name in RESPONSE:
        check_parts(value.get("parts"), f"{place}.parts", found, depth + 1)
        return
    type_name, mime_type = member(value, "mimeType", place)
    if not isinstance(mime_type, str):
        raise refuse(type_name, zh="必须是字符串", en="it must be a string")
    if not mime_type.lower().startswith(SIZED):
        raise unpriced(type_name)
    if mime_type.lower().startswith("image/"):
        found.images.append(inline_image(value.get("data")))
