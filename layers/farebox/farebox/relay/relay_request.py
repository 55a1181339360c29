"""The one function with control flow: admit, forward, meter, settle.

Every request that the store let in leaves through `_settle`, whatever happens in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo

from farebox.dialects import sse
from farebox.dialects.openai_tap import OpenAITap
from farebox.domain import money, quota, receipts
from farebox.domain.keys import ApiKey
from farebox.domain.outcome import RULES, Ending, ending_of
from farebox.domain.quota import FreeLimits, Unit
from farebox.errors import (
    DailyQuotaExceeded,
    FareboxError,
    InsufficientBalance,
    StoreUnavailable,
    UpstreamError,
    UpstreamTimeout,
)
from farebox.ports import (
    Admission,
    Caller,
    Clock,
    Grant,
    Randomness,
    Settlement,
    Signer,
    Store,
    Telemetry,
    Upstream,
)
from farebox.relay.bill import Bill, bill, receipt, usage_of
from farebox.relay.channels import Channels
from farebox.relay.endpoints import Endpoint
from farebox.relay.forward import Relayed, forward
from farebox.relay.plan import Plan, Planner
from farebox.relay.rate_headers import rate_limit_headers
from farebox.relay.settlements import Settlements

RATE_HEADERS_WAIT_S = 0.25

Envelope = Callable[[FareboxError], bytes]
"""An error as the caller's dialect says it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`request_s`: the longest that one request may take. `settle_margin_s`: how much longer its hold lives."""

    free: FreeLimits = field(default_factory=FreeLimits)
    request_s: int = 890
    settle_margin_s: int = 130
    in_flight_max: int = 500


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it came in. `address` is the caller's, believed; `key` is well-formed but not yet proven."""

    request_id: str
    endpoint: Endpoint
    body: bytes
    key: ApiKey
    address: str
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that the store let in."""

    call: Call
    plan: Plan
    grant: Grant
    units: tuple[Unit, ...]
    started_ms: int
    rate_headers: asyncio.Task[list[tuple[bytes, bytes]]] | None


@dataclass(frozen=True, slots=True)
class Relay:
    """The relay and what it needs from outside."""

    planner: Planner
    channels: Channels
    store: Store
    upstream: Upstream
    signer: Signer
    clock: Clock
    random: Randomness
    telemetry: Telemetry
    settlements: Settlements
    limits: Limits
    zone: tzinfo
    pepper: bytes

    async def handle(self, call: Call, caller: Caller) -> None:
        """Answers `call` to `caller`. Raises FareboxError only while the caller has had no status yet."""
        started_ms = self.clock.now_ms()
        plan = await self.planner.plan(call.endpoint, call.body, free=call.key.kind == "free", now_ms=started_ms)
        units = self._units(call, plan, started_ms)
        grant = await self._admit(call, plan, units, started_ms)
        counts = asyncio.create_task(self._rate_headers(units, started_ms)) if units else None
        admitted = Admitted(call, plan, grant, units, started_ms, counts)
        relayed = Relayed(OpenAITap(self.planner.counter(plan.model)))
        try:
            relayed = await self._forward(admitted, relayed, caller)
        finally:
            # Also when this task is cancelled: the upstream may have been paid for what came so far.
            await self._conclude(admitted, relayed, caller)

    # ── in ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _units(self, call: Call, plan: Plan, now_ms: int) -> tuple[Unit, ...]:
        if not plan.free:
            return ()
        day = quota.day_at(now_ms, self.zone)
        return quota.free_units(
            kind=plan.model.kind,
            group=plan.model.free_group or "",
            key_id=call.key.id,
            address_hash=quota.address_hash(call.address, day_name=day.name, pepper=self.pepper),
            day=day,
            limits=self.limits.free,
        )

    async def _admit(self, call: Call, plan: Plan, units: tuple[Unit, ...], now_ms: int) -> Grant:
        admission = Admission(
            request_id=call.request_id,
            key=call.key,
            digest=call.key.digest(self.pepper),
            model=plan.model.id,
            hold_nano=plan.hold_nano,
            units=units,
            now_ms=now_ms,
            expires_ms=now_ms + (self.limits.request_s + self.limits.settle_margin_s) * 1000,
            in_flight_max=self.limits.in_flight_max,
            address=call.address,
        )
        try:
            return await self.store.admit(admission)
        except (InsufficientBalance, DailyQuotaExceeded):
            if not self.settlements.pending(call.key.account):
                raise
            # What the account's last request did not use is on its way back: the caller has seen that one end.
            await self.settlements.settled(call.key.account)
            return await self.store.admit(admission)

    async def _rate_headers(self, units: tuple[Unit, ...], now_ms: int) -> list[tuple[bytes, bytes]]:
        """Runs beside the upstream call: the admitting transaction returns no counts."""
        try:
            counts = await self.store.counts(units)
        except StoreUnavailable:
            return []
        return rate_limit_headers(units, counts, quota.day_at(now_ms, self.zone).ends_ms - now_ms)

    # ── through ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _forward(self, admitted: Admitted, relayed: Relayed, caller: Caller) -> Relayed:
        plan = admitted.plan

        async def headers(upstream_headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
            own = reply_headers(upstream_headers, stream=plan.ask.stream)
            if admitted.rate_headers is None:
                return own
            # Asked for when the request went upstream, so it has had all that time; it is not worth much more.
            done, _ = await asyncio.wait({admitted.rate_headers}, timeout=RATE_HEADERS_WAIT_S)
            return own + admitted.rate_headers.result() if done else own

        try:
            async with asyncio.timeout(self.limits.request_s):
                return await forward(
                    plan,
                    self.channels.key_of(plan.channel),
                    relayed=relayed,
                    upstream=self.upstream,
                    caller=caller,
                    headers=headers,
                )
        except TimeoutError:
            relayed.failure = UpstreamTimeout()
            return relayed

    # ── out ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _conclude(self, admitted: Admitted, relayed: Relayed, caller: Caller) -> None:
        """Bills, answers what is left to answer, settles."""
        usage = usage_of(admitted.plan, relayed.tap)
        # A plain answer that broke never reached the caller: nothing came back, so nothing is charged.
        reachable = relayed.started or relayed.finished
        produced = reachable and (relayed.tap.content_seen or usage.output_tokens > 0)
        gone = relayed.gone if relayed.tap.done else await caller.is_gone()
        ending = ending_of(refused=relayed.refused, finished=relayed.finished, produced=produced, client_gone=gone)
        billed = bill(admitted.plan, usage, ending)
        try:
            await self._answer(admitted.call, admitted.plan, relayed, billed, caller)
        finally:
            task = self.settlements.start(admitted.grant.account, self._settle(admitted, ending, billed))
            await asyncio.shield(task)
        if relayed.started:
            await caller.finish()
        elif relayed.failure is not None:
            raise relayed.failure

    async def _answer(self, call: Call, plan: Plan, relayed: Relayed, billed: Bill, caller: Caller) -> None:
        """The last bytes; the settlement follows them, so that it delays nobody."""
        if relayed.failure is not None:
            if relayed.started:
                await caller.send(sse.event(call.envelope(relayed.failure)))
        elif not plan.ask.stream and relayed.finished:
            cost = (b"x-farebox-cost", money.format_ca(billed.cost_nano).encode())
            length = (b"content-length", b"%d" % len(relayed.body))
            await caller.start(200, [*relayed.headers, cost, length])
            relayed.started = True
            await caller.send(relayed.body)
        elif not relayed.started:
            relayed.failure = UpstreamError()

    async def _settle(self, admitted: Admitted, ending: Ending, billed: Bill) -> None:
        """The terminal word. A store that is away leaves the hold to the sweep: the money is safe, only late."""
        call, now_ms = admitted.call, self.clock.now_ms()
        written = receipt(
            admitted.plan,
            billed,
            ending,
            request_id=call.request_id,
            account=admitted.grant.account,
            key_id=admitted.grant.key_id,
            at_ms=now_ms,
            took_ms=now_ms - admitted.started_ms,
        )
        document = receipts.canonical(written.document())
        settlement = Settlement(
            request_id=call.request_id,
            account=admitted.grant.account,
            key_number=call.key.number,
            hold_nano=admitted.plan.hold_nano,
            cost_nano=billed.cost_nano,
            units_back=admitted.units if RULES[ending].unit_back else (),
            receipt=document,
            signature=self.signer.sign(document),
            signer_key_id=self.signer.key_id,
            at_ms=now_ms,
        )
        try:
            await self.store.settle(settlement)
            if admitted.grant.expired:
                await self.store.expire(admitted.grant.account, now_ms)
        except StoreUnavailable:
            self.telemetry.trouble("settle_failed", {"request_id": call.request_id})
        self.telemetry.relayed(_facts(admitted, written))


def reply_headers(upstream_headers: Mapping[str, str], *, stream: bool) -> list[tuple[bytes, bytes]]:
    """What a caller sees of the upstream's headers, and what keeps proxies from holding a stream back."""
    kept = [(name.encode(), upstream_headers[name].encode()) for name in PASSED_ON if name in upstream_headers]
    if stream:
        kept += [(b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no")]
    return kept


PASSED_ON = ("content-type", "openai-processing-ms", "openai-version")
"""The only headers of an upstream that a caller sees."""


def _facts(admitted: Admitted, written: receipts.Receipt) -> dict[str, str | int]:
    """The log line of a request: names and numbers only."""
    return {
        "request_id": written.request_id,
        "key_id": written.key_id,
        "model": written.model,
        "channel": written.channel,
        "endpoint": written.endpoint,
        "outcome": written.outcome,
        "cost_nano": written.cost_nano,
        "overrun_nano": written.overrun_nano,
        "took_ms": written.took_ms,
        "kind": admitted.call.key.kind,
    }
