"""The wallet as other services show theirs: OpenAI's old billing pages, OpenRouter's key. The unit is CA."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import groupby
from typing import Any

from fastapi import APIRouter, Request, Response

from farebox.domain.accounts import ACTIVE, NEVER_MS, Account, KeyRecord
from farebox.domain.model_pattern import ANY, model_pattern
from farebox.domain.quota import FreeLimits, Unit, day_at, key_counter
from farebox.domain.spans import dates, parse_date, today
from farebox.errors import InvalidRequest
from farebox.http.address import AddressOf
from farebox.http.guard import caller_key, json_response
from farebox.http.moments import headers_of_moment, iso
from farebox.http.money_json import number
from farebox.http.queries import dates_in_url
from farebox.ports import Store
from farebox.service.authenticate import Authenticator
from farebox.service.usage import Total, UsageQueries, Whose

ALL_MODELS = model_pattern(ANY)
FOREVER_S = 4_102_444_799
"""2099-12-31: later, and some clients' date overflows."""
KEY_ROWS_MAX = 5_000
"""What a look at a key may read of the ledger: clients look often."""
CENTS = 100
"""In one CA, as there are in the dollar for which these clients take it."""


def dashboard_routes(
    usage: UsageQueries, store: Store, authenticator: Authenticator, address_of: AddressOf, limits: FreeLimits
) -> APIRouter:
    """GET [/v1]/dashboard/billing/{subscription,usage}, GET /api/v1/key. The scope is the account's wallet."""
    router = APIRouter()

    async def owner(request: Request) -> tuple[Account, KeyRecord]:
        return await authenticator.owner(caller_key(request), address_of(request.scope))

    @router.get("/v1/dashboard/billing/subscription")
    @router.get("/dashboard/billing/subscription")
    async def subscription(request: Request) -> Response:
        return json_response(subscription_document(*await owner(request)))

    @router.get("/v1/dashboard/billing/usage")
    @router.get("/dashboard/billing/usage")
    async def spent(request: Request) -> Response:
        account, _ = await owner(request)
        span = dates_in_url(request, usage)
        totals = await usage.totals(Whose(account.id), span, "day", ALL_MODELS, by_model=True)
        document = {
            "object": "list",
            "total_usage": number(CENTS * sum(total.cost_nano for total in totals.rows)),
            "daily_costs": [
                _day_document(time, list(models), usage)
                for time, models in groupby(totals.rows, key=lambda total: total.time)
            ],
        }
        return json_response(document, headers=headers_of_moment(totals.complete_since_ms, usage.zone))

    @router.get("/api/v1/key")
    async def key(request: Request) -> Response:
        account, record = await owner(request)
        if record.kind == "free":
            return json_response({"data": await _free_key(record, usage, store, limits)})
        return json_response({"data": await _paid_key(account, record, usage)})

    return router


def subscription_document(account: Account, record: KeyRecord) -> dict[str, Any]:
    """OpenAI's shape. The limit is all that was ever paid in; what is left of it is `balance_available`."""
    total = number(max(account.credited_nano, account.spent_nano))
    never = record.expires_ms >= NEVER_MS
    return {
        "object": "billing_subscription",
        "has_payment_method": record.kind == "paid",
        "canceled": False,
        "canceled_at": None,
        "delinquent": account.status != ACTIVE,
        "access_until": FOREVER_S if never else min(record.expires_ms // 1000, FOREVER_S),
        "soft_limit": total,
        "hard_limit": total,
        "system_hard_limit": total,
        "soft_limit_usd": total,
        "hard_limit_usd": total,
        "system_hard_limit_usd": total,
        "plan": {"title": "Farebox", "id": record.kind},
        "account_name": account.id,
        "currency": "CA",
        "balance_used": number(account.spent_nano),
        "balance_held": number(account.held_nano),
        "balance_available": number(account.avail_nano),
    }


def _day_document(time: str, models: list[Total], usage: UsageQueries) -> dict[str, Any]:
    day = parse_date(time[:10])
    return {
        "timestamp": dates(day, day, usage.zone).from_ms // 1000,
        "line_items": [{"name": total.model, "cost": number(CENTS * total.cost_nano)} for total in models],
    }


async def _paid_key(account: Account, record: KeyRecord, usage: UsageQueries) -> dict[str, Any]:
    return {
        **_key_document(record, usage),
        "limit": number(max(account.credited_nano, account.spent_nano)),
        "limit_remaining": number(max(account.avail_nano, 0)),
        "usage": number(account.spent_nano),
        **await _recently(account, usage),
        "is_free_tier": False,
        "rate_limit": {"requests": -1, "interval": "10s", "note": "no limit of requests; deprecated"},
    }


async def _free_key(record: KeyRecord, usage: UsageQueries, store: Store, limits: FreeLimits) -> dict[str, Any]:
    """A free key spends no money: its limits are requests a day."""
    day = day_at(usage.now_ms(), usage.zone)
    unit = Unit("key", key_counter(record.id, day.name), (), day.ends_ms)
    (used,) = await store.counts((unit,))
    allowed = limits.requests_per_key

    def left(counted_as: str) -> dict[str, int]:
        count = used.get(counted_as, 0)
        return {"used": count, "limit": allowed, "remaining": max(0, allowed - count)}

    return {
        **_key_document(record, usage),
        "limit": None,
        "limit_remaining": None,
        "usage": 0,
        "usage_daily": 0,
        "usage_weekly": 0,
        "usage_monthly": 0,
        "is_free_tier": True,
        "rate_limit": {"requests": allowed, "interval": "1d", "note": "deprecated: see free_model_daily_requests"},
        "free_model_daily_requests": left("chat"),
        "free_embedding_daily_requests": left("embedding"),
    }


def _key_document(record: KeyRecord, usage: UsageQueries) -> dict[str, Any]:
    """What OpenRouter's typed clients insist on, and what is the same for every key here."""
    never = record.expires_ms >= NEVER_MS
    return {
        "label": f"sk-fb-****{record.last4}",
        "limit_reset": None,
        "include_byok_in_limit": False,
        **dict.fromkeys(("byok_usage", "byok_usage_daily", "byok_usage_weekly", "byok_usage_monthly"), 0),
        "is_management_key": False,
        "is_provisioning_key": False,
        "expires_at": None if never else iso(record.expires_ms, usage.zone),
        "currency": "CA",
    }


async def _recently(account: Account, usage: UsageQueries) -> dict[str, Any]:
    """What today, this week (since Monday) and this month have cost; null where that takes more than a look."""
    now = today(usage.now_ms(), usage.zone)
    monday, first = now - timedelta(days=now.weekday()), now.replace(day=1)
    starts = {"usage_daily": now, "usage_weekly": monday, "usage_monthly": first}
    span = dates(min(monday, first), date.max, usage.zone)
    try:
        totals = await usage.totals(Whose(account.id), span, "day", ALL_MODELS, rows_max=KEY_ROWS_MAX)
    except InvalidRequest:  # more than that today alone
        return dict.fromkeys(starts)

    def since(start: date) -> Any:
        if (totals.complete_since_ms or 0) > dates(start, start, usage.zone).from_ms:
            return None
        return number(sum(total.cost_nano for total in totals.rows if total.time >= start.isoformat()))

    return {name: since(start) for name, start in starts.items()}
