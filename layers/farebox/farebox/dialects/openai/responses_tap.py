"""The tap beside a Responses answer: its stream's events, or the whole response.

An event says by its `type` what it is. The last one holds the response with its usage, so of the others only the
text is kept, for the case that the last one never comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from farebox.dialects.ask import Count
from farebox.dialects.openai.tap import PCM_BYTES_PER_TOKEN
from farebox.dialects.openai.usage import read_io_usage
from farebox.dialects.openai.waiting_text import NO_TEXT, WaitingText, any_json, texts_in
from farebox.domain.usage import Usage, tokens

WHOLE_STATUSES = frozenset({"completed", "incomplete"})
BROKEN_STATUSES = frozenset({"failed", "cancelled"})
ENDS = {f"response.{status}": status for status in WHOLE_STATUSES | BROKEN_STATUSES}
"""The type of an event that ends a stream → the status of its response."""
SPOKEN_ITEMS = frozenset({"message", "reasoning"})
CALL_ITEMS = frozenset({"function_call", "custom_tool_call"})
PIECEMEAL_ITEMS = SPOKEN_ITEMS | CALL_ITEMS | {"shell_call"}
"""Items whose text comes in deltas."""
SEARCH_ITEM = "web_search_call"
READING_ACTIONS = frozenset({"open_page", "find_in_page", "find"})
"""What the search tool does without a search: only searches are charged."""
NO_SPEECH = NO_TEXT | {"call_id", "status", "encrypted_content", "annotations"}
ITEMS_MAX = 10_000
"""Of what an upstream numbers, no more is remembered."""


class _Delta(msgspec.Struct):
    type: str
    delta: str


_decode_delta = msgspec.json.Decoder(_Delta).decode


class ResponsesTap:
    """Facts of one answer. `count`: text → tokens. `searches`: whether searches were asked for, and so have a price."""

    def __init__(self, count: Count, *, stream: bool = True, searches: bool = False) -> None:
        self._text = WaitingText(count)
        self._stream = stream
        self._searches = searches
        self._searched: set[str] = set()
        self._audio_bytes = 0
        self._usage: Any = None
        self._whole = False
        self.content_seen = False
        self.done = False
        self.error_seen = False
        self.service_tier: str | None = None

    @property
    def finished(self) -> bool:
        return self._whole and not self.error_seen

    @property
    def heavy(self) -> bool:
        return self._text.heavy

    def see(self, data: bytes) -> bool:
        """One event's data, or the whole response. Usage never comes alone here, so never True."""
        if self._stream:
            self._see_event(data)
        else:
            self._see_answer(any_json(data))
        return False

    def count_waiting(self) -> None:
        self._text.count_waiting()

    def reported(self) -> Usage | None:
        return read_io_usage(self._usage, web_searches=self._searches_made())

    def sent(self) -> Usage | None:
        return None  # the two sides are reported together

    def counted(self) -> Usage:
        audio = -(-self._audio_bytes // PCM_BYTES_PER_TOKEN)
        return tokens(
            input_tokens=0,
            output_tokens=self._text.tokens() + audio,
            audio_output=audio,
            web_searches=self._searches_made(),
            source="counted",
        )

    def _searches_made(self) -> int:
        return len(self._searched) if self._searches else 0

    def _see_event(self, data: bytes) -> None:
        try:
            piece = _decode_delta(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._see_other(any_json(data))
        else:
            self._see_delta(piece.type, piece.delta)

    def _see_delta(self, kind: str, delta: str) -> None:
        if kind == "response.audio.delta":
            self.content_seen = self.content_seen or bool(delta)
            self._audio_bytes += len(delta) * 3 // 4
        else:
            self._see_text(delta)

    def _see_other(self, event: Any) -> None:
        """Any event but a delta, and deltas with half an emoji in them."""
        if not isinstance(event, Mapping):
            return
        kind = event.get("type")
        delta = event.get("delta")
        if kind == "error" or event.get("error"):
            self.error_seen = True
        elif isinstance(kind, str) and kind in ENDS:
            self._see_end(ENDS[kind], event.get("response"))
        elif isinstance(kind, str) and isinstance(delta, str):
            self._see_delta(kind, delta)
        elif kind == "response.output_item.added":
            self._see_call(event.get("item"))
        elif kind == "response.output_item.done":
            self._see_item(event.get("item"), event.get("output_index"), piecemeal=self.content_seen)

    def _see_end(self, status: str, response: Any) -> None:
        self._see_response(response)
        if status in WHOLE_STATUSES:
            self._whole = self.done = True
        else:
            self.error_seen = True

    def _see_answer(self, answer: Any) -> None:
        """The whole response. Without a status it is whole if it has output."""
        if not isinstance(answer, Mapping):
            return
        status = answer.get("status", "completed" if isinstance(answer.get("output"), list) else None)
        if answer.get("error") or (isinstance(status, str) and status in BROKEN_STATUSES):
            self.error_seen = True
        self._whole = isinstance(status, str) and status in WHOLE_STATUSES
        self._see_response(answer)

    def _see_response(self, response: Any) -> None:
        if not isinstance(response, Mapping):
            return
        tier = response.get("service_tier")
        self.service_tier = tier if isinstance(tier, str) and tier else self.service_tier
        if isinstance(response.get("usage"), Mapping):
            self._usage = response["usage"]
        output = response.get("output")
        piecemeal = self.content_seen  # what came in pieces is not counted a second time
        for place, item in enumerate(output if isinstance(output, list) else ()):
            self._see_item(item, place, piecemeal=piecemeal, again=self._stream)

    def _see_call(self, item: Any) -> None:
        """A call begins: its name never comes in a delta."""
        if _type_of(item) in CALL_ITEMS and isinstance(item.get("name"), str):
            self._see_text(item["name"])

    def _see_item(self, item: Any, place: Any, *, piecemeal: bool, again: bool = False) -> None:
        """An item that is complete. `place`: its index in the output. `again`: it came before, if anything did."""
        kind = _type_of(item)
        if kind == SEARCH_ITEM:
            self._see_search(item, place)
        elif kind and not (piecemeal and (again or kind in PIECEMEAL_ITEMS)):
            for text in texts_in(item, NO_SPEECH):
                self._see_text(text)

    def _see_search(self, item: Mapping[str, Any], place: Any) -> None:
        action = item.get("action")
        done = action.get("type") if isinstance(action, Mapping) else None
        if item.get("status") != "completed" or (isinstance(done, str) and done in READING_ACTIONS):
            return
        if len(self._searched) < ITEMS_MAX:
            name = item.get("id")
            self._searched.add(name if isinstance(name, str) else f"#{place if type(place) is int else 0}")

    def _see_text(self, text: str) -> None:
        if text:
            self.content_seen = True
            self._text.add(text)


def _type_of(item: Any) -> str:
    kind = item.get("type") if isinstance(item, Mapping) else None
    return kind if isinstance(kind, str) else ""
