"""Gemini's embedContent and batchEmbedContents, put to a vendor of OpenAI's embeddings.

https://ai.google.dev/api/embeddings. OpenAI takes many texts at once too, so a batch is one request there as well.
"""

from __future__ import annotations

from typing import Any

import msgspec

from farebox.dialects.ask import Fields, refuse, whole
from farebox.dialects.bridge import Bridge, Terms
from farebox.dialects.bridges.crossing import dump_request, inexpressible, refuse_others
from farebox.dialects.bridges.gemini_fields import Json, camel, parts_of, repeated

DIMENSIONS_MAX = 65_536
KNOWN = frozenset({"content", "outputDimensionality", "model", "taskType", "title"})
"""taskType and title tune Gemini's own embeddings; OpenAI's are of one kind for all tasks, so both are left out."""
PART_MEMBERS = frozenset({"text"})


class _Item(msgspec.Struct):
    embedding: msgspec.Raw = msgspec.Raw()
    index: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Item]


_decode = msgspec.json.Decoder(_Answer).decode
_numbers = msgspec.json.Decoder(list[float]).decode


def request(body: Fields, terms: Terms) -> bytes:
    """An embedContent body → that of embeddings. Raises InvalidRequest."""
    given = camel(body)
    return _request(_text(given), _dimensions(given), terms)


def request_batch(body: Fields, terms: Terms) -> bytes:
    """A batchEmbedContents body → that of embeddings, which know one size for all. Raises InvalidRequest."""
    given = camel(body)
    refuse_others(given, {"requests", "model"})
    requests = repeated(given, "requests")
    texts = [_text(each, path) for path, each in requests]
    if not texts:
        raise refuse("requests", zh="必须是非空数组", en="it must be a non-empty array")
    dimensions = _dimensions(requests[0][1], requests[0][0])
    for path, each in requests[1:]:
        if _dimensions(each, path) != dimensions:
            raise inexpressible(path + "outputDimensionality")
    return _request(texts, dimensions, terms)


def _request(given: str | list[str], dimensions: int | None, terms: Terms) -> bytes:
    asked: dict[str, Any] = {"model": terms.upstream_model, "input": given, "encoding_format": "float"}
    if dimensions is not None:
        asked["dimensions"] = dimensions
    return dump_request(asked)


def _dimensions(given: Json, path: str = "") -> int | None:
    name = path + "outputDimensionality"
    return whole({name: given.get("outputDimensionality")}, name, low=1, high=DIMENSIONS_MAX)


def _text(given: Json, path: str = "") -> str:
    """The text of one request, whose members are named as in camelCase."""
    refuse_others(given, KNOWN, path)
    content, where = given.get("content"), f"{path}content"
    if not isinstance(content, dict):
        raise refuse(where, zh="必须是带 parts 的对象", en="it must be an object with parts")
    said = []
    for place, part in parts_of(camel(content, f"{where}."), f"{where}."):
        refuse_others(part, PART_MEMBERS, place)
        words = part.get("text")
        if not isinstance(words, str):
            raise inexpressible(place + "text")
        said.append(words)
    whole_text = "\n".join(said)
    if not whole_text:
        raise refuse(f"{where}.parts", zh="必须含有文本", en="there must be text in it")
    return whole_text


def answer(data: bytes, _: Terms) -> bytes:
    """An embeddings answer → an EmbedContentResponse, each number as the vendor wrote it. Raises ValueError."""
    return b'{"embedding":%s}' % _embeddings(data)[0]


def answer_batch(data: bytes, _: Terms) -> bytes:
    """An embeddings answer → a BatchEmbedContentsResponse, in the order of the requests. Raises ValueError."""
    return b'{"embeddings":[%s]}' % b",".join(_embeddings(data))


def _embeddings(data: bytes) -> list[bytes]:
    """Each ContentEmbedding, at least one. Raises ValueError."""
    try:
        found = _decode(data).data
        # Answers number their items, though they come in order too.
        found.sort(key=lambda item: 0 if item.index is None else item.index)
        vectors = [bytes(item.embedding) for item in found]
        if not vectors or not all(_numbers(vector) for vector in vectors):
            raise ValueError("an empty embedding")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("no embedding in it") from error
    return [b'{"values":%s}' % vector for vector in vectors]


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
BATCH_BRIDGE = Bridge("batchEmbedContents", "embeddings", request_batch, answer_batch, NoStream)
