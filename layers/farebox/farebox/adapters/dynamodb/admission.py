"""Letting a request in: one round trip that authenticates, limits, counts and holds.

    paid key:  UpdateItem(account)                 avail >= hold AND the key is good AND room in flight
    free key:  TransactWriteItems(account, key's day, address's day)   the same, and each counter below its limit

The account's item carries the hold of every running request, also of a free one (of nothing): that marker is what
makes settling, giving units back and expiring happen once. Conditions decide; the item that comes back with a failed
condition says why, without a second read.
"""

from __future__ import annotations

import hmac
from functools import partial
from typing import Any

from farebox.adapters.dynamodb.tables import TTL, Tables
from farebox.adapters.dynamodb.values import Attribute, Item, b, m, n, plain_item, s, strings
from farebox.domain import money
from farebox.domain.accounts import ACTIVE
from farebox.domain.quota import Limit, Unit, address_allowed
from farebox.errors import (
    AccountFrozen,
    AddressNotAllowed,
    FareboxError,
    InsufficientBalance,
    InvalidApiKey,
    ModelNotAllowed,
    TooManyInFlight,
)
from farebox.ports import Admission, Grant

COUNTER_LIFE_S = 3 * 24 * 3600
"""A counter is only looked at on its own day; it lingers for those who ask about yesterday."""

# Each clause has a sentence of its own.
_CONDITION = " AND ".join(
    (
        "ks.#k.d = :digest",  # the account has this key, and it is this very key
        "ks.#k.kind = :kind",  # its kind is what the key says
        "ks.#k.st = :active",  # not revoked
        "ks.#k.x > :now",  # not expired
        "ks.#k.ips = :networks",  # the address was held against this list
        "(size(ks.#k.models) = :none OR contains(ks.#k.models, :model))",
        "st = :active",  # the account is not frozen
        "avail >= :hold",  # the wallet covers the most that this can cost
        "size(holds) < :in_flight",
        "attribute_not_exists(holds.#r)",  # this request is not in already
    )
)
_UPDATE = "SET avail = avail - :hold, held = held + :hold, holds.#r = :new"


