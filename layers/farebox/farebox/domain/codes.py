"""Redeem codes: 125 random bits that are worth money once. Only a keyed digest of a code is ever stored.

FB-7K3QX-0M9ZT-B2WHD-5RNE8-CY41G
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from farebox.domain.ids import CROCKFORD

PREFIX = "FB"
BODY_CHARS, GROUP_CHARS = 25, 5
GUESSES_PER_KEY, GUESSES_PER_ADDRESS = 10, 60
"""Wrong codes an hour. An address may stand for a whole campus, a key for one account."""
_READ_AS = str.maketrans({"O": "0", "I": "1", "L": "1", "-": "", " ": ""})
"""Letters that Crockford's alphabet leaves out are read as the digits they look like."""


@dataclass(frozen=True, slots=True)
class Code:
    """A code as the store knows it: `id` from its digest, its worth in nano-CA, until when it may be redeemed."""

    id: str
    value_nano: int
    expires_ms: int


def mint(random: Callable[[int], bytes]) -> str:
    """A new code's text: the one time that it is seen."""
    number = int.from_bytes(random(16), "big") >> 3
    body = "".join(CROCKFORD[number >> shift & 31] for shift in range(120, -1, -5))
    groups = [body[start : start + GROUP_CHARS] for start in range(0, BODY_CHARS, GROUP_CHARS)]
    return "-".join((PREFIX, *groups))


def parse(text: str) -> str | None:
    """The code's characters, whatever case, spaces, hyphens and look-alikes it was typed with; None: it is no code."""
    body = text.strip().upper().translate(_READ_AS)
    if len(body) == len(PREFIX) + BODY_CHARS:
        body = body.removeprefix(PREFIX)
    return body if len(body) == BODY_CHARS and set(body) <= set(CROCKFORD) else None


def code_id(body: str, pepper: bytes) -> str:
    """Under which the store keeps the code: HMAC-SHA256, so that whoever reads the store can redeem nothing."""
    return "code#" + hmac.digest(pepper, f"code|{body}".encode("ascii"), "sha256").hex()
