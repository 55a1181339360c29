"""Which upstream serves a model: by priority, then by chance and weight; a channel's keys take turns, and rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from farebox.ports import Clock, Randomness
from farebox.vendors import Vendor

EVERY_MODEL = "*"


@dataclass(frozen=True, slots=True)
class Channel:
    """One upstream. `models`: public names, or ("*",) for all of the vendor's in the catalog (the demo plays them all).

    `rename` maps a public name to the upstream's own. A weight of nought takes the channel out of use.
    `api_version`: for vendors that want one. `first_content_s`: how long its answers may take to begin, None for the
    limit that holds for all.
    """

    name: str
    vendor: Vendor
    base_url: str
    keys: tuple[str, ...] = field(repr=False)
    models: tuple[str, ...] = (EVERY_MODEL,)
    rename: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    weight: int = 1
    demo: bool = False
    api_version: str = ""
    first_content_s: int | None = None

    def serves(self, model_id: str, vendor: str) -> bool:
        if model_id in self.models or model_id in self.rename:
            return True
        sold = self.vendor.sells or self.vendor.name
        return EVERY_MODEL in self.models and (self.demo or vendor == sold)

    def upstream_name(self, model_id: str) -> str:
        """What the upstream calls the model."""
        return self.rename.get(model_id, model_id)


class Channels:
    """All channels, and which of their keys rest. Everything is kept in this process: nothing waits for a store."""

    def __init__(self, channels: tuple[Channel, ...], random: Randomness, clock: Clock) -> None:
        self.all = channels
        self._random = random
        self._clock = clock
        self._turns: dict[str, int] = {}
        self._rests_until_ms: dict[tuple[str, int], int] = {}

    def serve(self, model_id: str, vendor: str) -> bool:
        return any(channel.serves(model_id, vendor) for channel in self.all)

    def candidates(self, model_id: str, vendor: str) -> list[Channel]:
        """All that could serve, in the order in which to try them: rested ones first, then by priority, then by lot."""
        able = [channel for channel in self.all if channel.weight > 0 and channel.serves(model_id, vendor)]
        ordered: list[Channel] = []
        for priority in sorted({channel.priority for channel in able}, reverse=True):
            ordered += self._by_lot([channel for channel in able if channel.priority == priority])
        return sorted(ordered, key=self._all_rest) if len(ordered) > 1 else ordered

    def keys_of(self, channel: Channel) -> list[int]:
        """The channel's keys by number, the one whose turn it is first, those that rest last."""
        count = len(channel.keys)
        turn = self._turns[channel.name] = (self._turns.get(channel.name, -1) + 1) % count
        return sorted(((turn + step) % count for step in range(count)), key=lambda key: self.rests(channel, key))

    def rests(self, channel: Channel, key: int) -> bool:
        until_ms = self._rests_until_ms.get((channel.name, key))
        return until_ms is not None and self._clock.now_ms() < until_ms

    def rest(self, channel: Channel, key: int, for_ms: int) -> None:
        """The key is left alone for a while, as long as there is another."""
        self._rests_until_ms[channel.name, key] = self._clock.now_ms() + for_ms

    def _all_rest(self, channel: Channel) -> bool:
        return all(self.rests(channel, key) for key in range(len(channel.keys)))

    def _by_lot(self, channels: list[Channel]) -> list[Channel]:
        """Drawn one after another, each with the chance that its weight gives it."""
        left, drawn = list(channels), []
        while len(left) > 1:
            lot = self._random.below(sum(channel.weight for channel in left))
            for channel in left:
                lot -= channel.weight
                if lot < 0:
                    break
            left.remove(channel)
            drawn.append(channel)
        return drawn + left
