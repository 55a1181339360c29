"""Admit, settle and expire against the real embedded store: each refusal changes nothing, each ending happens once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from farebox import errors
from farebox.adapters.dynamodb import settlement as settling
from farebox.adapters.dynamodb.values import s
from farebox.domain.accounts import KeyChanges
from farebox.domain.keys import ApiKey
from farebox.domain.outcome import RULES, Ending
from farebox.domain.quota import FreeLimits, Limit, Unit, free_units
from farebox.domain.receipts import arithmetic_errors
from farebox.errors import (
    AddressNotAllowed,
    Conflict,
    DailyQuotaExceeded,
    FareboxError,
    InsufficientBalance,
    InvalidApiKey,
    NotFound,
    TooManyInFlight,
)
from farebox.ports import Admission
from farebox.service.sweep import sweep
from tests.fakes.service import RunningFarebox
from tests.fakes.store import DAY, MINUTE_MS, NOON_MS, StoreDesk

HOME, AWAY = "10.1.2.3", "203.0.113.7"
OFFICE = ("10.0.0.0/8",)


@pytest.fixture(scope="module")
def _desk(_farebox: RunningFarebox) -> StoreDesk:
    return StoreDesk(_farebox, "store-tests-").open()


@pytest.fixture
def desk(_desk: StoreDesk) -> StoreDesk:
    _desk.now_ms = NOON_MS
    _desk.db.calls.clear()
    return _desk


def units_of(key: ApiKey, *, address: str = "aa", group: str = "gpt-4o-mini") -> tuple[Unit, Unit]:
    """What a free chat request takes; the counters are the key's own, so that tests do not meet."""
    taken = free_units(
        kind="chat",
        group=group,
        key_id=key.id,
        address_hash=f"{address}-{key.number}",
        day=DAY,
        limits=FreeLimits(),
    )
    return taken[0], taken[1]


def free_admission(desk: StoreDesk, key: ApiKey, **more: Any) -> Admission:
    return desk.admission(key, 0, **{"units": units_of(key), **more})


# ── letting in ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_paid_request_is_let_in_with_one_call_that_holds_the_money(desk: StoreDesk) -> None:
    key = desk.account(credit_nano=5000)
    admission = desk.admission(key, 3000)
    desk.db.calls.clear()
    grant = desk.admit(admission)

    assert desk.db.calls == ["UpdateItem"]
    assert (grant.account, grant.key_id, grant.expired) == (key.account, key.id, ())
    wallet = desk.wallet(key)
    assert (wallet.avail_nano, wallet.held_nano, wallet.spent_nano, wallet.credited_nano) == (2000, 3000, 0, 5000)
    assert wallet.holds[admission.request_id].amount_nano == 3000
    assert wallet.holds[admission.request_id].expires_ms == admission.expires_ms


def test_a_free_request_is_let_in_with_one_call_that_counts_for_key_and_address(desk: StoreDesk) -> None:
    key = desk.account("free", 0)
    admission = free_admission(desk, key)
    desk.db.calls.clear()
    desk.admit(admission)

    assert desk.db.calls == ["TransactWriteItems"]
    assert desk.counter(admission.units[0]) == {"chat": 1, "group:gpt-4o-mini": 1}
    assert desk.counter(admission.units[1]) == {"chat": 1}
    assert list(desk.wallet(key).holds) == [admission.request_id]


def test_a_hold_of_the_whole_wallet_is_granted(desk: StoreDesk) -> None:
    key = desk.account(credit_nano=5000)
    desk.admit(desk.admission(key, 5000))

    assert (desk.wallet(key).avail_nano, desk.wallet(key).held_nano) == (0, 5000)


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Refusal:
    """`spoil` turns a sound admission into one that must be refused; `record` is the key's own record."""

    error: type[FareboxError]
    spoil: Callable[[StoreDesk, Admission], Admission]
    record: tuple[tuple[str, Any], ...] = ()


def other_account(desk: StoreDesk, admission: Admission) -> Admission:
    return replace(admission, key=replace(admission.key, account="acc_000000000000"))


