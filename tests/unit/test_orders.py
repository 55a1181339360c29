"""Orders and codes as pure rules: what a price is, what a fact changes, that facts add up in any order."""

from __future__ import annotations

import os
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.domain import codes
from farebox.domain.orders import Disputed, Fact, Mismatch, Order, Paid, Refunded, is_order_id, minor_of, mint_order

NANO = 1_000_000_000
ORDER = Order("ord_1", "acc_1", "stripe", 30 * NANO, 3000, "cny", "live", 0)
PAID = Paid("stripe", "ord_1", "live", "cny", 3000, payment="pi_1")
FACTS = st.lists(
    st.one_of(
        st.just(PAID),
        st.builds(lambda minor: Refunded("stripe", "ord_1", "live", "cny", minor), st.integers(0, 5000)),
        st.builds(
            lambda minor, which, out: Disputed("stripe", "ord_1", "live", "cny", minor, which, out),
            st.sampled_from([700, 3000]),
            st.sampled_from(["dp_1", "dp_2"]),
            st.booleans(),
        ),
    ),
    max_size=12,
)


@pytest.mark.parametrize(
    ("amount_nano", "rate", "currency", "minor"),
    [
        (30 * NANO, NANO, "cny", 3000),
        (1, NANO, "cny", 1),
        (30 * NANO, 7 * NANO, "usd", 429),
        (7 * NANO, 7 * NANO, "usd", 100),
        (7 * NANO + 1, 7 * NANO, "usd", 101),
        (30 * NANO, NANO // 20, "jpy", 600),
        (NANO // 20 + 1, NANO // 20, "jpy", 2),
    ],
)
def test_a_price_is_rounded_up_to_the_currencys_smallest_unit(
    amount_nano: int, rate: int, currency: str, minor: int
) -> None:
    assert minor_of(amount_nano, rate, currency) == minor


@given(st.integers(1, 10**18), st.integers(1, 10**12), st.sampled_from(["cny", "jpy"]))
def test_nobody_pays_less_than_the_amount_is_worth_nor_a_whole_unit_more(amount: int, rate: int, currency: str) -> None:
    per_unit = {"cny": 100, "jpy": 1}[currency]
    minor = minor_of(amount, rate, currency)
    assert (minor - 1) * rate < amount * per_unit <= minor * rate


@given(FACTS)
def test_a_fact_that_is_known_changes_nothing(facts: list[Fact]) -> None:
    order = reduce(lambda order, fact: fact.applied(order), facts, ORDER)
    for fact in facts:
        if isinstance(fact, Disputed) and not fact.withdrawn:
            continue  # the end of a dispute: what it says stands from then on
        assert fact.applied(order) == order


@given(FACTS, st.randoms())
def test_the_end_does_not_depend_on_the_order_in_which_facts_come(facts: list[Fact], dice: object) -> None:
    ended = {fact.dispute for fact in facts if isinstance(fact, Disputed) and not fact.withdrawn}
    first = {}
    for fact in facts:  # a dispute's amount does not change
        if isinstance(fact, Disputed):
            first.setdefault(fact.dispute, fact.minor)
    same = [
        Disputed(fact.provider, fact.order, fact.mode, fact.currency, first[fact.dispute], fact.dispute, fact.withdrawn)
        if isinstance(fact, Disputed)
        else fact
        for fact in facts
    ]
    shuffled = list(same)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    one = reduce(lambda order, fact: fact.applied(order), same, ORDER)
    other = reduce(lambda order, fact: fact.applied(order), shuffled, ORDER)

    assert one == other
    assert 0 <= one.worth_nano <= ORDER.amount_nano
    assert all(one.disputes[name] == 0 for name in ended)


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (Paid("epay", "ord_1", "live", "cny", 3000, payment="pi_1"), "provider"),
        (Paid("stripe", "ord_1", "test", "cny", 3000, payment="pi_1"), "mode"),
        (Paid("stripe", "ord_1", "live", "usd", 3000, payment="pi_1"), "currency"),
        (Paid("stripe", "ord_1", "live", "cny", 2999, payment="pi_1"), "amount"),
        (Paid("stripe", "ord_1", "live", "cny", 3000, payment="pi_1", session="cs_1", named=False), "session"),
        (Refunded("stripe", "ord_1", "live", "usd", 1), "currency"),
        (Disputed("stripe", "ord_1", "test", "cny", 1, "dp_1"), "mode"),
    ],
)
def test_a_fact_that_does_not_fit_is_none(fact: Fact, reason: str) -> None:
    with pytest.raises(Mismatch) as refused:
        fact.applied(ORDER)
    assert refused.value.reason == reason


def test_an_order_is_paid_once() -> None:
    paid = PAID.applied(ORDER)
    assert (ORDER.worth_nano, paid.worth_nano) == (0, 30 * NANO)
    with pytest.raises(Mismatch):
        Paid("stripe", "ord_1", "live", "cny", 3000, payment="pi_2").applied(paid)


def test_orders_have_ids_of_their_own() -> None:
    made = {mint_order(1, os.urandom) for _ in range(100)}
    assert len(made) == 100
    assert all(is_order_id(each) for each in made)
    others = ("", None, 1, {}, "req_" + "0" * 26, "ord_" + "0" * 25, "ord_" + "0" * 27)
    assert not any(is_order_id(each) for each in others)


@given(st.binary(min_size=16, max_size=16), st.randoms())
def test_a_code_is_read_however_it_is_typed(entropy: bytes, dice: object) -> None:
    code = codes.mint(lambda _: entropy)
    looks = {"0": "0Oo", "1": "1IilL", "-": "- "}
    typed = "".join(dice.choice(looks.get(char, char + char.lower())) for char in code)  # type: ignore[attr-defined]
    assert codes.parse(typed) == codes.parse(code) == codes.parse(code[3:]) == code[2:].replace("-", "")


def test_a_code_may_begin_like_its_prefix() -> None:
    body = "FB" + "0" * 23
    assert codes.parse(body) == codes.parse(f"FB-{body}") == body


@given(st.text(max_size=60))
def test_no_text_trips_the_reader_of_codes(text: str) -> None:
    body = codes.parse(text)
    assert body is None or len(codes.code_id(body, b"pepper")) == 69


def test_two_peppers_make_two_ids() -> None:
    body = codes.parse(codes.mint(os.urandom))
    assert body is not None
    assert codes.code_id(body, b"a") != codes.code_id(body, b"b")
