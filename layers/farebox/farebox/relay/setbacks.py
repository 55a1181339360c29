"""What can go wrong with one attempt, and what follows: who may try next, how long a key rests, what a caller hears.

One table for the statuses, one for what breaks on the way. A setback before the caller has had content is nobody's
business but the relay's: it tries elsewhere. Nothing of an upstream's own words is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from farebox.errors import Unavailable, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from farebox.relay.upstream_errors import Cut, Empty, ErrorAnswer, Stalled, TooLarge, Unreachable, UpstreamFailure

RETRY_AFTER_S_MAX = 60
_SECONDS = re.compile(r"[0-9]{1,9}")


class Fault(Enum):
    """Where the fault lies, and so who may try next."""

    KEY = "key"  # another key of the channel, then another channel
    CHANNEL = "channel"  # another channel; the same one again only if it may have been a passing weakness
    MODEL = "model"  # another channel: this one will not have it the next time either


@dataclass(frozen=True, slots=True)
class Setback:
    """`word`: as a receipt lists it. `rest_ms`: how long the key is left alone. `error`: for the caller, if it is the
    last word. `retry_after_s`: when the upstream says it is worth trying again. `attempts_max`: how many attempts there
    may be in all after this, None for as many as ever.
    """

    word: str
    fault: Fault
    error: type[Unavailable]
    rest_ms: int = 0
    retry_after_s: int | None = None
    attempts_max: int | None = None

    def told(self) -> Unavailable:
        """The caller's error."""
        return self.error(retry_after_s=self.retry_after_s)


STATUSES: dict[int, Setback] = {
    401: Setback("status_401", Fault.KEY, UpstreamError, rest_ms=300_000),
    402: Setback("status_402", Fault.KEY, UpstreamError, rest_ms=300_000),
    403: Setback("status_403", Fault.KEY, UpstreamError, rest_ms=60_000),
    404: Setback("status_404", Fault.MODEL, UpstreamError),
    408: Setback("status_408", Fault.CHANNEL, UpstreamTimeout),
    409: Setback("status_409", Fault.CHANNEL, UpstreamError),
    429: Setback("status_429", Fault.KEY, UpstreamUnavailable, rest_ms=5_000),
    503: Setback("status_503", Fault.CHANNEL, UpstreamUnavailable, rest_ms=1_000),
    504: Setback("status_504", Fault.CHANNEL, UpstreamTimeout, rest_ms=1_000),
    529: Setback("status_529", Fault.CHANNEL, UpstreamUnavailable, rest_ms=1_000),
}
BAD_KEY = Setback("bad_key", Fault.KEY, UpstreamError, rest_ms=300_000)
"""A status that blames the request, words that mean the key (see Vendor.key_refusals)."""
OTHER_5XX = Setback("status_5xx", Fault.CHANNEL, UpstreamError, rest_ms=1_000)
OTHER = Setback("status_other", Fault.MODEL, UpstreamError)
"""Redirects among them: they are not followed."""
CALLERS_FAULT = frozenset({400, 413, 422})
"""The request itself is refused: no other upstream is bothered with it."""
BROKEN: dict[type[UpstreamFailure], Setback] = {
    Unreachable: Setback("unreachable", Fault.CHANNEL, UpstreamUnavailable, rest_ms=5_000),
    Stalled: Setback("stalled", Fault.CHANNEL, UpstreamTimeout, rest_ms=1_000),
    Cut: Setback("cut", Fault.CHANNEL, UpstreamError),
    TooLarge: Setback("too_large", Fault.CHANNEL, UpstreamError),
    ErrorAnswer: Setback("error_answer", Fault.CHANNEL, UpstreamError),
    # Each one's prompt is paid for by the house: a second opinion, not a fourth.
    Empty: Setback("empty", Fault.CHANNEL, UpstreamError, attempts_max=2),
}


def of_status(status: int, headers: Mapping[str, str]) -> Setback:
    """The setback that an upstream's error status is. Its Retry-After is believed up to RETRY_AFTER_S_MAX."""
    setback = STATUSES.get(status, OTHER_5XX if status >= 500 else OTHER)
    given = headers.get("retry-after", "")
    if not _SECONDS.fullmatch(given):
        return setback
    retry_after_s = min(int(given), RETRY_AFTER_S_MAX)
    return replace(setback, retry_after_s=retry_after_s, rest_ms=max(setback.rest_ms, retry_after_s * 1000))


def of_failure(failure: UpstreamFailure) -> Setback:
    return BROKEN[type(failure)]