def other_number(desk: StoreDesk, admission: Admission) -> Admission:
    return replace(admission, key=replace(admission.key, number="000000"))


def wrong_secret(desk: StoreDesk, admission: Admission) -> Admission:
    return replace(admission, digest=b"d" * 32)


def neighbours_key(desk: StoreDesk, admission: Admission) -> Admission:
    return replace(admission, digest=desk.digest(desk.account()))


def revoked(desk: StoreDesk, admission: Admission) -> Admission:
    desk.run(desk.accounts.revoke(admission.key.account, admission.key.number))
    return admission


def other_kind(desk: StoreDesk, admission: Admission) -> Admission:
    kind = {"paid": "free", "free": "paid"}[admission.key.kind]
    return replace(admission, key=replace(admission.key, kind=kind))


def frozen(desk: StoreDesk, admission: Admission) -> Admission:
    update = {
        "TableName": desk.tables.accounts,
        "Key": {"acct": s(admission.key.account)},
        "UpdateExpression": "SET st = :frozen",
        "ExpressionAttributeValues": {":frozen": s("frozen")},
    }
    desk.run(desk.farebox.services.db.call("UpdateItem", update))
    return admission


def two_running(desk: StoreDesk, admission: Admission) -> Admission:
    for _ in range(2):
        desk.admit(replace(admission, request_id=desk.new_id(), hold_nano=0, units=()))
    return replace(admission, in_flight_max=2)


def as_it_is(desk: StoreDesk, admission: Admission) -> Admission:
    return admission


REFUSALS = {
    "unknown account": Refusal(InvalidApiKey, other_account),
    "unknown key of a known account": Refusal(InvalidApiKey, other_number),
    "wrong secret": Refusal(InvalidApiKey, wrong_secret),
    "another account's secret": Refusal(InvalidApiKey, neighbours_key),
    "revoked": Refusal(InvalidApiKey, revoked),
    "expired a moment ago": Refusal(InvalidApiKey, as_it_is, (("expires_ms", NOON_MS),)),
    "another kind": Refusal(InvalidApiKey, other_kind),
    "frozen account": Refusal(errors.AccountFrozen, frozen),
    "not on the list of models": Refusal(errors.ModelNotAllowed, as_it_is, (("models", ("gpt-4o",)),)),
    "not on the list of networks": Refusal(AddressNotAllowed, as_it_is, (("networks", OFFICE),)),
    "too many in flight": Refusal(TooManyInFlight, two_running),
    "revoked and frozen and poor": Refusal(
        InvalidApiKey, lambda desk, admission: replace(revoked(desk, frozen(desk, admission)), hold_nano=10**12)
    ),
}


@pytest.mark.parametrize("kind", ["paid", "free"])
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_has_its_reason_and_changes_nothing(desk: StoreDesk, refusal: Refusal, kind: str) -> None:
    key = desk.account(kind, 5000, **dict(refusal.record))
    good = free_admission(desk, key) if kind == "free" else desk.admission(key, 3000)
    for unit in good.units:
        desk.set_counter(unit, chat=3, **{"group:gpt-4o-mini": 3})
    spoilt = refusal.spoil(desk, good)

    def state() -> Any:
        counters = [desk.item(desk.tables.counters, id=unit.counter) for unit in good.units]
        return desk.item(desk.tables.accounts, acct=key.account), counters, desk.entries(key)

    before = state()
    with pytest.raises(refusal.error) as refused:
        desk.admit(spoilt)

    assert type(refused.value) is refusal.error
    assert state() == before
    assert desk.item(desk.tables.accounts, acct="acc_000000000000") is None


def test_one_nano_too_few_is_refused_with_both_figures_and_changes_nothing(desk: StoreDesk) -> None:
    key = desk.account(credit_nano=2_999_999_999)
    before = desk.item(desk.tables.accounts, acct=key.account)
    with pytest.raises(InsufficientBalance) as refused:
        desk.admit(desk.admission(key, 3_000_000_000))

    assert (refused.value.needed_nano, refused.value.available_nano) == (3_000_000_000, 2_999_999_999)
    assert "2.999999999" in refused.value.en
    assert desk.item(desk.tables.accounts, acct=key.account) == before


