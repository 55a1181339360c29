"""Stripe Checkout, with the official library: pages to pay on, and webhooks proven on their raw bytes.

https://docs.stripe.com/webhooks says how events are signed, and that they come twice, late and in any order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from farebox.adapters.http_session import Session
from farebox.dialects.ask import refuse
from farebox.domain.orders import LIVE, TEST, Disputed, Fact, Order, Paid, Refunded, is_order_id
from farebox.errors import InvalidRequest, PaymentUnavailable
from farebox.ports import Clock, Notice, Places
from farebox.settings import StripeSettings

if TYPE_CHECKING:
    from stripe import StripeClient

WINDOW_MS = 300_000
"""How far a signature's time may lie from ours, before or after."""
TIMEOUT_S = 20
RETRIES = 2
NAMED = "farebox_order"
"""The metadata that names the order. Only we write it; a page's client_reference_id can come from its visitor."""
PRODUCT = "Farebox CA"
_LIVE_KEY = re.compile(r"[a-z]+_live_")
_TIME = re.compile(r"t=([0-9]{1,12})")


class StripeCheckout:
    """See ports.PaymentProvider."""

    name = "stripe"
    acknowledgement = (b'{"received":true}', "application/json")

    def __init__(self, settings: StripeSettings, session: Session, clock: Clock) -> None:
        self._settings = settings
        self._session = session
        self._clock = clock
        self.currency = settings.currency
        self.ca_per_unit_nano = settings.ca_per_unit_nano
        self.mode = LIVE if _LIVE_KEY.match(settings.api_key) else TEST

    def ready(self) -> bool:
        return bool(self._settings.api_key and self._settings.webhook_secret)

    # ── out ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def checkout(self, order: Order, places: Places) -> tuple[str, str]:
        """Asked again for the same order, Stripe answers with the same page."""
        import stripe

        metadata = {NAMED: order.id}
        try:
            session = await self._client().v1.checkout.sessions.create_async(
                {
                    "mode": "payment",
                    "client_reference_id": order.id,
                    "metadata": metadata,
                    "payment_intent_data": {"metadata": metadata},  # and so the charge's, which refunds name
                    "line_items": [
                        {
                            "quantity": 1,
                            "price_data": {
                                "currency": order.currency,
                                "unit_amount": order.minor,
                                "product_data": {"name": PRODUCT},
                            },
                        }
                    ],
                    "success_url": places.back,
                    "cancel_url": places.back,
                },
                {"idempotency_key": order.id},
            )
        except stripe.InvalidRequestError as error:
            if error.http_status == 400:
                raise refuse("amount", zh="支付服务拒绝此金额", en="the payment provider refuses it") from None
            raise PaymentUnavailable from None
        except stripe.StripeError:
            raise PaymentUnavailable from None
        if not session.url:
            raise PaymentUnavailable
        return session.id, session.url

    def _client(self) -> StripeClient:
        import stripe

        http = stripe.AIOHTTPClient(session=self._session(), timeout=TIMEOUT_S)
        return stripe.StripeClient(
            self._settings.api_key,
            base_addresses={"api": self._settings.base_url},
            http_client=http,
            max_network_retries=RETRIES,
        )

    # ── in ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def read(self, notice: Notice) -> Fact | None:
        event = self._proven(notice)
        read = EVENTS.get(str(event.get("type")))
        try:
            return await read(self, event, event["data"]["object"]) if read else None
        except (KeyError, TypeError, AttributeError, ValueError):
            raise _not_proven() from None

    def _proven(self, notice: Notice) -> dict[str, Any]:
        """The event, if Stripe signed these very bytes, and not long ago. Raises InvalidRequest."""
        import stripe

        header = notice.headers.get("stripe-signature", "")
        times = [piece for piece in header.split(",") if piece.startswith("t=")]
        time = _TIME.fullmatch(times[0]) if len(times) == 1 and header.isascii() else None
        if time is None or abs(self._clock.now_ms() - int(time[1]) * 1000) > WINDOW_MS:
            raise _not_proven()
        try:
            stripe.WebhookSignature.verify_header(notice.body, header, self._settings.webhook_secret)
            event = orjson.loads(notice.body)
        except (stripe.SignatureVerificationError, ValueError, IndexError):
            raise _not_proven() from None
        if not isinstance(event, dict):
            raise _not_proven()
        return event

    async def _session_paid(self, event: Mapping[str, Any], session: Mapping[str, Any]) -> Fact | None:
        """A page that is through. Where the money is still on its way, another event will come."""
        named = (session.get("metadata") or {}).get(NAMED)
        order = named or session.get("client_reference_id")
        if not is_order_id(order) or session["payment_status"] != "paid":
            return None
        return Paid(
            **_facts(event, order, session["currency"], session["amount_total"]),
            payment=_id(session.get("payment_intent")) or session["id"],
            session=session["id"],
            named=bool(named),
        )

    async def _refunded(self, event: Mapping[str, Any], charge: Mapping[str, Any]) -> Fact | None:
        order = await self._order_of(charge)
        return Refunded(**_facts(event, order, charge["currency"], charge["amount_refunded"])) if order else None

    async def _disputed(self, event: Mapping[str, Any], dispute: Mapping[str, Any]) -> Fact | None:
        """An inquiry (warning_…) has taken nothing yet."""
        withdrawn = WITHDRAWN.get(event["type"])
        if withdrawn is None:
            status = str(dispute["status"])
            if status.startswith("warning_"):
                return None
            withdrawn = status != "won"
        order = await self._order_of(dispute)
        if order is None:
            return None
        facts = _facts(event, order, dispute["currency"], dispute["amount"])
        return Disputed(**facts, dispute=dispute["id"], withdrawn=withdrawn)

    async def _order_of(self, thing: Mapping[str, Any]) -> str | None:
        """The order of a charge or dispute: its own metadata's, else that of the payment behind it, which is asked."""
        import stripe

        order = (thing.get("metadata") or {}).get(NAMED)
        payment = _id(thing.get("payment_intent"))
        if order is None and payment:
            try:
                intent = await self._client().v1.payment_intents.retrieve_async(payment)
            except stripe.StripeError:
                raise PaymentUnavailable from None
            order = (intent.to_dict().get("metadata") or {}).get(NAMED)
        return order if is_order_id(order) else None


