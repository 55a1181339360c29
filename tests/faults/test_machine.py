"""Random walks over the real store with faults in between; all that must hold is looked at after every step.

`make soak` makes them many times longer.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from farebox.adapters.dynamodb.accounts import DynamoDBAccounts
from farebox.adapters.dynamodb.store import DynamoDBStore
from farebox.domain import ids, ledger, quota
from farebox.domain.keys import ApiKey
from farebox.domain.quota import FreeLimits, Unit
from farebox.domain.receipts import canonical, without_use
from farebox.errors import DailyQuotaExceeded, FareboxError, InsufficientBalance, InvalidApiKey, StoreUnavailable
from farebox.ports import Admission, Grant, Settlement
from tests.fakes.faulty_db import Crash, Fault, FaultyDB, Life, arrive
from tests.faults.lab import MINUTE_MS, ZONE, Lab
from tests.faults.table import HITS
from tests.faults.world import ADDRESS, LIFE_MS, World

PRICES = (3, 7, 11)
HOLD_UNITS = 100
REVOKED_AFTER = 4
"""Not sooner, or little else would happen."""
LIMITS = FreeLimits(requests_per_key=4, requests_per_address=6)
NEXT = tuple(fault for fault in Fault if fault not in (Fault.OUTAGE, Fault.FROZEN))


@dataclass
class Running:
    """A request that somebody began: what it asked for, and what came back of it. `price` is captured, `word` the
    terminal word, which its process does not change once it has tried to write it.
    """

    admission: Admission
    price: int
    life: Life
    grant: Grant | None = None
    word: Settlement | None = None


class MoneyMachine(RuleBasedStateMachine):
    """One paid account, one free one. `running` are those whose process does not know that they have ended."""

    lab: ClassVar[Lab]
    steps: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.lab)
        self.world.free_limits = LIMITS
        self.world.injector.armed = True
        self.running: dict[str, Running] = {}
        self.settled: dict[str, int] = {}
        self.ended: dict[str, Running] = {}
        self.price = PRICES[0]
        self.revoked = False
        self.credits: dict[str, int] = {}
        self.life = Life()
        self.paid: ApiKey
        self.free: ApiKey

    @initialize()
    def open(self) -> None:
        self.paid = self.run(self.world.key("paid", 5_000))
        self.free = self.run(self.world.key("free"))

    def teardown(self) -> None:
        if hasattr(self, "free"):
            self.run(self._end())

    # ── steps ───────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(fault=st.sampled_from(NEXT))
    def next_call(self, fault: Fault) -> None:
        self.world.injector.next = fault

    @rule(amount=st.integers(1, 3_000))
    def top_up(self, amount: int) -> None:
        self._credit(f"crd_{len(self.credits)}", amount)

    @precondition(lambda self: self.credits)
    @rule(data=st.data())
    def top_up_again(self, data: st.DataObject) -> None:
        self._credit(*_any_of(data, list(self.credits.items())))

    @rule(free=st.booleans(), units=st.integers(1, HOLD_UNITS))
    def reserve(self, free: bool, units: int) -> None:
        key = self.free if free else self.paid
        admission = self._admission(key, 0 if free else units * self.price)
        held = Running(admission, self.price, self.life)
        self.running[admission.request_id] = held
        try:
            held.grant = self.do(self.store.admit(admission))
        except (InsufficientBalance, DailyQuotaExceeded, InvalidApiKey) as refusal:
            self._refused_for_a_reason(refusal, admission)
            self.running.pop(admission.request_id, None)
        except (StoreUnavailable, Crash):
            pass  # nobody knows: never_sent ends it, or the sweep

    @precondition(lambda self: self.running)
    @rule(data=st.data(), share=st.integers(0, 100))
    def settle(self, data: st.DataObject, share: int) -> None:
        held = self._one(data)
        units = held.admission.hold_nano // held.price * share // 100
        self._end_one(held, units * held.price, back=False)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self._end_one(self._one(data), 0, back=True)

    @precondition(lambda self: self.settled)
    @rule(data=st.data())
    def settle_again(self, data: st.DataObject) -> None:
        """Somebody who slept through it all settles what was settled."""
        request_id = _any_of(data, list(self.settled))
        held = self.ended[request_id]
        self.quietly(self.store.settle(self._settlement(held, held.price, back=False)))

    @rule()
    def arrive_late(self) -> None:
        self.run(arrive(self.lab.db, self.world.injector, self.world.injector.late))
        self.run(self.world.arrive_twins())

    @rule(minutes=st.integers(0, 25))
    def time_passes(self, minutes: int) -> None:
        self.world.clock.move(minutes * MINUTE_MS)

    @rule()
    def day_rolls(self) -> None:
        self.world.clock.move(12 * 60 * MINUTE_MS)

    @rule()
    def sweep(self) -> None:
        for account in (self.paid.account, self.free.account):
            for _ in range(2):
                self.quietly(self.store.expire(account, self.world.clock.now_ms()))

    @rule(price=st.sampled_from(PRICES))
    def price_changes(self, price: int) -> None:
        self.price = price

    @precondition(lambda self: not self.revoked and len(self.settled) > REVOKED_AFTER)
    @rule()
    def revoke(self) -> None:
        try:
            self.do(self.accounts.revoke(self.paid.account, self.paid.number))
        except (FareboxError, Crash):
            return
        self.revoked = True

    # ── what holds after every step ─────────────────────────────────────────────────────────────────────────────

    @invariant()
    def nothing_is_wrong(self) -> None:
        self.steps["steps"] += 1
        if not hasattr(self, "free"):
            return
        assert self.world.wrong == []
        self.run(self._books())

    async def _books(self) -> None:
        for key in (self.paid, self.free):
            item, rows = await self.world.item(key.account), await self.world.rows(key.account)
            holds = item["holds"]
            credited = [row["amount"] for row in rows.values() if row["kind"] == "credit"]
            applied = [
                row["amount"]
                for row in rows.values()
                if row["kind"] == "usage" and not _awaits(holds.get(row["id"]), row)
            ]
            wallet = ledger.Wallet(
                item["avail"],
                item["held"],
                item["spent"],
                item["credited"],
                {name: ledger.Hold(hold["a"], hold["x"]) for name, hold in holds.items()},
            )
            assert ledger.violations(wallet) == []
            assert item["credited"] == sum(credited)
            assert item["spent"] == -sum(applied)
            for request_id, hold in holds.items():
                assert request_id in self.world.committed
                assert hold["a"] == self.world.committed[request_id].amount_nano
            for request_id, row in rows.items():
                if row["kind"] == "usage" and row["amount"]:
                    assert -row["amount"] <= self.world.committed[request_id].amount_nano
                    assert self.settled.get(request_id, -row["amount"]) == -row["amount"]
        await self._counters()

    async def _counters(self) -> None:
        """A counter is what is held open and what was kept, not one more, never above its limit."""
        rows = await self.world.rows(self.free.account)
        holds = (await self.world.item(self.free.account))["holds"]
        kept: Counter[tuple[str, str]] = Counter()
        for request_id, held in self.world.committed.items():
            row, hold = rows.get(request_id), holds.get(request_id)
            ghost = hold is not None and row is not None and not _awaits(hold, row)
            taken = ghost + (hold is not None if row is None or _awaits(hold, row) else not row["back"])
            for counter, fields in held.units:
                for name in fields:
                    kept[counter, name] += taken
        for counter in {counter for counter, _ in kept}:
            counts = await self.world.counter(counter)
            for name, count in counts.items():
                told = {request_id: (row["back"], row.get("n")) for request_id, row in rows.items()}
                open_ = {request_id: hold["n"] for request_id, hold in holds.items()}
                assert count == kept[counter, name], (counter, name, told, open_, self.world.injector.calls[-6:])
                assert 0 <= count <= self.world._limit(counter, name)

    # ── words ───────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def store(self) -> DynamoDBStore:
        db = FaultyDB(self.lab.db, self.world.injector, self._process())
        return DynamoDBStore(db, self.lab.tables, signer=self.lab.signer, reset_at="00:00")  # type: ignore[arg-type]

    @property
    def accounts(self) -> DynamoDBAccounts:
        return DynamoDBAccounts(FaultyDB(self.lab.db, self.world.injector, self._process()), self.lab.tables)  # type: ignore[arg-type]

    def _process(self) -> Life:
        """The process that works now; after a crash another one, that knows nothing of what ran."""
        if self.life.dead:
            self.life = Life()
            self.running.clear()
        return self.life

    def run(self, work: Any) -> Any:
        return self.lab.run(work)

    def do(self, work: Any) -> Any:
        """A step that may meet the next fault."""
        before = dict(self.world.injector.hits)
        try:
            return self.run(work)
        finally:
            self._process()  # whoever died knows of nothing any more
            for number, fault in self.world.injector.hits.items():
                if number not in before:
                    HITS["random walks", fault] += 1

    def quietly(self, work: Any) -> None:
        with suppress(FareboxError, Crash):
            self.do(work)

    def _one(self, data: st.DataObject) -> Running:
        return _any_of(data, list(self.running.values()))

    def _credit(self, credit_id: str, amount: int) -> None:
        self.credits[credit_id] = amount
        work = self.accounts.credit(
            self.paid.account, amount, reason="t", credit_id=credit_id, at_ms=self.world.clock.now_ms()
        )
        self.quietly(work)

    def _admission(self, key: ApiKey, hold_nano: int) -> Admission:
        now_ms = self.world.clock.now_ms()
        units: tuple[Unit, ...] = ()
        if key is self.free:
            day = quota.day_at(now_ms, ZONE)
            units = quota.free_units(
                kind="chat",
                group="gpt-4o-mini",
                key_id=key.id,
                address_hash=quota.address_hash(ADDRESS, day_name=day.name, pepper=self.lab.pepper),
                day=day,
                limits=LIMITS,
            )
        return Admission(
            request_id=ids.request_id(now_ms, self.lab.random.token),
            key=key,
            digest=key.digest(self.lab.pepper),
            model="gpt-4o-mini",
            hold_nano=hold_nano,
            units=units,
            now_ms=now_ms,
            expires_ms=now_ms + LIFE_MS,
            in_flight_max=500,
            address=ADDRESS,
        )

    def _end_one(self, held: Running, cost_nano: int, *, back: bool) -> None:
        """As the relay does it: a request that was let in is settled, one of which nobody knows is abandoned."""
        request_id = held.admission.request_id
        if held.word is None:
            held.word = self._settlement(held, cost_nano if held.grant else 0, back=back or held.grant is None)
        settlement = held.word
        try:
            if held.grant is None:
                self.do(self.store.abandon(held.admission, settlement))
            elif self.do(self.store.settle(settlement)):
                self.settled[request_id] = settlement.cost_nano
        except StoreUnavailable:
            return  # it is tried again
        except Crash:
            return
        self.ended[request_id] = held
        self.running.pop(request_id, None)

    def _settlement(self, held: Running, cost_nano: int, *, back: bool) -> Settlement:
        admission = held.admission
        receipt = without_use(
            request_id=admission.request_id,
            at_ms=self.world.clock.now_ms(),
            account=admission.key.account,
            key_id=admission.key.id,
            model=admission.model,
            hold_nano=admission.hold_nano,
            outcome="completed",
        )
        document = canonical(replace(receipt, cost_nano=cost_nano).document())
        return Settlement(
            request_id=admission.request_id,
            account=admission.key.account,
            key_number=admission.key.number,
            hold_nano=admission.hold_nano,
            cost_nano=cost_nano,
            units_back=admission.units if back else (),
            receipt=document,
            signature=self.lab.signer.sign(document),
            signer_key_id=self.lab.signer.key_id,
            at_ms=self.world.clock.now_ms(),
            attempt=held.grant.attempt if held.grant else None,
        )

    def _refused_for_a_reason(self, refusal: FareboxError, admission: Admission) -> None:
        """Never 402 for money that is there, nor 429 for units that are, nor 401 for a good key."""
        if isinstance(refusal, InvalidApiKey):
            assert self.revoked or Fault.ACK_LOST in self.world.injector.hits.values()
        if isinstance(refusal, InsufficientBalance):
            assert self.run(self.world.item(admission.key.account))["avail"] < admission.hold_nano
        if isinstance(refusal, DailyQuotaExceeded):
            counts = [self.run(self.world.counter(unit.counter)) for unit in admission.units]
            assert any(
                count.get(limit.field, 0) >= limit.limit
                for unit, count in zip(admission.units, counts, strict=True)
                for limit in unit.limits
            )

    async def _end(self) -> None:
        """All is over: what was under way arrives, everything lapses, and nothing is left open."""
        injector = self.world.injector
        injector.next, injector.armed = None, False
        for _ in range(2):
            await arrive(self.lab.db, injector, injector.late)
            await self.world.arrive_twins()
            self.world.clock.move(LIFE_MS + MINUTE_MS)
            for key in (self.paid, self.free):
                await self.store.expire(key.account, self.world.clock.now_ms())
        try:
            await self._books()
            for key in (self.paid, self.free):
                assert (await self.world.item(key.account))["holds"] == {}
                rows = await self.world.rows(key.account)
                for request_id, held in self.world.committed.items():
                    assert held.account != key.account or request_id in rows
        finally:
            await self.world.forget()


def _any_of(data: st.DataObject, things: list[Any]) -> Any:
    """One of them, by its place: ids are random, and a walk must be the same when it is gone again."""
    return things[data.draw(st.integers(0, len(things) - 1))]


def _awaits(hold: dict[str, Any] | None, row: dict[str, Any]) -> bool:
    """Whether the hold is yet to be ended by the row; a ghost is not."""
    return hold is not None and ("n" not in row or row["n"] == hold["n"])


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("walks", "steps"), [(60, 50), pytest.param(1_500, 100, marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_random_walks(lab: Lab, walks: int, steps: int) -> None:
    MoneyMachine.lab = lab
    before = MoneyMachine.steps["steps"]
    run_state_machine_as_test(
        MoneyMachine,
        settings=settings(
            max_examples=walks,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.target],  # no shrinking: the steps are told, and each costs store calls
            suppress_health_check=list(HealthCheck),
        ),
    )
    taken = MoneyMachine.steps["steps"] - before
    print(f"{taken} steps")
    assert taken > walks * steps // 3