def test_a_key_is_good_until_the_very_millisecond_of_its_expiry(desk: StoreDesk) -> None:
    key = desk.account(expires_ms=NOON_MS + 1)
    desk.admit(desk.admission(key))
    with pytest.raises(InvalidApiKey):
        desk.admit(desk.admission(key, now_ms=NOON_MS + 1))


def test_the_model_on_the_list_is_let_in(desk: StoreDesk) -> None:
    key = desk.account(models=("gpt-4o", "gpt-4o-mini"))
    desk.admit(desk.admission(key, model="gpt-4o-mini"))
    with pytest.raises(errors.ModelNotAllowed):
        desk.admit(desk.admission(key, model="gpt-4o-min"))


def test_as_many_as_allowed_run_at_once_and_not_one_more(desk: StoreDesk) -> None:
    key = desk.account()
    for _ in range(3):
        desk.admit(desk.admission(key, 10, in_flight_max=3))
    with pytest.raises(TooManyInFlight):
        desk.admit(desk.admission(key, 10, in_flight_max=3))

    assert desk.wallet(key).held_nano == 30


@pytest.mark.parametrize(
    ("index", "full", "subject", "limit"),
    [
        (0, {"chat": 200, "group:gpt-4o-mini": 7}, "key", 200),
        (0, {"chat": 7, "group:gpt-4o-mini": 200}, "key", 200),
        (0, {"chat": 200, "group:gpt-4o-mini": 200}, "key", 200),
        (1, {"chat": 200}, "address", 200),
    ],
)
def test_a_full_counter_refuses_and_the_other_counter_stays(
    desk: StoreDesk, index: int, full: dict[str, int], subject: str, limit: int
) -> None:
    key = desk.account("free", 0)
    admission = free_admission(desk, key)
    desk.set_counter(admission.units[index], **full)
    before = desk.item(desk.tables.accounts, acct=key.account)
    with pytest.raises(DailyQuotaExceeded) as refused:
        desk.admit(admission)

    assert (refused.value.subject, refused.value.limit) == (subject, limit)
    assert refused.value.retry_after_s == 12 * 3600
    assert desk.item(desk.tables.accounts, acct=key.account) == before
    assert desk.counter(admission.units[index]) == full
    assert desk.counter(admission.units[1 - index]) == {}


def test_the_tightest_full_limit_of_a_counter_is_the_one_that_is_told(desk: StoreDesk) -> None:
    key = desk.account("free", 0)
    admission = free_admission(desk, key, units=units_of(key, group="gpt-4o"))
    desk.set_counter(admission.units[0], **{"chat": 200, "group:gpt-4o": 5})
    with pytest.raises(DailyQuotaExceeded) as refused:
        desk.admit(admission)

    assert refused.value.limit == 5


def test_waiting_as_long_as_told_leads_to_the_next_day_and_no_second_earlier(desk: StoreDesk) -> None:
    key = desk.account("free", 0)
    desk.now_ms = DAY.ends_ms - 1500
    admission = free_admission(desk, key)
    desk.set_counter(admission.units[0], **{"chat": 200, "group:gpt-4o-mini": 200})
    with pytest.raises(DailyQuotaExceeded) as refused:
        desk.admit(admission)

    assert refused.value.retry_after_s == 2


def test_the_last_unit_is_given_and_no_more(desk: StoreDesk) -> None:
    key = desk.account("free", 0)
    admission = free_admission(desk, key)
    desk.set_counter(admission.units[0], **{"chat": 199, "group:gpt-4o-mini": 199})
    desk.admit(admission)
    with pytest.raises(DailyQuotaExceeded):
        desk.admit(replace(admission, request_id=desk.new_id()))

    assert desk.counter(admission.units[0]) == {"chat": 200, "group:gpt-4o-mini": 200}
    assert desk.counter(admission.units[1]) == {"chat": 1}


def test_a_limit_of_nought_lets_nobody_in(desk: StoreDesk) -> None:
    key = desk.account("free", 0)
    nothing = Unit("key", f"key#{key.id}#nought", (Limit("chat", 0),), DAY.ends_ms)
    with pytest.raises(DailyQuotaExceeded):
        desk.admit(free_admission(desk, key, units=(nothing,)))


