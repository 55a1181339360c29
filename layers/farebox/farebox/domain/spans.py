"""Spans of time in whole hours and days of a zone, and the name of the hour or day that a moment falls into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Literal

from farebox.domain.quota import day_at

Grain = Literal["hour", "day"]
HOUR_MS = 3_600_000
# Every zone's offset is a multiple of a quarter of an hour, and so is every change of it.
_QUARTER_MS = 900_000
_FIRST_YEAR, _LAST_YEAR = 1971, 9998


@dataclass(frozen=True, slots=True)
class Span:
    """From `from_ms` on (epoch ms), until before `until_ms`; None: no end."""

    from_ms: int
    until_ms: int | None = None


def last_hours(hours: int, now_ms: int, zone: tzinfo) -> Span:
    """From the beginning of the hour in which it was `hours` ago."""
    return Span(_hour_start_ms(max(0, now_ms - hours * HOUR_MS), zone))


def last_days(days: int, now_ms: int, zone: tzinfo) -> Span:
    """Today and the `days - 1` days before."""
    return Span(_day_start_ms(today(now_ms, zone) - timedelta(days=days - 1), zone))


def dates(first: date, last: date, zone: tzinfo) -> Span:
    """Both days included. What no clock reaches has no end."""
    until_ms = None if last.year > _LAST_YEAR else _day_start_ms(last + timedelta(days=1), zone)
    return Span(_day_start_ms(first, zone), until_ms)


def today(now_ms: int, zone: tzinfo) -> date:
    return datetime.fromtimestamp(now_ms // 1000, zone).date()


def namer(grain: Grain, zone: tzinfo) -> Callable[[int], str]:
    """A function from epoch ms to the hour ("2024-04-17 09:00:00") or the day ("2024-04-17 00:00:00").

    It remembers: rows come by the thousand, and few quarters of an hour.
    """
    known: dict[int, str] = {}
    shape = "%Y-%m-%d %H:00:00" if grain == "hour" else "%Y-%m-%d 00:00:00"

    def name(at_ms: int) -> str:
        quarter = at_ms // _QUARTER_MS
        if quarter not in known:
            known[quarter] = datetime.fromtimestamp(quarter * 900, zone).strftime(shape)
        return known[quarter]

    return name


def next_start_ms(at_ms: int, grain: Grain, zone: tzinfo) -> int:
    """When the hour or day after that of `at_ms` begins."""
    if grain == "day":
        return day_at(at_ms, zone).ends_ms
    return _hour_start_ms(at_ms + HOUR_MS, zone)


def parse_date(text: str) -> date:
    """`YYYY-MM-DD`, nothing else. Raises ValueError."""
    if len(text) != 10 or not text.isascii():
        raise ValueError("a date is written YYYY-MM-DD")
    return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day has no zone of its own


def _hour_start_ms(at_ms: int, zone: tzinfo) -> int:
    local = datetime.fromtimestamp(at_ms // 1000, zone)
    return at_ms - at_ms % 1000 - (local.minute * 60 + local.second) * 1000


def _day_start_ms(day: date, zone: tzinfo) -> int:
    if day.year < _FIRST_YEAR:
        return 0
    return int(datetime.combine(day, datetime.min.time(), tzinfo=zone).timestamp()) * 1000
