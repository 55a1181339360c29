"""Request ids: time-ordered, unguessable, made from an injected clock and random source."""

from __future__ import annotations

from collections.abc import Callable

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RANDOM_BYTES = 10


def request_id(now_ms: int, random: Callable[[int], bytes]) -> str:
    """`req_` + 26 characters: 48 bits of time (epoch ms), then 80 random bits. Sorts by time."""
    number = (now_ms << 80) | int.from_bytes(random(_RANDOM_BYTES), "big")
    return "req_" + "".join(CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
