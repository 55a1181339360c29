"""Two bridges in a row, with OpenAI's chat between them: for callers and vendors that have no bridge of their own.

What chat cannot say is lost to both or refused by the first bridge; what it can say arrives. A pair that people use
much deserves a file of its own instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import orjson

from farebox.dialects import sse
from farebox.dialects.ask import Fields
from farebox.dialects.bridge import Bridge, StreamBridge, Terms


def over_chat(to_chat: Bridge, from_chat: Bridge) -> Bridge:
    """The bridge from `to_chat`'s caller to `from_chat`'s vendor."""

    def request(body: Fields, terms: Terms) -> bytes:
        return from_chat.request(orjson.loads(to_chat.request(body, terms)), _between(terms))

    def answer(body: bytes, terms: Terms) -> bytes:
        return to_chat.answer(from_chat.answer(body, _between(terms)), terms)

    def stream(terms: Terms) -> StreamBridge:
        return _TwoStreams(from_chat.stream(_between(terms)), to_chat.stream(terms))

    return Bridge(to_chat.caller, from_chat.vendor, request, answer, stream)


def _between(terms: Terms) -> Terms:
    """What the second bridge is told: there is always somebody who wants the usage, the first bridge."""
    return replace(terms, include_usage=terms.stream)


@dataclass(slots=True)
class _TwoStreams:
    """`first` hears the vendor and speaks chat; `second` hears that and speaks to the caller."""

    first: StreamBridge
    second: StreamBridge

    def feed(self, data: bytes) -> list[bytes]:
        return self._across(self.first.feed(data))

    def end(self) -> list[bytes]:
        return [*self._across(self.first.end()), *self.second.end()]

    def _across(self, frames: Iterable[bytes]) -> list[bytes]:
        heard = (sse.data_of(frame) for frame in frames)
        return [frame for data in heard if data for frame in self.second.feed(data)]
