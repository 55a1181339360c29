"""Which upstream serves a model: by priority, then by weight; a channel's keys take turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from farebox.ports import Randomness
from farebox.vendors import Vendor

EVERY_MODEL = "*"


@dataclass(frozen=True, slots=True)
class Channel:
    """One upstream. `models`: public names, or ("*",) for all of the vendor's in the catalog (the demo plays them all).

    `rename` maps a public name to the upstream's own. A weight of nought takes the channel out of use.
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

    def serves(self, model_id: str, vendor: str) -> bool:
        if model_id in self.models or model_id in self.rename:
            return True
        return EVERY_MODEL in self.models and (self.demo or vendor == self.vendor.name)


class Channels:
    """All channels. A higher priority comes first; among equals chance decides by weight."""

    def __init__(self, channels: tuple[Channel, ...], random: Randomness) -> None:
        self.all = channels
        self._random = random
        self._turn = 0

    def serve(self, model_id: str, vendor: str) -> bool:
        return any(channel.serves(model_id, vendor) for channel in self.all)

    def pick(self, model_id: str, vendor: str) -> Channel | None:
        """The channel for this request, or None."""
        able = [channel for channel in self.all if channel.weight > 0 and channel.serves(model_id, vendor)]
        if not able:
            return None
        first = max(channel.priority for channel in able)
        able = [channel for channel in able if channel.priority == first]
        lot = self._random.below(sum(channel.weight for channel in able))
        for channel in able:
            lot -= channel.weight
            if lot < 0:
                return channel
        return able[-1]

    def key_of(self, channel: Channel) -> str:
        """The next of the channel's keys."""
        self._turn += 1
        return channel.keys[self._turn % len(channel.keys)]
