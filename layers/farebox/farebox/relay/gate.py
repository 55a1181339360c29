"""The way in: one round trip to the store, and what to do when it says no."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import tzinfo

from farebox.domain import quota
from farebox.domain.idempotency import Claim, claim_of
from farebox.domain.quota import Unit
from farebox.errors import DailyQuotaExceeded, InsufficientBalance, StoreUnavailable, UpstreamTimeout
from farebox.ports import Admission, Clock, Grant, Store
from farebox.relay.call import Admitted, Call, Limits
from farebox.relay.conclusion import Conclusion
from farebox.relay.plan import Plan, Planner
from farebox.relay.request import Request
from farebox.relay.settlements import Settlements

TRIES_MAX = 4
"""How often a wallet may change under a request that is being cut to what it affords."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Plans a call and has the store admit it."""

    planner: Planner
    store: Store
    clock: Clock
    settlements: Settlements
    conclusion: Conclusion
    limits: Limits
    zone: tzinfo
    pepper: bytes

    async def admit(self, call: Call) -> Admitted:
        """Raises whatever refuses the call; then nothing is held."""
        now_ms = self.clock.now_ms()
        if call.deadline_ms is not None and call.deadline_ms - now_ms <= self.limits.deadline_margin_s * 1000:
            raise UpstreamTimeout  # no time is left to answer in
        plan, units = await self.planned(call, now_ms)
        claim = claim_of(call.key, call.idempotency_key, _endpoint(call.request), call.request.body, self.pepper)
        return await self._affordable(call, plan, units, claim, now_ms)

    async def planned(self, call: Call, now_ms: int | None = None) -> tuple[Plan, tuple[Unit, ...]]:
        """What the call would hold, and the daily units that it would take. Touches no store."""
        at_ms = self.clock.now_ms() if now_ms is None else now_ms
        unique_id = call.request_id.removeprefix("req_")
        plan = await self.planner.plan(call.request, free=call.key.kind == "free", now_ms=at_ms, unique_id=unique_id)
        return plan, self._units(call, plan, at_ms)

    async def _affordable(
        self, call: Call, plan: Plan, units: tuple[Unit, ...], claim: Claim | None, now_ms: int
    ) -> Admitted:
        """Admits the plan, or the part of it that the wallet covers."""
        lowered: int | None = None
        for _ in range(TRIES_MAX):
            try:
                grant = await self._settled(self._admission(call, plan, units, claim, now_ms))
            except InsufficientBalance as short:
                lowered = plan.affordable_output_tokens(short.available_nano)
                if lowered is None:
                    raise
                plan = plan.lowered_to(lowered)
            else:
                return Admitted(call, plan, grant, units, now_ms, lowered)
        raise StoreUnavailable(retry_after_s=1)

    async def _settled(self, admission: Admission) -> Grant:
        """Admits; on a refusal that this process's own settlements may lift, once more after them."""
        account = admission.key.account
        try:
            return await self._known(admission)
        except (InsufficientBalance, DailyQuotaExceeded):
            if not self.settlements.pending(account):
                raise
        # What the account's last request did not use is on its way back: the caller has seen that one end.
        await self.settlements.settled(account)
        return await self._known(admission)

    async def _known(self, admission: Admission) -> Grant:
        """Admits. Where nobody knows whether the store did, the request is ended there as never sent."""
        try:
            return await self.store.admit(admission)
        except (StoreUnavailable, asyncio.CancelledError):
            self.settlements.start(admission.key.account, self.conclusion.never_sent(admission))
            raise

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

    def _admission(
        self, call: Call, plan: Plan, units: tuple[Unit, ...], claim: Claim | None, now_ms: int
    ) -> Admission:
        return Admission(
            request_id=call.request_id,
            key=call.key,
            digest=call.key.digest(self.pepper),
            model=plan.model.id,
            hold_nano=plan.hold_nano,
            units=units,
            now_ms=now_ms,
            expires_ms=now_ms + int((self.limits.request_s + self.limits.settle_margin_s) * 1000),
            in_flight_max=self.limits.in_flight_max,
            address=call.address,
            stream=plan.ask.stream,
            claim=replace(claim, request_id=call.request_id) if claim else None,
        )


def _endpoint(request: Request) -> str:
    """What was called, for an Idempotency-Key: where a path says the model and the form of the answer, they count."""
    said = [word for word in (request.model, request.stream and "stream", request.json_array and "array") if word]
    return "|".join([request.wire.name, *said])
