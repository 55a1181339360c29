"""The tap beside an answer of images: the whole answer, or a stream of unfinished images and finished ones."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from farebox.dialects.ask import Pictures
from farebox.dialects.openai.usage import read_io_usage
from farebox.dialects.openai.waiting_text import any_json
from farebox.domain.usage import COUNT_MAX, Source, Usage

COMPLETED = ".completed"
UNFINISHED = ".partial_image"
"""How the type of an event ends: "image_generation" and "image_edit" stand before it."""
TOKENS: dict[str, tuple[int, int]] = {"low": (272, 408), "medium": (1056, 1584), "high": (4160, 6240)}
"""Quality → output tokens of a square image, and of an oblong one at most.
https://platform.openai.com/docs/guides/image-generation"""
PARTIAL_TOKENS = 100
"""What each unfinished image that was streamed adds (same source)."""
SQUARE = "1024x1024"
MADE_MAX = 1000
"""Of what an upstream sends, no more is remembered."""

# Raw, so that megabytes of base64 are stepped over and not copied.
_ABSENT = msgspec.Raw()
_NOTHING = (b"", b"null", b"false", b'""')


class _Answer(msgspec.Struct):
    type: str | None = None
    data: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT
    size: str | None = None
    quality: str | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class ImagesTap:
    """Facts of one answer. `asked`: what was to be made."""

    def __init__(self, asked: Pictures, *, stream: bool = False) -> None:
        self._asked = asked
        self._stream = stream
        self._made = 0
        self._partial = 0
        self._usages: list[Any] = []
        self._size = asked.size
        self._quality = asked.quality
        self.content_seen = False
        self.done = False
        self.error_seen = False
        self.service_tier: str | None = None

    @property
    def finished(self) -> bool:
        return not self.error_seen and (self.done if self._stream else self._made > 0)

    @property
    def heavy(self) -> bool:
        return False

    def see(self, data: bytes) -> bool:
        """One event's data, or the whole answer. Usage never comes alone here, so never True."""
        answer: _Answer | None
        try:
            answer = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            answer = _forgiven(any_json(data))
        if answer is None:
            return False
        kind = answer.type or ""
        if bytes(answer.error) not in _NOTHING or kind == "error":
            self.error_seen = True
        self._size = answer.size or self._size
        self._quality = answer.quality or self._quality
        if not self._stream:
            self._see_made(len(answer.data or ()), answer.usage)
        elif kind.endswith(COMPLETED):
            self._see_made(1, answer.usage)
            self.done = self._made >= self._asked.count
        elif kind.endswith(UNFINISHED):
            self.content_seen = True
            self._partial = min(self._partial + 1, MADE_MAX)
        return False

    def count_waiting(self) -> None:
        """There is no text."""

    def reported(self) -> Usage | None:
        """The sum over the images, each of which comes with its own in a stream."""
        usages = [read_io_usage(each, made="image_tokens") for each in self._usages]
        counts: Counter[str] = Counter()
        for usage in usages:
            if usage is None:
                return None
            counts.update(usage.counts)
        if not counts or max(counts.values()) > COUNT_MAX:
            return None
        return Usage(dict(counts), dict.fromkeys(counts, "upstream"))

    def sent(self) -> Usage | None:
        return None  # the two sides are reported together

    def counted(self) -> Usage:
        """The finished images, and by the published table the tokens that they are: the price says what counts.

        An unfinished image of which something was shown has cost the tokens of a whole one.
        """
        begun = 1 if self._partial and self._made < self._asked.count else 0
        square, oblong = TOKENS.get(self._quality or "", TOKENS["high"])
        each = square if self._size == SQUARE else oblong
        tokens = (self._made + begun) * each + self._partial * PARTIAL_TOKENS
        sources: dict[str, Source] = {"image": "counted", "image_output_token": "estimated"}
        return Usage({"image": self._made, "image_output_token": tokens}, sources)

    def _see_made(self, count: int, usage: msgspec.Raw) -> None:
        if count:
            self.content_seen = True
            self._made = min(self._made + count, MADE_MAX)
            if len(self._usages) < MADE_MAX:
                self._usages.append(any_json(bytes(usage)))


def _forgiven(value: Any) -> _Answer | None:
    """JSON of an unexpected shape: what can be read of it."""
    if not isinstance(value, dict):
        return None
    data = value.get("data")
    usage = value.get("usage")
    return _Answer(
        type=_str(value.get("type")),
        data=[_ABSENT for each in data if each] if isinstance(data, list) else None,
        usage=msgspec.Raw(_dumped(usage)) if isinstance(usage, dict) else _ABSENT,
        error=msgspec.Raw(b"{}") if value.get("error") else _ABSENT,
        size=_str(value.get("size")),
        quality=_str(value.get("quality")),
    )


def _str(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _dumped(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (msgspec.MsgspecError, UnicodeEncodeError, OverflowError, RecursionError, TypeError, ValueError):
        return b""
