"""`x-ratelimit-*`: what is left of the day, as OpenAI's headers say it."""

from __future__ import annotations

from collections.abc import Mapping

from farebox.domain.quota import Unit


def rate_limit_headers(
    units: tuple[Unit, ...], counts: list[Mapping[str, int]], reset_in_ms: int
) -> list[tuple[bytes, bytes]]:
    """The tightest of all the limits that this request counts against."""
    left = [
        (max(0, limit.limit - count.get(limit.field, 0)), limit.limit)
        for unit, count in zip(units, counts, strict=True)
        for limit in unit.limits
    ]
    remaining, limit = min(left)
    return [
        (b"x-ratelimit-limit-requests", b"%d" % limit),
        (b"x-ratelimit-remaining-requests", b"%d" % remaining),
        (b"x-ratelimit-reset-requests", duration(reset_in_ms).encode()),
    ]


def duration(milliseconds: int) -> str:
    """ "6h3m12s", as OpenAI writes it."""
    seconds = -(-milliseconds // 1000)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    return "".join(f"{amount}{unit}" for amount, unit in ((hours, "h"), (minutes, "m")) if amount) + f"{seconds}s"
