"""Who calls: a forwarding header counts only where a configured hop wrote it."""

from __future__ import annotations

import random

import pytest

from farebox.domain.quota import address_bucket
from farebox.http.address import caller_address, networks

HOP, CALLER, OTHER = "10.0.0.1", "203.0.113.7", "198.51.100.9"
TRUSTED = networks(("10.0.0.0/8", "127.0.0.1", "2001:db8:ffff::/48"))
FORWARDING = (
    b"x-forwarded-for",
    b"x-real-ip",
    b"forwarded",
    b"x-client-ip",
    b"cf-connecting-ip",
    b"true-client-ip",
    b"x-cluster-client-ip",
    b"x-amzn-request-context",
)


def forwarded(*values: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-forwarded-for", value.encode()) for value in values]


def test_without_configured_hops_the_peer_is_the_caller_whatever_a_header_says() -> None:
    assert caller_address(CALLER, forwarded(OTHER), ()) == CALLER
    assert caller_address(HOP, forwarded(OTHER), ()) == HOP


def test_a_peer_that_is_no_configured_hop_is_the_caller_whatever_a_header_says() -> None:
    assert caller_address(CALLER, forwarded(OTHER), TRUSTED) == CALLER


def test_a_configured_hop_is_believed() -> None:
    assert caller_address(HOP, forwarded(CALLER), TRUSTED) == CALLER
    assert caller_address("127.0.0.1", forwarded("2001:db8::7"), TRUSTED) == "2001:db8::7"


def test_a_configured_hop_without_a_header_is_the_caller() -> None:
    assert caller_address(HOP, [], TRUSTED) == HOP
    assert caller_address(HOP, forwarded(""), TRUSTED) == HOP


@pytest.mark.parametrize(
    ("chain", "caller"),
    [
        ([f"{OTHER}, {CALLER}"], CALLER),  # the left one is the caller's own invention
        ([f"{OTHER},{CALLER},10.1.2.3"], CALLER),
        ([f"{CALLER}, 10.1.2.3 , 10.3.2.1"], CALLER),
        ([f"10.9.9.9, {CALLER}, 10.1.2.3"], CALLER),  # a trusted name in front of an untrusted hop is no proof
        (["10.9.9.9, 10.1.2.3"], "10.9.9.9"),  # a caller inside
        ([OTHER, CALLER], CALLER),  # two headers are one list
        ([f"{CALLER}, 2001:db8:ffff::1"], CALLER),
        ([f"{CALLER}, ::ffff:10.1.2.3"], CALLER),  # a mapped hop is the hop
    ],
)
def test_in_a_chain_the_rightmost_address_that_is_no_hop_is_the_caller(chain: list[str], caller: str) -> None:
    assert caller_address(HOP, forwarded(*chain), TRUSTED) == caller


def test_a_hop_that_connects_over_a_dual_stack_socket_is_the_same_hop() -> None:
    assert caller_address(f"::ffff:{HOP}", forwarded(CALLER), TRUSTED) == CALLER


@pytest.mark.parametrize("nonsense", ["unknown", "_hidden", "999.1.1.1", "1.2.3", "é", "<script>", "203.0.113.7:443"])
def test_what_stands_left_of_nonsense_is_not_believed(nonsense: str) -> None:
    assert caller_address(HOP, forwarded(f"{CALLER}, {nonsense}"), TRUSTED) == HOP
    assert caller_address(HOP, forwarded(f"{CALLER}, {nonsense}, 10.1.2.3"), TRUSTED) == "10.1.2.3"


def test_who_has_no_address_shares_one_bucket() -> None:
    assert caller_address(None, forwarded(CALLER), TRUSTED) == "0.0.0.0"
    assert caller_address("", [], ()) == "0.0.0.0"


def test_a_thousand_forged_headers_of_an_untrusted_peer_give_one_bucket() -> None:
    source = random.Random(7)

    def address() -> str:
        octets = ".".join(str(source.randrange(256)) for _ in range(4))
        groups = ":".join(f"{source.randrange(65536):x}" for _ in range(8))
        return source.choice([octets, groups, f"::ffff:{octets}", HOP, "127.0.0.1", "unknown", "", octets + ":80"])

    buckets = set()
    for _ in range(1000):
        chosen = source.sample(FORWARDING, source.randint(1, len(FORWARDING)))
        headers = [
            (name, ",".join(address() for _ in range(source.randint(1, 5))).encode())
            for name in chosen
            for _ in range(source.randint(1, 2))
        ]
        buckets.add(address_bucket(caller_address(CALLER, headers, TRUSTED)))

    assert buckets == {CALLER}


def test_a_caller_behind_a_hop_cannot_choose_his_bucket() -> None:
    source = random.Random(8)
    found = set()
    for _ in range(1000):
        forged = ", ".join(f"{source.randrange(1, 255)}.0.{source.randrange(255)}.1" for _ in range(3))
        found.add(caller_address(HOP, forwarded(f"{forged}, {CALLER}"), TRUSTED))

    assert found == {CALLER}


def test_no_header_but_x_forwarded_for_is_read() -> None:
    for name in FORWARDING[1:]:
        assert caller_address(HOP, [(name, CALLER.encode())], TRUSTED) == HOP