def account_update(admission: Admission, attempt: int, tables: Tables) -> dict[str, Any]:
    """The UpdateItem on the account, without return values."""
    return {
        "TableName": tables.accounts,
        "Key": {"acct": s(admission.key.account)},
        "UpdateExpression": _UPDATE,
        "ConditionExpression": _CONDITION,
        "ExpressionAttributeNames": {"#k": admission.key.number, "#r": admission.request_id},
        "ExpressionAttributeValues": {
            ":digest": b(admission.digest),
            ":kind": s(admission.key.kind),
            ":active": s(ACTIVE),
            ":now": n(admission.now_ms),
            ":networks": strings(admission.networks),
            ":none": n(0),
            ":model": s(admission.model),
            ":hold": n(admission.hold_nano),
            ":in_flight": n(admission.in_flight_max),
            ":new": hold_value(admission, attempt),
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def hold_value(admission: Admission, attempt: int) -> Attribute:
    """What the account remembers of a running request: amount, expiry, attempt, key, model, the units that it took."""
    value = {
        "a": n(admission.hold_nano),
        "x": n(admission.expires_ms),
        "n": n(attempt),
        "k": s(admission.key.number),
        "m": s(admission.model),
    }
    if admission.stream:
        value["s"] = {"BOOL": True}  # what a cancellation may mark
    if admission.units:
        value["u"] = {
            "L": [
                m({"c": s(unit.counter), "f": {"L": [s(limit.field) for limit in unit.limits]}})
                for unit in admission.units
            ]
        }
    return m(value)


def unit_update(unit: Unit, admission: Admission, tables: Tables) -> dict[str, Any]:
    """Raises each of the unit's fields by one, if every one of them is below its limit."""
    names = {f"#f{index}": limit.field for index, limit in enumerate(unit.limits)}
    values = {f":l{index}": n(limit.limit) for index, limit in enumerate(unit.limits)}
    return {
        "TableName": tables.counters,
        "Key": {"id": s(unit.counter)},
        "UpdateExpression": f"SET #ttl = :ttl ADD {', '.join(f'{name} :one' for name in names)}",
        "ConditionExpression": " AND ".join(_below(index, limit) for index, limit in enumerate(unit.limits)),
        "ExpressionAttributeNames": {**names, "#ttl": TTL},
        "ExpressionAttributeValues": {
            **values,
            ":one": n(1),
            ":ttl": n(admission.now_ms // 1000 + COUNTER_LIFE_S),
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def _below(index: int, limit: Limit) -> str:
    """A counter that is not there yet is at nought: below every limit but that of nought."""
    return (
        f"(attribute_not_exists(#f{index}) OR #f{index} < :l{index})" if limit.limit > 0 else f"#f{index} < :l{index}"
    )


def already_in(item: Item | None, request_id: str) -> bool:
    """Whether this very request holds already: our own write, whose acknowledgement was lost."""
    return item is not None and request_id in item["holds"]["M"]


def why_refused(item: Item | None, admission: Admission) -> FareboxError | None:
    """The reason in the account that stood there, or None if it would pass now (it changed in between)."""
    if item is None:
        return InvalidApiKey()
    account = plain_item({name: item[name] for name in ("st", "avail", "ks")})
    key = account["ks"].get(admission.key.number)
    if not _is_good(key, admission):
        return InvalidApiKey()
    refusals = (  # in the order in which a caller would want to know
        (account["st"] != ACTIVE, AccountFrozen),
        (not address_allowed(admission.address, tuple(key["ips"])), AddressNotAllowed),
        (bool(key["models"]) and admission.model not in key["models"], ModelNotAllowed),
        (len(item["holds"]["M"]) >= admission.in_flight_max, partial(TooManyInFlight, limit=admission.in_flight_max)),
        (account["avail"] < admission.hold_nano, partial(_insufficient, admission.hold_nano, account["avail"])),
    )
    return next((error() for refused, error in refusals if refused), None)


def is_the_key(item: Item, admission: Admission) -> bool:
    """Whether the account has this very key, in whatever state."""
    key = plain_item(item["ks"]["M"]).get(admission.key.number)
    return key is not None and hmac.compare_digest(key["d"], admission.digest)


def _is_good(key: dict[str, Any] | None, admission: Admission) -> bool:
    """The key is the one that is known, of its kind, neither revoked nor expired."""
    return (
        key is not None
        and hmac.compare_digest(key["d"], admission.digest)
        and key["kind"] == admission.key.kind
        and key["st"] == ACTIVE
        and key["x"] > admission.now_ms
    )


def _insufficient(needed_nano: int, available_nano: int) -> InsufficientBalance:
    return InsufficientBalance(
        needed_nano=needed_nano,
        available_nano=available_nano,
        needed=money.format_ca(needed_nano),
        available=money.format_ca(available_nano),
    )


def networks_in(item: Item, admission: Admission) -> tuple[str, ...]:
    """The key's list of networks, from the account's item."""
    return tuple(plain_item(item["ks"]["M"][admission.key.number]["M"])["ips"])


def grant_of(admission: Admission, item: Item) -> Grant:
    """The grant, from the account as it is now: its hold is the request's, whichever copy of the write placed it."""
    attempt = int(item["holds"]["M"][admission.request_id]["M"]["n"]["N"])
    expired = lapsed_in(item, admission)
    return Grant(account=admission.key.account, key_id=admission.key.id, expired=expired, attempt=attempt)


def lapsed_in(item: Item | None, admission: Admission) -> tuple[str, ...]:
    """Other requests' holds that nobody settled in time."""
    return tuple(
        request_id
        for request_id, hold in (item["holds"]["M"] if item else {}).items()
        if int(hold["M"]["x"]["N"]) < admission.now_ms and request_id != admission.request_id
    )
