"""Which way, and which key, a request tries next."""

from __future__ import annotations

from dataclasses import dataclass

from farebox.relay.channels import Channels
from farebox.relay.setbacks import Fault, Setback
from farebox.relay.ways import Way

ATTEMPTS_MAX = 4
"""Of one request, over all channels: what is down is not helped by more."""
SAME_CHANNEL_MAX = 2
"""How often one channel is tried where there is no other: a passing weakness passes once."""


@dataclass(frozen=True, slots=True)
class Try:
    """`key`: the number of the channel's key. `again`: the same channel as before, so it is given a moment first."""

    way: Way
    key: int
    again: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try, as a receipt lists it: `result`: the word of its setback, or see relay/relayed."""

    channel: str
    result: str
    took_ms: int


class Attempts:
    """The tries of one request, one after another."""

    def __init__(self, ways: tuple[Way, ...], channels: Channels) -> None:
        self._channels = channels
        self._ways = list(ways)
        self._keys = channels.keys_of(ways[0].channel)
        self._made = 0

    def first(self) -> Try:
        self._made += 1
        return Try(self._ways[0], self._keys.pop(0))

    def after(self, last: Try, setback: Setback) -> Try | None:
        """The next try after a setback; None where there is none."""
        if setback.rest_ms:
            self._channels.rest(last.way.channel, last.key, setback.rest_ms)
        if self._made >= (setback.attempts_max or ATTEMPTS_MAX):
            return None
        self._made += 1
        if setback.fault is Fault.KEY and self._keys and not self._channels.rests(last.way.channel, self._keys[0]):
            return Try(last.way, self._keys.pop(0))
        if len(self._ways) > 1:
            del self._ways[0]
            self._keys = self._channels.keys_of(self._ways[0].channel)
            return Try(self._ways[0], self._keys.pop(0))
        if setback.fault is Fault.CHANNEL and self._made <= SAME_CHANNEL_MAX:
            return Try(last.way, self._keys.pop(0) if self._keys else last.key, again=True)
        return None
