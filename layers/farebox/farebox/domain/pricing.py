"""Count × price, in integers: what a request cost, and the most that it can cost.

Every price of the catalog is a whole number of nano-CA per unit, so nothing is ever rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from farebox.domain.usage import Usage

PRICED_AS = {"cached_input_token": "input_token", "cache_write_token": "input_token"}
"""A class without a price of its own is charged as the class that it is a part of."""


class Unpriced(LookupError):
    """Something was used, or is asked for, that has no price: it must be refused, never given away."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the arithmetic: `count` units at `price_nano_ca` each."""

    unit: str
    count: int
    price_nano_ca: int

    @property
    def cost_nano_ca(self) -> int:
        return self.count * self.price_nano_ca


def price_of(unit: str, rates: Mapping[str, int]) -> int:
    """nano-CA for one `unit`; raises Unpriced."""
    if unit in rates:
        return rates[unit]
    broader = PRICED_AS.get(unit, "")
    if broader in rates:
        return rates[broader]
    raise Unpriced(unit)


def lines_of(usage: Usage, rates: Mapping[str, int]) -> tuple[Line, ...]:
    """The arithmetic of `usage` at `rates`, a line for each unit that was used."""
    return tuple(Line(unit, count, price_of(unit, rates)) for unit, count in usage.counts.items() if count)


def total_nano_ca(lines: tuple[Line, ...]) -> int:
    return sum(line.cost_nano_ca for line in lines)


def upper_bound_nano_ca(
    *, input_tokens: int, output_tokens: int, images: int, stream: bool, rates: Mapping[str, int]
) -> int:
    """The most that a token-priced request can cost: the hold. All figures are upper bounds themselves.

    A vendor decides what it caches, so every input token is held at the dearest of the prices that it could get.
    """
    cost = input_tokens * max(price_of(unit, rates) for unit in ("input_token", *PRICED_AS))
    if output_tokens:
        cost += output_tokens * price_of("output_token", rates)
    if images and stream and "image_when_streaming" in rates:
        cost += images * rates["image_when_streaming"]
    return cost
