"""Request ids: time-ordered, unguessable, made from an injected clock and random source."""

from __future__ import annotations

import re
from collections.abc import Callable

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_REQUEST_ID = re.compile(rf"req_[{CROCKFORD}]{{26}}")
_RANDOM_BYTES = 10
_TIME_CHARS = 10
END_OF_TIME_MS = 2**48
"""The first moment that an id cannot tell."""


def request_id(now_ms: int, random: Callable[[int], bytes]) -> str:
    """`req_` + 26 characters: 48 bits of time (epoch ms), then 80 random bits. Sorts by time."""
    return _written((now_ms << 80) | int.from_bytes(random(_RANDOM_BYTES), "big"))


def first_at(at_ms: int) -> str:
    """The least id that a request can have at `at_ms` (epoch ms, 0 to 2**48 - 1): where a span of time begins."""
    return _written(at_ms << 80)


def last_before(at_ms: int) -> str:
    """The greatest id that a request can have before `at_ms` (epoch ms, 1 to 2**48): where a span of time ends."""
    return _written((at_ms << 80) - 1)


def time_of(request_id: str) -> int:
    """When a request came in, epoch ms, by its id."""
    number = 0
    for char in request_id[4 : 4 + _TIME_CHARS]:
        number = number << 5 | CROCKFORD.index(char)
    return number


def is_request_id(text: str) -> bool:
    return _REQUEST_ID.fullmatch(text) is not None


def _written(number: int) -> str:
    return "req_" + "".join(CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
