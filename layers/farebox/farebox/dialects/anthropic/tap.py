"""The tap beside an answer to /v1/messages: a stream's events by their `type`, or the plain message.

https://docs.claude.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec

from farebox.dialects.anthropic.usage import Figures, merge, read_sent, read_usage
from farebox.dialects.ask import Count
from farebox.dialects.json_text import json_text, listed
from farebox.dialects.openai.waiting_text import WaitingText, any_json
from farebox.domain.usage import Usage, tokens

RESULTS = "_tool_result"
"""What a server's tool found: the caller sees it, but it is input, not output."""
CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
SEALED = frozenset({"redacted_thinking"})
"""Content that is not text: nobody can count it."""


class _Delta(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    signature: str | None = None


class _Event(msgspec.Struct):
    """Of all events, the one that comes a thousand times."""

    type: str | None = None
    delta: _Delta | None = None


_TEXTS = ("text", "thinking", "partial_json", "signature")
_decode = msgspec.json.Decoder(_Event).decode


class AnthropicTap:
    """Facts of one answer, stream or plain message. See wire.Tap. `count`: text → tokens."""

    def __init__(self, count: Count) -> None:
        self._text = WaitingText(count)
        self._figures: Figures = {}
        self._output_told = False
        self._stopped = False
        self._searches = 0
        self.content_seen = False
        self.done = False
        self.error_seen = False

    @property
    def finished(self) -> bool:
        """A stream has said message_stop; a plain message says why it stopped."""
        return self._stopped and not self.error_seen

    @property
    def heavy(self) -> bool:
        return self._text.heavy

    @property
    def service_tier(self) -> str | None:
        return self._figures.get("service_tier")

    def see(self, data: bytes) -> bool:
        """One event's data, or a plain answer. Always False: no event carries nothing but the usage."""
        try:
            event = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._see_any(any_json(data))
            return False
        if event.type == "content_block_delta":
            if event.delta is not None:
                self._see_delta(event.delta)
        elif event.type != "ping":
            self._see_any(any_json(data))
        return False

    def count_waiting(self) -> None:
        self._text.count_waiting()

    def reported(self) -> Usage | None:
        """None for a stream that died early: the output in its first event is only a placeholder."""
        return read_usage(self._figures) if self._output_told else None

    def counted(self) -> Usage:
        return tokens(input_tokens=0, output_tokens=self._text.tokens(), web_searches=self._searches, source="counted")

    def sent(self) -> Usage | None:
        """What was sent, by the vendor's figures: a stream's first event has them."""
        return read_sent(self._figures)

    def _see_any(self, event: Any) -> None:
        """Any event but the frequent ones, a plain message, or what is neither. Never raises."""
        if not isinstance(event, Mapping):
            return
        kind = event.get("type")
        if kind == "error" or event.get("error"):
            self.error_seen = True
        elif isinstance(kind, str) and kind in self._SEE:
            self._SEE[kind](self, event)

    def _see_start(self, event: Mapping[str, Any]) -> None:
        message = event.get("message")
        if isinstance(message, Mapping):
            merge(self._figures, message.get("usage"))
            for block in listed(message.get("content")):
                self._see_block(block)

    def _see_block_start(self, event: Mapping[str, Any]) -> None:
        self._see_block(event.get("content_block"))

    def _see_odd_delta(self, event: Mapping[str, Any]) -> None:
        """A delta that the decoder did not take: a lone surrogate in it, or a member of another type."""
        delta = event.get("delta")
        if isinstance(delta, Mapping):
            self._see_delta(_Delta(**{name: json_text(delta[name]) for name in _TEXTS if delta.get(name)}))

    def _see_delta(self, delta: _Delta) -> None:
        self._say(delta.text or delta.thinking or delta.partial_json)
        if delta.signature:
            self.content_seen = True

    def _see_message_delta(self, event: Mapping[str, Any]) -> None:
        usage = event.get("usage")
        if isinstance(usage, Mapping) and usage.get("output_tokens") is not None:
            self._output_told = True
        merge(self._figures, usage)

    def _see_stop(self, _: Mapping[str, Any]) -> None:
        self.done = self._stopped = True

    def _see_message(self, message: Mapping[str, Any]) -> None:
        """A plain answer, whole."""
        self._output_told = True
        self._stopped = message.get("stop_reason") is not None
        merge(self._figures, message.get("usage"))
        for block in listed(message.get("content")):
            self._see_block(block)

    def _see_block(self, block: Any) -> None:
        """A block of content: whole in a plain answer, its beginning in a stream."""
        if not isinstance(block, Mapping):
            self._say(json_text(block) if block else None)
            return
        kind = block.get("type")
        if kind in ("text", "thinking"):
            self._say(json_text(block.get(kind) or ""))
            self.content_seen = self.content_seen or bool(block.get("signature"))
        elif isinstance(kind, str) and (kind.endswith(RESULTS) or kind in SEALED):
            self.content_seen = True
        elif isinstance(kind, str) and kind in CALLS:
            self._searches += kind == "server_tool_use" and block.get("name") == "web_search"
            self.content_seen = True
            # A stream's block begins with an empty input and goes on in deltas.
            self._say(json_text(block.get("name") or "") + (json_text(block["input"]) if block.get("input") else ""))
        elif block:
            self._say(json_text(block))

    def _say(self, text: str | None) -> None:
        if text:
            self.content_seen = True
            self._text.add(text)

    _SEE: ClassVar[Mapping[str, Callable[[AnthropicTap, Mapping[str, Any]], None]]] = {
        "message_start": _see_start,
        "content_block_start": _see_block_start,
        "content_block_delta": _see_odd_delta,
        "message_delta": _see_message_delta,
        "message_stop": _see_stop,
        "message": _see_message,
    }
    """An event's type, or a plain answer's → what reads it."""
