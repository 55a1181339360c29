"""The ledger's specification beside the real store: whatever the order of steps, both say the same.

FAREBOX_MODEL_EXAMPLES=2000 runs more of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from farebox.adapters.dynamodb import settlement as settling
from farebox.domain import ledger
from farebox.domain.accounts import ACTIVE
from farebox.domain.ledger import Entry, Hold, LedgerError, Wallet
from farebox.domain.orders import Order, Paid, Refunded, mint_order
from farebox.domain.quota import Limit, Unit, day_at
from farebox.errors import (
    AccountFrozen,
    Conflict,
    DailyQuotaExceeded,
    FareboxError,
    InsufficientBalance,
    InvalidApiKey,
)
from farebox.ports import Admission
from farebox.service.sweep import sweep
from tests.fakes.service import RunningFarebox
from tests.fakes.store import MINUTE_MS, NOON_MS, StoreDesk

EXAMPLES = int(os.environ.get("FAREBOX_MODEL_EXAMPLES", "90"))
STEPS = 30
ZONE = ZoneInfo("Asia/Shanghai")
KEY_LIMIT, ADDRESS_LIMIT = 3, 4
AMOUNT = st.integers(1, 1000)
ANY = st.integers(0, 2**16)
UNTIL_FOUND = (Phase.generate,)


@dataclass(frozen=True)
class Row:
    """A terminal word that is in the ledger."""

    cost_nano: int
    unit_back: bool


class Ledgers(RuleBasedStateMachine):
    """One account with a paid and a free key. `self.wallet`, `rows`, `counts` are what must stand in the store."""

    def __init__(self, desk: StoreDesk) -> None:
        super().__init__()
        self.desk = desk
        desk.now_ms = NOON_MS
        self.wallet = Wallet()
        self.admissions: dict[str, Admission] = {}
        self.rows: dict[str, Row] = {}
        self.credits: dict[str, int] = {}
        self.reversals: dict[str, int] = {}
        self.orders: dict[str, Order] = {}
        self.counts: dict[str, int] = {}
        self.units: dict[str, Unit] = {}
        self.revoked = False

    @initialize(amount=AMOUNT)
    def open(self, amount: int) -> None:
        self.paid = self.desk.account("paid", amount)
        self.free = self.desk.key("free", self.paid.account)
        self.credits[f"crd_first_{self.paid.number}"] = amount
        self.wallet = ledger.credit(self.wallet, Entry("first", amount))
        self.pay(200)

    # ── what can happen ─────────────────────────────────────────────────────────────────────────────────────────

    @rule(amount=AMOUNT)
    def credit(self, amount: int) -> None:
        name = f"crd_{len(self.credits)}"
        assert self.give(name, amount)
        self.credits[name] = amount
        self.wallet = ledger.credit(self.wallet, Entry(name, amount))

    @rule(which=ANY)
    def credit_again(self, which: int) -> None:
        name, amount = chosen(self.credits.items(), which)
        assert not self.give(name, amount)
        self.wallet = ledger.collect(self.wallet)

    @rule(which=ANY)
    def credit_again_with_another_amount(self, which: int) -> None:
        name, amount = chosen(self.credits.items(), which)
        with pytest.raises(Conflict):
            self.give(name, amount + 1)

    @rule(amount=AMOUNT, again=st.booleans())
    def pay_an_order(self, amount: int, again: bool) -> None:
        self.pay(amount, times=1 + again)

    def pay(self, amount: int, times: int = 1) -> None:
        order = Order(
            mint_order(self.desk.now_ms, os.urandom), self.paid.account, "stripe", amount, amount, "cny", "live", 0
        )
        self.desk.run(self.desk.orders.open(order))
        paid = Paid("stripe", order.id, "live", "cny", amount, payment=order.id)
        for _ in range(times):
            order = self.desk.run(self.desk.orders.book(paid, self.desk.now_ms))
        self.orders[order.id] = order
        self.credits[f"top_{order.id}_1"] = amount
        self.wallet = ledger.credit(self.wallet, Entry(order.id, amount))

    @rule(which=ANY, percent=st.sampled_from([10, 60, 100]), again=st.booleans())
    def refund(self, which: int, percent: int, again: bool) -> None:
        """A part, all, or what was refunded before."""
        self.take_back(which, percent, times=1 + again)

    @precondition(lambda self: self.wallet.avail_nano and not self.wallet.frozen and not self.revoked)
    @rule(which=ANY)
    def refund_what_was_spent(self, which: int) -> None:
        admission = self.desk.admission(self.paid, self.wallet.avail_nano)
        self.wallet = self.hold(admission)
        self.desk.admit(admission)
        self.admissions[admission.request_id] = admission
        self.desk.settle(self.desk.settlement(admission, admission.hold_nano))
        self.rows[admission.request_id] = Row(admission.hold_nano, unit_back=False)
        self.follow(admission)
        self.take_back(which, 100)

    def take_back(self, which: int, percent: int, times: int = 1) -> None:
        before = chosen(self.orders.values(), which)
        told = Refunded("stripe", before.id, "live", "cny", before.minor * percent // 100)
        for _ in range(times):
            after = self.desk.run(self.desk.orders.book(told, self.desk.now_ms))
        self.orders[after.id] = self.desk.run(self.desk.orders.get(after.id))
        taken = after.worth_nano - before.worth_nano
        if taken:
            self.reversals[f"top_{after.id}_{self.orders[after.id].version}"] = taken
            self.wallet = ledger.reverse(self.wallet, Entry(after.id, taken))
        self.wallet = ledger.collect(self.wallet)

    @rule(amount=st.integers(0, 1500), again=st.booleans())
    def admit(self, amount: int, again: bool) -> None:
        admission = self.desk.admission(self.paid, amount)
        try:
            held = self.hold(admission)
        except LedgerError:
            with pytest.raises(self.refusal()):
                self.desk.admit(admission)
            return
        self.desk.admit(admission)
        if again:  # the acknowledgement was lost
            self.desk.admit(admission)
        self.wallet = held
        self.admissions[admission.request_id] = admission

    @rule(again=st.booleans())
    def admit_free(self, again: bool) -> None:
        units = self.free_units()
        admission = self.desk.admission(self.free, 0, units=units)
        if self.wallet.frozen:
            with pytest.raises(AccountFrozen):
                self.desk.admit(admission)
            return
        if any(self.counts.get(unit.counter, 0) >= unit.limits[0].limit for unit in units):
            with pytest.raises(DailyQuotaExceeded):
                self.desk.admit(admission)
            return
        self.desk.admit(admission)
        if again:
            self.desk.admit(admission)
        self.wallet = ledger.hold(self.wallet, admission.request_id, Hold(0, admission.expires_ms))
        self.admissions[admission.request_id] = admission
        for unit in units:
            self.counts[unit.counter] = self.counts.get(unit.counter, 0) + 1
            self.units[unit.counter] = unit

    @precondition(lambda self: self.admissions)
    @rule(which=ANY, part=st.integers(0, 100), unit_back=st.booleans(), word=st.sampled_from(["", "other"]))
    def settle(self, which: int, part: int, unit_back: bool, word: str) -> None:
        """A running request, or one that was ended before."""
        admission = chosen(self.admissions.values(), which)
        cost = admission.hold_nano * part // 100
        ours = self.desk.settle(self.desk.settlement(admission, cost, unit_back=unit_back, mark=word))
        fresh = admission.request_id not in self.rows
        assert ours or not fresh
        self.rows.setdefault(admission.request_id, Row(cost, unit_back))
        self.follow(admission)

    @precondition(lambda self: self.admissions)
    @rule(which=ANY, part=st.integers(0, 100))
    def settle_twice(self, which: int, part: int) -> None:
        admission = chosen(self.admissions.values(), which)
        word = self.desk.settlement(admission, admission.hold_nano * part // 100)
        first, second = self.desk.settle(word), self.desk.settle(word)
        assert first == second or first
        self.rows.setdefault(admission.request_id, Row(word.cost_nano, unit_back=False))
        self.follow(admission)

    @precondition(lambda self: self.admissions)
    @rule(which=ANY)
    def release(self, which: int) -> None:
        admission = chosen(self.admissions.values(), which)
        self.desk.settle(self.desk.settlement(admission, 0, unit_back=True, mark="release"))
        self.rows.setdefault(admission.request_id, Row(0, unit_back=True))
        self.follow(admission)

    @precondition(lambda self: self.running())
    @rule(which=ANY, part=st.integers(0, 100), unit_back=st.booleans())
    def crash_between_ledger_and_wallet(self, which: int, part: int, unit_back: bool) -> None:
        admission = chosen(self.running(), which)
        word = self.desk.settlement(admission, admission.hold_nano * part // 100, unit_back=unit_back)
        self.desk.run(self.desk.store._write_row(settling.ledger_row(word)))
        self.rows.setdefault(admission.request_id, Row(word.cost_nano, unit_back))

    @rule(minutes=st.sampled_from([1, 5, 18, 18, 60, 13 * 60]))
    def pass_time(self, minutes: int) -> None:
        self.desk.now_ms += minutes * MINUTE_MS

    @rule()
    def expire(self) -> None:
        lapsed = self.lapsed()
        assert self.desk.expire(self.paid) == len(lapsed)
        self.end(lapsed)
        self.wallet = ledger.collect(self.wallet)

    @rule()
    def sweep_twice(self) -> None:
        class At:
            now_ms = staticmethod(lambda: self.desk.now_ms)

        for _ in range(2):
            counts = self.desk.run(
                sweep(OneAccount(self.paid.account), self.desk.store, At(), self.desk.farebox.services.telemetry)  # type: ignore[arg-type]
            )
            assert counts == {"accounts": 1, "expired": len(self.lapsed()), "failed": 0}
            self.end(self.lapsed())
            self.wallet = ledger.collect(self.wallet)

    @rule()
    def revoke(self) -> None:
        """The key, not what it is running."""
        self.desk.run(self.desk.accounts.revoke(self.paid.account, self.paid.number))
        self.revoked = True

    # ── what must be true ───────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def both_say_the_same(self) -> None:
        if not self.credits:
            return
        stored = self.desk.wallet(self.paid)
        holds = {name: Hold(hold.amount_nano, hold.expires_ms) for name, hold in stored.holds.items()}
        amounts = (stored.avail_nano, stored.held_nano, stored.spent_nano, stored.credited_nano)

        stands = Wallet(*amounts, holds, stored.debt_nano, stored.status != ACTIVE)
        assert stands == self.wallet
        assert ledger.violations(self.wallet) == []
        assert ledger.violations(stands) == []

    @invariant()
    def the_ledger_explains_the_wallet(self) -> None:
        if not self.credits:
            return
        entries = self.desk.entries(self.paid)
        not_applied = sum(row.cost_nano for name, row in self.rows.items() if name in self.wallet.holds)

        assert entries == {
            **self.credits,
            **self.reversals,
            **{name: -row.cost_nano for name, row in self.rows.items()},
        }
        net = self.wallet.avail_nano + self.wallet.held_nano - self.wallet.debt_nano
        assert sum(entries.values()) + not_applied == net

    @invariant()
    def counters_say_what_was_taken_and_not_given_back(self) -> None:
        for counter, unit in self.units.items():
            assert self.desk.counter(unit) == {"chat": self.counts[counter]}
            assert 0 <= self.counts[counter] <= unit.limits[0].limit

    # ── the model's own steps ───────────────────────────────────────────────────────────────────────────────────

    def give(self, name: str, amount: int) -> bool:
        credit = self.desk.accounts.credit(self.paid.account, amount, reason="", credit_id=name, at_ms=self.desk.now_ms)
        return bool(self.desk.run(credit))

    def hold(self, admission: Admission) -> Wallet:
        """The wallet after the hold. Where it is short, what has lapsed is ended first. Raises LedgerError."""
        if self.revoked or self.wallet.frozen:
            raise LedgerError
        new = Hold(admission.hold_nano, admission.expires_ms)
        try:
            return ledger.hold(self.wallet, admission.request_id, new)
        except LedgerError:
            self.end(self.lapsed())
            return ledger.hold(self.wallet, admission.request_id, new)

    def refusal(self) -> type[FareboxError]:
        if self.revoked:
            return InvalidApiKey
        return AccountFrozen if self.wallet.frozen else InsufficientBalance

    def running(self) -> list[Admission]:
        return [self.admissions[name] for name in self.wallet.holds]

    def lapsed(self) -> list[Admission]:
        return [each for each in self.running() if each.expires_ms < self.desk.now_ms]

    def end(self, lapsed: list[Admission]) -> None:
        for admission in lapsed:
            self.rows.setdefault(admission.request_id, Row(0, unit_back=False))
            self.follow(admission)

    def follow(self, admission: Admission) -> None:
        """The wallet and the counters follow the row that stands, once."""
        if admission.request_id not in self.wallet.holds:
            return
        row = self.rows[admission.request_id]
        self.wallet = ledger.settle(self.wallet, Entry(admission.request_id, -row.cost_nano))
        if row.unit_back:
            for unit in admission.units:
                self.counts[unit.counter] -= 1

    def free_units(self) -> tuple[Unit, ...]:
        day = day_at(self.desk.now_ms, ZONE)
        return (
            Unit("key", f"key#{self.free.id}#{day.name}", (Limit("chat", KEY_LIMIT),), day.ends_ms),
            Unit("address", f"address#{self.free.number}#{day.name}", (Limit("chat", ADDRESS_LIMIT),), day.ends_ms),
        )


@dataclass(frozen=True)
class OneAccount:
    """The accounts that the sweep finds: this example's own."""

    account: str

    async def ids(self) -> list[str]:
        return [self.account]


