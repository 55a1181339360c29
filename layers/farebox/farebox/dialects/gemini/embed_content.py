"""Gemini's embedContent and batchEmbedContents, read and metered. https://ai.google.dev/api/embeddings

One body has a `content`, the other a list of `requests` that each have one. Only input is billed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from farebox.dialects.ask import Ask, Count, refuse
from farebox.dialects.gemini import counting
from farebox.dialects.gemini.generate_content import check_same_model, path_model
from farebox.dialects.gemini.parts import Found, check_content
from farebox.dialects.gemini.usage import read_sent
from farebox.dialects.json_text import listed
from farebox.dialects.openai.waiting_text import any_json
from farebox.dialects.wire import Incoming, Wire
from farebox.domain.usage import Usage

REQUESTS_MAX = 2048
_ABSENT = msgspec.Raw()
_NOTHING = (b"", b"null", b"[]", b"{}")


def read(incoming: Incoming) -> Ask:
    """One text: {"content"}. Raises InvalidRequest."""
    model = path_model(incoming)
    found = Found()
    check_content(incoming.fields.get("content"), "content", found)
    return _ask(incoming, model, found)


def read_batch(incoming: Incoming) -> Ask:
    """Many: {"requests"}, and each names the model again. Raises InvalidRequest."""
    model = path_model(incoming)
    found = Found()
    requests = listed(incoming.fields.get("requests"))
    if not requests or len(requests) > REQUESTS_MAX:
        raise refuse("requests", zh="必须是非空数组", en="it must be a non-empty array")
    for index, request in enumerate(requests):
        where = f"requests[{index}]"
        if not isinstance(request, dict):
            raise refuse(where, zh="必须是对象", en="it must be an object")
        check_same_model(request.get("model"), model, f"{where}.model")
        check_content(request.get("content"), f"{where}.content", found)
    return _ask(incoming, model, found)


def _ask(incoming: Incoming, model: str, found: Found) -> Ask:
    def count_input(count: Count) -> int:
        return counting.count_embedding(incoming.fields, count)

    return Ask(model=model, stream=False, count_input=count_input, images=tuple(found.images))


class _Embedding(msgspec.Struct):
    values: msgspec.Raw = _ABSENT


class _Answer(msgspec.Struct, rename="camel"):
    embedding: _Embedding | None = None
    embeddings: list[_Embedding] | None = None
    usage_metadata: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


_decode = msgspec.json.Decoder(_Answer).decode


class EmbeddingTap:
    """Facts of one plain answer. See wire.Tap. The vectors are skipped, never parsed."""

    done = False
    heavy = False
    service_tier: str | None = None

    def __init__(self) -> None:
        self._usage: Any = None
        self.content_seen = False
        self.error_seen = False

    @property
    def finished(self) -> bool:
        return self.content_seen and not self.error_seen

    def see(self, data: bytes) -> bool:
        """The whole answer. Always False: an answer is never nothing but usage."""
        try:
            answer = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._see_odd(any_json(data))
            return False
        if bytes(answer.error) not in _NOTHING:
            self.error_seen = True
        vectors = [answer.embedding, *(answer.embeddings or ())]
        if any(vector is not None and bytes(vector.values) not in _NOTHING for vector in vectors):
            self.content_seen = True
        if bytes(answer.usage_metadata) not in _NOTHING:
            self._usage = any_json(bytes(answer.usage_metadata))
        return False

    def count_waiting(self) -> None:
        """There is no text to count."""

    def reported(self) -> Usage | None:
        return read_sent(self._usage)

    def counted(self) -> Usage:
        return Usage()

    def sent(self) -> Usage | None:
        return None

    def _see_odd(self, answer: Any) -> None:
        if isinstance(answer, dict):
            self.error_seen = self.error_seen or bool(answer.get("error"))
            self.content_seen = self.content_seen or bool(answer.get("embedding") or answer.get("embeddings"))
            self._usage = answer.get("usageMetadata")


def tap(_count: Count, _ask: Ask) -> EmbeddingTap:
    return EmbeddingTap()


EMBED_CONTENT = Wire("embedContent", "gemini", frozenset({"embedding"}), read=read, tap=tap, end_marker=False)
BATCH_EMBED_CONTENTS = Wire(
    "batchEmbedContents", "gemini", frozenset({"embedding"}), read=read_batch, tap=tap, end_marker=False
)
"""What Google's own SDKs call, for a single text too."""
