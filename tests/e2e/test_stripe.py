"""Stripe Checkout: an order first, a webhook that is proven, one credit; refunds and disputes never below zero."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from farebox.settings import Settings, StripeSettings, read
from tests.fakes.addresses import addresses
from tests.fakes.process import http
from tests.fakes.service import ADMIN_TOKEN, Funded, RunningFarebox
from tests.fakes.stripe_api import API_KEY, SECRET, FakeStripe, event, signed, wire
from tests.fakes.upstream import ScriptedUpstream

ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
NANO = 1_000_000_000
Event = dict[str, Any]


@pytest.fixture(scope="module")
def _stripe() -> Iterator[FakeStripe]:
    fake = FakeStripe().start()
    yield fake
    fake.stop()


@pytest.fixture
def stripe(_stripe: FakeStripe) -> Iterator[FakeStripe]:
    _stripe.failing = 0
    _stripe.asked.clear()
    yield _stripe
    _stripe.failing = 0


@pytest.fixture(scope="module")
def _shop(
    _stripe: FakeStripe, _upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningFarebox]:
    settings = Settings(
        admin_token=ADMIN_TOKEN,
        trusted_proxies=("127.0.0.1",),
        stripe=StripeSettings(api_key=API_KEY, webhook_secret=SECRET, base_url=_stripe.url),
        public_url="https://farebox.example",
    )
    service = RunningFarebox(tmp_path_factory.mktemp("shop"), _upstream.url, settings).start()
    yield service
    service.stop()


@pytest.fixture
def shop(_shop: RunningFarebox, stripe: FakeStripe) -> Iterator[RunningFarebox]:
    """A service that takes money by Stripe."""
    yield _shop
    _shop.clock.offset_ms, _shop.clock.fixed_ms = 0, None


def checkout(shop: RunningFarebox, key: Funded, amount: object = "30.00", **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key.text}", "x-forwarded-for": next(addresses)}
    return http.post(f"{shop.base_url}/topup/checkout", json={"amount": amount, **more}, headers=headers)


def ordered(shop: RunningFarebox, key: Funded, amount: str = "30.00") -> str:
    answer = checkout(shop, key, amount)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["order"])


def tell(shop: RunningFarebox, told: Event, *, header: str | None = None, at_s: int | None = None) -> httpx.Response:
    """The webhook, signed now if not said otherwise."""
    body = wire(told)
    at_s = at_s if at_s is not None else shop.clock.now_ms() // 1000
    headers = {"stripe-signature": header if header is not None else signed(body, at_s)}
    return http.post(f"{shop.base_url}/webhooks/stripe", content=body, headers=headers)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def money(shop: RunningFarebox, key: Funded) -> tuple[int, int, int, str]:
    """(available, held, debt) in nano-CA, and the status; the audit must agree with the account."""
    account = shop.account(key.account)
    found = http.get(f"{shop.url}/admin/v1/audit", headers=ADMIN).json()
    assert [sentence for sentence in found["violations"] if key.account in sentence] == []
    return account.avail_nano, account.held_nano, account.debt_nano, account.status


def rows(shop: RunningFarebox, key: Funded) -> list[int]:
    """What the ledger has of orders, in its order."""
    entries = shop.run(shop.services.accounts.entries(key.account))
    return [amount for name, amount in entries if name.startswith("top_")]


def spend(shop: RunningFarebox, key: Funded, amount_nano: int) -> None:
    """Out of the wallet, with a ledger row, as requests do."""
    hold = open_hold(shop, key, amount_nano)
    end_hold(shop, hold, amount_nano)


def open_hold(shop: RunningFarebox, key: Funded, amount_nano: int) -> Any:
    from farebox.domain import ids, keys
    from farebox.ports import Admission

    parsed = keys.parse(key.text)
    assert parsed is not None
    now_ms = shop.clock.now_ms()
    admission = Admission(
        request_id=ids.request_id(now_ms, shop.services.random.token),
        key=parsed,
        digest=parsed.digest(shop.services.secrets.pepper),
        model="gpt-4o-mini",
        hold_nano=amount_nano,
        units=(),
        now_ms=now_ms,
        expires_ms=now_ms + 600_000,
        in_flight_max=500,
        address="203.0.113.1",
    )
    shop.run(shop.services.store.admit(admission))
    return admission


def end_hold(shop: RunningFarebox, admission: Any, cost_nano: int) -> None:
    from farebox.ports import Settlement

    document = json.dumps({"request_id": admission.request_id, "cost_nano": cost_nano}).encode()
    signer = shop.services.signer
    settlement = Settlement(
        request_id=admission.request_id,
        account=admission.key.account,
        key_number=admission.key.number,
        hold_nano=admission.hold_nano,
        cost_nano=cost_nano,
        units_back=(),
        receipt=document,
        signature=signer.sign(document),
        signer_key_id=signer.key_id,
        at_ms=admission.now_ms,
    )
    shop.run(shop.services.store.settle(settlement))


# ── checkout ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_checkout_writes_the_order_first_and_answers_with_stripes_page(
    shop: RunningFarebox, stripe: FakeStripe
) -> None:
    key = shop.new_key(credit="1")
    answer = checkout(shop, key, "30.00").json()
    session = stripe.session_of(answer["order"])

    assert answer == {
        "order": answer["order"],
        "provider": "stripe",
        "amount": "30",
        "price": {"amount_minor": 3000, "currency": "cny"},
        "url": session["url"],
    }
    assert (session["amount_total"], session["currency"], session["mode"]) == (3000, "cny", "payment")
    assert session["metadata"] == {"farebox_order": answer["order"]}
    assert session["success_url"] == "https://farebox.example/"
    assert stripe.asked == [("POST", "/v1/checkout/sessions", answer["order"])]
    order = shop.run(orders_of(shop).get(answer["order"]))
    assert (order.account, order.amount_nano, order.minor, order.session) == (
        key.account,
        30 * NANO,
        3000,
        session["id"],
    )
    assert money(shop, key)[0] == NANO


def orders_of(shop: RunningFarebox) -> Any:
    from farebox.adapters.dynamodb.orders import DynamoDBOrders

    return DynamoDBOrders(shop.services.db, shop.services.tables)


@pytest.mark.parametrize("amount", ["0", "-1", "1e3", "", 30, None, "0.0000000001", "1000000", "9" * 41])
def test_an_amount_that_is_none_or_too_much_is_refused(
    shop: RunningFarebox, stripe: FakeStripe, amount: object
) -> None:
    answer = checkout(shop, shop.new_key(), amount)
    assert code_of(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == "amount"
    assert stripe.asked == []


@pytest.mark.parametrize(
    "more", [{"provider": "epay"}, {"provider": "x"}, {"account": "acc_000000000000"}, {"price": 1}]
)
def test_a_checkout_takes_no_other_provider_account_or_price(
    shop: RunningFarebox, stripe: FakeStripe, more: dict[str, object]
) -> None:
    answer = checkout(shop, shop.new_key(), **more)
    assert code_of(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] in more
    assert stripe.asked == []


def test_a_checkout_needs_a_good_key(shop: RunningFarebox, stripe: FakeStripe) -> None:
    assert code_of(checkout(shop, Funded("x", "", "")))[0] == 401
    assert stripe.asked == []


@pytest.mark.parametrize(("status", "told"), [(400, (400, "invalid_request")), (500, (503, "payment_unavailable"))])
def test_where_stripe_refuses_or_fails_nothing_is_credited(
    shop: RunningFarebox, stripe: FakeStripe, status: int, told: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from farebox.adapters.payments import stripe_checkout

    monkeypatch.setattr(stripe_checkout, "RETRIES", 0)
    key = shop.new_key(credit="1")
    stripe.failing = status
    assert code_of(checkout(shop, key)) == told
    assert money(shop, key)[0] == NANO


def test_a_key_may_order_thirty_times_an_hour(shop: RunningFarebox, stripe: FakeStripe) -> None:
    shop.clock.fixed_ms = 500_300 * 3_600_000
    key = shop.new_key()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: checkout(shop, key), range(33)))
    assert Counter(answer.status_code for answer in answers) == {200: 30, 429: 3}


# ── paid ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_paid_is_credited(shop: RunningFarebox, stripe: FakeStripe) -> None:
    key = shop.new_key(credit="1")
    order = ordered(shop, key, "30.00")
    answer = tell(shop, stripe.completed(order))

    assert (answer.status_code, answer.json()) == (200, {"received": True})
    assert money(shop, key) == (31 * NANO, 0, 0, "active")
    assert rows(shop, key) == [30 * NANO]


def test_the_same_event_ever_so_often_and_at_the_same_time_is_one_credit(
    shop: RunningFarebox, stripe: FakeStripe
) -> None:
    key = shop.new_key(credit="1")
    paid = stripe.completed(ordered(shop, key))
    again = {**paid, "id": "evt_another", "type": "checkout.session.async_payment_succeeded"}
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda told: tell(shop, told), [paid, again] * 40))

    assert Counter(answer.status_code for answer in answers) == {200: 80}
    assert money(shop, key)[0] == 31 * NANO
    assert rows(shop, key) == [30 * NANO]


def test_after_three_days_it_is_still_the_same_payment(shop: RunningFarebox, stripe: FakeStripe) -> None:
    key = shop.new_key(credit="1")
    paid = stripe.completed(ordered(shop, key))
    assert tell(shop, paid).status_code == 200
    shop.clock.offset_ms = 3 * 86_400_000
    assert tell(shop, paid).status_code == 200
    assert money(shop, key)[0] == 31 * NANO


def test_a_page_that_is_through_but_unpaid_waits_for_its_money(shop: RunningFarebox, stripe: FakeStripe) -> None:
    key = shop.new_key(credit="1")
    order = ordered(shop, key)
    assert tell(shop, stripe.completed(order, status="unpaid")).status_code == 200
    assert tell(shop, stripe.completed(order, status="no_payment_required")).status_code == 200
    assert money(shop, key)[0] == NANO

    arrived = stripe.completed(order)
    arrived["type"] = "checkout.session.async_payment_succeeded"
    assert tell(shop, arrived).status_code == 200
    assert tell(shop, stripe.completed(order, status="unpaid")).status_code == 200  # late
    assert money(shop, key)[0] == 31 * NANO


def test_a_payment_that_failed_is_none(shop: RunningFarebox, stripe: FakeStripe) -> None:
    key = shop.new_key(credit="1")
    order = ordered(shop, key)
    for kind in ("checkout.session.async_payment_failed", "checkout.session.expired", "payment_intent.created"):
        assert tell(shop, {**stripe.completed(order), "type": kind}).status_code == 200
    assert money(shop, key)[0] == NANO


def test_a_kill_between_order_and_page_loses_nothing(shop: RunningFarebox, stripe: FakeStripe) -> None:
    """The page was made, but nobody has written down its name: its metadata has the order's."""
    key = shop.new_key(credit="1")
    order = ordered(shop, key)
    key_of_item = {"id": {"S": f"order#{order}"}}
    forget = {
        "TableName": "test-registry",
        "Key": key_of_item,
        "UpdateExpression": "SET sess = :none",
        "ExpressionAttributeValues": {":none": {"S": ""}},
    }
    shop.run(shop.services.db.call("UpdateItem", forget))

    assert tell(shop, stripe.completed(order, metadata={})).status_code == 400  # a page may borrow a reference
    assert tell(shop, stripe.completed(order)).status_code == 200
    assert money(shop, key)[0] == 31 * NANO


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_total": 2999},
        {"amount_total": 3001},
        {"amount_total": 0},
        {"amount_total": "3000"},
        {"amount_total": 3000.0},
        {"amount_total": None},
        {"currency": "usd"},
        {"currency": None},
        {"id": "cs_test_other"},
    ],
)
def test_what_does_not_fit_the_order_is_not_credited(
    shop: RunningFarebox, stripe: FakeStripe, changes: dict[str, object]
) -> None:
    key = shop.new_key(credit="1")
    order = ordered(shop, key)
    assert code_of(tell(shop, stripe.completed(order, **changes))) == (400, "invalid_request")
    assert money(shop, key)[0] == NANO