# ── lists of networks ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_list_of_networks_is_learnt_once_and_then_costs_no_call_more(desk: StoreDesk) -> None:
    key = desk.account(networks=OFFICE)
    desk.db.calls.clear()
    desk.admit(desk.admission(key, address=HOME))
    first = len(desk.db.calls)
    desk.admit(desk.admission(key, address=HOME))

    assert (first, len(desk.db.calls) - first) == (2, 1)
    assert len(desk.wallet(key).holds) == 2


def test_a_remembered_list_still_refuses_others(desk: StoreDesk) -> None:
    key = desk.account(networks=OFFICE)
    desk.admit(desk.admission(key, address=HOME))
    for address in (AWAY, "2001:db8::1", "::ffff:203.0.113.7"):
        with pytest.raises(AddressNotAllowed):
            desk.admit(desk.admission(key, address=address))
    desk.admit(desk.admission(key, address=f"::ffff:{HOME}"))

    assert len(desk.wallet(key).holds) == 2


def test_a_changed_list_is_in_force_with_the_next_request(desk: StoreDesk) -> None:
    key = desk.account(networks=OFFICE)
    desk.admit(desk.admission(key, address=HOME))
    desk.run(desk.accounts.change_key(key.account, key.number, KeyChanges(networks=("203.0.113.0/24",))))
    with pytest.raises(AddressNotAllowed):
        desk.admit(desk.admission(key, address=HOME))
    desk.admit(desk.admission(key, address=AWAY))

    assert len(desk.wallet(key).holds) == 2


def test_a_list_that_was_taken_away_lets_everybody_in_again(desk: StoreDesk) -> None:
    key = desk.account(networks=OFFICE)
    desk.admit(desk.admission(key, address=HOME))
    desk.run(desk.accounts.change_key(key.account, key.number, KeyChanges(networks=())))
    desk.admit(desk.admission(key, address=HOME))
    desk.admit(desk.admission(key, address=AWAY))

    assert len(desk.wallet(key).holds) == 3


def test_a_list_that_is_put_on_later_is_in_force_at_once(desk: StoreDesk) -> None:
    key = desk.account()
    desk.admit(desk.admission(key, address=AWAY))
    desk.run(desk.accounts.change_key(key.account, key.number, KeyChanges(networks=OFFICE)))
    with pytest.raises(AddressNotAllowed):
        desk.admit(desk.admission(key, address=AWAY))


# ── lost acknowledgements ───────────────────────────────────────────────────────────────────────────────────────────


def test_admitting_again_after_a_lost_acknowledgement_is_one_hold(desk: StoreDesk) -> None:
    key = desk.account(credit_nano=1000)
    admission = desk.admission(key, 1000)

    assert desk.admit(admission) == desk.admit(admission)
    assert (desk.wallet(key).avail_nano, desk.wallet(key).held_nano) == (0, 1000)
    assert list(desk.wallet(key).holds) == [admission.request_id]


def test_a_free_admission_whose_acknowledgement_was_lost_takes_one_unit_even_if_it_was_the_last(
    desk: StoreDesk,
) -> None:
    key = desk.account("free", 0)
    admission = free_admission(desk, key)
    desk.set_counter(admission.units[1], chat=199)

    assert desk.admit(admission) == desk.admit(admission)
    assert desk.counter(admission.units[0]) == {"chat": 1, "group:gpt-4o-mini": 1}
    assert desk.counter(admission.units[1]) == {"chat": 200}
    assert len(desk.wallet(key).holds) == 1


# ── settling ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_settling_takes_the_cost_brings_back_the_rest_and_explains_both(desk: StoreDesk) -> None:
    key = desk.account(credit_nano=5000)
    admission = desk.admission(key, 3000)
    desk.admit(admission)

    assert desk.settle(desk.settlement(admission, 1200))
    wallet = desk.wallet(key)
    assert (wallet.avail_nano, wallet.held_nano, wallet.spent_nano, wallet.holds) == (3800, 0, 1200, {})
    assert desk.entries(key) == {f"crd_first_{key.number}": 5000, admission.request_id: -1200}


