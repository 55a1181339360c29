"""How many input tokens a Gemini request is, counted from its parsed JSON: an estimate.

Gemini's tokenizer is not public: `count` is another one, and the catalog's margin covers the difference; the overheads
are estimated upwards. Nothing here raises on any JSON; what has an unknown shape counts as its JSON text. Images are
left out.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any

from farebox.dialects.ask import Count
from farebox.dialects.gemini.spelling import spellings, value_of
from farebox.dialects.json_text import json_text, listed

CONTENT_TOKENS = 4
CALL_TOKENS = 10  # the frame around a function's call or response
TOOL_TOKENS = 10
SEALED_CHARS_PER_TOKEN = 5
"""A thought's signature is base64: three bytes in four characters, about four a token."""
SCHEMAS = ("responseSchema", "responseJsonSchema")
DEPTH_MAX = 4  # parts nested deeper count as their JSON text

_NAMES = spellings(
    "text",
    "thought",
    "thoughtSignature",
    "functionCall",
    "functionResponse",
    "inlineData",
    "mediaResolution",
    "partMetadata",
)


def count_contents(body: Mapping[str, Any], count: Count) -> int:
    """Input tokens of a body of generateContent, or of countTokens, which may hold such a body instead."""
    inner = value_of(body, "generateContentRequest")
    return sum(_request_tokens(request, count) for request in (body, inner) if isinstance(request, Mapping))


def _request_tokens(body: Mapping[str, Any], count: Count) -> int:
    tokens = _content_tokens(value_of(body, "systemInstruction"), count)
    tokens += sum(_content_tokens(content, count) for content in listed(body.get("contents")))
    tokens += sum(TOOL_TOKENS + count(json_text(tool)) for tool in listed(body.get("tools")))
    config = value_of(body, "generationConfig")
    if isinstance(config, Mapping):
        schemas = [value_of(config, name) for name in SCHEMAS]
        tokens += sum(TOOL_TOKENS + count(json_text(schema)) for schema in schemas if schema)
    return tokens


def count_embedding(body: Mapping[str, Any], count: Count) -> int:
    """Input tokens of a body of embedContent, or of each request in one of batchEmbedContents."""
    tokens = 0
    for request in listed(body.get("requests")) or [body]:
        if isinstance(request, Mapping):
            tokens += _content_tokens(request.get("content"), count)
            tokens += count(json_text(request["title"])) if request.get("title") else 0
        else:
            tokens += count(json_text(request))
    return tokens


def _content_tokens(content: Any, count: Count) -> int:
    if content is None:
        return 0
    if not isinstance(content, Mapping):
        return CONTENT_TOKENS + count(json_text(content))
    return CONTENT_TOKENS + _parts_tokens(content.get("parts"), count, 0)


def _parts_tokens(parts: Any, count: Count, depth: int) -> int:
    if depth > DEPTH_MAX:
        return count(json_text(parts))
    return sum(_part_tokens(part, count, depth) for part in listed(parts))


def _part_tokens(part: Any, count: Count, depth: int) -> int:
    if not isinstance(part, Mapping):
        return count(json_text(part))
    tokens = 0
    for spelling, value in part.items():
        name = _NAMES.get(spelling)
        if value is None or name in ("thought", "mediaResolution", "partMetadata"):
            continue
        if name == "text":
            tokens += count(json_text(value))
        elif name == "thoughtSignature" and isinstance(value, str):
            tokens += -(-len(value) // SEALED_CHARS_PER_TOKEN)
        elif name == "functionCall" and isinstance(value, Mapping):
            tokens += CALL_TOKENS + _texts(value, ("name", "args"), count)
        elif name == "functionResponse" and isinstance(value, Mapping):
            tokens += CALL_TOKENS + _texts(value, ("name", "response"), count)
            tokens += _parts_tokens(value.get("parts"), count, depth + 1)
        elif name == "inlineData" and isinstance(value, Mapping):
            tokens += _data_tokens(value, count)
        else:
            tokens += count(json_text(value))
    return tokens


def _texts(holder: Mapping[str, Any], names: tuple[str, ...], count: Count) -> int:
    return sum(count(json_text(holder[name])) for name in names if holder.get(name) is not None)


def _data_tokens(blob: Mapping[str, Any], count: Count) -> int:
    """Text that came as a file; an image is left out."""
    mime_type, data = value_of(blob, "mimeType"), blob.get("data")
    if isinstance(mime_type, str) and mime_type.lower().startswith("image/"):
        return 0
    if not isinstance(data, str):
        return count(json_text(blob))
    try:
        text = binascii.a2b_base64(data.replace("-", "+").replace("_", "/") + "=" * (-len(data) % 4))
    except ValueError:
        return count(data)
    return count(text.decode("utf-8", "replace"))
