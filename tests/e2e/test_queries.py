"""Usage and balance as existing clients ask for them: shapes, spans, patterns, pages, and nobody else's figures."""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
from typing import Any

import httpx
import pytest

from farebox.adapters.dynamodb.values import b, n, s
from farebox.domain import ids
from farebox.domain.receipts import Receipt, canonical
from farebox.http import dashboards
from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import ScriptedUpstream, json_answer

NOON_MS = 1_795_492_800_000  # 2026-11-24T12:00 in Shanghai, a Tuesday
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
COST_NANO = 31_500
"""Of one such call: the upstream says 10 tokens in and 5 out."""
EVERYWHERE = [
    ("POST", "/v1/query/balance"),
    ("POST", "/v1/query/usage_details"),
    ("POST", "/v1/query/day_usage_details"),
    ("POST", "/v1/query/usage"),
    ("GET", "/v1/query/usage.csv"),
    ("GET", "/v1/dashboard/billing/subscription"),
    ("GET", "/v1/dashboard/billing/usage"),
    ("GET", "/dashboard/billing/subscription"),
    ("GET", "/dashboard/billing/usage"),
    ("GET", "/api/v1/key"),
]
addresses = (f"198.18.{index // 250}.{index % 250 + 1}" for index in itertools.count())


class Desk:
    """One key of a service whose clock stands at noon."""

    def __init__(self, farebox: RunningFarebox, key: Funded) -> None:
        self.farebox, self.key = farebox, key
        self._address = next(addresses)

    def ask(self, method: str, path: str, body: object = None, *, bare: bool = False, **more: Any) -> httpx.Response:
        headers = {"authorization": self.key.text if bare else f"Bearer {self.key.text}"}
        return http.request(method, self.farebox.url + path, headers=headers, json=body, **more)

    def call(self, model: str = "gpt-4o-mini", at_ms: int = NOON_MS, status: int = 200) -> str:
        """A relayed call; its id."""
        self.farebox.clock.fixed_ms = at_ms
        headers = {"authorization": f"Bearer {self.key.text}", "x-forwarded-for": self._address}
        answer = http.post(f"{self.farebox.base_url}/chat/completions", json={**CHAT, "model": model}, headers=headers)
        self.farebox.clock.fixed_ms = NOON_MS
        assert answer.status_code == status, answer.text
        return answer.headers["x-request-id"]

    def hours(self, **asked: object) -> Any:
        return self._answer("usage_details", asked)

    def days(self, **asked: object) -> Any:
        return self._answer("day_usage_details", asked)

    def calls(self, **asked: object) -> Any:
        return self._answer("usage", asked)

    def csv(self, query: str = "") -> list[dict[str, str]]:
        answer = self.ask("GET", f"/v1/query/usage.csv{query}")
        assert answer.status_code == 200, answer.text
        return list(csv.DictReader(io.StringIO(answer.text)))

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _answer(self, name: str, asked: object) -> Any:
        answer = self.ask("POST", f"/v1/query/{name}", asked)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def desk(farebox: RunningFarebox) -> Desk:
    farebox.clock.fixed_ms = NOON_MS
    return Desk(farebox, farebox.new_key(credit="1"))


def second_key(farebox: RunningFarebox, account: str) -> Funded:
    body = {"kind": "paid", "account": account}
    headers = {"authorization": f"Bearer {farebox.settings.admin_token}"}
    made = http.post(f"{farebox.url}/admin/v1/keys", json=body, headers=headers).json()
    return Funded(made["key"], made["id"], account)


def put_rows(farebox: RunningFarebox, key: Funded, times_ms: list[int]) -> None:
    """Ledger rows as settlements write them, without the wallet."""
    services = farebox.services

    def row(at_ms: int) -> dict[str, Any]:
        request_id = ids.request_id(at_ms, services.random.token)
        usage = {"input_token": {"count": 2, "source": "upstream"}, "output_token": {"count": 1, "source": "upstream"}}
        receipt = Receipt(
            request_id, at_ms, key.account, key.id, "gpt-4o-mini", "c", "chat.completions", False,
            usage, "v", (), 5, 5, 0, "completed", 1,
        )  # fmt: skip
        item = {
            "acct": s(key.account),
            "id": s(request_id),
            "kind": s("usage"),
            "amount": n(-5),
            "key": s(key.id[-6:]),
            "receipt": b(canonical(receipt.document())),
        }
        return {"PutRequest": {"Item": item}}

    async def put() -> None:
        for start in range(0, len(times_ms), 25):
            rows = [row(at_ms) for at_ms in times_ms[start : start + 25]]
            await services.db.call("BatchWriteItem", {"RequestItems": {services.tables.ledger: rows}})

    farebox.run(asyncio.wait_for(put(), 60))


