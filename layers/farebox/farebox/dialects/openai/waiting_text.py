"""The text of an answer that waits to be counted, and how text is found in JSON of any shape.

Text is kept in pieces; past TEXT_CHARS_MAX it is heavy, and what waits is to be counted and let go.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from farebox.dialects.ask import Count

TEXT_CHARS_MAX = 64 * 1024
NO_TEXT = frozenset({"role", "type", "id", "index", "finish_reason", "logprobs", "usage"})
"""Members of an answer of unexpected shape that are not what the model said."""


class WaitingText:
    """Pieces of text, counted together, because tokens straddle pieces."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._pieces: list[str] = []
        self._chars = 0
        self._counted = 0

    def add(self, text: str) -> None:
        self._pieces.append(text)
        self._chars += len(text)

    @property
    def heavy(self) -> bool:
        return self._chars > TEXT_CHARS_MAX

    def count_waiting(self) -> None:
        """Counts what waits, and lets it go."""
        if self._pieces:
            self._counted += self._count(whole("".join(self._pieces)))
            self._pieces.clear()
            self._chars = 0

    def tokens(self) -> int:
        """Of all text so far."""
        self.count_waiting()
        return self._counted


def any_json(data: bytes) -> Any:
    """Whatever it says, or None. Forgives what stricter readers refuse: bad UTF-8, lone surrogates, huge numbers."""
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def texts_in(value: Any, skipped: frozenset[str] = NO_TEXT) -> Iterator[str]:
    """Every string in it, in order, but what stands in members of the `skipped` names."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str) and item:
            yield item
        elif isinstance(item, list):
            stack.extend(reversed(item))
        elif isinstance(item, dict):
            stack.extend(reversed([member for name, member in item.items() if name not in skipped]))


def whole(text: str) -> str:
    """Without lone surrogates; two halves that came in two events are one character again."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