@pytest.mark.parametrize("cost_nano", [0, 1, 3000])
def test_settling_twice_with_the_same_receipt_is_settling_once(desk: StoreDesk, cost_nano: int) -> None:
    key = desk.account(credit_nano=5000)
    admission = desk.admission(key, 3000)
    desk.admit(admission)
    settlement = desk.settlement(admission, cost_nano)

    assert desk.settle(settlement)
    assert desk.settle(settlement)  # its own row stands: to the writer that is success
    assert desk.wallet(key).avail_nano == 5000 - cost_nano
    assert desk.wallet(key).spent_nano == cost_nano
    assert desk.entries(key)[admission.request_id] == -cost_nano


def test_of_two_different_terminal_words_the_first_stands(desk: StoreDesk) -> None:
    key = desk.account(credit_nano=5000)
    admission = desk.admission(key, 3000)
    desk.admit(admission)

    assert desk.settle(desk.settlement(admission, 700, mark="one"))
    assert not desk.settle(desk.settlement(admission, 2000, mark="other"))
    assert desk.wallet(key).spent_nano == 700
    assert desk.entries(key)[admission.request_id] == -700
    stored = desk.run(desk.accounts.receipt(key.account, admission.request_id))
    assert b'"one"' in stored.document


def test_twenty_settlements_at_once_of_one_request_are_one(desk: StoreDesk) -> None:
    key = desk.account("free", 0)
    admission = free_admission(desk, key)
    desk.set_counter(admission.units[0], **{"chat": 10, "group:gpt-4o-mini": 10})
    desk.admit(admission)
    words = [desk.settlement(admission, unit_back=True, mark=str(number)) for number in range(20)]

    async def all_at_once() -> list[bool]:
        return await asyncio.gather(*(desk.store.settle(word) for word in words))

    assert sum(desk.run(all_at_once())) == 1
    assert desk.counter(admission.units[0]) == {"chat": 10, "group:gpt-4o-mini": 10}
    assert desk.counter(admission.units[1]) == {"chat": 0}
    assert desk.wallet(key).holds == {}


def test_a_unit_goes_back_to_the_very_counter_that_it_came_from_and_once(desk: StoreDesk) -> None:
    key = desk.account("free", 0)
    admission = free_admission(desk, key)
    tomorrow = tuple(replace(unit, counter=unit.counter.replace("11-24", "11-25")) for unit in admission.units)
    desk.admit(admission)
    for unit in tomorrow:
        desk.set_counter(unit, **{"chat": 5, "group:gpt-4o-mini": 5})
    desk.now_ms = DAY.ends_ms + 1
    settlement = desk.settlement(admission, unit_back=True)
    for _ in range(3):
        desk.settle(settlement)

    assert desk.counter(admission.units[0]) == {"chat": 0, "group:gpt-4o-mini": 0}
    assert desk.counter(admission.units[1]) == {"chat": 0}
    assert [desk.counter(unit)["chat"] for unit in tomorrow] == [5, 5]


def test_a_unit_that_is_kept_stays_counted(desk: StoreDesk) -> None:
    key = desk.account("free", 0)
    admission = free_admission(desk, key)
    desk.admit(admission)
    desk.settle(desk.settlement(admission))

    assert desk.counter(admission.units[0]) == {"chat": 1, "group:gpt-4o-mini": 1}
    assert desk.counter(admission.units[1]) == {"chat": 1}


def test_a_counter_that_is_gone_does_not_keep_a_hold_open_and_is_not_made_negative(desk: StoreDesk) -> None:
    key = desk.account("free", 0)
    admission = free_admission(desk, key)
    desk.admit(admission)
    gone = {"TableName": desk.tables.counters, "Key": {"id": s(admission.units[1].counter)}}
    desk.run(desk.farebox.services.db.call("DeleteItem", gone))

    assert desk.settle(desk.settlement(admission, unit_back=True))
    assert desk.wallet(key).holds == {}
    assert desk.counter(admission.units[1]) == {}


