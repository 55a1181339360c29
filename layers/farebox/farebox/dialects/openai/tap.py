"""The tap beside an OpenAI stream: sees each event once, keeps the little that metering needs, changes nothing.

It keeps the last usage object seen anywhere, whether content came, whether the end came, and the text that would
have to be counted if no usage is reported. The text is kept in pieces; past TEXT_CHARS_MAX the tap is heavy, and what
waits is to be counted and let go.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

TEXT_CHARS_MAX = 64 * 1024
CHOICES_MAX = 65_536
"""No request asks for more choices; of what an upstream numbers, no more is remembered."""
DONE = b"[DONE]"


# Not `Raw | None`: msgspec takes that for null alone. A null arrives as b"null", an absent member as b"".
_ABSENT = msgspec.Raw()
_NOTHING = (b"", b"null")


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    audio: msgspec.Raw = _ABSENT


class _Choice(msgspec.Struct):
    index: int | None = None
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    usage: msgspec.Raw = _ABSENT


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    data: list[msgspec.Raw] | None = None  # embeddings
    usage: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


_decode = msgspec.json.Decoder(_Chunk).decode
_NO_TEXT = frozenset({"role", "type", "id", "index", "finish_reason", "logprobs", "usage"})
"""Members of a choice of unexpected shape that are not what the model said."""


class OpenAITap:
    """Facts of one stream (or of one plain answer). `count` turns text into tokens."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self._texts: list[str] = []
        self._chars = 0
        self._counted = 0
        self.usage: Any = None
        self.content_seen = False
        self.done = False
        self.finish_seen = False
        self.error_seen = False
        self._ended: set[int] = set()

    @property
    def finished(self) -> bool:
        """Whether the answer reached its proper end."""
        return not self.error_seen and (self.done or self.finish_seen)

    @property
    def heavy(self) -> bool:
        """Whether so much text waits to be counted that `count_waiting` should be called, in a thread."""
        return self._chars > TEXT_CHARS_MAX

    @property
    def choices_finished(self) -> int:
        """How many choices have said why they ended."""
        return len(self._ended)

    def see(self, data: bytes) -> bool:
        """Looks at one event's data. True if it carries nothing but the usage (choices empty, usage an object)."""
        if data == DONE:
            self.done = True
            return False
        try:
            chunk = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._see_odd(data)
        if bytes(chunk.error) not in _NOTHING:
            self.error_seen = True
        if chunk.data:
            self.content_seen = self.finish_seen = True
        choices = chunk.choices or ()
        for choice in choices:
            self._see_choice(choice)
        return self._see_usage(chunk.usage) and not choices

    def output_tokens(self) -> int:
        """Our own count of what came back."""
        self.count_waiting()
        return self._counted

    def _see_odd(self, data: bytes) -> bool:
        """JSON of an unexpected shape, half an emoji in it, or no JSON at all: what can be read of it is metered."""
        chunk = _any_json(data)
        if not isinstance(chunk, dict):
            return False  # the bytes pass through, there is nothing in them to meter
        self.error_seen = self.error_seen or bool(chunk.get("error"))
        choices = chunk.get("choices") or []
        for choice in choices if isinstance(choices, list) else [choices]:
            if isinstance(choice, dict):
                if choice.get("finish_reason") is not None:
                    self._see_finish(choice.get("index"))
                self._keep_usage(choice.get("usage"))
        for text in _texts(choices):
            self._see_text(text)
        return self._keep_usage(chunk.get("usage")) and not choices

    def _see_choice(self, choice: _Choice) -> None:
        if choice.finish_reason is not None:
            self._see_finish(choice.index)
        self._see_usage(choice.usage)
        if choice.text:
            self._see_text(choice.text)
        delta = choice.delta or choice.message
        if delta is None:
            return
        for text in (delta.content, delta.refusal, delta.reasoning_content or delta.reasoning):
            if text:
                self._see_text(text)
        calls = [call.function for call in delta.tool_calls or ()]
        for function in (*calls, delta.function_call):
            if function is not None:
                self._see_text((function.name or "") + (function.arguments or ""))
        if bytes(delta.audio) not in _NOTHING:
            self.content_seen = True

    def _see_finish(self, index: Any) -> None:
        self.finish_seen = True
        if len(self._ended) < CHOICES_MAX:
            self._ended.add(index if type(index) is int else 0)

    def _see_text(self, text: str) -> None:
        self.content_seen = True
        self._texts.append(text)
        self._chars += len(text)

    def _see_usage(self, raw: msgspec.Raw) -> bool:
        value = bytes(raw)
        return value.startswith(b"{") and self._keep_usage(_any_json(value))

    def _keep_usage(self, value: Any) -> bool:
        if not isinstance(value, dict):
            return False
        self.usage = value
        return True

    def count_waiting(self) -> None:
        """Counts the text that has come since the last count, and lets it go."""
        if self._texts:
            self._counted += self._count(_whole("".join(self._texts)))
            self._texts.clear()
            self._chars = 0


def _any_json(data: bytes) -> Any:
    """Whatever it says, or None. Forgives what stricter readers refuse: bad UTF-8, lone surrogates, huge numbers."""
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def _texts(value: Any) -> Iterator[str]:
    """Every string in it but the names of things, in order."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str) and item:
            yield item
        elif isinstance(item, list):
            stack.extend(reversed(item))
        elif isinstance(item, dict):
            stack.extend(reversed([member for name, member in item.items() if name not in _NO_TEXT]))


def _whole(text: str) -> str:
    """Without lone surrogates; two halves that came in two events are one character again."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
