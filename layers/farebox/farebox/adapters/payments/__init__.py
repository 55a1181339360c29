"""Payment providers: one file and one entry in the table each."""

from __future__ import annotations

from collections.abc import Callable

from farebox.adapters.http_session import Session
from farebox.adapters.payments.epay import Epay
from farebox.adapters.payments.stripe_checkout import StripeCheckout
from farebox.ports import Clock, PaymentProvider
from farebox.settings import Settings

New = Callable[[Settings, Session, Clock], PaymentProvider]
PROVIDERS: dict[str, New] = {
    "stripe": lambda settings, session, clock: StripeCheckout(settings.stripe, session, clock),
    "epay": lambda settings, session, _: Epay(settings.epay, session),
}


def providers_of(settings: Settings, session: Session, clock: Clock) -> dict[str, PaymentProvider]:
    """Every provider by its name, ready or not."""
    return {name: new(settings, session, clock) for name, new in PROVIDERS.items()}