# ── expiry, and whoever comes late ──────────────────────────────────────────────────────────────────────────────────


def test_a_lapsed_hold_costs_nothing_keeps_the_unit_and_leaves_a_receipt(desk: StoreDesk) -> None:
    key = desk.account("free", 5000)
    admission = free_admission(desk, key)
    paid = desk.key("paid", key.account)
    held = desk.admission(paid, 3000)
    desk.admit(admission)
    desk.admit(held)
    desk.now_ms = held.expires_ms + 1

    assert desk.expire(key) == 2
    assert desk.expire(key) == 0
    wallet = desk.wallet(key)
    assert (wallet.avail_nano, wallet.held_nano, wallet.spent_nano, wallet.holds) == (5000, 0, 0, {})
    assert desk.entries(key)[held.request_id] == 0
    assert desk.counter(admission.units[0]) == {"chat": 1, "group:gpt-4o-mini": 1}
    stored = desk.run(desk.accounts.receipt(key.account, held.request_id))
    document = receipt_of(stored.document)
    assert document["outcome"] == RULES[Ending.EXPIRED].outcome
    assert (document["key"], document["hold_nano"], document["cost_nano"]) == (paid.id, 3000, 0)
    assert arithmetic_errors(document) == []


def receipt_of(document: bytes) -> dict[str, Any]:
    import json

    return json.loads(document)


def test_a_hold_is_not_expired_before_its_time(desk: StoreDesk) -> None:
    key = desk.account(credit_nano=5000)
    admission = desk.admission(key, 3000)
    desk.admit(admission)
    desk.now_ms = admission.expires_ms

    assert desk.expire(key) == 0
    assert list(desk.wallet(key).holds) == [admission.request_id]


def test_who_settles_after_the_hold_expired_changes_nothing(desk: StoreDesk) -> None:
    key = desk.account(credit_nano=5000)
    admission = desk.admission(key, 3000)
    desk.admit(admission)
    desk.now_ms = admission.expires_ms + 1
    desk.expire(key)

    assert not desk.settle(desk.settlement(admission, 1200))
    assert (desk.wallet(key).avail_nano, desk.wallet(key).spent_nano) == (5000, 0)
    assert desk.entries(key) == {f"crd_first_{key.number}": 5000, admission.request_id: 0}


def test_expiry_after_settling_finds_nothing(desk: StoreDesk) -> None:
    key = desk.account(credit_nano=5000)
    admission = desk.admission(key, 3000)
    desk.admit(admission)
    desk.settle(desk.settlement(admission, 1200))
    desk.now_ms = admission.expires_ms + 1

    assert desk.expire(key) == 0
    assert (desk.wallet(key).avail_nano, desk.wallet(key).spent_nano) == (3800, 1200)
    assert desk.entries(key)[admission.request_id] == -1200


def test_settling_and_expiring_at_once_leave_one_row_that_the_wallet_follows(desk: StoreDesk) -> None:
    for _ in range(10):
        key = desk.account(credit_nano=5000)
        admission = desk.admission(key, 3000)
        desk.admit(admission)
        desk.now_ms = late = admission.expires_ms + 1

        async def race(admission: Admission = admission, late: int = late) -> None:
            word = desk.settlement(admission, 1200)
            account = admission.key.account
            await asyncio.gather(
                desk.store.expire(account, late), desk.store.settle(word), desk.store.expire(account, late)
            )

        desk.run(race())
        wallet = desk.wallet(key)
        assert -desk.entries(key)[admission.request_id] == wallet.spent_nano
        assert wallet.spent_nano in (0, 1200)
        assert (wallet.avail_nano, wallet.held_nano, wallet.holds) == (5000 - wallet.spent_nano, 0, {})
        desk.now_ms = NOON_MS


