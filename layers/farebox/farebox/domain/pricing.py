"""Count × price, in integers: what a request cost, and the most that it can cost.

Every price of the catalog is a whole number of nano-CA per unit, so nothing is ever rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

from farebox.domain.catalog import Price
from farebox.domain.usage import INPUT_TOKENS, Usage

PRICED_AS: Mapping[str, str] = MappingProxyType(
    {
        "cached_input_token": "input_token",
        "cache_write_token": "input_token",
        "cache_write_1h_token": "cache_write_token",
        "audio_input_token": "input_token",
        "image_input_token": "input_token",
        "reasoning_token": "output_token",
        "audio_output_token": "output_token",
        "image_output_token": "output_token",
    }
)
"""A class without a price of its own is charged as the class that it is a part of."""

_ANY_INPUT = ("input_token", "cached_input_token", "cache_write_token", "cache_write_1h_token")
_ANY_OUTPUT = ("output_token", "reasoning_token")
COULD_BE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "input_token": _ANY_INPUT,
        "audio_input_token": ("audio_input_token", *_ANY_INPUT),
        "image_input_token": ("image_input_token", *_ANY_INPUT),
        "output_token": _ANY_OUTPUT,
        "audio_output_token": ("audio_output_token", *_ANY_OUTPUT),
        "image_output_token": ("image_output_token", *_ANY_OUTPUT),
    }
)
"""A unit of a hold → the units that its use can be reported as: the vendor decides what it caches or calls thoughts."""


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
    priced = unit
    while priced not in rates:
        if priced not in PRICED_AS:
            raise Unpriced(unit)
        priced = PRICED_AS[priced]
    return rates[priced]


def lines_of(usage: Usage, rates: Mapping[str, int]) -> tuple[Line, ...]:
    """The arithmetic of `usage` at `rates`, a line for each unit that was used."""
    return tuple(Line(unit, count, price_of(unit, rates)) for unit, count in usage.counts.items() if count)


def total_nano_ca(lines: tuple[Line, ...]) -> int:
    return sum(line.cost_nano_ca for line in lines)


def upper_bound_nano_ca(price: Price, bounds: Mapping[str, int], *, service_tier: str | None = None) -> int:
    """The most that a request can cost: the hold. Raises Unpriced.

    `bounds`: unit → the most of it that the request can use; a unit of COULD_BE bounds all that it could be.
    `service_tier`: the one that was asked for. The answer decides whether it or the ordinary one is charged, and the
    real input decides on the length tier, so the dearest of all that could come is held. Monotone in every bound.
    """
    input_tokens_max = sum(bounds.get(unit, 0) for unit in INPUT_TOKENS)
    # Between two borders the rates are the same, so the most input below each stands for all lengths up to it.
    lengths = {border for border in price.borders(service_tier) if border < input_tokens_max} | {input_tokens_max}
    return max(
        _bound_at(price.rates_for(input_tokens=length, service_tier=served).rates, bounds, length)
        for length in lengths
        for served in {None, service_tier}
    )


def _bound_at(rates: Mapping[str, int], bounds: Mapping[str, int], input_tokens_max: int) -> int:
    """The most at these rates, which need no more than `input_tokens_max` in the input."""
    cost = 0
    for unit, most in bounds.items():
        if most:
            cost += (min(most, input_tokens_max) if unit in INPUT_TOKENS else most) * _dearest(unit, rates)
    return cost


def _dearest(unit: str, rates: Mapping[str, int]) -> int:
    """The dearest of all that a use of `unit` can be reported as. What has no price among that cannot be charged."""
    dearest = price_of(unit, rates)
    for other in COULD_BE.get(unit, ()):
        with suppress(Unpriced):
            dearest = max(dearest, price_of(other, rates))
    return dearest
