"""Usage as ChatAnywhere's clients ask for it, one key at a time; and the same call by call, as CSV too."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from farebox.domain.accounts import ACTIVE, Account, KeyRecord
from farebox.domain.call_records import CallRecord
from farebox.domain.model_pattern import ANY, PATTERN_CHARS_MAX, Matches, model_pattern
from farebox.domain.spans import Span, dates, last_days, last_hours, parse_date
from farebox.errors import InvalidRequest
from farebox.http.address import AddressOf
from farebox.http.bodies import SMALL_BYTES_MAX, raw_body, validated
from farebox.http.guard import caller_key, json_response
from farebox.http.moments import headers_of_moment, second
from farebox.http.money_json import number
from farebox.http.usage_csv import CSV_CALLS_MAX, csv_text
from farebox.service.authenticate import Authenticator
from farebox.service.usage import Total, Totals, UsageQueries, Whose

HOURS_MAX = 8_784
"""A leap year; clients ask for 8760."""
DAYS_MAX = 366
PAGE_CALLS_MAX = 10_000
"""Clients ask for 999,999 and take what comes: an answer on Lambda has 6 MB at most."""
ALL_TIME = Span(0)
Asked = TypeVar("Asked", bound=BaseModel)


class Query(BaseModel):
    """What every query may say. Members that we do not know are other services' and mean nothing here."""

    model_config = ConfigDict(strict=True)
    model: Annotated[str, Field(max_length=PATTERN_CHARS_MAX)] | None = None


class ByHour(Query):
    hours: Annotated[int, Field(ge=1, le=HOURS_MAX)] = 24
    by_model: Annotated[bool, Field(alias="byModel")] = False


class ByDay(Query):
    days: Annotated[int, Field(ge=1, le=DAYS_MAX)] = 1
    date: str | None = None
    by_model: Annotated[bool, Field(alias="byModel")] = False


class ByCall(Query):
    page: Annotated[int, Field(alias="currentPage", ge=1, le=10**9)] = 1
    size: Annotated[int, Field(alias="pageSize", ge=1, le=10**9)] = 100


def query_routes(usage: UsageQueries, authenticator: Authenticator, address_of: AddressOf) -> APIRouter:
    """POST /v1/query/{balance,usage_details,day_usage_details,usage}, GET /v1/query/usage.csv."""
    router = APIRouter(prefix="/v1/query")

    async def owner(request: Request) -> tuple[Account, KeyRecord]:
        return await authenticator.owner(caller_key(request), address_of(request.scope))

    async def whose(request: Request) -> Whose:
        account, record = await owner(request)
        return Whose(account.id, record.number)

    @router.post("/balance")
    async def balance(request: Request) -> Response:
        return json_response(balance_document(*await owner(request)))

    @router.post("/usage_details")
    async def usage_details(request: Request) -> Response:
        mine = await whose(request)
        asked = await _asked(request, ByHour)
        span = last_hours(asked.hours, usage.now_ms(), usage.zone)
        return _totals(await usage.totals(mine, span, "hour", _matches(asked.model), by_model=asked.by_model), usage)

    @router.post("/day_usage_details")
    async def day_usage_details(request: Request) -> Response:
        mine = await whose(request)
        asked = await _asked(request, ByDay)
        span = last_days(asked.days, usage.now_ms(), usage.zone) if asked.date is None else _one_day(asked.date, usage)
        return _totals(await usage.totals(mine, span, "day", _matches(asked.model), by_model=asked.by_model), usage)

    @router.post("/usage")
    async def calls(request: Request) -> Response:
        mine = await whose(request)
        asked = await _asked(request, ByCall)
        size = min(asked.size, PAGE_CALLS_MAX)
        skip = (asked.page - 1) * size
        found = await usage.calls(mine, ALL_TIME, _matches(asked.model), skip=skip, take=size)
        document = {
            "usageLogs": [call_document(call, usage) for call in found.records],
            "currentPage": asked.page,
            "pageSize": size,
            "hasMore": found.more,
        }
        return json_response(document, headers=headers_of_moment(found.complete_since_ms, usage.zone))

    @router.get("/usage.csv")
    async def usage_csv(request: Request) -> Response:
        mine = await whose(request)
        span, matches = _asked_in_url(request, usage)
        found = await usage.calls(mine, span, matches, skip=0, take=CSV_CALLS_MAX)
        since_ms = found.records[-1].at_ms + 1 if found.more else found.complete_since_ms
        headers = {
            "content-disposition": 'attachment; filename="usage.csv"',
            "x-content-type-options": "nosniff",
            **headers_of_moment(since_ms, usage.zone),
        }
        return Response(csv_text(found.records, usage.zone), 200, headers, "text/csv; charset=utf-8; header=present")

    return router