@pytest.mark.parametrize("finisher", ["expire", "sweep", "the same settlement", "another settlement"])
def test_a_crash_between_ledger_row_and_wallet_is_finished_with_the_row_that_stands(
    desk: StoreDesk, finisher: str
) -> None:
    key = desk.account(credit_nano=5000)
    admission = desk.admission(key, 3000)
    desk.admit(admission)
    settlement = desk.settlement(admission, 1200)
    desk.run(desk.store._write_row(settling.ledger_row(settlement)))
    assert desk.wallet(key).held_nano == 3000
    desk.now_ms = admission.expires_ms + 1

    match finisher:
        case "expire":
            desk.expire(key)
        case "sweep":
            run_sweep(desk)
        case "the same settlement":
            desk.settle(settlement)
        case _:
            desk.settle(desk.settlement(admission, 0, mark="other"))

    wallet = desk.wallet(key)
    assert (wallet.avail_nano, wallet.held_nano, wallet.spent_nano, wallet.holds) == (3800, 0, 1200, {})
    assert desk.entries(key)[admission.request_id] == -1200


@pytest.mark.parametrize("unit_back", [True, False])
def test_a_crash_before_the_units_went_back_is_finished_as_the_row_says(desk: StoreDesk, unit_back: bool) -> None:
    key = desk.account("free", 0)
    admission = free_admission(desk, key)
    desk.admit(admission)
    desk.run(desk.store._write_row(settling.ledger_row(desk.settlement(admission, unit_back=unit_back))))
    desk.now_ms = admission.expires_ms + 1
    desk.expire(key)
    desk.expire(key)

    left = 0 if unit_back else 1
    assert desk.counter(admission.units[0]) == {"chat": left, "group:gpt-4o-mini": left}
    assert desk.counter(admission.units[1]) == {"chat": left}
    assert desk.wallet(key).holds == {}


def test_a_lapsed_hold_is_pointed_out_by_the_accounts_next_request(desk: StoreDesk) -> None:
    key = desk.account(credit_nano=5000)
    dead = desk.admission(key, 3000)
    desk.admit(dead)
    desk.now_ms = dead.expires_ms + 1

    assert desk.admit(desk.admission(key, 1000)).expired == (dead.request_id,)


def test_a_lapsed_hold_never_stands_in_the_way_of_the_next_request(desk: StoreDesk) -> None:
    key = desk.account(credit_nano=5000)
    dead = desk.admission(key, 5000)
    desk.admit(dead)
    desk.now_ms = dead.expires_ms + 1
    desk.admit(desk.admission(key, 4000))

    assert (desk.wallet(key).avail_nano, desk.wallet(key).held_nano) == (1000, 4000)
    assert desk.entries(key)[dead.request_id] == 0


@pytest.mark.parametrize("kind", ["paid", "free"])
def test_lapsed_holds_do_not_count_as_running(desk: StoreDesk, kind: str) -> None:
    key = desk.account(kind, 5000)
    units = units_of(key) if kind == "free" else ()
    dead = desk.admission(key, 0, units=units, in_flight_max=1)
    desk.admit(dead)
    desk.now_ms = dead.expires_ms + 1
    alive = desk.admission(key, 0, units=units, in_flight_max=1)
    desk.admit(alive)

    assert list(desk.wallet(key).holds) == [alive.request_id]


def run_sweep(desk: StoreDesk) -> dict[str, int]:
    @dataclass
    class At:
        def now_ms(self) -> int:
            return desk.now_ms

    return desk.run(sweep(desk.accounts, desk.store, At(), desk.farebox.services.telemetry))


def test_the_sweep_ends_lapsed_holds_of_all_accounts_and_a_second_one_finds_none(desk: StoreDesk) -> None:
    run_sweep(desk)
    held = [(desk.account(), n) for n in range(3)]
    for key, n in held:
        desk.admit(desk.admission(key, 10 + n))
    desk.now_ms += 18 * MINUTE_MS
    alive = desk.account()
    desk.admit(desk.admission(alive, 5))
    first, second = run_sweep(desk), run_sweep(desk)

    assert first["expired"] >= 3
    assert (second["expired"], second["failed"]) == (0, 0)
    assert [desk.wallet(key).held_nano for key, _ in held] == [0, 0, 0]
    assert desk.wallet(alive).held_nano == 5


# ── accounts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def credit(desk: StoreDesk, account: str, amount_nano: int, credit_id: str = "crd_1") -> bool:
    return desk.run(desk.accounts.credit(account, amount_nano, reason="test", credit_id=credit_id, at_ms=NOON_MS))


