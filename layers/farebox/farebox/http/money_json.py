"""Money in JSON as an exact decimal number: a float would lose nano-CA."""

from __future__ import annotations

import orjson

from farebox.domain import money


def number(nano: int) -> orjson.Fragment:
    """nano-CA → a JSON number in CA with every digit, e.g. 0.00012345."""
    return orjson.Fragment(money.format_ca(nano))
