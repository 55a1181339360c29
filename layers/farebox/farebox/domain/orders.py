"""Orders: what was asked to be paid, what the payment provider has said since, and what that is worth.

An order is written before anybody is asked to pay, and says who gets what for how much. Whatever a provider reports
is a *fact* about an order. Facts only add up: the same one again changes nothing, and their order does not matter.
What the account should have got follows from the facts alone; the difference to what is booked is the next entry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeGuard

from farebox.domain.ids import CROCKFORD, request_id

LIVE, TEST = "live", "test"
ZERO_DECIMALS = frozenset(
    {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"}
)
"""Currencies without a smaller unit; every other one that is taken has a hundred."""


_ORDER_ID = re.compile(rf"ord_[{CROCKFORD}]{{26}}")


class Mismatch(Exception):
    """A fact that does not fit the order; `reason` is one of our own words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Order:
    """`amount_nano` for `minor` of the smallest units of `currency`. `mode`: real money, or the provider's play money.

    `session`: the provider's name for the page where it is paid. `payment`: of what paid it, "" until then.
    `refunded`: minor units. `disputes`: id → minor units that are withdrawn at present. `booked_nano`: what the
    ledger has of it.
    """

    id: str
    account: str
    provider: str
    amount_nano: int
    minor: int
    currency: str
    mode: str
    created_ms: int
    session: str = ""
    payment: str = ""
    refunded: int = 0
    disputes: Mapping[str, int] = field(default_factory=dict)
    booked_nano: int = 0
    version: int = 0

    @property
    def worth_nano(self) -> int:
        """What the account should have got, by what is known. A part that went back takes its share, rounded up."""
        if not self.payment:
            return 0
        gone = min(self.minor, self.refunded + sum(self.disputes.values()))
        return self.amount_nano * (self.minor - gone) // self.minor


@dataclass(frozen=True, slots=True)
class Fact:
    """What a provider has said of an order, verified. `minor`: smallest units of `currency`."""

    provider: str
    order: str
    mode: str
    currency: str
    minor: int

    def applied(self, order: Order) -> Order:
        """The order with this known; the same order where it was known. Raises Mismatch."""
        if self.provider != order.provider:
            raise Mismatch("provider")
        if self.mode != order.mode:
            raise Mismatch("mode")
        if self.currency != order.currency:
            raise Mismatch("currency")
        return self._known(order)

    def _known(self, order: Order) -> Order:
        return order


@dataclass(frozen=True, slots=True)
class Paid(Fact):
    """Paid, finally. `session`: where. `named`: the order's id stood where only this service writes."""

    payment: str
    session: str = ""
    named: bool = True

    def _known(self, order: Order) -> Order:
        if self.minor != order.minor:
            raise Mismatch("amount")
        if self.session != order.session and (order.session or not self.named):
            raise Mismatch("session")
        if order.payment and self.payment != order.payment:
            raise Mismatch("paid_twice")
        return replace(order, payment=self.payment)


@dataclass(frozen=True, slots=True)
class Refunded(Fact):
    """`minor` have gone back to the payer so far, in all refunds together."""

    def _known(self, order: Order) -> Order:
        return replace(order, refunded=max(order.refunded, min(self.minor, order.minor)))


@dataclass(frozen=True, slots=True)
class Disputed(Fact):
    """`minor` were withdrawn by a dispute, or given back (`withdrawn` false), which is its end."""

    dispute: str
    withdrawn: bool = True

    def _known(self, order: Order) -> Order:
        if self.withdrawn and self.dispute in order.disputes:
            return order
        return replace(order, disputes={**order.disputes, self.dispute: self.minor if self.withdrawn else 0})


def mint_order(now_ms: int, random: Callable[[int], bytes]) -> str:
    """A new order's id."""
    return request_id(now_ms, random).replace("req_", "ord_")


def is_order_id(text: object) -> TypeGuard[str]:
    return isinstance(text, str) and _ORDER_ID.fullmatch(text) is not None


def minor_of(amount_nano: int, ca_per_unit_nano: int, currency: str) -> int:
    """What `amount_nano` costs in the currency's smallest units, rounded up; a unit is worth `ca_per_unit_nano`."""
    per_unit = 1 if currency in ZERO_DECIMALS else 100
    return -(-amount_nano * per_unit // ca_per_unit_nano)
