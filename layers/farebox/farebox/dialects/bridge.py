"""A pair of dialects: what the caller speaks, put into what the vendor speaks, and back. One file a pair.

There is no format in the middle: each pair knows just its two sides, so nothing is lost that both can say. What the
vendor's side cannot express is refused by the caller's own name for it, never dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from farebox.dialects.ask import Fields


@dataclass(frozen=True, slots=True)
class Terms:
    """What a bridge must know besides the two texts.

    `model`: the public name. `upstream_model`: the vendor's own. `output_tokens_max`: the most that the model can give,
    for a vendor that wants a limit where the caller set none. `reasoning`: whether the model reasons. `limit_param`:
    what this vendor calls the output limit (OpenAI dialect: max_tokens or max_completion_tokens). `id`: unique, of
    letters and digits, for answers whose vendor gives none. `created_s`: epoch seconds. `include_usage`: whether an
    OpenAI caller wants the usage in its stream.
    """

    model: str
    upstream_model: str
    stream: bool
    output_tokens_max: int
    reasoning: bool
    limit_param: str
    id: str
    created_s: int
    include_usage: bool = False


class StreamBridge(Protocol):
    """One answer's stream on its way across. Never raises, whatever the vendor sends: what it cannot read it skips."""

    def feed(self, data: bytes) -> list[bytes]:
        """One vendor event's data → whole frames for the caller (each with its blank line), maybe none."""

    def end(self) -> list[bytes]:
        """The vendor's stream has reached its proper end: the frames that end the caller's, the end marker last."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """`caller` and `vendor` name the two operations (see Wire.name), e.g. "chat.completions" and "messages".

    `request`: the caller's JSON members → the vendor's body. Raises InvalidRequest, naming the caller's parameter.
    `answer`: the vendor's plain answer → the caller's. Raises ValueError for what is no answer.
    """

    caller: str
    vendor: str
    request: Callable[[Fields, Terms], bytes]
    answer: Callable[[bytes, Terms], bytes]
    stream: Callable[[Terms], StreamBridge]
