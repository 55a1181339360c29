"""Every store call of a redeem, a payment, a refund and a dispute goes wrong in every way; whoever asks asks again.

Afterwards the account has exactly what it should have, the ledger explains it, and nothing was booked twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count

import pytest

from farebox.adapters.dynamodb import crediting, debt, orders
from farebox.adapters.dynamodb.accounts import DynamoDBAccounts
from farebox.adapters.dynamodb.codes import DynamoDBCodes
from farebox.adapters.dynamodb.errors import DynamoDBError
from farebox.adapters.dynamodb.orders import DynamoDBOrders
from farebox.adapters.dynamodb.store import DynamoDBStore
from farebox.domain import keys
from farebox.domain.accounts import ACTIVE, FROZEN, NEVER_MS, KeyRecord
from farebox.domain.codes import Code
from farebox.domain.keys import ApiKey
from farebox.domain.orders import Disputed, Fact, Order, Paid, Refunded, mint_order
from farebox.errors import FareboxError, StoreUnavailable
from farebox.ports import Admission
from farebox.service.audit import violations
from tests.fakes.faulty_db import Crash, Fault, FaultyDB, Injector, Life, arrive
from tests.faults.lab import NOON_MS, Lab

Hits = Counter[tuple[str, str]]
START, PRICE = 100, 1000
"""nano-CA: what the account begins with, and what the order or the code is worth."""
AT_ONCE = 8


@dataclass
class Desk:
    """One account with one order and one code, seen through some client of the store."""

    lab: Lab
    db: object
    key: ApiKey
    order: Order
    code: Code

    @property
    def orders(self) -> DynamoDBOrders:
        return DynamoDBOrders(self.db, self.lab.tables)  # type: ignore[arg-type]

    @property
    def accounts(self) -> DynamoDBAccounts:
        return DynamoDBAccounts(self.db, self.lab.tables)  # type: ignore[arg-type]

    @property
    def store(self) -> DynamoDBStore:
        return DynamoDBStore(self.db, self.lab.tables, signer=self.lab.signer, reset_at="")  # type: ignore[arg-type]

    def through(self, db: object) -> Desk:
        return replace(self, db=db)

    async def redeem(self) -> None:
        await DynamoDBCodes(self.db, self.lab.tables).redeem(self.code.id, self.key.account, NOON_MS)  # type: ignore[arg-type]

    async def order_it(self) -> None:
        await self.orders.open(self.order)
        await self.orders.opened(self.order.id, "cs_1")

    async def paid(self) -> None:
        await self._told(
            Paid("stripe", self.order.id, "live", "cny", 10, payment=f"pi_{self.order.id}", session="cs_1")
        )

    async def refunded(self, minor: int = 10) -> None:
        await self._told(Refunded("stripe", self.order.id, "live", "cny", minor))

    async def disputed(self) -> None:
        await self._told(Disputed("stripe", self.order.id, "live", "cny", 10, dispute="dp_1"))

    async def won(self) -> None:
        await self._told(Disputed("stripe", self.order.id, "live", "cny", 10, dispute="dp_1", withdrawn=False))

    async def hold(self, amount_nano: int) -> None:
        await self.store.admit(
            Admission(
                request_id=f"req_{self.order.id[4:]}",
                key=self.key,
                digest=self.key.digest(self.lab.pepper),
                model="m",
                hold_nano=amount_nano,
                units=(),
                now_ms=NOON_MS,
                expires_ms=NOON_MS + 1,
                in_flight_max=9,
                address="203.0.113.1",
            )
        )

    async def sweep(self) -> None:
        await self.store.expire(self.key.account, NOON_MS + 9)

    async def _told(self, fact: Fact) -> None:
        await self.orders.book(fact, NOON_MS)


Step = Callable[[Desk], Awaitable[object]]


@dataclass(frozen=True)
class Scenario:
    """`before` is done in peace, then `step` under fire. In the end: (available, debt, status), the rows' amounts."""

    before: tuple[Step, ...]
    step: Step
    ends: tuple[int, int, str]
    rows: tuple[int, ...]


async def _sit_on_half(desk: Desk) -> None:
    await desk.hold(600)


