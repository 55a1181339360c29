"""A way to serve a request: a channel, the door of its vendor, and the bridge to it where the two speak differently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from farebox.dialects.bridge import Bridge
from farebox.dialects.bridges import BRIDGES
from farebox.dialects.wire import Wire
from farebox.dialects.wires import WIRES
from farebox.relay.channels import Channel
from farebox.vendors import Door, Vendor

METHODS = {False: "generateContent", True: "streamGenerateContent"}
"""What stands for {method} in a path, by whether the answer is a stream."""
JSON = "application/json"
SSE_QUERY = "?alt=sse"
PASSED_BYTES_MAX = 1024


@dataclass(frozen=True, slots=True)
class Way:
    """`wire` is what the vendor hears: the caller's own where `bridge` is None, and then bytes pass as they are."""

    channel: Channel
    door: Door
    wire: Wire
    bridge: Bridge | None = None

    def url(self, model_id: str, *, stream: bool) -> str:
        path = self.door.paths[self.wire.name].format(
            model=quote(self.channel.upstream_name(model_id), safe=""),
            method=METHODS[stream],
            api_version=quote(self.channel.api_version or self.channel.vendor.api_version, safe=""),
        )
        query = SSE_QUERY if stream and self.wire.dialect == "gemini" else ""
        return self.channel.base_url + path + query

    def headers(self, key: int, content_type: str, passed: Mapping[str, str], *, stream: bool) -> dict[str, str]:
        """All that an upstream learns besides the body: nothing that tells who calls."""
        name, value = self.door.auth(self.channel.keys[key])
        kept = {} if self.bridge else {each: passed[each] for each in self.door.passed if each in passed}
        return {
            **self.door.headers,
            **kept,
            name: value,
            "content-type": JSON if self.bridge else content_type,
            "accept": "text/event-stream" if stream else "*/*" if self.wire.binary or self.wire.form else JSON,
            "accept-encoding": "identity",
            "user-agent": "farebox",
        }


def door_for(wire: Wire, vendor: Vendor) -> tuple[Door, Wire, Bridge | None] | None:
    """The first of the vendor's doors that serves the operation, by itself or over a bridge."""
    for door in vendor.doors:
        if wire.name in door.paths:
            return door, wire, None
        bridge = BRIDGES.get((wire.name, door.dialect))
        if bridge is not None and bridge.vendor in door.paths:
            return door, WIRES[bridge.vendor], bridge
    return None


def ways(wire: Wire, channels: list[Channel]) -> tuple[Way, ...]:
    """A way for each channel that has one, in the channels' order."""
    found = ((channel, door_for(wire, channel.vendor)) for channel in channels)
    return tuple(Way(channel, *door) for channel, door in found if door is not None)
