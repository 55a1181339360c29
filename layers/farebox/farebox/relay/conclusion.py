"""The way out: bill, receipt, settlement. Every request that the store let in ends here, exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from farebox.domain import receipts
from farebox.domain.outcome import RULES, Ending
from farebox.domain.quota import Unit
from farebox.domain.receipts import Receipt
from farebox.errors import StoreUnavailable
from farebox.ports import Admission, Clock, Journal, Randomness, Settlement, Signer, Store, Telemetry
from farebox.relay.attempts import Attempt
from farebox.relay.bill import Bill, receipt
from farebox.relay.call import Admitted, Limits

PAUSE_MS_MIN, PAUSE_MS_MAX = 100, 5_000


@dataclass(frozen=True, slots=True)
class Drawn:
    """A conclusion on record: how it ended, what it costs, and the terminal word that the store has yet to hear."""

    ending: Ending
    billed: Bill
    receipt: Receipt
    settlement: Settlement


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Writes the terminal word on a request."""

    store: Store
    signer: Signer
    clock: Clock
    random: Randomness
    telemetry: Telemetry
    limits: Limits
    journal: Journal

    def draw_up(self, admitted: Admitted, ending: Ending, billed: Bill, attempts: list[Attempt]) -> Drawn:
        """The terminal word, signed and on record in this process's journal: from here on it cannot be lost."""
        now_ms = self.clock.now_ms()
        written = receipt(
            admitted.plan,
            billed,
            ending,
            attempts,
            request_id=admitted.call.request_id,
            account=admitted.grant.account,
            key_id=admitted.grant.key_id,
            at_ms=now_ms,
            took_ms=now_ms - admitted.started_ms,
        )
        units_back = admitted.units if RULES[ending].unit_back else ()
        settlement = replace(
            self._settlement(written, admitted.call.key.number, units_back), attempt=admitted.grant.attempt
        )
        self.journal.append(settlement)
        return Drawn(ending, billed, written, settlement)

    async def settle(self, admitted: Admitted, drawn: Drawn) -> None:
        """Tells the store, and ends what lapsed of the account on the way."""
        await self._insist(partial(self._settle, drawn.settlement), drawn.settlement.request_id)
        if admitted.grant.expired:
            await self._expire(admitted.grant.account, drawn.settlement.at_ms)
        self.telemetry.relayed(_facts(drawn.receipt, admitted.call.key.kind))

    async def never_sent(self, admission: Admission) -> None:
        """Ends a request of which nobody knows whether the store let it in: nothing was sent, nothing is owed."""
        written = receipts.without_use(
            request_id=admission.request_id,
            at_ms=self.clock.now_ms(),
            account=admission.key.account,
            key_id=admission.key.id,
            model=admission.model,
            hold_nano=admission.hold_nano,
            outcome=RULES[Ending.NEVER_SENT].outcome,
        )
        settlement = self._settlement(written, admission.key.number, admission.units)
        await self._insist(partial(self.store.abandon, admission, settlement), admission.request_id)

    def _settlement(self, written: Receipt, key_number: str, units_back: tuple[Unit, ...]) -> Settlement:
        document = receipts.canonical(written.document())
        return Settlement(
            request_id=written.request_id,
            account=written.account,
            key_number=key_number,
            hold_nano=written.hold_nano,
            cost_nano=written.cost_nano,
            units_back=units_back,
            receipt=document,
            signature=self.signer.sign(document),
            signer_key_id=self.signer.key_id,
            at_ms=written.at_ms,
        )

    async def _insist(self, write: Callable[[], Awaitable[None]], request_id: str) -> None:
        """Writes for as long as it is worth it. What a store that stays away never hears of, the sweep ends."""
        loop = asyncio.get_running_loop()
        give_up_at, pause_ms = loop.time() + self.limits.settle_s, PAUSE_MS_MIN
        while not await _reaches_the_store(write):
            if loop.time() >= give_up_at:
                self.telemetry.trouble("settle_failed", {"request_id": request_id})
                return
            await asyncio.sleep(self.random.below(pause_ms) / 1000)
            pause_ms = min(pause_ms * 2, PAUSE_MS_MAX)

    async def _settle(self, settlement: Settlement) -> None:
        ours = await self.store.settle(settlement)
        self.journal.forget(settlement.request_id)
        if not ours:
            # The sweep was faster: this process had been away for longer than its holds live.
            self.telemetry.trouble("settled_by_another", {"request_id": settlement.request_id})

    async def _expire(self, account: str, now_ms: int) -> None:
        try:
            await self.store.expire(account, now_ms)
        except StoreUnavailable:
            self.telemetry.trouble("expire_failed", {})


async def _reaches_the_store(write: Callable[[], Awaitable[None]]) -> bool:
    try:
        await write()
    except StoreUnavailable:
        return False
    return True


def _facts(written: Receipt, kind: str) -> dict[str, str | int]:
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
        "kind": kind,
    }
