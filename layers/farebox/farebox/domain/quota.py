"""Daily quotas: who is counted, under which name, until when.

A *unit* is one request against one counter. A free request takes all its units in one transaction or none: its
key's day and its address's day each count the request's class, and the key's day also its model group. The day is
part of a counter's name, so it turns by construction: nobody can start a day with yesterday's counters.
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Literal

Subject = Literal["key", "address"]
CLASS_OF_KIND = {"embedding": "embedding"}
"""Model kind → the class it is counted in; every other kind is "chat"."""


@dataclass(frozen=True, slots=True)
class Limit:
    """`field` of a counter may reach `limit` and not one more."""

    field: str
    limit: int


@dataclass(frozen=True, slots=True)
class Unit:
    """One counter to raise by one: its id, each field with the limit that it may reach, its day's end (epoch ms)."""

    subject: Subject
    counter: str
    limits: tuple[Limit, ...]
    ends_ms: int


@dataclass(frozen=True, slots=True)
class FreeLimits:
    """The free tier. Counts are requests a day; `input_tokens_max` is per request."""

    requests_per_key: int = 200
    requests_per_address: int = 200
    input_tokens_max: int = 4096
    groups: tuple[tuple[str, int], ...] = (("gpt-4o", 5), ("deepseek", 30), ("gpt-4o-mini", 200))

    def group_limit(self, group: str) -> int:
        """The daily limit of a model group; a group without one has the key's limit."""
        return dict(self.groups).get(group, self.requests_per_key)


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the configured zone: its name, and when it ends (epoch ms)."""

    name: str
    ends_ms: int


def day_at(now_ms: int, zone: tzinfo) -> Day:
    """The day that `now_ms` (epoch ms) falls into."""
    local = datetime.fromtimestamp(now_ms // 1000, zone)
    midnight = datetime.combine(local.date() + timedelta(days=1), datetime.min.time(), tzinfo=zone)
    return Day(local.date().isoformat(), int(midnight.timestamp()) * 1000)


def class_of(kind: str) -> str:
    return CLASS_OF_KIND.get(kind, "chat")


def free_units(
    *, kind: str, group: str, key_id: str, address_hash: str, day: Day, limits: FreeLimits
) -> tuple[Unit, ...]:
    """The units that one free request takes."""
    counted_as = class_of(kind)
    of_key = (Limit(counted_as, limits.requests_per_key), Limit(f"group:{group}", limits.group_limit(group)))
    of_address = (Limit(counted_as, limits.requests_per_address),)
    return (
        Unit("key", key_counter(key_id, day.name), of_key, day.ends_ms),
        Unit("address", f"address#{address_hash}#{day.name}", of_address, day.ends_ms),
    )


def key_counter(key_id: str, day_name: str) -> str:
    """The id of a key's counter for one day."""
    return f"key#{key_id}#{day_name}"


def address_bucket(address: str) -> str:
    """Which addresses count as one: an IPv4 address by itself, IPv4-mapped IPv6 as that, other IPv6 by its /64.

    Raises ValueError for what is no address.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)


def address_hash(address: str, *, day_name: str, pepper: bytes) -> str:
    """A keyed hash of the bucket and the day: the only form in which an address is kept."""
    return hmac.digest(pepper, f"address|{day_name}|{address_bucket(address)}".encode(), "sha256")[:16].hex()


def address_allowed(address: str, allowed: tuple[str, ...]) -> bool:
    """Whether `address` falls into one of the networks; an empty list allows all."""
    if not allowed:
        return True
    parsed: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in ipaddress.ip_network(network) for network in allowed)