def test_real_and_play_money_do_not_mix(shop: RunningFarebox, stripe: FakeStripe) -> None:
    key = shop.new_key(credit="1")
    paid = {**stripe.completed(ordered(shop, key)), "livemode": True}
    assert code_of(tell(shop, paid)) == (400, "invalid_request")
    assert money(shop, key)[0] == NANO


def test_anothers_order_is_credited_to_its_own_account(shop: RunningFarebox, stripe: FakeStripe) -> None:
    mine, theirs = shop.new_key(credit="1"), shop.new_key(credit="1")
    order = ordered(shop, theirs)
    forged = stripe.completed(order, customer_email="me@example", account=mine.account)
    forged["account"] = mine.account
    assert tell(shop, forged).status_code == 200
    assert (money(shop, mine)[0], money(shop, theirs)[0]) == (NANO, 31 * NANO)


def test_an_order_that_is_not_there_is_refused_and_what_is_not_ours_is_left_alone(
    shop: RunningFarebox, stripe: FakeStripe
) -> None:
    order = ordered(shop, shop.new_key())
    missing = order[:-4] + "0000"
    assert tell(shop, stripe.completed(order, metadata={"farebox_order": missing})).status_code == 400
    other = {
        "payment_status": "paid",
        "amount_total": 1,
        "currency": "cny",
        "id": "cs_1",
        "client_reference_id": "shop",
    }
    assert tell(shop, event("checkout.session.completed", other)).status_code == 200


