"""Request ids: time-ordered, unguessable, made from an injected clock and random source."""

from __future__ import annotations

import re
from collections.abc import Callable

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_REQUEST_ID = re.compile(rf"req_[{CROCKFORD}]{{26}}")
_RANDOM_BYTES = 10


def request_id(now_ms: int, random: Callable[[int], bytes]) -> str:
    """`req_` + 26 characters: 48 bits of time (epoch ms), then 80 random bits. Sorts by time."""
    number = (now_ms << 80) | int.from_bytes(random(_RANDOM_BYTES), "big")
    return "req_" + "".join(CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def is_request_id(text: str) -> bool:
    return _REQUEST_ID.fullmatch(text) is not None
