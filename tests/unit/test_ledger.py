"""The ledger's specification: money is conserved, never negative, and each hold ends once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.domain import ledger
from farebox.domain.ledger import Entry, Hold, LedgerError, Wallet, violations

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("credit"), st.integers(0, 5), st.integers(-5, 1000)),
        st.tuples(st.just("reverse"), st.integers(0, 5), st.integers(-5, 1500)),
        st.tuples(st.just("collect"), st.just(0), st.just(0)),
        st.tuples(st.just("hold"), st.integers(0, 9), st.integers(-5, 1500)),
        st.tuples(st.just("settle"), st.integers(0, 9), st.integers(-5, 1500)),
    ),
    max_size=60,
)
FUNDED = ledger.credit(Wallet(), Entry("crd_1", 1000))
HOLDING = ledger.hold(FUNDED, "req_1", Hold(300, 9))


def step(wallet: Wallet, what: str, number: int, amount: int) -> Wallet:
    match what:
        case "credit":
            return ledger.credit(wallet, Entry(f"crd_{number}", amount))
        case "reverse":
            return ledger.reverse(wallet, Entry(f"rev_{number}", -amount))
        case "collect":
            return ledger.collect(wallet)
        case "hold":
            return ledger.hold(wallet, f"req_{number}", Hold(amount, 0))
        case _:
            return ledger.settle(wallet, Entry(f"req_{number}", -amount))


@given(STEPS)
def test_no_order_of_steps_creates_loses_or_overdraws_money(steps: list[tuple[str, int, int]]) -> None:
    wallet, entries = Wallet(), 0
    for what, number, amount in steps:
        held = wallet.holds.get(f"req_{number}")
        try:
            after = step(wallet, what, number, amount)
        except LedgerError:
            continue
        if what == "credit":
            entries += amount
        if what == "reverse" or (what == "settle" and held is not None):
            entries -= amount
        wallet = after
        assert violations(wallet) == []
        assert wallet.avail_nano + wallet.held_nano - wallet.debt_nano == entries


@given(STEPS, st.integers(0, 300))
def test_settling_twice_is_settling_once_whatever_comes_between(
    steps: list[tuple[str, int, int]], cost_nano: int
) -> None:
    wallet = ledger.settle(HOLDING, Entry("req_1", -cost_nano))
    for what, number, amount in steps:
        try:
            wallet = step(wallet, what, number + 10, amount)
        except LedgerError:
            continue

    assert ledger.settle(wallet, Entry("req_1", -cost_nano)) == wallet
    assert ledger.settle(wallet, Entry("req_1", 0)) == wallet


def test_a_hold_moves_money_and_settling_brings_back_what_was_not_used() -> None:
    assert (HOLDING.avail_nano, HOLDING.held_nano) == (700, 300)

    settled = ledger.settle(HOLDING, Entry("req_1", -120))

    assert settled == Wallet(avail_nano=880, held_nano=0, spent_nano=120, credited_nano=1000, holds={})


def test_a_hold_of_exactly_what_is_there_is_granted_and_one_nano_more_is_not() -> None:
    assert ledger.hold(FUNDED, "req_1", Hold(1000, 0)).avail_nano == 0
    with pytest.raises(LedgerError):
        ledger.hold(FUNDED, "req_1", Hold(1001, 0))


def test_a_free_requests_hold_of_nothing_is_a_hold_all_the_same() -> None:
    holding = ledger.hold(Wallet(), "req_1", Hold(0, 0))

    assert "req_1" in holding.holds
    assert ledger.settle(holding, Entry("req_1", 0)) == Wallet()


@pytest.mark.parametrize(
    ("what", "number", "amount"),
    [
        ("hold", 1, 10),  # it holds already
        ("hold", 2, -1),
        ("hold", 2, 701),
        ("settle", 1, 301),  # more than its hold
        ("settle", 1, -1),  # a gift
        ("credit", 1, 0),
        ("credit", 1, -1),
    ],
)
def test_what_the_rules_forbid_raises_and_changes_nothing(what: str, number: int, amount: int) -> None:
    before = HOLDING
    with pytest.raises(LedgerError):
        step(before, what, number, amount)

    assert before == ledger.hold(FUNDED, "req_1", Hold(300, 9))


@pytest.mark.parametrize(
    "wrong",
    [
        Wallet(avail_nano=-1, credited_nano=-1),
        Wallet(avail_nano=1),
        Wallet(held_nano=5, credited_nano=5),
        Wallet(avail_nano=5, credited_nano=5, holds={"req_1": Hold(5, 0)}),
        Wallet(avail_nano=10, spent_nano=-10),
    ],
)
def test_a_wallet_that_does_not_add_up_is_found(wrong: Wallet) -> None:
    assert violations(wrong) != []
