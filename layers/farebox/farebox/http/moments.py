"""Moments as answers tell them: in the zone in which days are counted."""

from __future__ import annotations

from datetime import datetime, tzinfo


def second(at_ms: int, zone: tzinfo) -> str:
    """ "2024-04-17 09:31:05", as ChatAnywhere's clients read it."""
    return datetime.fromtimestamp(at_ms // 1000, zone).strftime("%Y-%m-%d %H:%M:%S")


def iso(at_ms: int, zone: tzinfo) -> str:
    """ "2024-04-17T09:31:05+08:00"."""
    return datetime.fromtimestamp(at_ms // 1000, zone).isoformat()


def headers_of_moment(since_ms: int | None, zone: tzinfo) -> dict[str, str]:
    """`x-farebox-complete-since`, in whole seconds rounded up, where there is more before than one query reads."""
    return {} if since_ms is None else {"x-farebox-complete-since": iso(since_ms + 999, zone)}
