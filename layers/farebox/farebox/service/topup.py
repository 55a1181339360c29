"""Top-ups: an order first, then a page to pay on; later what the provider says of it, booked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from farebox.dialects.ask import refuse
from farebox.domain.keys import ApiKey
from farebox.domain.orders import Mismatch, Order, minor_of, mint_order
from farebox.domain.tries import tries
from farebox.errors import InvalidRequest, NotConfigured
from farebox.ports import Clock, Notice, Orders, PaymentProvider, Places, Randomness, Telemetry, Tries
from farebox.service.authenticate import Authenticator

MINOR_MAX = 99_999_999
"""The most that Stripe takes at once, in the currency's smallest units."""
ORDERS_PER_KEY, ORDERS_PER_ADDRESS = 30, 120
"""An hour."""


@dataclass(frozen=True, slots=True)
class TopUpDesk:
    """`providers`: by name, ready or not. `public_url`, `return_url`: the operator's, None where not set."""

    providers: Mapping[str, PaymentProvider]
    orders: Orders
    tries: Tries
    authenticator: Authenticator
    clock: Clock
    random: Randomness
    telemetry: Telemetry
    pepper: bytes
    public_url: str | None = None
    return_url: str | None = None

    async def checkout(
        self, key: ApiKey, address: str, amount_nano: int, provider: str | None, origin: str
    ) -> tuple[Order, str]:
        """The order and the URL where it is paid. `origin`: where the caller reached us.

        Raises InvalidApiKey, AddressNotAllowed, InvalidRequest, TooMany, NotConfigured, PaymentUnavailable,
        StoreUnavailable.
        """
        account, record = await self.authenticator.owner(key, address)
        chosen = self._chosen(provider)
        minor = minor_of(amount_nano, chosen.ca_per_unit_nano, chosen.currency)
        if minor > MINOR_MAX:
            raise refuse("amount", zh="金额过大", en="it is too much at once")
        now_ms = self.clock.now_ms()
        taken = tries(
            "order",
            key_id=record.id,
            address=address,
            per_key=ORDERS_PER_KEY,
            per_address=ORDERS_PER_ADDRESS,
            now_ms=now_ms,
            pepper=self.pepper,
        )
        await self.tries.take(taken, now_ms)
        order = Order(
            id=mint_order(now_ms, self.random.token),
            account=account.id,
            provider=chosen.name,
            amount_nano=amount_nano,
            minor=minor,
            currency=chosen.currency,
            mode=chosen.mode,
            created_ms=now_ms,
        )
        await self.orders.open(order)
        ours = self.public_url or origin
        places = Places(back=self.return_url or f"{ours}/", notify=f"{ours}/v1/webhooks/{chosen.name}")
        session, url = await chosen.checkout(order, places)
        if session:
            await self.orders.opened(order.id, session)
        return order, url

    async def notice(self, provider: str, notice: Notice) -> tuple[bytes, str]:
        """What the provider is answered, once all that it said is booked.

        Raises NotConfigured, InvalidRequest for what is not proven or does not fit its order, PaymentUnavailable,
        StoreUnavailable: then it asks again.
        """
        chosen = self.providers[provider]
        if not chosen.ready():
            raise NotConfigured
        fact = await chosen.read(notice)
        if fact is not None:
            try:
                await self.orders.book(fact, self.clock.now_ms())
            except Mismatch as mismatch:
                self.telemetry.trouble("payment_mismatch", {"kind": provider, "error": mismatch.reason})
                raise InvalidRequest(zh="通知与订单不符。", en="This notice does not fit its order.") from None
        return chosen.acknowledgement

    def _chosen(self, name: str | None) -> PaymentProvider:
        ready = [each for each in self.providers.values() if each.ready()]
        if not ready:
            raise NotConfigured
        if name is None and len(ready) == 1:
            return ready[0]
        chosen = next((each for each in ready if each.name == name), None)
        if chosen is None:
            names = ", ".join(each.name for each in ready)
            raise refuse("provider", zh=f"可选 {names}", en=f"it must be one of {names}")
        return chosen
