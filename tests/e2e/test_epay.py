"""易支付: a notice is believed only where the key signed it and the gateway, asked by us, says the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from farebox.settings import EpaySettings, Settings, StripeSettings
from tests.fakes.addresses import addresses
from tests.fakes.epay_gateway import KEY, PID, FakeEpay, form
from tests.fakes.process import http
from tests.fakes.service import ADMIN_TOKEN, Funded, RunningFarebox
from tests.fakes.stripe_api import API_KEY, SECRET
from tests.fakes.upstream import ScriptedUpstream

NANO = 1_000_000_000
Notice = dict[str, str]


@pytest.fixture(scope="module")
def _gateway() -> Iterator[FakeEpay]:
    fake = FakeEpay().start()
    yield fake
    fake.stop()


@pytest.fixture
def gateway(_gateway: FakeEpay) -> Iterator[FakeEpay]:
    _gateway.asked.clear()
    yield _gateway
    _gateway.status, _gateway.body = 200, None


@pytest.fixture(scope="module")
def _shop(
    _gateway: FakeEpay, _upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningFarebox]:
    settings = Settings(
        admin_token=ADMIN_TOKEN,
        trusted_proxies=("127.0.0.1",),
        epay=EpaySettings(base_url=f"{_gateway.url}/pay", pid=PID, key=KEY, ca_per_unit_nano=2 * NANO),
        stripe=StripeSettings(api_key=API_KEY, webhook_secret=SECRET, base_url="http://127.0.0.1:1"),
    )
    service = RunningFarebox(tmp_path_factory.mktemp("epay"), _upstream.url, settings).start()
    yield service
    service.stop()


@pytest.fixture
def shop(_shop: RunningFarebox, gateway: FakeEpay) -> RunningFarebox:
    return _shop


@pytest.fixture
def key(shop: RunningFarebox) -> Funded:
    return shop.new_key(credit="1")


def checkout(shop: RunningFarebox, key: Funded, amount: str = "30.01", **more: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {key.text}", "x-forwarded-for": next(addresses)}
    wanted = {"amount": amount, "provider": "epay", **more}
    return http.post(f"{shop.base_url}/topup/checkout", json=wanted, headers=headers)


def paid(shop: RunningFarebox, gateway: FakeEpay, key: Funded, **how: object) -> Notice:
    """A new order that was paid there: the notice."""
    answer = checkout(shop, key)
    assert answer.status_code == 200, answer.text
    trade_no = answer.json()["order"][-12:]
    return gateway.submitted(answer.json()["url"], trade_no=trade_no, **how)  # type: ignore[arg-type]


def tell(shop: RunningFarebox, told: str, method: str = "GET") -> httpx.Response:
    url = f"{shop.base_url}/webhooks/epay"
    if method == "GET":
        return http.get(f"{url}?{told}")
    return http.post(url, content=told, headers={"content-type": "application/x-www-form-urlencoded"})


def credited(shop: RunningFarebox, key: Funded) -> int:
    return shop.account(key.account).credited_nano - NANO


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_was_paid_is_credited_once_and_acknowledged_in_its_own_word(
    shop: RunningFarebox, gateway: FakeEpay, key: Funded, method: str
) -> None:
    notice = paid(shop, gateway, key)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: tell(shop, form(notice), method), range(40)))

    assert {(answer.status_code, answer.text) for answer in answers} == {(200, "success")}
    assert credited(shop, key) == 30_010_000_000
    assert notice["money"] == "15.01"  # 2 CA for one CNY, rounded up to the fen


def test_the_checkout_is_a_signed_link_that_asks_nobody(shop: RunningFarebox, gateway: FakeEpay, key: Funded) -> None:
    answer = checkout(shop, key, "0.00000001")
    assert answer.json()["price"] == {"amount_minor": 1, "currency": "cny"}
    assert gateway.submitted(answer.json()["url"])["money"] == "0.01"
    assert gateway.asked == []
    assert f"notify_url={shop.url}/v1/webhooks/epay".replace(":", "%3A").replace("/", "%2F") in answer.json()["url"]
    assert KEY not in answer.text


def test_of_two_providers_one_must_be_named(shop: RunningFarebox, key: Funded) -> None:
    headers = {"authorization": f"Bearer {key.text}"}
    answer = http.post(f"{shop.base_url}/topup/checkout", json={"amount": "1"}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "provider")


def _wrong(notice: Notice) -> dict[str, str]:
    good = form(notice)
    return {
        "nothing": "",
        "unsigned": good.partition("&sign=")[0],
        "another key": form(notice, "another-key-of-the-epay-tests"),
        "no key": form(notice, ""),
        "more money": good.replace("money=15.01", "money=1500.01"),
        "another merchant": form({**notice, "pid": "1002"}),
        "no order": form({**notice, "out_trade_no": ""}),
        "an order of another shop": form({**notice, "out_trade_no": "20160806151343349"}),
        "no transaction": form({**notice, "trade_no": ""}),
        "another transaction": form({**notice, "trade_no": "another"}),
        "other money, well signed": form({**notice, "money": "15.00"}),
        "money that is none": form({**notice, "money": "1e3"}),
        "a field twice": f"{good}&money=15.01",
        "broken": "%ff%fe=1&sign=%ff",
        "not ascii": good.replace("sign=", "sign=é"),
        "too many fields": "&".join(f"a{n}=1" for n in range(60)),
    }


@pytest.mark.parametrize("wrong", _wrong({}))
def test_what_is_not_proven_or_not_the_same_there_is_not_credited(
    shop: RunningFarebox, gateway: FakeEpay, key: Funded, wrong: str
) -> None:
    notice = paid(shop, gateway, key)
    answer = tell(shop, _wrong(notice)[wrong], "POST")
    assert answer.status_code == 400
    assert answer.text != "success"
    assert credited(shop, key) == 0
    assert tell(shop, form(notice)).text == "success"


def test_a_notice_that_the_gateway_does_not_confirm_is_asked_for_again(
    shop: RunningFarebox, gateway: FakeEpay, key: Funded
) -> None:
    notice = paid(shop, gateway, key, status=0)
    assert tell(shop, form(notice)).status_code == 503
    gateway.orders[notice["out_trade_no"]]["status"] = "1"  # some gateways write it so
    assert tell(shop, form(notice)).text == "success"
    assert credited(shop, key) == 30_010_000_000


@pytest.mark.parametrize(
    ("status", "body"), [(500, b""), (302, b""), (200, b"<html>"), (200, b"[]"), (200, b"x" * 70_000), (404, b"{}")]
)
def test_a_gateway_that_fails_confirms_nothing(
    shop: RunningFarebox, gateway: FakeEpay, key: Funded, status: int, body: bytes
) -> None:
    notice = paid(shop, gateway, key)
    gateway.status, gateway.body = status, body
    answer = tell(shop, form(notice))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "payment_unavailable")
    assert credited(shop, key) == 0
    assert len(gateway.asked) == 1  # no redirect is followed: the key would go along


@pytest.mark.parametrize(
    "changes", [{"money": "15.00"}, {"money": "1500.10"}, {"trade_no": "x"}, {"out_trade_no": "x"}]
)
def test_what_the_gateway_says_must_be_what_the_notice_says(
    shop: RunningFarebox, gateway: FakeEpay, key: Funded, changes: Notice
) -> None:
    notice = paid(shop, gateway, key)
    gateway.orders[notice["out_trade_no"]].update(changes)
    assert tell(shop, form(notice)).status_code == 400
    assert credited(shop, key) == 0


def test_less_paid_than_ordered_is_not_credited_though_the_gateway_says_so(
    shop: RunningFarebox, gateway: FakeEpay, key: Funded
) -> None:
    notice = paid(shop, gateway, key)
    gateway.orders[notice["out_trade_no"]]["money"] = "0.01"
    assert tell(shop, form({**notice, "money": "0.01"})).status_code == 400
    assert credited(shop, key) == 0


def test_what_is_not_a_success_is_acknowledged_and_left_alone(
    shop: RunningFarebox, gateway: FakeEpay, key: Funded
) -> None:
    notice = {**paid(shop, gateway, key), "trade_status": "TRADE_CLOSED"}
    assert tell(shop, form(notice)).text == "success"
    assert credited(shop, key) == 0


def test_an_order_of_one_provider_is_not_paid_by_another(shop: RunningFarebox, gateway: FakeEpay, key: Funded) -> None:
    from farebox.adapters.dynamodb.orders import DynamoDBOrders
    from farebox.domain.orders import Order, mint_order

    order = Order(mint_order(1, shop.services.random.token), key.account, "stripe", 30 * NANO, 1501, "cny", "live", 1)
    shop.run(DynamoDBOrders(shop.services.db, shop.services.tables).open(order))
    notice = {**paid(shop, gateway, key), "out_trade_no": order.id}
    gateway.orders[order.id] = {**gateway.orders.popitem()[1], "out_trade_no": order.id}
    assert tell(shop, form(notice)).status_code == 400
    assert credited(shop, key) == 0


@pytest.mark.parametrize("missing", ["base_url", "pid", "key"])
def test_half_a_setting_is_off(farebox: RunningFarebox, missing: str) -> None:
    from dataclasses import replace

    from farebox.adapters.payments.epay import Epay

    whole = EpaySettings(base_url="http://127.0.0.1:1", pid=PID, key=KEY)
    assert Epay(whole, farebox.services.sessions[0]).ready()
    assert not Epay(replace(whole, **{missing: ""}), farebox.services.sessions[0]).ready()


def test_where_it_is_off_every_notice_is_503(farebox: RunningFarebox) -> None:
    answers = [tell(farebox, form({"pid": ""}, key), method) for key in ("", KEY) for method in ("GET", "POST")]
    assert Counter((answer.status_code, answer.json()["error"]["code"]) for answer in answers) == {
        (503, "not_configured"): 4
    }