def code_of(answer: httpx.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


# ── who may ask ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("method", "path"), EVERYWHERE)
def test_the_key_is_taken_with_and_without_bearer_and_no_body_is_needed(desk: Desk, method: str, path: str) -> None:
    bare, bearer = desk.ask(method, path, bare=True), desk.ask(method, path)

    assert bare.status_code == bearer.status_code == 200, bare.text
    assert bare.content == bearer.content
    assert bare.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(("method", "path"), EVERYWHERE)
def test_strangers_and_revoked_keys_are_told_nothing(
    farebox: RunningFarebox, desk: Desk, method: str, path: str
) -> None:
    farebox.run(farebox.services.accounts.revoke(desk.key.account, desk.key.id[-6:]))
    answers = [
        desk.ask(method, path),
        desk.ask(method, path, content=b"{"),
        http.request(method, farebox.url + path),
        http.request(method, farebox.url + path, headers={"authorization": "Bearer sk-nothing"}),
    ]

    assert {code_of(answer) for answer in answers} == {(401, "invalid_api_key", None)}


def test_a_key_sees_no_other_accounts_calls(farebox: RunningFarebox, upstream: ScriptedUpstream, desk: Desk) -> None:
    other = Desk(farebox, farebox.new_key(credit="1"))
    desk.call()

    assert (other.hours(), other.days(), other.calls()["usageLogs"], other.csv()) == ([], [], [], [])
    assert other.get("/v1/dashboard/billing/usage") == {"object": "list", "total_usage": 0, "daily_costs": []}
    assert other.get("/api/v1/key")["data"]["usage_monthly"] == 0


def test_a_key_sees_its_own_calls_and_the_wallet_of_its_account(
    farebox: RunningFarebox, upstream: ScriptedUpstream, desk: Desk
) -> None:
    other = Desk(farebox, second_key(farebox, desk.key.account))
    mine, theirs = desk.call(), other.call()

    for each, own in ((desk, mine), (other, theirs)):
        assert [call["id"] for call in each.calls()["usageLogs"]] == [own]
        assert [call["request_id"] for call in each.csv()] == [own]
        assert each.hours()[0]["count"] == each.days()[0]["count"] == 1
        assert each.get("/v1/dashboard/billing/usage")["total_usage"] == pytest.approx(2 * COST_NANO / 10**7)
        assert each.get("/api/v1/key")["data"]["usage_daily"] == pytest.approx(2 * COST_NANO / 10**9)


# ── ChatAnywhere's ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_hours_usage_has_chatanywheres_shape(upstream: ScriptedUpstream, desk: Desk) -> None:
    desk.call()
    desk.call()
    answer = desk.ask("POST", "/v1/query/usage_details", {"model": "gpt-4o%", "hours": 24})

    assert answer.json() == [
        {
            "time": "2026-11-24 12:00:00",
            "promptTokens": 20,
            "completionTokens": 10,
            "totalTokens": 30,
            "count": 2,
            "cost": 0.000063,
        }
    ]
    assert b'"cost":0.000063}' in answer.content  # exact: no float was on the way
    assert "x-farebox-complete-since" not in answer.headers


def test_hours_and_days_turn_in_the_configured_zone_and_come_oldest_first(
    upstream: ScriptedUpstream, desk: Desk
) -> None:
    midnight = NOON_MS - 12 * HOUR_MS
    for at_ms in (midnight - 1, midnight, NOON_MS - 3 * DAY_MS):
        desk.call(at_ms=at_ms)

    assert [hour["time"] for hour in desk.hours(hours=96)] == [
        "2026-11-21 12:00:00",
        "2026-11-23 23:00:00",
        "2026-11-24 00:00:00",
    ]
    assert [day["time"] for day in desk.days(days=5)] == [
        "2026-11-21 00:00:00",
        "2026-11-23 00:00:00",
        "2026-11-24 00:00:00",
    ]
    assert [day["time"][:10] for day in desk.days(days=2)] == ["2026-11-23", "2026-11-24"]
    assert [day["time"][:10] for day in desk.days()] == ["2026-11-24"]
    assert [(day["time"][:10], day["count"]) for day in desk.days(date="2026-11-23")] == [("2026-11-23", 1)]
    assert desk.days(date="2026-11-22") == []


def test_hours_reach_back_to_the_beginning_of_the_first(upstream: ScriptedUpstream, desk: Desk) -> None:
    for at_ms in (NOON_MS - 8760 * HOUR_MS, NOON_MS - HOUR_MS, NOON_MS - HOUR_MS - 1):
        desk.call(at_ms=at_ms)

    assert len(desk.hours(hours=1)) == 1
    assert len(desk.hours(hours=2)) == 2
    assert sum(hour["count"] for hour in desk.hours(model="%", hours=8760)) == 3


@pytest.mark.parametrize(
    ("pattern", "counted"),
    [
        ("%", 3),
        ("", 3),
        (None, 3),
        ("gpt-%", 2),
        ("GPT-4o-mini", 1),
        ("gpt-4o%", 2),
        ("%-mini", 1),
        ("%4o%", 2),
        ("gpt-%mini", 1),
        ("text-embedding-%", 0),
        ("gpt-4o_mini", 0),
        (".*", 0),
    ],
)
def test_a_pattern_chooses_models(farebox: RunningFarebox, pattern: str | None, counted: int) -> None:
    desk = _three_models(farebox)

    for rows in (desk.hours(model=pattern), desk.days(model=pattern)):
        assert sum(row["count"] for row in rows) == counted
    assert len(desk.calls(model=pattern)["usageLogs"]) == counted


_made: dict[int, Desk] = {}


def _three_models(farebox: RunningFarebox) -> Desk:
    """A key with a call of each of three models, made once."""
    farebox.clock.fixed_ms = NOON_MS
    if id(farebox) not in _made:
        desk = Desk(farebox, farebox.new_key(credit="10"))
        for model in ("gpt-4o-mini", "gpt-4o", "deepseek-v3"):
            desk.call(model)
        _made[id(farebox)] = desk
    return _made[id(farebox)]


def test_models_are_told_apart_where_that_is_asked(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    desk = _three_models(farebox)

    assert len(desk.hours()) == 1
    assert [row["model"] for row in desk.days(byModel=True)] == ["deepseek-v3", "gpt-4o", "gpt-4o-mini"]
    assert sum(row["cost"] for row in desk.hours(byModel=True)) == pytest.approx(desk.hours()[0]["cost"])


@pytest.mark.parametrize(
    ("name", "body", "param"),
    [
        ("usage_details", {"hours": -1}, "hours"),
        ("usage_details", {"hours": 0}, "hours"),
        ("usage_details", {"hours": 10**9}, "hours"),
        ("usage_details", {"hours": "24"}, "hours"),
        ("usage_details", {"hours": True}, "hours"),
        ("usage_details", {"hours": None}, "hours"),
        ("usage_details", {"hours": [24]}, "hours"),
        ("usage_details", {"model": 5}, "model"),
        ("usage_details", {"model": "a%b%c"}, "model"),
        ("usage_details", {"model": "x" * 200}, "model"),
        ("day_usage_details", {"days": 0}, "days"),
        ("day_usage_details", {"days": 10**9}, "days"),
        ("day_usage_details", {"days": 1.5}, "days"),
        ("day_usage_details", {"date": "today"}, "date"),
        ("day_usage_details", {"date": "2026-13-01"}, "date"),
        ("usage", {"currentPage": 0}, "currentPage"),
        ("usage", {"currentPage": "1"}, "currentPage"),
        ("usage", {"currentPage": 10**30}, "currentPage"),
        ("usage", {"pageSize": 0}, "pageSize"),
        ("usage", {"pageSize": -5}, "pageSize"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(desk: Desk, name: str, body: object, param: str) -> None:
    assert code_of(desk.ask("POST", f"/v1/query/{name}", body)) == (400, "invalid_request", param)


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b'"x"', b"\xff", b"\x00" * 9, b'{"hours":1e999}'])
@pytest.mark.parametrize("name", ["usage_details", "day_usage_details", "usage"])
def test_a_body_that_is_none_is_refused(desk: Desk, name: str, body: bytes) -> None:
    answer = desk.ask("POST", f"/v1/query/{name}", content=body)
    if name == "usage_details" or b"hours" not in body:
        assert code_of(answer)[:2] == (400, "invalid_request")


def test_a_body_that_is_too_long_is_refused(desk: Desk) -> None:
    answer = desk.ask("POST", "/v1/query/usage", content=b" " * 20_000)
    assert code_of(answer)[:2] == (413, "request_too_large")


def test_members_of_other_services_mean_nothing(desk: Desk) -> None:
    assert desk.hours(hours=1, apiKey="x", page=None) == []


def test_calls_come_newest_first_page_by_page(farebox: RunningFarebox, upstream: ScriptedUpstream, desk: Desk) -> None:
    other = Desk(farebox, second_key(farebox, desk.key.account))
    made = []
    for index in range(5):
        made.append(desk.call(at_ms=NOON_MS - 1000 * (5 - index)))
        other.call(at_ms=NOON_MS - 1000 * (5 - index))
    pages = [desk.calls(currentPage=page, pageSize=2) for page in (1, 2, 3, 4)]

    assert [[call["id"] for call in page["usageLogs"]] for page in pages] == [
        [made[4], made[3]],
        [made[2], made[1]],
        [made[0]],
        [],
    ]
    assert [page["hasMore"] for page in pages] == [True, True, False, False]
    everything = desk.calls(currentPage=1, pageSize=999999)
    assert (len(everything["usageLogs"]), everything["pageSize"]) == (5, 10_000)
    assert desk.calls(currentPage=10**9, pageSize=10**9)["usageLogs"] == []


def test_a_call_is_told_with_figures_and_without_text(upstream: ScriptedUpstream, desk: Desk) -> None:
    request_id = desk.call()

    assert desk.calls()["usageLogs"] == [
        {
            "id": request_id,
            "model": "gpt-4o-mini",
            "createTime": "2026-11-24 12:00:00",
            "endpoint": "chat.completions",
            "stream": False,
            "outcome": "completed",
            "promptTokens": 10,
            "completionTokens": 5,
            "totalTokens": 15,
            "cost": 0.0000315,
        }
    ]


def test_a_call_to_which_nothing_came_back_is_listed_but_not_counted(upstream: ScriptedUpstream, desk: Desk) -> None:
    desk.call()
    upstream.script = json_answer({"error": {"message": "no"}}, 500)
    desk.call(status=502)

    assert desk.hours()[0]["count"] == 1
    assert {(call["outcome"], call["cost"]) for call in desk.calls()["usageLogs"]} == {
        ("completed", 0.0000315),
        ("failed", 0),
    }


def test_a_free_key_has_counts_and_no_costs(farebox: RunningFarebox, upstream: ScriptedUpstream, desk: Desk) -> None:
    free = Desk(farebox, farebox.new_key("free", "0"))
    free.call()

    assert [(row["count"], row["totalTokens"], row["cost"]) for row in free.days(model="%")] == [(1, 15, 0)]
    balance = free.ask("POST", "/v1/query/balance").json()
    assert (balance["balanceTotal"], balance["balanceUsed"]) == (0, 0)


def test_more_rows_than_a_page_of_the_store_are_all_counted(farebox: RunningFarebox, desk: Desk) -> None:
    other = second_key(farebox, desk.key.account)
    put_rows(farebox, desk.key, [NOON_MS - index * 60_000 for index in range(1_260)])
    put_rows(farebox, other, [NOON_MS - index * 60_000 for index in range(300)])

    assert sum(hour["count"] for hour in desk.hours(hours=48)) == 1_260
    assert {hour["count"] for hour in desk.hours(hours=20)} == {60, 1}
    assert len(desk.calls(pageSize=999999)["usageLogs"]) == 1_260
    assert len(desk.csv("?hours=48")) == 1_260


# ── CSV ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_csv_has_a_line_for_each_call(upstream: ScriptedUpstream, desk: Desk) -> None:
    older, newer = desk.call(at_ms=NOON_MS - DAY_MS - 1), desk.call()
    answer = desk.ask("GET", "/v1/query/usage.csv?hours=48")
    lines = desk.csv("?hours=48")

    assert answer.headers["content-type"].startswith("text/csv; charset=utf-8")
    assert answer.headers["content-disposition"] == 'attachment; filename="usage.csv"'
    assert [line["request_id"] for line in lines] == [newer, older]
    assert lines[0] == {
        "time": "2026-11-24T12:00:00+08:00",
        "request_id": newer,
        "model": "gpt-4o-mini",
        "endpoint": "chat.completions",
        "stream": "false",
        "outcome": "completed",
        "prompt_tokens": "10",
        "completion_tokens": "5",
        "total_tokens": "15",
        "usage": "input_token=10 output_token=5",
        "cost_ca": "0.0000315",
        "took_ms": "0",
    }
    assert len(desk.csv()) == 1
    assert [line["request_id"] for line in desk.csv("?start_date=2026-11-23&end_date=2026-11-23")] == [older]
    assert desk.csv("?model=claude-%25") == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("hours=-1", "hours"),
        ("hours=99999", "hours"),
        ("hours=²", "hours"),
        ("hours=x", "hours"),
        ("model=a%25b%25c", "model"),
        ("start_date=x", "start_date"),
        ("start_date=2026-11-24&end_date=2026-11-23", "end_date"),
    ],
)
def test_the_csv_refuses_what_makes_no_sense(desk: Desk, query: str, param: str) -> None:
    assert code_of(desk.ask("GET", f"/v1/query/usage.csv?{query}")) == (400, "invalid_request", param)


# ── OpenAI's and OpenRouter's ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("root", ["/v1", ""])
def test_a_client_of_openais_billing_pages_computes_the_balance(
    farebox: RunningFarebox, upstream: ScriptedUpstream, desk: Desk, root: str
) -> None:
    desk.call(at_ms=NOON_MS - DAY_MS)
    desk.call()
    plan = desk.get(f"{root}/dashboard/billing/subscription")
    used = desk.get(f"{root}/dashboard/billing/usage?start_date=2026-08-20&end_date=2026-11-25")

    assert plan["object"] == "billing_subscription"
    assert plan["has_payment_method"] is True
    assert plan["access_until"] > NOON_MS // 1000
    assert plan["hard_limit_usd"] == plan["soft_limit_usd"] == plan["system_hard_limit_usd"] == 1
    assert plan["hard_limit_usd"] - used["total_usage"] / 100 == pytest.approx(
        farebox.account(desk.key.account).avail_nano / 10**9
    )
    assert used["daily_costs"] == [
        {"timestamp": 1_795_363_200, "line_items": [{"name": "gpt-4o-mini", "cost": 0.00315}]},
        {"timestamp": 1_795_449_600, "line_items": [{"name": "gpt-4o-mini", "cost": 0.00315}]},
    ]
    assert used["total_usage"] == 0.0063


def test_both_dates_are_included(upstream: ScriptedUpstream, desk: Desk) -> None:
    desk.call(at_ms=NOON_MS - DAY_MS)
    desk.call()

    def total(query: str) -> float:
        return desk.get(f"/v1/dashboard/billing/usage{query}")["total_usage"]

    assert total("?start_date=2026-11-24&end_date=2026-11-24") == 0.00315
    assert total("?start_date=2026-11-23&end_date=2026-11-23") == 0.00315
    assert total("?start_date=2026-11-23") == total("") == total("?end_date=2026-11-24") == 0.0063
    assert total("?start_date=0001-01-01&end_date=9999-12-31") == 0.0063
    assert total("?start_date=2026-12-01&end_date=2026-12-31") == 0


@pytest.mark.parametrize("query", ["start_date=yesterday", "start_date=", "end_date=2026-02-30", "start_date=1e9"])
def test_a_date_that_is_none_is_refused(desk: Desk, query: str) -> None:
    answer = desk.ask("GET", f"/dashboard/billing/usage?{query}")
    assert code_of(answer) == (400, "invalid_request", query.partition("=")[0])


def test_a_paid_key_in_openrouters_shape(upstream: ScriptedUpstream, desk: Desk) -> None:
    for at_ms in (NOON_MS, NOON_MS - DAY_MS, NOON_MS - 2 * DAY_MS, NOON_MS - 40 * DAY_MS):
        desk.call(at_ms=at_ms)
    data = desk.get("/api/v1/key")["data"]

    assert data["label"] == f"sk-fb-****{desk.key.text[-4:]}"
    assert (data["limit"], data["is_free_tier"], data["rate_limit"]["requests"]) == (1, False, -1)
    assert data["usage"] == pytest.approx(4 * COST_NANO / 10**9)
    assert data["usage"] + data["limit_remaining"] == pytest.approx(1)
    assert data["usage_daily"] == pytest.approx(COST_NANO / 10**9)
    assert data["usage_weekly"] == pytest.approx(2 * COST_NANO / 10**9)  # Monday and Tuesday
    assert data["usage_monthly"] == pytest.approx(3 * COST_NANO / 10**9)
    assert data["expires_at"] is None


def test_a_free_key_in_openrouters_shape_tells_its_day(
    farebox: RunningFarebox, upstream: ScriptedUpstream, desk: Desk
) -> None:
    free = Desk(farebox, farebox.new_key("free", "0"))
    free.call()
    free.call()
    data = free.get("/api/v1/key")["data"]

    assert (data["limit"], data["limit_remaining"], data["usage"], data["is_free_tier"]) == (None, None, 0, True)
    assert data["free_model_daily_requests"] == {"used": 2, "limit": 200, "remaining": 198}
    assert data["free_embedding_daily_requests"] == {"used": 0, "limit": 200, "remaining": 200}
    farebox.clock.fixed_ms = NOON_MS + DAY_MS
    assert free.get("/api/v1/key")["data"]["free_model_daily_requests"]["used"] == 0


def test_a_month_that_takes_more_than_a_look_is_not_guessed_at(
    farebox: RunningFarebox, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboards, "KEY_ROWS_MAX", 500)
    put_rows(farebox, desk.key, [NOON_MS - index for index in range(300)])
    put_rows(farebox, desk.key, [NOON_MS - DAY_MS - index for index in range(600)])
    data = desk.get("/api/v1/key")["data"]

    assert data["usage_daily"] == pytest.approx(300 * 5 / 10**9)
    assert (data["usage_weekly"], data["usage_monthly"]) == (None, None)


def test_an_account_that_owes_shows_no_negative_remainder(farebox: RunningFarebox, desk: Desk) -> None:
    services = farebox.services
    owing = {
        "TableName": services.tables.accounts,
        "Key": {"acct": s(desk.key.account)},
        "UpdateExpression": "SET avail = :nought, credited = :little, spent = :much, debt = :rest",
        "ExpressionAttributeValues": {":nought": n(0), ":little": n(10**8), ":much": n(10**9), ":rest": n(9 * 10**8)},
    }
    farebox.run(services.db.call("UpdateItem", owing))

    balance = desk.ask("POST", "/v1/query/balance").json()
    plan, data = desk.get("/v1/dashboard/billing/subscription"), desk.get("/api/v1/key")["data"]
    assert balance["balanceTotal"] - balance["balanceUsed"] == 0
    assert plan["hard_limit_usd"] - plan["balance_used"] == 0
    assert (data["limit"] - data["usage"], data["limit_remaining"]) == (0, 0)


def test_neighbouring_paths_are_not_there(desk: Desk) -> None:
    for path in ("/dashboard", "/dashboard/billing", "/v1/dashboard/billing/", "/api/v1/key/", "/api/v1/keys"):
        assert desk.ask("GET", path).status_code == 404
    assert desk.ask("POST", "/api/v1/key", {}).status_code == 404
