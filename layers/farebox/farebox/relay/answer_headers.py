"""What a caller sees of an upstream's headers: a few, and of those only what is plainly a value."""

from __future__ import annotations

import re
from collections.abc import Mapping

from farebox.dialects.wire import Wire

PASSED_ON = ("content-type", "content-disposition", "openai-processing-ms", "openai-version")
"""The only headers of an upstream that a caller sees."""
JSON = "application/json"
OCTETS = "application/octet-stream"
_PLAIN = re.compile(r"[^\x00-\x1f\x7f]{1,1024}")
"""A server may refuse to send anything else, and then the answer that was paid for is lost."""
_TYPES = re.compile(
    r"(?:application/(?:json|octet-stream|x-subrip)|audio/[a-z0-9.+-]+|text/(?:plain|vtt|event-stream))(?:;.*)?",
    re.IGNORECASE,
)
"""What answers are. A page among them would run in this service's own origin."""


def passed_on(upstream_headers: Mapping[str, str], wire: Wire) -> dict[str, str]:
    """Name → value, the type always among them."""
    kept = {
        name: upstream_headers[name]
        for name in PASSED_ON
        if name in upstream_headers and _PLAIN.fullmatch(upstream_headers[name])
    }
    if not _TYPES.fullmatch(kept.get("content-type", "")):
        kept["content-type"] = OCTETS if wire.binary or wire.form else JSON
    return kept
