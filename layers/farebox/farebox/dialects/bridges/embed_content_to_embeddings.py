"""Gemini's embedContent, put to a vendor of OpenAI's embeddings. https://ai.google.dev/api/embeddings"""

from __future__ import annotations

from typing import Any

import msgspec

from farebox.dialects.ask import Fields, refuse, whole
from farebox.dialects.bridge import Bridge, Terms
from farebox.dialects.bridges.crossing import dump_request, inexpressible, refuse_others
from farebox.dialects.bridges.gemini_fields import camel, parts_of

DIMENSIONS_MAX = 65_536
KNOWN = frozenset({"content", "outputDimensionality", "model", "taskType", "title"})
"""taskType and title tune Gemini's own embeddings; OpenAI's are of one kind for all tasks, so both are left out."""
PART_MEMBERS = frozenset({"text"})


class _Item(msgspec.Struct):
    embedding: msgspec.Raw = msgspec.Raw()


class _Answer(msgspec.Struct):
    data: list[_Item]


_decode = msgspec.json.Decoder(_Answer).decode
_numbers = msgspec.json.Decoder(list[float]).decode


def request(body: Fields, terms: Terms) -> bytes:
    """An embedContent body → that of embeddings. Raises InvalidRequest."""
    given = camel(body)
    refuse_others(given, KNOWN)
    asked: dict[str, Any] = {
        "model": terms.upstream_model,
        "input": _text(given.get("content")),
        "encoding_format": "float",
    }
    if (dimensions := whole(given, "outputDimensionality", low=1, high=DIMENSIONS_MAX)) is not None:
        asked["dimensions"] = dimensions
    return dump_request(asked)


def _text(content: Any) -> str:
    if not isinstance(content, dict):
        raise refuse("content", zh="必须是带 parts 的对象", en="it must be an object with parts")
    said = []
    for path, part in parts_of(camel(content, "content."), "content."):
        refuse_others(part, PART_MEMBERS, path)
        words = part.get("text")
        if not isinstance(words, str):
            raise inexpressible(path + "text")
        said.append(words)
    whole_text = "\n".join(said)
    if not whole_text:
        raise refuse("content.parts", zh="必须含有文本", en="there must be text in it")
    return whole_text


def answer(data: bytes, _: Terms) -> bytes:
    """An embeddings answer → an EmbedContentResponse, each number as the vendor wrote it. Raises ValueError."""
    try:
        raw = bytes(_decode(data).data[0].embedding)
        if not _numbers(raw):
            raise ValueError("an empty embedding")
    except (msgspec.MsgspecError, UnicodeDecodeError, IndexError, RecursionError) as error:
        raise ValueError("no embedding in it") from error
    return b'{"embedding":{"values":%s}}' % raw


class NoStream:
    """Embeddings are never streamed."""

    def __init__(self, _: Terms) -> None:
        pass

    def feed(self, _: bytes) -> list[bytes]:
        """Nothing."""
        return []

    def end(self) -> list[bytes]:
        """Nothing."""
        return []


BRIDGE = Bridge("embedContent", "embeddings", request, answer, NoStream)