def test_a_credit_adds_money_once_however_often_it_is_given(desk: StoreDesk) -> None:
    key = desk.account(credit_nano=1000)

    assert [credit(desk, key.account, 500) for _ in range(3)] == [True, False, False]
    assert (desk.wallet(key).avail_nano, desk.wallet(key).credited_nano) == (1500, 1500)
    assert desk.entries(key) == {f"crd_first_{key.number}": 1000, "crd_1": 500}


def test_twenty_equal_credits_at_once_add_money_once(desk: StoreDesk) -> None:
    key = desk.account(credit_nano=0)

    async def all_at_once() -> list[bool]:
        one = [
            desk.accounts.credit(key.account, 500, reason="test", credit_id="crd_1", at_ms=NOON_MS) for _ in range(20)
        ]
        return await asyncio.gather(*one)

    assert sum(desk.run(all_at_once())) == 1
    assert desk.wallet(key).avail_nano == 500


def test_another_amount_under_the_same_credit_id_is_a_conflict_and_adds_nothing(desk: StoreDesk) -> None:
    key = desk.account(credit_nano=1000)
    credit(desk, key.account, 500)
    with pytest.raises(Conflict):
        credit(desk, key.account, 501)

    assert desk.wallet(key).avail_nano == 1500
    assert desk.entries(key)["crd_1"] == 500


def test_two_credits_of_one_amount_are_two(desk: StoreDesk) -> None:
    key = desk.account(credit_nano=0)
    credit(desk, key.account, 500, "crd_1")
    credit(desk, key.account, 500, "crd_2")

    assert desk.wallet(key).avail_nano == 1000


def test_an_unknown_account_gets_no_credit_and_no_row(desk: StoreDesk) -> None:
    with pytest.raises(NotFound):
        credit(desk, "acc_000000000000", 500)

    assert desk.run(desk.accounts.entries("acc_000000000000")) == []
    assert desk.item(desk.tables.accounts, acct="acc_000000000000") is None


def test_creating_an_account_again_after_a_lost_acknowledgement_is_creating_it_once(desk: StoreDesk) -> None:
    key = desk.account(credit_nano=1000)
    record = desk.wallet(key).keys[key.number]
    credit(desk, key.account, 500)
    desk.run(desk.accounts.create(key, desk.digest(key), record, credit_nano=1000, at_ms=NOON_MS))

    assert desk.wallet(key).avail_nano == 1500
    assert desk.entries(key) == {f"crd_first_{key.number}": 1000, "crd_1": 500}


def test_a_second_key_of_an_account_spends_from_the_same_wallet_and_can_be_revoked_alone(desk: StoreDesk) -> None:
    first = desk.account(credit_nano=1000)
    second = desk.key("paid", first.account)
    desk.admit(desk.admission(second, 400))
    desk.run(desk.accounts.revoke(first.account, first.number))
    desk.run(desk.accounts.revoke(first.account, first.number))
    with pytest.raises(InvalidApiKey):
        desk.admit(desk.admission(first, 400))
    desk.admit(desk.admission(second, 400))

    assert desk.wallet(first).avail_nano == 200


def test_a_key_is_stored_as_its_digest_and_last_four_and_nowhere_as_itself(desk: StoreDesk) -> None:
    key = desk.account()
    item = str(desk.item(desk.tables.accounts, acct=key.account))

    assert key.text not in item
    assert key.text[25:55] not in item
    assert key.last4 in item


def test_what_is_not_there_is_not_found(desk: StoreDesk) -> None:
    key = desk.account()
    for missing in (
        desk.accounts.get("acc_000000000000"),
        desk.accounts.key(key.account, "000000"),
        desk.accounts.revoke(key.account, "000000"),
        desk.accounts.change_key(key.account, "000000", KeyChanges(name="x")),
        desk.accounts.receipt(key.account, "req_00000000000000000000000000"),
        desk.accounts.receipt(key.account, f"crd_first_{key.number}"),
    ):
        with pytest.raises(NotFound):
            desk.run(missing)