def test_one_order_is_paid_once_and_one_payment_pays_one_order(shop: RunningFarebox, stripe: FakeStripe) -> None:
    key = shop.new_key(credit="1")
    first, second = ordered(shop, key), ordered(shop, key)
    paid = stripe.completed(first)
    assert tell(shop, paid).status_code == 200
    intent = paid["data"]["object"]["payment_intent"]

    assert tell(shop, stripe.completed(second, payment_intent=intent)).status_code == 400
    assert tell(shop, stripe.completed(first, payment_intent="pi_another")).status_code == 400
    assert money(shop, key)[0] == 31 * NANO


# ── proof ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("off_s", "status"), [(-300, 200), (-301, 400), (300, 200), (301, 400), (-86400, 400), (86400, 400)]
)
def test_a_signature_is_good_for_five_minutes_before_and_after(
    shop: RunningFarebox, stripe: FakeStripe, off_s: int, status: int
) -> None:
    shop.clock.fixed_ms = 1_900_000_000_000
    key = shop.new_key(credit="1")
    answer = tell(shop, stripe.completed(ordered(shop, key)), at_s=1_900_000_000 + off_s)
    assert answer.status_code == status
    assert money(shop, key)[0] == (31 * NANO if status == 200 else NANO)


def _headers(body: bytes, now_s: int) -> dict[str, str]:
    good = signed(body, now_s)
    time, mac = good.split(",")
    return {
        "none": "",
        "no time": mac,
        "no signature": time,
        "another secret": signed(body, now_s, "whsec_another_secret_0123"),
        "an empty secret": signed(body, now_s, ""),
        "another scheme": signed(body, now_s, scheme="v0"),
        "another time": f"t={now_s + 1},{mac}",
        "two times": f"t={now_s},t={now_s - 9},{mac}",
        "two times, the other first": f"t={now_s - 900},{time},{mac}",
        "a time with words": f"t={now_s}x,{mac}",
        "a negative time": f"t=-{now_s},{mac}",
        "a piece": good[:-1],
        "nonsense": "nonsense",
        "commas": ",,,=,",
        "a bare v1": f"{time},v1",
        "another body": signed(body + b" ", now_s),
        "not ascii": f"{time},v1=é".encode().decode("latin-1"),
    }


