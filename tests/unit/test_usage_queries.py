"""Spans, patterns, id bounds and reading within bounds: what queries are made of."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from farebox.domain import ids, keys
from farebox.domain.accounts import Account, KeyRecord
from farebox.domain.call_records import CallPage, CallRecord
from farebox.domain.keys import ApiKey
from farebox.domain.model_pattern import model_pattern
from farebox.domain.spans import Span, dates, last_days, last_hours, namer, next_start_ms, parse_date
from farebox.errors import InvalidRequest
from farebox.http.dashboards import KEY_ROWS_MAX
from farebox.http.queries import DAYS_MAX, HOURS_MAX, PAGE_CALLS_MAX, query_routes
from farebox.http.usage_csv import CSV_CALLS_MAX, csv_text, harmless
from farebox.service.usage import Bounds, UsageQueries, Whose

SHANGHAI, BERLIN, KOLKATA = ZoneInfo("Asia/Shanghai"), ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")
NOON_MS = 1_795_492_800_000  # 2026-11-24T12:00 in Shanghai
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
MOMENTS = st.integers(0, 2**48 - 1)
MODELS = ["gpt-4o", "gpt-4o-mini", "GPT-4o-mini-ca", "claude-sonnet-4", "o1-mini", "-mini", ""]


def any_model(_: str) -> bool:
    return True


# ── ids ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(MOMENTS, st.binary(min_size=10, max_size=10))
def test_an_id_tells_its_time_and_lies_between_the_bounds_of_its_millisecond(at_ms: int, random: bytes) -> None:
    made = ids.request_id(at_ms, lambda _: random)

    assert ids.time_of(made) == at_ms
    assert ids.first_at(at_ms) <= made <= ids.last_before(at_ms + 1)
    assert ids.is_request_id(ids.first_at(at_ms))
    assert ids.is_request_id(ids.last_before(at_ms + 1))


@given(MOMENTS.filter(bool), st.binary(min_size=10, max_size=10))
def test_the_last_id_before_a_moment_is_below_every_id_of_it(at_ms: int, random: bytes) -> None:
    assert ids.last_before(at_ms) < ids.first_at(at_ms) <= ids.request_id(at_ms, lambda _: random)


# ── patterns ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("%", MODELS),
        ("", MODELS),
        ("%%", MODELS),
        ("gpt-%", ["gpt-4o", "gpt-4o-mini", "GPT-4o-mini-ca"]),
        ("GPT-4O", ["gpt-4o"]),
        ("%-mini", ["gpt-4o-mini", "o1-mini", "-mini"]),
        ("gpt-%-mini", ["gpt-4o-mini"]),
        ("%4%", ["gpt-4o", "gpt-4o-mini", "GPT-4o-mini-ca", "claude-sonnet-4"]),
        ("-mini%-mini", []),
        ("gpt_4o", []),
        ("gpt.4o", []),
        (".*", []),
    ],
)
def test_a_pattern_matches_what_sql_would(pattern: str, found: list[str]) -> None:
    matches = model_pattern(pattern)
    assert [model for model in MODELS if matches(model)] == found


@pytest.mark.parametrize("pattern", ["a%b%c", "%a%b", "a%b%", "a%%b", "%" + "a%" * 20, "x" * 129])
def test_a_pattern_that_costs_more_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        model_pattern(pattern)


# ── spans ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_days_begin_at_the_midnights_of_the_zone() -> None:
    assert last_days(1, NOON_MS, SHANGHAI) == Span(NOON_MS - 12 * HOUR_MS)
    assert last_days(5, NOON_MS, SHANGHAI) == Span(NOON_MS - 12 * HOUR_MS - 4 * DAY_MS)


def test_hours_begin_at_the_hours_of_the_zone() -> None:
    assert last_hours(24, NOON_MS + 59_000, SHANGHAI) == Span(NOON_MS - DAY_MS)
    assert last_hours(1, NOON_MS, KOLKATA) == Span(NOON_MS - HOUR_MS - 30 * 60_000)


@pytest.mark.parametrize("day", [date(2026, 3, 29), date(2026, 10, 25)])
def test_a_day_on_which_the_clocks_change_has_23_or_25_hours(day: date) -> None:
    span = dates(day, day, BERLIN)
    assert span.until_ms is not None
    assert (span.until_ms - span.from_ms) / HOUR_MS == (23 if day.month == 3 else 25)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.sampled_from([SHANGHAI, BERLIN, KOLKATA]))  # noqa: DTZ001
def test_a_moment_is_named_by_the_wall_clock_and_the_next_hour_has_another_name(
    moment: datetime, zone: ZoneInfo
) -> None:
    at_ms = int(moment.replace(tzinfo=UTC).timestamp()) * 1000
    local = datetime.fromtimestamp(at_ms // 1000, zone)

    assert namer("hour", zone)(at_ms) == local.strftime("%Y-%m-%d %H:00:00")
    assert namer("day", zone)(at_ms) == local.strftime("%Y-%m-%d 00:00:00")
    for grain in ("hour", "day"):
        start = next_start_ms(at_ms, grain, zone)
        assert at_ms < start <= at_ms + 25 * HOUR_MS
        name = namer(grain, zone)
        assert name(start - 1) == name(at_ms)


@pytest.mark.parametrize(
    "text", ["", "2024-4-17", "20240417", "2024-W16-3", "2024-02-30", "2024-04-17T00", "٢٠٢٤-٠٤-١٧", "x"]
)
def test_only_a_date_is_a_date(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_date(text)


@pytest.mark.parametrize(("first", "last"), [("0001-01-01", "9999-12-31"), ("1970-01-01", "9998-12-31")])
def test_dates_that_no_clock_reaches_are_spans_all_the_same(first: str, last: str) -> None:
    span = dates(parse_date(first), parse_date(last), SHANGHAI)
    assert span.from_ms == 0
    assert span.until_ms is None or span.until_ms < 2**48


# ── reading within bounds ───────────────────────────────────────────────────────────────────────────────────────────


class StillClock:
    def __init__(self) -> None:
        self.at_ms = NOON_MS

    def now_ms(self) -> int:
        return self.at_ms


class ListedCalls:
    """A call every `step_ms`, newest first, ten a page; each page takes `page_ms`."""

    def __init__(self, clock: StillClock, step_ms: int, count: int, page_ms: int = 0) -> None:
        self.clock, self.page_ms, self.pages_read = clock, page_ms, 0
        self.calls = [call(NOON_MS - 1 - step_ms * index) for index in range(count)]

    async def pages(self, account: str, key_number: str | None, span: Span, rows: int) -> AsyncIterator[CallPage]:
        mine = [each for each in self.calls if span.from_ms <= each.at_ms < (span.until_ms or 2**48)]
        for start in range(0, len(mine), 10):
            page, rest = mine[start : start + 10], mine[start + 10 :]
            self.clock.at_ms += self.page_ms
            self.pages_read += 1
            yield CallPage(tuple(page), len(page), page[-1].at_ms if rest else None)


def call(at_ms: int) -> CallRecord:
    made = ids.request_id(at_ms, lambda length: b"\0" * length)
    return CallRecord(made, at_ms, "gpt-4o", "chat.completions", False, "completed", {"input_token": 1}, 1, 0, 7, 5)


def queries(calls: ListedCalls, **bounds: int) -> UsageQueries:
    return UsageQueries(calls, calls.clock, SHANGHAI, Bounds(**bounds))


def test_within_the_bounds_every_hour_is_told() -> None:
    log = ListedCalls(StillClock(), HOUR_MS // 4, 100)
    totals = asyncio.run(queries(log).totals(Whose("acc_x"), Span(0), "hour", any_model))

    assert totals.complete_since_ms is None
    assert [total.count for total in totals.rows] == [4] * 25
    assert totals.rows[-1].time == "2026-11-24 11:00:00"


@pytest.mark.parametrize(("rows", "page_ms"), [(35, 0), (10**6, 7_000)])
def test_what_is_told_beyond_the_bounds_is_exact_and_says_since_when(rows: int, page_ms: int) -> None:
    log = ListedCalls(StillClock(), HOUR_MS // 4, 100, page_ms)
    totals = asyncio.run(queries(log, rows=rows, patience_ms=20_000).totals(Whose("a"), Span(0), "hour", any_model))

    assert log.pages_read < 10
    assert {total.count for total in totals.rows} == {4}
    assert totals.complete_since_ms is not None
    assert namer("hour", SHANGHAI)(totals.complete_since_ms) == totals.rows[0].time


def test_where_not_even_one_hour_can_be_told_nothing_is() -> None:
    log = ListedCalls(StillClock(), 1000, 100)
    log.clock.at_ms -= 1
    with pytest.raises(InvalidRequest):
        asyncio.run(queries(log, rows=20).totals(Whose("a"), Span(0), "hour", any_model))


def test_pages_of_calls_end_even_where_the_bounds_do() -> None:
    log = ListedCalls(StillClock(), 1000, 100)
    usage = queries(log, rows=30)

    async def all_pages() -> list[int]:
        sizes, skip = [], 0
        while True:
            found = await usage.calls(Whose("a"), Span(0), any_model, skip=skip, take=12)
            sizes.append(len(found.records))
            skip += 12
            if not found.more:
                assert found.complete_since_ms is not None
                return sizes

    assert asyncio.run(all_pages()) == [12, 12, 6]


class AnyOwner:
    """Lets everybody in, as one and the same."""

    async def owner(self, key: ApiKey, address: str) -> tuple[Account, KeyRecord]:
        record = KeyRecord(id=key.id, account=key.account, number=key.number, kind="paid", last4=key.last4)
        return Account(
            id=key.account, status="active", avail_nano=1, held_nano=0, spent_nano=0, credited_nano=1
        ), record


def test_an_answer_that_leaves_out_what_is_old_says_so_in_a_header() -> None:
    async def ask() -> list[httpx.Response]:
        usage = queries(ListedCalls(StillClock(), HOUR_MS // 4, 100), rows=35)
        app = FastAPI()
        app.include_router(query_routes(usage, AnyOwner(), lambda _: "192.0.2.1"))  # type: ignore[arg-type]
        key = keys.mint("paid", keys.mint_account(os.urandom), os.urandom)
        transport, headers = httpx.ASGITransport(app), {"authorization": key.text}
        async with httpx.AsyncClient(transport=transport, base_url="http://x/v1/query", headers=headers) as client:
            return [
                await client.post("/usage_details", json={"hours": 8760}),
                await client.post("/usage", json={"pageSize": 999_999}),
                await client.get("/usage.csv?hours=8760"),
                await client.post("/usage_details", json={"hours": 3}),
            ]

    hours, calls, lines, short = asyncio.run(ask())
    assert hours.headers["x-farebox-complete-since"] == "2026-11-24T03:00:00+08:00"
    assert [hour["time"][11:13] for hour in hours.json()] == ["03", "04", "05", "06", "07", "08", "09", "10", "11"]
    assert calls.headers["x-farebox-complete-since"] == lines.headers["x-farebox-complete-since"]
    assert (len(calls.json()["usageLogs"]), len(lines.text.splitlines())) == (40, 41)
    assert "x-farebox-complete-since" not in short.headers


@pytest.mark.parametrize(
    "bound",
    [Bounds().rows, HOURS_MAX, DAYS_MAX, PAGE_CALLS_MAX, CSV_CALLS_MAX, KEY_ROWS_MAX, Bounds().patience_ms // 1000],
)
def test_the_docs_tell_the_bounds(bound: int) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "queries.md").read_text("utf-8")
    assert re.search(rf"(?<![\d,]){bound:,}(?![\d,])", text)


# ── CSV ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.text(max_size=20))
def test_no_cell_begins_like_a_formula(text: str) -> None:
    assert not harmless(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert harmless(text).removeprefix("'") == text.removeprefix("'")


def test_a_models_name_cannot_break_out_of_its_cell() -> None:
    evil = '=HYPERLINK("http://x")\r\n,"a'
    record = call(NOON_MS)
    lines = list(csv.reader(io.StringIO(csv_text([replace(record, model=evil)], SHANGHAI))))

    assert len(lines) == 2
    assert lines[1][2] == f"'{evil}"
    assert lines[1][0] == "2026-11-24T12:00:00+08:00"