SCENARIOS = {
    "redeem": Scenario((), Desk.redeem, (START + PRICE, 0, ACTIVE), (PRICE,)),
    "redeem, in debt": Scenario(
        (Desk.order_it, Desk.paid, lambda desk: _spend(desk, 800), Desk.refunded),
        Desk.redeem,
        (300, 0, ACTIVE),
        (PRICE, -800, -PRICE, PRICE),
    ),
    "order": Scenario((), Desk.order_it, (START, 0, ACTIVE), ()),
    "paid": Scenario((Desk.order_it,), Desk.paid, (START + PRICE, 0, ACTIVE), (PRICE,)),
    "paid after its refund": Scenario((Desk.order_it, Desk.refunded), Desk.paid, (START, 0, ACTIVE), ()),
    "refund, covered": Scenario(
        (Desk.order_it, Desk.paid), lambda desk: desk.refunded(3), (START + 700, 0, ACTIVE), (PRICE, -300)
    ),
    "refund, spent": Scenario(
        (Desk.order_it, Desk.paid, lambda desk: _spend(desk, 800)),
        Desk.refunded,
        (0, 700, FROZEN),
        (PRICE, -800, -PRICE),
    ),
    "refund, held": Scenario(
        (Desk.order_it, Desk.paid, _sit_on_half), Desk.refunded, (START, 0, ACTIVE), (PRICE, -PRICE, 0)
    ),
    "dispute, spent": Scenario(
        (Desk.order_it, Desk.paid, lambda desk: _spend(desk, 1100)),
        Desk.disputed,
        (0, 1000, FROZEN),
        (PRICE, -1100, -PRICE),
    ),
    "dispute, won": Scenario(
        (Desk.order_it, Desk.paid, lambda desk: _spend(desk, 800), Desk.disputed),
        Desk.won,
        (300, 0, ACTIVE),
        (PRICE, -800, -PRICE, PRICE),
    ),
}


async def _spend(desk: Desk, amount_nano: int) -> None:
    """A row and the wallet, as a request would leave them."""
    tables, account = desk.lab.tables, desk.key.account
    row = crediting.credit_row(account, "use_1", -amount_nano, tables, reason="", at_ms=NOON_MS)
    update = crediting.credit_update(account, 0, tables)
    update["UpdateExpression"] = "SET avail = avail - :amount, spent = spent + :amount"
    update["ExpressionAttributeValues"] = {":amount": {"N": str(amount_nano)}}
    await desk.lab.db.call("TransactWriteItems", {"TransactItems": [{"Put": row}, {"Update": update}]})


async def _open(lab: Lab) -> Desk:
    key = keys.mint("paid", keys.mint_account(lab.random.token), lab.random.token)
    record = KeyRecord(
        id=key.id, account=key.account, number=key.number, kind="paid", last4=key.last4, expires_ms=NEVER_MS
    )
    order_id = mint_order(NOON_MS, lab.random.token)
    order = Order(order_id, key.account, "stripe", PRICE, 10, "cny", "live", NOON_MS)
    desk = Desk(lab, lab.db, key, order, Code(f"code#{order_id}", PRICE, NEVER_MS))
    await desk.accounts.create(key, key.digest(lab.pepper), record, credit_nano=START, at_ms=NOON_MS)
    await DynamoDBCodes(lab.db, lab.tables).add([desk.code], NOON_MS)
    return desk


async def run(lab: Lab, scenario: Scenario, number: int, fault: Fault | None, *, late_first: bool) -> list[str] | None:
    """What is wrong in the end; None where the step makes fewer calls than `number`."""
    desk = await _open(lab)
    for step in scenario.before:
        await step(desk)
    injector = Injector(faults={number: fault} if fault else {})

    async def somebody_else() -> None:
        await scenario.step(desk)

    injector.on_freeze = somebody_else
    with suppress(Crash, StoreUnavailable):
        await scenario.step(desk.through(FaultyDB(lab.db, injector, Life())))
    if fault and not injector.hits:
        return None
    if late_first:
        await arrive(lab.db, injector, injector.late)
    await scenario.step(desk)  # whoever got no answer asks again
    await arrive(lab.db, injector, injector.late)
    await arrive(lab.db, injector, injector.twins)
    await desk.sweep()
    await scenario.step(desk)
    account = await desk.accounts.get(desk.key.account)
    entries = await desk.accounts.entries(desk.key.account)
    found = violations(account, sum(amount for _, amount in entries))
    ends = (account.avail_nano, account.debt_nano, account.status)
    amounts = sorted(amount for name, amount in entries if not name.startswith("crd_first"))
    if ends != scenario.ends:
        found.append(f"ends as {ends}")
    if amounts != sorted(scenario.rows):
        found.append(f"rows {amounts}")
    return found