@pytest.mark.parametrize("wrong", _headers(b"", 0))
def test_what_stripe_has_not_signed_credits_nothing(shop: RunningFarebox, stripe: FakeStripe, wrong: str) -> None:
    key = shop.new_key(credit="1")
    body = wire(stripe.completed(ordered(shop, key)))
    header = _headers(body, shop.clock.now_ms() // 1000)[wrong]
    sent = {"stripe-signature": header.encode("latin-1")}
    answer = http.post(f"{shop.base_url}/webhooks/stripe", content=body, headers=sent)
    assert code_of(answer) == (400, "invalid_request")
    assert money(shop, key)[0] == NANO


def test_of_several_signatures_one_good_one_is_enough_as_when_secrets_rotate(
    shop: RunningFarebox, stripe: FakeStripe
) -> None:
    key = shop.new_key(credit="1")
    told = stripe.completed(ordered(shop, key))
    now_s = shop.clock.now_ms() // 1000
    old = signed(wire(told), now_s, "whsec_the_old_secret_012345").partition(",")[2]
    assert tell(shop, told, header=f"{signed(wire(told), now_s)},{old},v0=1").status_code == 200
    assert money(shop, key)[0] == 31 * NANO


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{}", b"{", b'{"type":"checkout.session.completed"}', b"\xff\xfe", b'"' + b"[" * 5000 + b'"']
    + [
        json.dumps({"type": kind, "data": {"object": thing}}).encode()
        for kind in ("checkout.session.completed", "charge.refunded", "charge.dispute.created")
        for thing in (None, [], "x", {}, {"metadata": 1, "payment_status": []}, {"client_reference_id": {}})
    ],
)
def test_no_signed_nonsense_is_a_fault_of_the_server(shop: RunningFarebox, body: bytes) -> None:
    headers = {"stripe-signature": signed(body, shop.clock.now_ms() // 1000)}
    answer = http.post(f"{shop.base_url}/webhooks/stripe", content=body, headers=headers)
    assert answer.status_code in (200, 400)


def test_a_long_notice_is_not_read(shop: RunningFarebox) -> None:
    answer = http.post(f"{shop.base_url}/webhooks/stripe", content=b"x" * 300_000)
    assert code_of(answer) == (413, "request_too_large")


@pytest.fixture(scope="module", params=["", "short"])
def without_secret(
    request: pytest.FixtureRequest,
    _stripe: FakeStripe,
    _upstream: ScriptedUpstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningFarebox]:
    section = {"api_key": API_KEY, "base_url": _stripe.url, "webhook_secret": request.param}
    settings = read({"stripe": section, "admin": {"token": ADMIN_TOKEN}}, lambda text: text, vendors={})
    service = RunningFarebox(tmp_path_factory.mktemp("no-secret"), _upstream.url, settings).start()
    yield service
    service.stop()


def test_without_a_secret_nothing_is_believed_and_nobody_is_asked_to_pay(without_secret: RunningFarebox) -> None:
    key = without_secret.new_key(credit="1")
    assert code_of(checkout(without_secret, key)) == (503, "not_configured")
    now_s = without_secret.clock.now_ms() // 1000
    for header in ("", *(signed(wire({}), now_s, each) for each in ("", "short", SECRET))):
        assert code_of(tell(without_secret, {}, header=header)) == (503, "not_configured")
    assert without_secret.account(key.account).avail_nano == NANO


# ── refunds and disputes ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_refund_of_what_is_unspent_is_taken_out_of_the_wallet(shop: RunningFarebox, stripe: FakeStripe) -> None:
    key = shop.new_key(credit="1")
    order = ordered(shop, key)
    tell(shop, stripe.completed(order))
    assert tell(shop, stripe.refunded(order, 3000)).status_code == 200
    assert tell(shop, stripe.refunded(order, 3000)).status_code == 200

    assert money(shop, key) == (NANO, 0, 0, "active")
    assert rows(shop, key) == [30 * NANO, -30 * NANO]


def test_partial_refunds_add_up_in_whatever_order_they_come(shop: RunningFarebox, stripe: FakeStripe) -> None:
    key = shop.new_key(credit="1")
    order = ordered(shop, key)
    tell(shop, stripe.completed(order))
    for total, left in ((1000, 21), (500, 21), (2500, 6), (1000, 6), (3000, 1), (9999, 1)):
        assert tell(shop, stripe.refunded(order, total)).status_code == 200
        assert money(shop, key)[0] == left * NANO


def test_a_third_of_an_odd_amount_is_taken_back_to_the_nano(shop: RunningFarebox, stripe: FakeStripe) -> None:
    key = shop.new_key(credit="1")
    order = ordered(shop, key, "0.030000001")  # costs 4 fen
    tell(shop, stripe.completed(order))
    tell(shop, stripe.refunded(order, 3))
    assert money(shop, key)[0] == NANO + 30_000_001 // 4
    tell(shop, stripe.refunded(order, 4))
    assert money(shop, key)[0] == NANO


def test_a_refund_of_what_is_spent_is_a_debt_and_freezes(shop: RunningFarebox, stripe: FakeStripe) -> None:
    key = shop.new_key(credit="1")
    order = ordered(shop, key)
    tell(shop, stripe.completed(order))
    spend(shop, key, 20 * NANO)
    assert tell(shop, stripe.refunded(order, 3000)).status_code == 200

    assert money(shop, key) == (0, 0, 19 * NANO, "frozen")
    asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
    refused = http.post(f"{shop.base_url}/chat/completions", json=asked, headers={"authorization": key.text})
    assert code_of(refused) == (403, "account_frozen")
    seen = http.get(f"{shop.url}/admin/v1/accounts/{key.account}", headers=ADMIN).json()
    assert (seen["debt"], seen["balance"], seen["status"]) == ("19", "0", "frozen")


def test_later_money_pays_the_debt_first_and_thaws_the_account(shop: RunningFarebox, stripe: FakeStripe) -> None:
    key = shop.new_key(credit="1")
    order = ordered(shop, key)
    tell(shop, stripe.completed(order))
    spend(shop, key, 20 * NANO)
    tell(shop, stripe.refunded(order, 3000))
    credit = {"amount": "4", "reason": "", "idempotency_key": "a"}
    for _ in range(2):
        http.post(f"{shop.url}/admin/v1/accounts/{key.account}/credit", json=credit, headers=ADMIN)
    assert money(shop, key) == (0, 0, 15 * NANO, "frozen")
    [code] = http.post(f"{shop.url}/admin/v1/codes", json={"value": "5"}, headers=ADMIN).json()["codes"]
    headers = {"authorization": key.text, "x-forwarded-for": next(addresses)}
    redeemed = http.post(f"{shop.base_url}/redeem", json={"code": code}, headers=headers)
    assert redeemed.json()["available"] == "0"
    assert money(shop, key) == (0, 0, 10 * NANO, "frozen")

    tell(shop, stripe.completed(ordered(shop, key, "12")))
    assert money(shop, key) == (2 * NANO, 0, 0, "active")
    spend(shop, key, 2 * NANO)


def test_what_a_hold_gives_back_pays_the_debt_with_the_sweep(shop: RunningFarebox, stripe: FakeStripe) -> None:
    key = shop.new_key(credit="1")
    order = ordered(shop, key)
    tell(shop, stripe.completed(order))
    hold = open_hold(shop, key, 25 * NANO)
    tell(shop, stripe.refunded(order, 3000))
    assert money(shop, key) == (0, 25 * NANO, 24 * NANO, "frozen")

    end_hold(shop, hold, 5 * NANO)
    assert money(shop, key) == (20 * NANO, 0, 24 * NANO, "frozen")
    for _ in range(2):
        http.post(f"{shop.url}/admin/v1/schedule/sweep", headers=ADMIN)
        assert money(shop, key) == (0, 0, 4 * NANO, "frozen")
    tell(shop, stripe.completed(ordered(shop, key, "4")))
    assert money(shop, key) == (0, 0, 0, "active")


def test_a_hold_that_gives_back_enough_thaws_the_account(shop: RunningFarebox, stripe: FakeStripe) -> None:
    key = shop.new_key(credit="1")
    order = ordered(shop, key)
    tell(shop, stripe.completed(order))
    hold = open_hold(shop, key, 25 * NANO)
    tell(shop, stripe.refunded(order, 3000))
    end_hold(shop, hold, 0)
    http.post(f"{shop.url}/admin/v1/schedule/sweep", headers=ADMIN)
    assert money(shop, key) == (NANO, 0, 0, "active")


def test_who_was_frozen_by_somebody_else_stays_frozen(shop: RunningFarebox, stripe: FakeStripe) -> None:
    key = shop.new_key(credit="1")
    order = ordered(shop, key)
    tell(shop, stripe.completed(order))
    spend(shop, key, 31 * NANO)
    freeze = {
        "TableName": "test-accounts",
        "Key": {"acct": {"S": key.account}},
        "UpdateExpression": "SET st = :frozen",
        "ExpressionAttributeValues": {":frozen": {"S": "frozen"}},
    }
    shop.run(shop.services.db.call("UpdateItem", freeze))
    tell(shop, stripe.refunded(order, 3000))
    assert money(shop, key) == (0, 0, 30 * NANO, "frozen")
    shop.run(shop.services.accounts.credit(key.account, 31 * NANO, reason="", credit_id="crd_x", at_ms=1))
    assert money(shop, key) == (NANO, 0, 0, "frozen")


@pytest.mark.parametrize("kind", ["created", "funds_withdrawn"])
def test_a_dispute_takes_the_money_and_a_won_one_gives_it_back(
    shop: RunningFarebox, stripe: FakeStripe, kind: str
) -> None:
    key = shop.new_key(credit="1")
    order = ordered(shop, key)
    tell(shop, stripe.completed(order))
    spend(shop, key, 11 * NANO)
    for each in (kind, "created", "funds_withdrawn", kind):
        assert tell(shop, stripe.dispute(order, each)).status_code == 200
    assert money(shop, key) == (0, 0, 10 * NANO, "frozen")

    assert tell(shop, stripe.dispute(order, "closed", status="won")).status_code == 200
    assert tell(shop, stripe.dispute(order, "funds_reinstated", status="won")).status_code == 200
    assert tell(shop, stripe.dispute(order, kind)).status_code == 200  # late
    assert money(shop, key) == (20 * NANO, 0, 0, "active")
    assert sum(rows(shop, key)) == 30 * NANO


def test_a_lost_dispute_stays_and_a_refund_beside_it_takes_no_more_than_was_paid(
    shop: RunningFarebox, stripe: FakeStripe
) -> None:
    key = shop.new_key(credit="1")
    order = ordered(shop, key)
    tell(shop, stripe.completed(order))
    tell(shop, stripe.refunded(order, 1000))
    tell(shop, stripe.dispute(order, "created"))
    tell(shop, stripe.dispute(order, "closed", status="lost"))
    assert money(shop, key) == (NANO, 0, 0, "active")
    assert sum(rows(shop, key)) == 0


def test_an_inquiry_takes_nothing(shop: RunningFarebox, stripe: FakeStripe) -> None:
    key = shop.new_key(credit="1")
    order = ordered(shop, key)
    tell(shop, stripe.completed(order))
    assert tell(shop, stripe.dispute(order, "created", status="warning_needs_response")).status_code == 200
    assert tell(shop, stripe.dispute(order, "closed", status="warning_closed")).status_code == 200
    assert money(shop, key)[0] == 31 * NANO


def test_where_stripe_cannot_say_whose_a_dispute_is_it_is_asked_to_come_again(
    shop: RunningFarebox, stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    from farebox.adapters.payments import stripe_checkout

    monkeypatch.setattr(stripe_checkout, "RETRIES", 0)
    key = shop.new_key(credit="1")
    order = ordered(shop, key)
    tell(shop, stripe.completed(order))
    stripe.failing = 500
    assert code_of(tell(shop, stripe.dispute(order, "created"))) == (503, "payment_unavailable")
    stripe.failing = 0
    assert tell(shop, stripe.dispute(order, "created")).status_code == 200
    assert money(shop, key)[0] == NANO


def test_whatever_order_events_come_in_the_end_is_the_same(shop: RunningFarebox, stripe: FakeStripe) -> None:
    for shuffled in itertools.islice(_shuffles(4), 6):
        key = shop.new_key(credit="1")
        order = ordered(shop, key)
        events = [
            stripe.completed(order),
            stripe.refunded(order, 600),
            stripe.dispute(order, "created", amount=900),
            stripe.refunded(order, 1200),
        ]
        for at in shuffled:
            assert tell(shop, events[at]).status_code == 200
        assert money(shop, key) == (10 * NANO, 0, 0, "active")
        assert sum(rows(shop, key)) == 9 * NANO


def test_refunds_disputes_and_payments_at_once_end_as_one_after_the_other(
    shop: RunningFarebox, stripe: FakeStripe
) -> None:
    key = shop.new_key(credit="1")
    orders = [ordered(shop, key, "3") for _ in range(4)]
    events = [
        told
        for order in orders
        for told in (stripe.completed(order), stripe.refunded(order, 100), stripe.dispute(order, "created", amount=150))
        for _ in range(3)
    ]
    random.Random(7).shuffle(events)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda told: tell(shop, told), events))
    again = [tell(shop, told).status_code for told in events]  # as Stripe does after every 5xx

    assert {answer.status_code for answer in answers} <= {200, 503}
    assert set(again) == {200}
    assert money(shop, key) == (3 * NANO, 0, 0, "active")


def _shuffles(length: int) -> Iterator[tuple[int, ...]]:
    every = list(itertools.permutations(range(length)))
    random.Random(3).shuffle(every)
    return iter(every)