def balance_document(account: Account, record: KeyRecord) -> dict[str, Any]:
    """The account's wallet. The remainder that clients compute, total less used, is never below zero."""
    return {
        "id": record.id,
        "apiKey": f"sk-fb-****{record.last4}",
        "adminKeyId": account.id,
        "balanceTotal": number(max(account.credited_nano, account.spent_nano)),
        "balanceUsed": number(account.spent_nano),
        "balanceHeld": number(account.held_nano),
        "balanceAvailable": number(account.avail_nano),
        "kind": record.kind,
        "status": 1 if account.status == ACTIVE else 0,
    }


def call_document(call: CallRecord, usage: UsageQueries) -> dict[str, Any]:
    """One call; its receipt is at /v1/receipts/{id}."""
    return {
        "id": call.request_id,
        "model": call.model,
        "createTime": second(call.at_ms, usage.zone),
        "endpoint": call.endpoint,
        "stream": call.stream,
        "outcome": call.outcome,
        "promptTokens": call.input_tokens,
        "completionTokens": call.output_tokens,
        "totalTokens": call.input_tokens + call.output_tokens,
        "cost": number(call.cost_nano),
    }


def _totals(totals: Totals, usage: UsageQueries) -> Response:
    headers = headers_of_moment(totals.complete_since_ms, usage.zone)
    return json_response([_total_document(total) for total in totals.rows], headers=headers)


def _total_document(total: Total) -> dict[str, Any]:
    model = {"model": total.model} if total.model else {}
    return {
        "time": total.time,
        **model,
        "promptTokens": total.input_tokens,
        "completionTokens": total.output_tokens,
        "totalTokens": total.input_tokens + total.output_tokens,
        "count": total.count,
        "cost": number(total.cost_nano),
    }


async def _asked(request: Request, kind: type[Asked]) -> Asked:
    """The body; clients that want the defaults send none. Raises RequestTooLarge, RequestValidationError."""
    body = await raw_body(request, SMALL_BYTES_MAX)
    return validated(body if body.strip() else b"{}", kind)


def _matches(pattern: str | None) -> Matches:
    try:
        return model_pattern(ANY if pattern is None else pattern)
    except ValueError:
        raise InvalidRequest(
            param="model",
            zh="model 只支持前缀（gpt-%）、后缀（%-mini）、前后缀（gpt-%-mini）或包含（%4o%）匹配。",
            en="model may be a prefix (gpt-%), a suffix (%-mini), both (gpt-%-mini), or a part (%4o%).",
        ) from None


def _one_day(text: str, usage: UsageQueries) -> Span:
    try:
        day = parse_date(text)
    except ValueError:
        raise bad_date("date") from None
    return dates(day, day, usage.zone)


def _asked_in_url(request: Request, usage: UsageQueries) -> tuple[Span, Matches]:
    asked = request.query_params
    matches = _matches(asked.get("model"))
    if "start_date" in asked or "end_date" in asked:
        return dates_in_url(request, usage), matches
    hours = asked.get("hours", "24")
    if not (hours.isascii() and hours.isdigit() and len(hours) <= 4 and 1 <= int(hours) <= HOURS_MAX):
        raise InvalidRequest(
            param="hours",
            zh=f"hours 须为 1 到 {HOURS_MAX} 的整数。",
            en=f"hours: a whole number from 1 to {HOURS_MAX}.",
        )
    return last_hours(int(hours), usage.now_ms(), usage.zone), matches


def dates_in_url(request: Request, usage: UsageQueries) -> Span:
    """`start_date` to `end_date`, both included; by default the last 100 days. Raises InvalidRequest."""
    days: dict[str, Any] = {}
    for name in ("start_date", "end_date"):
        text = request.query_params.get(name)
        try:
            days[name] = parse_date(text) if text is not None else None
        except ValueError:
            raise bad_date(name) from None
    default = last_days(100, usage.now_ms(), usage.zone)
    first, last = days["start_date"], days["end_date"]
    if first and last and first > last:
        raise bad_date("end_date")
    from_ms = dates(first, first, usage.zone).from_ms if first else default.from_ms
    until_ms = dates(last, last, usage.zone).until_ms if last else None
    return Span(from_ms, until_ms)


def bad_date(param: str) -> InvalidRequest:
    return InvalidRequest(
        param=param,
        zh=f"{param} 须为 YYYY-MM-DD 格式的日期，且结束不早于开始。",
        en=f"{param}: a date written YYYY-MM-DD, the end not before the start.",
    )