Reader = Callable[[StripeCheckout, Mapping[str, Any], Mapping[str, Any]], Any]
EVENTS: dict[str, Reader] = {
    "checkout.session.completed": StripeCheckout._session_paid,  # noqa: SLF001 - the class's own table
    "checkout.session.async_payment_succeeded": StripeCheckout._session_paid,  # noqa: SLF001
    "charge.refunded": StripeCheckout._refunded,  # noqa: SLF001
    "charge.dispute.created": StripeCheckout._disputed,  # noqa: SLF001
    "charge.dispute.closed": StripeCheckout._disputed,  # noqa: SLF001
    "charge.dispute.funds_withdrawn": StripeCheckout._disputed,  # noqa: SLF001
    "charge.dispute.funds_reinstated": StripeCheckout._disputed,  # noqa: SLF001
}
"""What the endpoint is to be subscribed to. Every other event is acknowledged and left alone."""
WITHDRAWN = {"charge.dispute.funds_withdrawn": True, "charge.dispute.funds_reinstated": False}
"""The events that say it themselves; of the others, the dispute's status does."""


def _facts(event: Mapping[str, Any], order: str, currency: str, minor: object) -> dict[str, Any]:
    if type(minor) is not int or minor < 0:
        raise ValueError
    return {
        "provider": StripeCheckout.name,
        "order": str(order),
        "mode": LIVE if event.get("livemode") else TEST,
        "currency": str(currency).lower(),
        "minor": minor,
    }


def _id(thing: object) -> str:
    """An object's id, whether it came expanded or not."""
    return str(thing.get("id") or "") if isinstance(thing, Mapping) else str(thing or "")


def _not_proven() -> InvalidRequest:
    return InvalidRequest(zh="通知未通过验证。", en="This notice is not proven.")
