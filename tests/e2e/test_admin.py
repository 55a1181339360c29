"""The admin's calls: keys, accounts, credit; who may make them, what they refuse, and what they never show."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from farebox.settings import Settings
from tests.fakes.process import http
from tests.fakes.service import ADMIN_TOKEN, RunningFarebox
from tests.fakes.upstream import ScriptedUpstream

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
CALLS = [
    ("POST", "/keys", {"kind": "paid"}),
    ("GET", "/keys/key_000000000000000000", None),
    ("PATCH", "/keys/key_000000000000000000", {"name": "x"}),
    ("DELETE", "/keys/key_000000000000000000", None),
    ("GET", "/accounts/acc_000000000000", None),
    ("POST", "/accounts/acc_000000000000/credit", {"amount": "1", "reason": "", "idempotency_key": "a"}),
    ("POST", "/schedule/sweep", None),
    ("GET", "/audit", None),
]
BAD_AMOUNTS = ["0", "-1", "1e3", "0.0000000001", "", " 1", "1,5", "١", "NaN", "Infinity", "9999999999999", 1, 1.5, True]
numbers = itertools.count()


class Admin:
    """The admin of a service."""

    def __init__(self, farebox: RunningFarebox, token: str | None = ADMIN_TOKEN) -> None:
        self._url = f"{farebox.url}/admin/v1"
        self._headers = {} if token is None else {"authorization": f"Bearer {token}" if token else ""}

    def __call__(self, method: str, path: str, body: object = None) -> httpx.Response:
        return http.request(method, self._url + path, json=body, headers=self._headers)

    def new_key(self, **wanted: object) -> dict[str, Any]:
        answer = self("POST", "/keys", {"kind": "paid", "credit": "10.00", **wanted})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def account(self, account: str) -> dict[str, Any]:
        answer = self("GET", f"/accounts/{account}")
        assert answer.status_code == 200, answer.text
        seen: dict[str, Any] = answer.json()
        return seen


@pytest.fixture
def admin(farebox: RunningFarebox) -> Admin:
    return Admin(farebox)


def ask(farebox: RunningFarebox, key: str, *, address: str = "198.51.100.1", **body: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}", "x-forwarded-for": address}
    return http.post(f"{farebox.base_url}/chat/completions", json={**CHAT, **body}, headers=headers)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# ── who may call ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
@pytest.mark.parametrize("token", [None, "", "wrong-token-of-the-tests", ADMIN_TOKEN[:-1], ADMIN_TOKEN + "x"])
def test_a_wrong_token_is_401_on_every_call(
    farebox: RunningFarebox, method: str, path: str, body: object, token: str | None
) -> None:
    assert code_of(Admin(farebox, token)(method, path, body)) == (401, "invalid_api_key")


def test_the_token_is_looked_at_before_the_body(farebox: RunningFarebox) -> None:
    stranger = {"authorization": "Bearer wrong", "content-type": "application/json"}
    for body in (b"{", b'{"kind":"nonsense"}', b""):
        answer = http.post(f"{farebox.url}/admin/v1/keys", content=body, headers=stranger)
        assert code_of(answer) == (401, "invalid_api_key")


def test_an_api_key_is_no_admin_token(farebox: RunningFarebox, admin: Admin) -> None:
    assert code_of(Admin(farebox, admin.new_key()["key"])("POST", "/keys", {"kind": "paid"}))[0] == 401


@pytest.fixture(scope="module")
def without_admin(_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFarebox]:
    service = RunningFarebox(tmp_path_factory.mktemp("no-admin"), _upstream.url, Settings()).start()
    yield service
    service.stop()


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
@pytest.mark.parametrize("token", [None, "", "None", ADMIN_TOKEN])
def test_without_a_token_in_the_settings_there_is_no_admin_api(
    without_admin: RunningFarebox, method: str, path: str, body: object, token: str | None
) -> None:
    assert code_of(Admin(without_admin, token)(method, path, body)) == (404, "not_found")


def test_where_there_is_no_admin_api_a_bad_body_does_not_betray_one(without_admin: RunningFarebox) -> None:
    for body in (b"{", b'{"kind":"nonsense"}'):
        headers = {"content-type": "application/json"}
        answer = http.post(f"{without_admin.url}/admin/v1/keys", content=body, headers=headers)
        assert code_of(answer) == (404, "not_found")


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_key_works_at_once_and_its_account_has_the_credit(
    farebox: RunningFarebox, upstream: ScriptedUpstream, admin: Admin
) -> None:
    answer = admin("POST", "/keys", {"kind": "paid", "credit": "10.00", "name": "mine"})
    made = answer.json()

    assert answer.status_code == 201
    assert set(made) == {"id", "account", "key", "kind", "last4", "balance"}
    assert made["key"].startswith("sk-fb-")
    assert made["key"].endswith(made["last4"])
    assert (made["kind"], made["balance"]) == ("paid", "10")
    assert ask(farebox, made["key"]).status_code == 200


def test_the_contracts_whole_body_with_its_nulls_makes_a_key(admin: Admin) -> None:
    nulls = dict.fromkeys(("account", "models", "ip_allow", "expires_at", "limits"))
    answer = admin("POST", "/keys", {"kind": "free", "credit": "10.00", "name": "", **nulls})

    assert answer.status_code == 201
    assert answer.json()["kind"] == "free"


def test_a_key_is_never_shown_again_and_neither_is_its_digest(admin: Admin) -> None:
    made = admin.new_key()
    views = [
        admin("GET", f"/keys/{made['id']}"),
        admin("PATCH", f"/keys/{made['id']}", {"name": "new"}),
        admin("GET", f"/accounts/{made['account']}"),
        admin("DELETE", f"/keys/{made['id']}"),
    ]

    for view in views:
        assert view.status_code == 200
        assert made["key"] not in view.text
        assert made["key"][25:-6] not in view.text
        assert "digest" not in view.text
    assert views[0].json()["last4"] == made["last4"]
    assert views[1].json()["name"] == "new"


def test_a_revoked_key_is_refused_with_the_very_next_request(
    farebox: RunningFarebox, upstream: ScriptedUpstream, admin: Admin
) -> None:
    made = admin.new_key()
    assert ask(farebox, made["key"]).status_code == 200
    gone = admin("DELETE", f"/keys/{made['id']}")
    upstream.requests.clear()

    assert (gone.status_code, gone.json()["status"]) == (200, "revoked")
    assert code_of(ask(farebox, made["key"])) == (401, "invalid_api_key")
    balance = http.post(f"{farebox.base_url}/query/balance", headers={"authorization": made["key"]})
    assert code_of(balance) == (401, "invalid_api_key")
    assert upstream.requests == []


def test_revoking_twice_is_revoking_once_and_a_revoked_key_cannot_be_changed_back(admin: Admin) -> None:
    made = admin.new_key()
    assert admin("DELETE", f"/keys/{made['id']}").status_code == 200
    assert admin("DELETE", f"/keys/{made['id']}").status_code == 200
    assert admin("PATCH", f"/keys/{made['id']}", {"name": "again"}).status_code == 404
    assert admin("GET", f"/keys/{made['id']}").json()["status"] == "revoked"


def test_a_second_key_spends_from_the_same_wallet_and_outlives_the_first(
    farebox: RunningFarebox, upstream: ScriptedUpstream, admin: Admin
) -> None:
    first = admin.new_key(credit="1")
    second = admin.new_key(account=first["account"], credit=None)
    assert second["account"] == first["account"]
    assert second["balance"] == "1"
    assert admin("DELETE", f"/keys/{first['id']}").status_code == 200

    assert ask(farebox, second["key"]).status_code == 200
    seen = admin.account(first["account"])
    assert seen["balance"] == "0.9999685"
    assert sorted(each["id"] for each in seen["keys"]) == sorted([first["id"], second["id"]])


def test_a_second_keys_credit_is_added_to_the_wallet(admin: Admin) -> None:
    first = admin.new_key(credit="1")
    assert admin.new_key(account=first["account"], credit="2.5")["balance"] == "3.5"


@pytest.mark.parametrize("account", ["acc_000000000000", "acc_x", "", "../keys", "acc_00000000000é"])
def test_a_key_on_an_account_that_is_not_there_is_404_and_is_not_made(admin: Admin, account: str) -> None:
    assert code_of(admin("POST", "/keys", {"kind": "paid", "account": account})) == (404, "not_found")


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("key_id", ["key_000000000000000000", "key_x", "acc_000000000000", "%2e%2e"])
def test_a_key_that_is_not_there_is_404(admin: Admin, method: str, key_id: str) -> None:
    body = {"name": "x"} if method == "PATCH" else None
    assert code_of(admin(method, f"/keys/{key_id}", body)) == (404, "not_found")


def test_the_list_of_models_is_kept_and_can_be_changed(
    farebox: RunningFarebox, upstream: ScriptedUpstream, admin: Admin
) -> None:
    made = admin.new_key(models=["gpt-4o"])
    assert code_of(ask(farebox, made["key"])) == (403, "model_not_allowed")
    assert ask(farebox, made["key"], model="gpt-4o").status_code == 200

    assert admin("PATCH", f"/keys/{made['id']}", {"models": ["gpt-4o-mini"]}).json()["models"] == ["gpt-4o-mini"]
    assert ask(farebox, made["key"]).status_code == 200
    assert admin("PATCH", f"/keys/{made['id']}", {"models": None}).json()["models"] is None
    assert ask(farebox, made["key"], model="gpt-4o").status_code == 200


def test_an_unknown_model_in_the_list_is_refused(admin: Admin) -> None:
    answer = admin("POST", "/keys", {"kind": "paid", "models": ["gpt-4o", "gpt-9"]})
    assert code_of(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == "models"


@pytest.mark.parametrize(
    ("allowed", "good", "bad"),
    [
        ("198.51.100.7", "198.51.100.7", "198.51.100.8"),
        ("198.51.100.0/24", "198.51.100.200", "198.51.101.1"),
        ("198.51.100.9/24", "198.51.100.1", "198.51.99.255"),
        ("198.51.100.7", "::ffff:198.51.100.7", "::ffff:198.51.100.8"),
        ("2001:db8:1::/48", "2001:db8:1:2::3", "2001:db8:2::1"),
    ],
)
def test_the_list_of_addresses_decides(
    farebox: RunningFarebox, upstream: ScriptedUpstream, admin: Admin, allowed: str, good: str, bad: str
) -> None:
    made = admin.new_key(ip_allow=[allowed])

    for _ in range(2):  # also when the process has learnt the list
        assert code_of(ask(farebox, made["key"], address=bad)) == (403, "ip_not_allowed")
        assert ask(farebox, made["key"], address=good).status_code == 200


def test_a_changed_list_of_addresses_is_in_force_at_once(
    farebox: RunningFarebox, upstream: ScriptedUpstream, admin: Admin
) -> None:
    made = admin.new_key(ip_allow=["198.51.100.1"])
    assert ask(farebox, made["key"]).status_code == 200
    admin("PATCH", f"/keys/{made['id']}", {"ip_allow": ["203.0.113.1"]})
    assert code_of(ask(farebox, made["key"])) == (403, "ip_not_allowed")
    admin("PATCH", f"/keys/{made['id']}", {"ip_allow": None})
    assert ask(farebox, made["key"]).status_code == 200


@pytest.mark.parametrize("bad", ["nonsense", "1.2.3.4/40", "1.2.3", "", "::1/200", 7])
def test_what_is_no_network_is_refused(admin: Admin, bad: object) -> None:
    assert code_of(admin("POST", "/keys", {"kind": "paid", "ip_allow": [bad]})) == (400, "invalid_request")


def test_a_key_expires_to_the_millisecond_and_a_later_expiry_revives_it(
    farebox: RunningFarebox, upstream: ScriptedUpstream, admin: Admin
) -> None:
    expires = datetime(2030, 1, 1, tzinfo=UTC)
    made = admin.new_key(expires_at=expires.isoformat())
    farebox.clock.fixed_ms = int(expires.timestamp() * 1000) - 1
    assert ask(farebox, made["key"]).status_code == 200
    farebox.clock.fixed_ms += 1
    assert code_of(ask(farebox, made["key"])) == (401, "invalid_api_key")

    later = admin("PATCH", f"/keys/{made['id']}", {"expires_at": (expires + timedelta(days=1)).isoformat()})
    assert later.json()["expires_at"] == "2030-01-02T00:00:00.000Z"
    assert ask(farebox, made["key"]).status_code == 200


@pytest.mark.parametrize("bad", ["tomorrow", "2030-01-01T00:00:00", "2030-13-01T00:00:00Z", "", {}])
def test_an_expiry_without_a_zone_or_sense_is_refused(admin: Admin, bad: object) -> None:
    answer = admin("POST", "/keys", {"kind": "paid", "expires_at": bad})
    assert code_of(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == "expires_at"


# ── what a body may not do ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name", ["balance", "role", "digest", "id", "key", "last4", "status", "avail", "number", "created_at", "__class__"]
)
def test_a_body_can_set_nothing_but_what_the_contract_names(admin: Admin, name: str) -> None:
    made = admin.new_key()
    attempts = [
        ("POST", "/keys", {"kind": "paid", name: "1"}),
        ("PATCH", f"/keys/{made['id']}", {"name": "new", name: "1"}),
        ("POST", f"/accounts/{made['account']}/credit", {"amount": "1", "idempotency_key": "a", name: "1"}),
    ]

    for method, path, body in attempts:
        answer = admin(method, path, body)
        assert code_of(answer) == (400, "invalid_request")
        assert answer.json()["error"]["param"] == name
    assert admin("GET", f"/keys/{made['id']}").json()["name"] == ""
    assert admin.account(made["account"])["balance"] == "10"


@pytest.mark.parametrize("name", ["kind", "credit", "account", "limits"])
def test_a_change_cannot_make_a_key_another_kind_or_move_it(admin: Admin, name: str) -> None:
    made = admin.new_key()
    assert code_of(admin("PATCH", f"/keys/{made['id']}", {name: "free"})) == (400, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "paid",
        {},
        {"kind": "admin"},
        {"kind": None},
        {"kind": "paid", "name": 7},
        {"kind": "paid", "name": "x" * 101},
        {"kind": "paid", "models": "gpt-4o"},
        {"kind": "paid", "models": ["gpt-4o"] * 101},
        {"kind": "paid", "limits": {"rpm": 1}},
    ],
)
def test_a_body_of_another_shape_is_refused(admin: Admin, body: object) -> None:
    assert code_of(admin("POST", "/keys", body)) == (400, "invalid_request")


def test_broken_json_is_400_and_blames_no_parameter(farebox: RunningFarebox) -> None:
    headers = {"authorization": f"Bearer {ADMIN_TOKEN}", "content-type": "application/json"}
    answer = http.post(f"{farebox.url}/admin/v1/keys", content=b'{"kind": "paid"', headers=headers)

    assert code_of(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] is None


def test_an_empty_change_is_refused(admin: Admin) -> None:
    assert code_of(admin("PATCH", f"/keys/{admin.new_key()['id']}", {})) == (400, "invalid_request")


# ── money ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("amount", BAD_AMOUNTS, ids=str)
def test_a_bad_amount_is_refused_and_changes_nothing(admin: Admin, amount: object) -> None:
    made = admin.new_key()
    body = {"amount": amount, "reason": "", "idempotency_key": f"bad-{next(numbers)}"}
    refused = admin("POST", f"/accounts/{made['account']}/credit", body)

    assert code_of(refused) == (400, "invalid_request")
    assert refused.json()["error"]["param"] == "amount"
    assert code_of(admin("POST", "/keys", {"kind": "paid", "credit": amount})) == (400, "invalid_request")
    assert admin.account(made["account"])["balance"] == "10"


def test_credit_is_added_once_per_idempotency_key(admin: Admin) -> None:
    made = admin.new_key(credit="1")
    body = {"amount": "5.00", "reason": "a gift", "idempotency_key": "gift-1"}
    answers = [admin("POST", f"/accounts/{made['account']}/credit", body) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert {answer.json()["balance"] for answer in answers} == {"6"}
    other = admin("POST", f"/accounts/{made['account']}/credit", {**body, "amount": "6.00"})
    assert code_of(other) == (422, "idempotency_mismatch")
    assert admin("POST", f"/accounts/{made['account']}/credit", {**body, "idempotency_key": "gift-2"}).json()[
        "balance"
    ] == ("11")


def test_one_idempotency_key_on_two_accounts_credits_both(admin: Admin) -> None:
    body = {"amount": "5", "reason": "", "idempotency_key": "same"}
    for made in (admin.new_key(credit="1"), admin.new_key(credit="1")):
        assert admin("POST", f"/accounts/{made['account']}/credit", body).json()["balance"] == "6"


def test_credit_to_nobody_is_404(admin: Admin) -> None:
    body = {"amount": "5", "reason": "", "idempotency_key": "nobody"}
    for account in ("acc_000000000000", "acc_x"):
        assert code_of(admin("POST", f"/accounts/{account}/credit", body)) == (404, "not_found")
        assert code_of(admin("GET", f"/accounts/{account}")) == (404, "not_found")


@pytest.mark.parametrize("name", ["", "x" * 256, "a b", "é", "a\n", None, 7])
def test_an_idempotency_key_is_short_and_printable(admin: Admin, name: object) -> None:
    made = admin.new_key()
    body = {"amount": "5", "reason": "", "idempotency_key": name}
    assert code_of(admin("POST", f"/accounts/{made['account']}/credit", body)) == (400, "invalid_request")


def test_an_account_shows_its_money_to_the_nano(
    farebox: RunningFarebox, upstream: ScriptedUpstream, admin: Admin
) -> None:
    made = admin.new_key(credit="0.123456789")
    assert ask(farebox, made["key"]).status_code == 200
    seen = admin.account(made["account"])

    assert seen["account"] == made["account"]
    assert (seen["balance"], seen["available"], seen["held"]) == ("0.123425289", "0.123425289", "0")
    assert seen["holds"] == []
    assert [each["id"] for each in seen["keys"]] == [made["id"]]