def chosen(things: Any, which: int) -> Any:
    listed = list(things)
    return listed[which % len(listed)]


@pytest.fixture(scope="module")
def desk(_farebox: RunningFarebox) -> StoreDesk:
    return StoreDesk(_farebox, "model-tests-").open()


@pytest.mark.timeout(120 + EXAMPLES)
def test_the_store_does_what_the_specification_says_whatever_the_order(desk: StoreDesk) -> None:
    run_state_machine_as_test(
        lambda: Ledgers(desk),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("bug", ["no condition on the hold", "units back twice", "cost forgotten", "debts forgiven"])
def test_the_machine_notices_a_planted_bug(desk: StoreDesk, bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine itself is tested: a store with one of these bugs must not pass."""
    plant(bug, monkeypatch)
    with pytest.raises(BaseException):  # noqa: B017 - whatever the machine trips over first
        run_state_machine_as_test(
            lambda: Ledgers(desk),
            settings=settings(
                max_examples=200,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                print_blob=False,
                report_multiple_bugs=False,
                phases=UNTIL_FOUND,
                suppress_health_check=list(HealthCheck),
            ),
        )


def plant(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if bug == "no condition on the hold":
        from farebox.adapters.dynamodb import admission

        monkeypatch.setattr(admission, "_CONDITION", admission._CONDITION.replace("avail >= :hold", ":hold >= :none"))
    elif bug == "debts forgiven":
        from farebox.adapters.dynamodb import debt, orders

        def forgiven(account: str, amount: int, tables: Any, *, frozen_before: bool) -> dict[str, Any]:
            update = debt.owe_update(account, amount, tables, frozen_before=frozen_before)
            expression = update["UpdateExpression"].replace(":none) + :amount", ":none) + :none", 1)
            return {**update, "UpdateExpression": expression}

        monkeypatch.setattr(orders, "owe_update", forgiven)
    elif bug == "units back twice":
        apply = settling.unit_back

        def twice(unit: Unit, tables: Any) -> dict[str, Any]:
            update = apply(unit, tables)
            values = {**update["ExpressionAttributeValues"], ":minus": {"N": "-2"}}
            return {**update, "ExpressionAttributeValues": values}

        monkeypatch.setattr(settling, "unit_back", twice)
    else:
        row_of = settling.ledger_row
        monkeypatch.setattr(settling, "ledger_row", lambda settlement: row_of(replace(settlement, cost_nano=0)))
