"""Days of a zone, and which addresses count as one."""

from __future__ import annotations

import ipaddress
import zoneinfo
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.domain.quota import (
    Day,
    FreeLimits,
    Limit,
    Unit,
    address_allowed,
    address_bucket,
    address_hash,
    class_of,
    day_at,
    free_units,
    key_counter,
)

PEPPER = b"p" * 32
ZONES = sorted(zone for zone in zoneinfo.available_timezones() if "/" in zone)
MS = st.integers(
    min_value=int(datetime(2025, 1, 1, tzinfo=UTC).timestamp() * 1000),
    max_value=int(datetime(2037, 1, 1, tzinfo=UTC).timestamp() * 1000),
)


def ms(text: str) -> int:
    """An ISO time with its offset → epoch ms."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("zone", "now", "name", "end"),
    [
        ("Asia/Shanghai", "2026-11-23T23:59:59.999+08:00", "2026-11-23", "2026-11-24T00:00:00+08:00"),
        ("Asia/Shanghai", "2026-11-24T00:00:00.000+08:00", "2026-11-24", "2026-11-25T00:00:00+08:00"),
        ("Asia/Shanghai", "2026-11-23T16:00:00.000+00:00", "2026-11-24", "2026-11-24T16:00:00+00:00"),
        ("Asia/Shanghai", "2026-12-31T15:59:59.999+00:00", "2026-12-31", "2026-12-31T16:00:00+00:00"),
        ("UTC", "2026-11-23T23:59:59.999+00:00", "2026-11-23", "2026-11-24T00:00:00+00:00"),
        ("UTC", "2028-02-29T12:00:00.000+00:00", "2028-02-29", "2028-03-01T00:00:00+00:00"),
        # 2026-03-08 has 23 hours in New York, 2026-11-01 has 25
        ("America/New_York", "2026-03-08T00:00:00-05:00", "2026-03-08", "2026-03-09T00:00:00-04:00"),
        ("America/New_York", "2026-03-08T03:00:00-04:00", "2026-03-08", "2026-03-09T00:00:00-04:00"),
        ("America/New_York", "2026-03-07T23:59:59.999-05:00", "2026-03-07", "2026-03-08T00:00:00-05:00"),
        ("America/New_York", "2026-11-01T00:30:00-04:00", "2026-11-01", "2026-11-02T00:00:00-05:00"),
        ("America/New_York", "2026-11-01T01:30:00-05:00", "2026-11-01", "2026-11-02T00:00:00-05:00"),
        ("America/New_York", "2026-11-01T23:59:59.999-05:00", "2026-11-01", "2026-11-02T00:00:00-05:00"),
        ("Pacific/Kiritimati", "2026-11-23T10:00:00+00:00", "2026-11-24", "2026-11-24T10:00:00+00:00"),
        ("Pacific/Kiritimati", "2026-11-23T09:59:59.999+00:00", "2026-11-23", "2026-11-23T10:00:00+00:00"),
        ("Pacific/Pago_Pago", "2026-11-23T10:59:59.999+00:00", "2026-11-22", "2026-11-23T11:00:00+00:00"),
        ("Asia/Kathmandu", "2026-11-23T18:15:00+00:00", "2026-11-24", "2026-11-24T18:15:00+00:00"),
        # clocks change at midnight itself: 00:00 does not exist on 2026-09-06 in Santiago, it happens twice in Havana
        ("America/Santiago", "2026-09-05T23:59:59.999-04:00", "2026-09-05", "2026-09-06T01:00:00-03:00"),
        ("America/Santiago", "2026-09-06T01:00:00-03:00", "2026-09-06", "2026-09-07T00:00:00-03:00"),
        ("America/Havana", "2026-10-31T23:59:59.999-04:00", "2026-10-31", "2026-11-01T00:00:00-04:00"),
        ("America/Havana", "2026-11-01T00:30:00-05:00", "2026-11-01", "2026-11-02T00:00:00-05:00"),
    ],
)
def test_a_day_has_its_name_and_ends_at_the_next_midnight_of_the_zone(zone: str, now: str, name: str, end: str) -> None:
    assert day_at(ms(now), ZoneInfo(zone)) == Day(name, ms(end))


def test_days_follow_each_other_without_gap_through_two_years_of_changing_clocks() -> None:
    zone = ZoneInfo("America/New_York")
    now_ms, expected, hours = ms("2025-01-01T00:00:00-05:00"), date(2025, 1, 1), set()
    while expected < date(2027, 1, 1):
        day = day_at(now_ms, zone)
        assert day.name == expected.isoformat()
        hours.add((day.ends_ms - now_ms) / 3_600_000)
        now_ms, expected = day.ends_ms, expected + timedelta(days=1)

    assert hours == {23, 24, 25}


@given(now_ms=MS, zone=st.sampled_from(ZONES))
def test_the_last_moment_of_a_day_is_in_it_and_its_end_is_not(now_ms: int, zone: str) -> None:
    where = ZoneInfo(zone)
    day = day_at(now_ms, where)

    assert now_ms < day.ends_ms <= now_ms + 26 * 3_600_000  # Antarctica/Troll shifts by two hours
    assert day_at(day.ends_ms - 1, where) == day
    assert day_at(day.ends_ms, where).name == (date.fromisoformat(day.name) + timedelta(days=1)).isoformat()


@given(now_ms=MS)
def test_shanghai_turns_at_sixteen_oclock_utc(now_ms: int) -> None:
    day = day_at(now_ms, ZoneInfo("Asia/Shanghai"))

    assert day.ends_ms % 86_400_000 == 16 * 3_600_000
    assert day.name == datetime.fromtimestamp(now_ms / 1000 + 8 * 3600, UTC).date().isoformat()


@pytest.mark.parametrize(
    ("address", "bucket"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:cb00:7107", "203.0.113.7"),
        ("::FFFF:CB00:7107", "203.0.113.7"),
        ("0:0:0:0:0:ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7%eth0", "203.0.113.7"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:0DB8:0001:0002:0000:0000:0000:0001", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("fe80::2%wlan1", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_addresses_that_are_one_caller_are_one_bucket(address: str, bucket: str) -> None:
    assert address_bucket(address) == bucket


@pytest.mark.parametrize(
    "nonsense", ["", "localhost", "1.2.3", "1.2.3.4.5", "1.2.3.4:80", "[::1]", "2001:db8::1/64", "%"]
)
def test_what_is_no_address_has_no_bucket(nonsense: str) -> None:
    with pytest.raises(ValueError):
        address_bucket(nonsense)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_and_its_mapped_forms_are_one_bucket(address: ipaddress.IPv4Address) -> None:
    dotted, hexed = f"::ffff:{address}", str(ipaddress.IPv6Address((0xFFFF << 32) | int(address)))

    assert {address_bucket(str(address)), address_bucket(dotted), address_bucket(hexed)} == {str(address)}


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_all_hosts_of_a_64_are_one_bucket_and_other_networks_another(network: int, host: int, other: int) -> None:
    if network == 0:  # IPv4-mapped addresses live here
        return
    one, same = ipaddress.IPv6Address(network << 64 | host), ipaddress.IPv6Address(network << 64 | other)
    neighbour = ipaddress.IPv6Address((network ^ 1) << 64 | host)

    assert address_bucket(str(one)) == address_bucket(same.exploded)
    assert address_bucket(str(one)) != address_bucket(str(neighbour))


@given(st.ip_addresses())
def test_the_hash_of_an_address_never_holds_the_address(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    hashed = address_hash(str(address), day_name="2026-11-23", pepper=PEPPER)

    assert len(hashed) == 32
    assert set(hashed) <= set("0123456789abcdef")
    assert str(address) not in hashed
    assert address.packed.hex() not in hashed


def test_the_hash_depends_on_bucket_day_and_pepper_and_on_nothing_else() -> None:
    def hashed(address: str = "2001:db8::1", day_name: str = "2026-11-23", pepper: bytes = PEPPER) -> str:
        return address_hash(address, day_name=day_name, pepper=pepper)

    assert hashed() == hashed() == hashed("2001:db8::2")
    assert len({hashed(), hashed("2001:db9::1"), hashed(day_name="2026-11-24"), hashed(pepper=b"q" * 32)}) == 4


@pytest.mark.parametrize(
    ("address", "networks", "allowed"),
    [
        ("203.0.113.7", (), True),
        ("203.0.113.7", ("203.0.113.0/24",), True),
        ("203.0.114.7", ("203.0.113.0/24",), False),
        ("203.0.114.7", ("203.0.113.0/24", "203.0.114.7/32"), True),
        ("::ffff:203.0.113.7", ("203.0.113.0/24",), True),
        ("2001:db8::1", ("203.0.113.0/24",), False),
        ("2001:db8::1", ("2001:db8::/32",), True),
        ("2001:db9::1", ("2001:db8::/32",), False),
        ("fe80::1%eth0", ("fe80::/10",), True),
        ("203.0.113.7", ("::/0",), False),
    ],
)
def test_a_keys_list_of_networks_lets_in_what_is_on_it(address: str, networks: tuple[str, ...], allowed: bool) -> None:
    assert address_allowed(address, networks) is allowed


def test_a_free_request_takes_a_unit_of_its_keys_day_and_one_of_its_addresss_day() -> None:
    day = Day("2026-11-23", 1_000)

    def units(kind: str, group: str) -> tuple[Unit, ...]:
        return free_units(kind=kind, group=group, key_id="key_1", address_hash="aa", day=day, limits=FreeLimits())

    assert units("chat", "gpt-4o") == (
        Unit("key", "key#key_1#2026-11-23", (Limit("chat", 200), Limit("group:gpt-4o", 5)), 1_000),
        Unit("address", "address#aa#2026-11-23", (Limit("chat", 200),), 1_000),
    )
    assert units("embedding", "embedding")[0].limits == (Limit("embedding", 200), Limit("group:embedding", 200))
    assert units("embedding", "embedding")[1].limits == (Limit("embedding", 200),)
    assert units("chat", "deepseek")[0].limits[1] == Limit("group:deepseek", 30)
    assert units("chat", "gpt-4o-mini")[0].limits[1] == Limit("group:gpt-4o-mini", 200)


def test_chat_and_completions_count_together_and_embeddings_apart() -> None:
    assert {kind: class_of(kind) for kind in ("chat", "completion", "embedding")} == {
        "chat": "chat",
        "completion": "chat",
        "embedding": "embedding",
    }


def test_a_keys_counter_is_named_for_its_day() -> None:
    assert key_counter("key_1", "2026-11-23") == "key#key_1#2026-11-23"
