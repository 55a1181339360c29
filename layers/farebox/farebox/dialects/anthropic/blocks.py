"""Content blocks of Anthropic messages: which can be sent, what each needs, and the images in them.

Only kinds that are known here pass: a block of another kind could cost what nobody has priced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from farebox.dialects.ask import SentImage, refuse, unpriced
from farebox.dialects.inline_image import inline_image
from farebox.dialects.openai.charges import stored_elsewhere

DEPTH_MAX = 3
"""A tool's result holds a document that holds an image; nothing stands deeper."""
HOUR = "1h"
CACHE_TTLS = (None, "5m", HOUR)


@dataclass(slots=True)
class Found:
    """What a request's blocks hold: images, and parameters that need a price of their own (see Ask)."""

    images: list[SentImage] = field(default_factory=list)
    needs: dict[str, str] = field(default_factory=dict)


def check_content(content: Any, where: str, found: Found, depth: int = 0) -> None:
    """A string or a list of blocks at `where`. Raises InvalidRequest."""
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise refuse(where, zh="必须是字符串或数组", en="it must be a string or an array")
    for index, block in enumerate(content):
        place = f"{where}[{index}]"
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise refuse(place, zh="必须是带 type 的对象", en="it must be an object with a type")
        check = _CHECKS.get(block["type"])
        if check is None or depth > DEPTH_MAX:
            raise unpriced(f"{place}.type")
        check_cache(block, place, found)
        check(block, place, found, depth + 1)


def check_cache(holder: dict[str, Any], where: str, found: Found) -> None:
    """What stands an hour in the cache costs more to write than what stands five minutes. Raises InvalidRequest."""
    control = holder.get("cache_control")
    if control is None:
        return
    name = f"{where}.cache_control".lstrip(".")
    if not isinstance(control, dict):
        raise refuse(name, zh="必须是对象", en="it must be an object")
    ttl = control.get("ttl")
    if ttl not in CACHE_TTLS:
        raise unpriced(f"{name}.ttl")
    if ttl == HOUR:
        found.needs[f"{name}.ttl"] = "cache_write_1h_token"


def _plain(_block: dict[str, Any], _where: str, _found: Found, _depth: int) -> None:
    """Text, or what is counted as text."""


def _nested(block: dict[str, Any], where: str, found: Found, depth: int) -> None:
    if block.get("content") is not None:
        check_content(block["content"], f"{where}.content", found, depth)


def _image(block: dict[str, Any], where: str, found: Found, _depth: int) -> None:
    source = _source(block, where)
    if source["type"] == "base64":
        found.images.append(inline_image(source.get("data")))
    elif source["type"] == "url":
        found.images.append(SentImage())
    else:
        raise unpriced(f"{where}.source.type")


def _document(block: dict[str, Any], where: str, found: Found, depth: int) -> None:
    """Text, or blocks. A PDF's pages are billed as text and as images, and nothing bounds how much of either."""
    source = _source(block, where)
    if source["type"] == "content":
        check_content(source.get("content"), f"{where}.source.content", found, depth)
    elif source["type"] != "text":
        raise unpriced(f"{where}.source.type")


def _source(block: dict[str, Any], where: str) -> dict[str, Any]:
    source = block.get("source")
    if not isinstance(source, dict) or not isinstance(source.get("type"), str):
        raise refuse(f"{where}.source", zh="必须是带 type 的对象", en="it must be an object with a type")
    if source["type"] == "file" or source.get("file_id") is not None:
        raise stored_elsewhere(f"{where}.source.file_id")
    return source


_CHECKS: dict[str, Callable[[dict[str, Any], str, Found, int], None]] = {
    "text": _plain,
    "image": _image,
    "document": _document,
    "search_result": _nested,
    "thinking": _plain,
    "redacted_thinking": _plain,
    "tool_use": _plain,
    "tool_result": _nested,
    "tool_reference": _plain,
    "browser_state": _plain,
    "server_tool_use": _plain,
    "web_search_tool_result": _plain,
    "tool_search_tool_result": _plain,
}
"""A block's type → how it is checked."""
