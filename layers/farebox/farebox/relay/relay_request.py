"""The one function with control flow: admit, forward, meter, settle.

Every request that the gate let in leaves through the conclusion, whatever happens in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial

from farebox.dialects.wire import Tap
from farebox.domain import money, quota
from farebox.domain.outcome import Ending, ending_of
from farebox.errors import Cancelled, UpstreamError, UpstreamTimeout
from farebox.ports import Caller, Clock, Store, Telemetry
from farebox.relay.answer_headers import passed_on
from farebox.relay.attempts import Try
from farebox.relay.bill import Bill, bill, cost_beforehand_nano, usage_of
from farebox.relay.call import Admitted, Call, Limits
from farebox.relay.conclusion import Conclusion, Drawn
from farebox.relay.delivery import NO_PING, Delivery, JsonArray, RawHeaders
from farebox.relay.forward import Forwarder
from farebox.relay.gate import Gate
from farebox.relay.plan import Plan
from farebox.relay.rate_headers import rate_limit_headers
from farebox.relay.relayed import Relayed
from farebox.relay.request import JSON
from farebox.relay.running import Streams
from farebox.relay.settlements import Settlements
from farebox.relay.ways import Way

RATE_HEADERS_WAIT_S = 0.25
EVENT_STREAM_UTF8 = "text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Relay:
    """The relay and what it needs from outside."""

    gate: Gate
    conclusion: Conclusion
    forwarder: Forwarder
    store: Store
    clock: Clock
    telemetry: Telemetry
    settlements: Settlements
    streams: Streams
    limits: Limits
    zone: tzinfo

    async def handle(self, call: Call, caller: Caller) -> None:
        """Answers `call` to `caller`. Raises FareboxError only while the caller has had no status yet."""
        admitted = await self.gate.admit(call)
        plan = admitted.plan
        rate_headers = self._rate_headers_task(admitted)

        async def headers(upstream_headers: Mapping[str, str]) -> RawHeaders:
            own = _reply_headers(upstream_headers, admitted)
            if rate_headers is None:
                return own
            done, _ = await asyncio.wait({rate_headers}, timeout=RATE_HEADERS_WAIT_S)
            return own + rate_headers.result() if done else own

        array = JsonArray() if plan.ask.json_array and plan.ask.stream else None
        relayed = Relayed(self._new_tap(plan, plan.ways[0]), Delivery(caller, headers, array))
        try:
            await self._forward(admitted, relayed, caller)
        except asyncio.CancelledError:
            relayed.break_off(UpstreamTimeout())  # this process ends
            raise
        except Exception as error:  # noqa: BLE001 - a bug of ours must still end in a settlement and an answer
            self.telemetry.trouble("relay_failed", {"request_id": call.request_id, "error": type(error).__name__})
            relayed.break_off(UpstreamError())
        finally:
            # Also when this task is cancelled: the upstream may have been paid for what came so far.
            await self._conclude(admitted, relayed, caller)

    # ── through ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _forward(self, admitted: Admitted, relayed: Relayed, caller: Caller) -> None:
        plan, call = admitted.plan, admitted.call
        ping = plan.wire.ping if plan.ask.stream and not plan.ask.json_array else NO_PING

        async def seal() -> None:
            await self._seal(admitted, relayed, caller)

        def new_tap(current: Try) -> Tap:
            if relayed.running is not None:
                relayed.running.stops_billing = current.way.channel.vendor.cancel_stops_billing
            return self._new_tap(plan, current.way)

        try:
            async with (
                asyncio.timeout(self._time_left_s(call)) as limit,
                relayed.delivery.kept_alive(ping, self.limits.ping_s),
            ):
                if plan.ask.stream:
                    relayed.running = self.streams.add(call.request_id, admitted.grant.account, limit)
                await self.forwarder.forward(plan, relayed, new_tap, seal)
        except TimeoutError:
            relayed.break_off(UpstreamTimeout())
        finally:
            self.streams.remove(call.request_id)
        if relayed.cancelled:
            relayed.failure = Cancelled()

    def _new_tap(self, plan: Plan, way: Way) -> Tap:
        return way.wire.tap(self.gate.planner.counter(plan.model), plan.ask)

    def _rate_headers_task(self, admitted: Admitted) -> asyncio.Task[RawHeaders] | None:
        """The admitting transaction returns no counts, so they are asked for beside the upstream call."""
        return asyncio.create_task(self._rate_headers(admitted)) if admitted.units else None

    def _time_left_s(self, call: Call) -> float:
        if call.deadline_ms is None:
            return self.limits.request_s
        left_s = (call.deadline_ms - self.clock.now_ms()) / 1000 - self.limits.deadline_margin_s
        return max(0.0, min(self.limits.request_s, left_s))

    async def _rate_headers(self, admitted: Admitted) -> RawHeaders:
        try:
            counts = await self.store.counts(admitted.units)
        except Exception as error:  # noqa: BLE001 - for want of a header nobody loses an answer
            self.telemetry.trouble("rate_headers_failed", {"error": type(error).__name__})
            return []
        reset_ms = quota.day_at(admitted.started_ms, self.zone).ends_ms
        return rate_limit_headers(admitted.units, counts, reset_ms - admitted.started_ms)

    # ── out ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _conclude(self, admitted: Admitted, relayed: Relayed, caller: Caller) -> None:
        """Bills, answers what is left to answer, settles."""
        sealed = await self._seal(admitted, relayed, caller)
        heard = False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.limits.farewell_s):
                    heard = await self._answer(admitted, relayed, sealed.billed, caller)
        finally:
            # The last byte has gone, so the settlement delays nobody; but the request is not over before it.
            settling = self.conclusion.settle(admitted, sealed)
            await asyncio.shield(self.settlements.start(admitted.grant.account, settling))
        if relayed.started:
            if heard:  # else it breaks off: a clean end would make what came look complete
                await caller.finish()
        elif relayed.failure is not None:
            raise relayed.failure

    async def _seal(self, admitted: Admitted, relayed: Relayed, caller: Caller) -> Drawn:
        """Judges once, and has it on record before the caller sees the end: a crash after that loses nothing."""
        if relayed.sealed is None:
            ending, billed = await self._judge(admitted, relayed, caller)
            relayed.sealed = self.conclusion.draw_up(admitted, ending, billed, relayed.attempts_at(self.clock.now_ms()))
        return relayed.sealed

    async def _judge(self, admitted: Admitted, relayed: Relayed, caller: Caller) -> tuple[Ending, Bill]:
        """How it ended, and what that costs."""
        plan, tap = admitted.plan, relayed.tap
        measured = partial(usage_of, plan, tap, self.gate.planner.heard_ms)
        # Sound is measured frame by frame: other streams go on meanwhile.
        usage = await asyncio.to_thread(measured) if plan.model.kind == "speech" else measured()
        # A plain answer that broke never reached the caller: nothing came back, so nothing is charged.
        reachable = relayed.delivery.content or relayed.finished
        ending = ending_of(
            refused=relayed.refused,
            cancelled=relayed.cancelled,
            late=relayed.late,
            finished=relayed.finished,
            produced=reachable and (tap.content_seen or usage.output_tokens > 0),
            client_gone=relayed.gone if relayed.delivered else await caller.is_gone(),
        )
        return ending, bill(plan, usage, ending, tap.service_tier)

    async def _answer(self, admitted: Admitted, relayed: Relayed, billed: Bill, caller: Caller) -> bool:
        """The last bytes: an error event, or a plain answer with its cost. False if nothing could be told."""
        wire = admitted.plan.wire
        if relayed.failure is not None:
            if relayed.started and wire.binary and not admitted.plan.ask.stream:
                return False  # in the middle of a sound nothing can be said
            if relayed.started:
                await relayed.delivery.end(wire.error_event(admitted.call.envelope(relayed.failure)))
        elif relayed.body is not None and relayed.finished:
            cost = (b"x-farebox-cost", money.format_ca(billed.cost_nano).encode())
            length = (b"content-length", b"%d" % len(relayed.body))
            await caller.start(200, [*relayed.headers, cost, length])
            relayed.delivery.started = True
            await caller.send(relayed.body)
        elif not relayed.started:
            relayed.failure = UpstreamError()
        else:
            await relayed.delivery.end()
        return True


def _reply_headers(upstream_headers: Mapping[str, str], admitted: Admitted) -> RawHeaders:
    """What a caller sees of the upstream's headers, what keeps proxies from holding a stream back, what was lowered."""
    plan = admitted.plan
    told = passed_on(upstream_headers, plan.wire)
    if plan.ask.stream and (plan.ask.json_array or "content-type" not in upstream_headers):
        told["content-type"] = JSON if plan.ask.json_array else EVENT_STREAM_UTF8
    kept = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in told.items()]
    if plan.ask.stream:
        kept += [(b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no")]
    elif plan.wire.binary and "content-length" not in upstream_headers:  # it leaves before it is whole
        cost_nano = cost_beforehand_nano(plan)
        kept += [] if cost_nano is None else [(b"x-farebox-cost", money.format_ca(cost_nano).encode())]
    if admitted.lowered is not None:
        kept.append((b"x-farebox-max-tokens", b"%d" % admitted.lowered))
    return kept
