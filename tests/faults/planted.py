"""Bugs to plant: what each does to the code, and the scenario that must find it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from farebox.adapters.dynamodb import accounts, admission, claim, settlement, store
from farebox.adapters.journal import FileJournal
from farebox.dialects.openai.tap import OpenAITap
from farebox.dialects.wires import WIRES
from farebox.domain.outcome import RULES, Ending
from farebox.errors import StoreUnavailable
from farebox.ports import Grant
from farebox.relay import bill, conclusion, gate, relay_request
from tests.fakes.faulty_db import Fault
from tests.fakes.port_upstream import Trouble, UpstreamFault
from tests.faults import world
from tests.faults.lab import DEARER_MS, MINUTE_MS

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Bug:
    """`plant` changes the code; the bug shows in `scenario`, with one of `faults` at some call, or without any."""

    plant: Callable[[Patch], None]
    scenario: str
    faults: tuple[Fault, ...] = ()
    upstream_fault: UpstreamFault | None = None
    journals: bool = False


def _without_clause(clause: str) -> Callable[[Patch], None]:
    def plant(patch: Patch) -> None:
        assert clause in admission._CONDITION
        patch.setattr(admission, "_CONDITION", admission._CONDITION.replace(f" AND {clause}", ""))

    return plant


def _without_the_limit(patch: Patch) -> None:
    was = admission.unit_update

    def unlimited(*given: Any) -> dict[str, Any]:
        update = was(*given)
        del update["ConditionExpression"]
        values = update["ExpressionAttributeValues"]
        update["ExpressionAttributeValues"] = {name: values[name] for name in (":one", ":ttl")}
        return update

    patch.setattr(admission, "unit_update", unlimited)


def _unconditional(module: Any, name: str) -> Callable[[Patch], None]:
    """A write of the module loses its condition, and what only the condition named."""

    def plant(patch: Patch) -> None:
        was = getattr(module, name)

        def careless(*given: Any) -> dict[str, Any]:
            request = was(*given)
            request.pop("ConditionExpression")
            request.pop("ReturnValuesOnConditionCheckFailure", None)
            if "Item" in request:
                request.pop("ExpressionAttributeValues", None)
            else:
                request["ExpressionAttributeValues"].pop(":attempt", None)
            return request

        patch.setattr(module, name, careless)

    return plant


def _units_back_to_another_day(patch: Patch) -> None:
    was = settlement.unit_back

    def today(unit: Any, tables: Any) -> dict[str, Any]:
        request = was(unit, tables)
        request["Key"] = {"id": {"S": unit.counter.replace("2026-11-24", "2026-11-25")}}
        del request["ConditionExpression"]
        del request["ExpressionAttributeValues"][":one"]
        return request

    patch.setattr(settlement, "unit_back", today)


def _forget_to_release(patch: Patch) -> None:
    was = conclusion.Conclusion.settle

    async def forgetful(self: Any, admitted: Any, drawn: Any) -> None:
        if drawn.ending is not Ending.FAILED:
            await was(self, admitted, drawn)

    patch.setattr(conclusion.Conclusion, "settle", forgetful)


def _forget_the_never_sent(patch: Patch) -> None:
    async def forgetful(self: Any, admission: Any) -> None:
        pass

    patch.setattr(conclusion.Conclusion, "never_sent", forgetful)


def _bill_above_the_hold(patch: Patch) -> None:
    def greedy(plan: Any, usage: Any, ending: Ending, tier: Any) -> bill.Bill:
        lines = bill.lines_of(usage, plan.price.rates) if RULES[ending].billed else ()
        return bill.Bill(usage, lines, bill.total_nano_ca(lines), 0, plan.price.version)

    patch.setattr(relay_request, "bill", greedy)


def rule(ending: Ending, **changes: Any) -> Callable[[Patch], None]:
    return lambda patch: patch.setitem(RULES, ending, replace(RULES[ending], **changes))


def _expire_the_living(patch: Patch) -> None:
    was = gate.Gate._admission

    def short(self: Any, *given: Any) -> Any:
        made = was(self, *given)
        return replace(made, expires_ms=made.now_ms)

    patch.setattr(gate.Gate, "_admission", short)


def _expire_without_looking(patch: Patch) -> None:
    was = store.DynamoDBStore.expire

    async def always(self: Any, account: str, now_ms: int) -> int:
        return await was(self, account, now_ms + 60 * MINUTE_MS)

    patch.setattr(store.DynamoDBStore, "expire", always)


def _credit_twice(patch: Patch) -> None:
    was = accounts.DynamoDBAccounts._credit_row

    def careless(self: Any, *given: Any) -> dict[str, Any]:
        row = was(self, *given)
        del row["ConditionExpression"]
        return row

    patch.setattr(accounts.DynamoDBAccounts, "_credit_row", careless)


def _price_of_the_settlement(patch: Patch) -> None:
    was = relay_request.bill

    def dear(plan: Any, usage: Any, ending: Ending, tier: Any) -> Any:
        return was(replace(plan, price=plan.model.price_at(DEARER_MS)), usage, ending, tier)

    patch.setattr(relay_request, "bill", dear)


def _send_without_a_hold(patch: Patch) -> None:
    was = gate.Gate._known

    async def trusting(self: Any, admission: Any) -> Grant:
        try:
            return await was(self, admission)
        except StoreUnavailable:
            return Grant(admission.key.account, admission.key.id)

    patch.setattr(gate.Gate, "_known", trusting)


def _pay_ghosts(patch: Patch) -> None:
    def any_hold(row: Any, hold: Any) -> bool:
        row["n"] = hold["n"]
        return True

    patch.setattr(settlement, "is_of", any_hold)


def _wallet_first(patch: Patch) -> None:
    """The wallet is changed before the row that decides is written."""

    async def hasty(self: Any, settlement_: Any) -> bool:
        row = settlement.ledger_row(settlement_)
        await self._apply(row, settlement_.hold_nano, settlement_.units_back)
        return await self._write_row(row) is row

    patch.setattr(store.DynamoDBStore, "settle", hasty)


def _forged_end(patch: Patch) -> None:
    forged = replace(WIRES["chat.completions"], error_event=lambda _: b"data: [DONE]\n\n")
    patch.setattr(world, "CHAT", forged)


def _cut_is_complete(patch: Patch) -> None:
    patch.setattr(OpenAITap, "finished", property(lambda tap: tap.content_seen))


def _expired_costs_the_hold(patch: Patch) -> None:
    was = store.expired_row

    def full(account: str, request_id: str, hold: Any, *more: Any) -> Any:
        return {**was(account, request_id, hold, *more), "amount": {"N": "-" + hold["a"]["N"]}}

    patch.setattr(store, "expired_row", full)


def _ack_is_all(patch: Patch) -> None:
    """A failed condition is never our own earlier write."""
    patch.setattr(admission, "already_in", lambda item, request_id: False)


def _free_claims(patch: Patch) -> None:
    _unconditional(claim, "put_claim")(patch)


def _nothing_on_record(patch: Patch) -> None:
    patch.setattr(FileJournal, "append", lambda self, settlement: None)


BUGS: dict[str, Bug] = {
    "the wallet need not cover the hold": Bug(_without_clause("avail >= :hold"), "two_for_the_last_coin"),
    "a request may hold twice": Bug(
        _without_clause("attribute_not_exists(holds.#r)"), "paid_plain", (Fault.ACK_LOST_ONCE,)
    ),
    "a revoked key is good": Bug(_without_clause("ks.#k.st = :active"), "key_revoked_meanwhile"),
    "the counter has no limit": Bug(_without_the_limit, "last_unit"),
    "the ledger row is written over": Bug(_unconditional(settlement, "put_row"), "paid_stream", (Fault.FROZEN,)),
    "the wallet is changed without the hold": Bug(
        _unconditional(settlement, "wallet_update"), "paid_plain", (Fault.DUPLICATED,)
    ),
    "the wallet is changed before the row": Bug(_wallet_first, "paid_plain", (Fault.CRASH_AFTER,)),
    "units go back to today": Bug(_units_back_to_another_day, "fails_past_midnight"),
    "a failure forgets its hold": Bug(_forget_to_release, "fails_before_content"),
    "an unsure admission forgets its hold": Bug(_forget_the_never_sent, "free_plain", (Fault.ACK_LOST,)),
    "more is billed than was held": Bug(_bill_above_the_hold, "usage_above_the_hold"),
    "whoever leaves gets the unit back": Bug(rule(Ending.CLIENT_GONE, unit_back=True), "client_gone"),
    "a failure keeps the unit": Bug(rule(Ending.FAILED, unit_back=False), "fails_before_content"),
    "a crash gives the unit back": Bug(rule(Ending.UPSTREAM_CUT, unit_back=True), "cut_after_content"),
    "what failed is billed": Bug(rule(Ending.UPSTREAM_CUT, outcome="completed"), "cut_after_content"),
    "holds lapse at once": Bug(_expire_the_living, "sweep_during_a_stream"),
    "the sweep ends the living": Bug(_expire_without_looking, "sweep_during_a_stream"),
    "a credit counts twice": Bug(_credit_twice, "credit_with_retry", (Fault.ACK_LOST,)),
    "the price of the settlement is billed": Bug(_price_of_the_settlement, "paid_plain"),
    "the end is sent before it is on record": Bug(
        _nothing_on_record, "paid_stream", (Fault.CRASH_BEFORE,), journals=True
    ),
    "sent without a hold": Bug(_send_without_a_hold, "paid_plain", (Fault.LOST,)),
    "a ghost pays again": Bug(_pay_ghosts, "paid_plain", (Fault.LATE_TWIN,)),
    "our own hold is taken for a refusal": Bug(_ack_is_all, "free_plain", (Fault.ACK_LOST_ONCE,)),
    "a cut stream ends with [DONE]": Bug(_forged_end, "cut_after_content"),
    "a cut stream counts as whole": Bug(_cut_is_complete, "cut_after_content"),
    "an expired hold is charged": Bug(_expired_costs_the_hold, "lapsed_hold_ends_with_the_next"),
    "one idempotency key runs twice": Bug(_free_claims, "idempotent_retry"),
    "a unit kept where the upstream failed": Bug(
        rule(Ending.FAILED, unit_back=False), "free_stream", (), UpstreamFault(Trouble.CUT, 1, 0, calls=2)
    ),
}
