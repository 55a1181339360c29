"""The tap beside an OpenAI stream: sees each event once, keeps the little that metering needs, changes nothing.

It keeps the last usage object seen anywhere, whether content came, whether the end came, and the text that would
have to be counted if no usage is reported. The text is kept in pieces of bounded size: past TEXT_CHARS_MAX it is
counted and let go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import orjson

TEXT_CHARS_MAX = 64 * 1024
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

    @property
    def finished(self) -> bool:
        """Whether the answer reached its proper end."""
        return not self.error_seen and (self.done or self.finish_seen)

    def see(self, data: bytes) -> bool:
        """Looks at one event's data. True if it carries nothing but the usage (choices empty, usage an object)."""
        if data == DONE:
            self.done = True
            return False
        try:
            chunk = _decode(data)
        except msgspec.ValidationError:
            return self._see_odd(data)
        except msgspec.MsgspecError:
            return False  # no JSON: the bytes pass through, there is nothing in them to meter
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
        self._count_texts()
        return self._counted

    def _see_odd(self, data: bytes) -> bool:
        """JSON of an unexpected shape: what stands in its choices counts as content, whatever it is."""
        chunk = orjson.loads(data)
        if not isinstance(chunk, dict):
            return False
        self.error_seen = self.error_seen or bool(chunk.get("error"))
        if isinstance(chunk.get("usage"), dict):
            self.usage = chunk["usage"]
        if chunk.get("choices"):
            self._see_text(orjson.dumps(chunk["choices"]).decode())
        return False

    def _see_choice(self, choice: _Choice) -> None:
        if choice.finish_reason is not None:
            self.finish_seen = True
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

    def _see_text(self, text: str) -> None:
        self.content_seen = True
        self._texts.append(text)
        self._chars += len(text)
        if self._chars > TEXT_CHARS_MAX:
            self._count_texts()

    def _see_usage(self, raw: msgspec.Raw) -> bool:
        value = bytes(raw)
        if not value.startswith(b"{"):
            return False
        self.usage = orjson.loads(value)
        return True

    def _count_texts(self) -> None:
        if self._texts:
            self._counted += self._count("".join(self._texts))
            self._texts.clear()
            self._chars = 0
