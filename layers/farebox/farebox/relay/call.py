"""A request on its way through the relay: as it came in, and once the store has let it in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from farebox.domain.keys import ApiKey
from farebox.domain.quota import FreeLimits, Unit
from farebox.errors import FareboxError
from farebox.ports import Grant
from farebox.relay.plan import Plan
from farebox.relay.request import Request

Envelope = Callable[[FareboxError], bytes]
"""An error as the caller's dialect says it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`request_s`: the longest that one request may take. `settle_margin_s`: how much longer its hold lives.

    `deadline_margin_s`: how long before the end of a function's time a request is ended and settled.
    `settle_s`: how long a settlement is tried while the store is away. `silence_s`: an upstream's longest silence; a
    long thinker may say nothing for minutes before its first byte. `farewell_s`: how long the last words to a caller
    who does not read may hold up the settlement. `ping_s`: how often a stream without content yet gets a sign of life.
    """

    free: FreeLimits = field(default_factory=FreeLimits)
    request_s: float = 890
    settle_margin_s: float = 130
    deadline_margin_s: float = 10
    settle_s: float = 60
    silence_s: float = 300
    farewell_s: float = 2
    ping_s: float = 15
    in_flight_max: int = 500


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it came in. `address` is the caller's, believed; `key` is well-formed but not yet proven.

    `deadline_ms`: when the function that runs this is ended (epoch ms), None where nothing ends it.
    `idempotency_key`: the caller's, or None. `uploads`: names of the uploaded files that stand in the body.
    """

    request_id: str
    request: Request
    key: ApiKey
    address: str
    envelope: Envelope
    deadline_ms: int | None = None
    idempotency_key: str | None = None
    uploads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that the store let in. `lowered`: the output limit that the wallet's balance allowed, if it was cut."""

    call: Call
    plan: Plan
    grant: Grant
    units: tuple[Unit, ...]
    started_ms: int
    lowered: int | None = None