async def enumerate_faults(lab: Lab, name: str, hits: Hits, faults: tuple[Fault, ...] = tuple(Fault)) -> list[str]:
    wrong: list[str] = []

    async def of(fault: Fault, *, late_first: bool) -> None:
        for number in count(1):
            found = await run(lab, SCENARIOS[name], number, fault, late_first=late_first)
            if found is None:
                return
            hits[name, str(fault)] += 1
            wrong.extend(f"{fault} at call {number}: {each}" for each in found)

    room = asyncio.Semaphore(AT_ONCE)

    async def in_turn(fault: Fault, *, late_first: bool) -> None:
        async with room:
            await of(fault, late_first=late_first)

    points = [(fault, late) for fault in faults for late in {False, fault is Fault.DELAYED}]
    await asyncio.gather(*(in_turn(fault, late_first=late_first) for fault, late_first in points))
    return wrong


@pytest.mark.parametrize("name", SCENARIOS)
def test_without_a_fault_it_ends_as_it_should(lab: Lab, name: str) -> None:
    assert lab.run(run(lab, SCENARIOS[name], 0, None, late_first=False)) == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_any_store_call_of_a_top_up_goes_wrong_in_any_way(lab: Lab, name: str, hits: Hits) -> None:
    assert lab.run(enumerate_faults(lab, name, hits)) == []


PLANTED = {
    "row over row": ("redeem", Fault.DUPLICATED),
    "any version": ("paid", Fault.LATE_TWIN),
    "code twice": ("redeem", Fault.ACK_LOST),
    "debt forgotten": ("refund, spent", Fault.LOST),
    "thaws too early": ("refund, spent", Fault.LOST),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(lab: Lab, bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The enumeration itself is tested: the bug shows as a wrong end, or as an answer to who asks again."""
    plant(bug, monkeypatch)
    name, fault = PLANTED[bug]
    try:
        wrong = lab.run(enumerate_faults(lab, name, Counter(), (fault,)))
    except (FareboxError, DynamoDBError) as error:
        wrong = [type(error).__name__]
    assert wrong != []


def plant(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if bug == "row over row":
        from farebox.adapters.dynamodb import codes

        was_use = codes.DynamoDBCodes._redemption

        def careless(self: DynamoDBCodes, *given: object) -> dict[str, object]:
            made = was_use(self, *given)  # type: ignore[arg-type]
            for action in made["TransactItems"][:2]:
                (request,) = action.values()
                request["ConditionExpression"] = "attribute_exists(nothing) OR NOT attribute_exists(nothing)"
                if "ExpressionAttributeValues" in request:
                    request["ExpressionAttributeValues"].pop(":unused")
            return made

        monkeypatch.setattr(codes.DynamoDBCodes, "_redemption", careless)
    elif bug == "any version":
        was = orders.DynamoDBOrders._booking

        def any_version(self: DynamoDBOrders, order: Order, *given: object) -> dict[str, object]:
            made = was(self, order, *given)  # type: ignore[arg-type]
            put = made["TransactItems"][0]["Put"]
            put["ConditionExpression"] = "v >= :version"
            for action in made["TransactItems"]:
                if "Put" in action and action["Put"] is not put:
                    action["Put"].pop("ConditionExpression")
            return made

        monkeypatch.setattr(orders.DynamoDBOrders, "_booking", any_version)
    elif bug == "code twice":
        from farebox.adapters.dynamodb import codes

        monkeypatch.setattr(codes, "_is_done", lambda item, account: False)
    elif bug == "debt forgotten":
        monkeypatch.setattr(debt, "owes", lambda item: 0)
    else:
        payment = debt._payment

        def early(item: object, tables: object) -> dict[str, object]:
            return payment({**item, "debt": item["avail"]}, tables)  # type: ignore[arg-type, dict-item, index]

        monkeypatch.setattr(debt, "_payment", early)
