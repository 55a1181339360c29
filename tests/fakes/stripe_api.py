"""A Stripe of one account on a real socket: checkout sessions, payment intents, and webhooks signed as Stripe signs."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import re
import time
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from tests.fakes.socket_server import SocketServer

API_KEY = "sk_test_of_the_tests"
SECRET = "whsec_of_the_tests_0123456789"
_PART = re.compile(r"[^\[\]]+")
numbers = itertools.count(1)


class FakeStripe(SocketServer):
    """`sessions`, `intents`: by id, as the API shows them. `asked`: (method, path, idempotency key) of each request.

    `failing`: status of the next answers, 0 for none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[str, dict[str, Any]] = {}
        self.intents: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.failing = 0
        self._by_key: dict[str, dict[str, Any]] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path, key = request.path, request.headers.get("idempotency-key", "")
        self.asked.append((request.method, path, key))
        if request.headers.get("authorization") != f"Bearer {API_KEY}":
            return _error(401, "authentication_error")
        if self.failing:
            return _error(self.failing, "invalid_request_error" if self.failing == 400 else "api_error")
        if (request.method, path) == ("POST", "/v1/checkout/sessions"):
            if key not in self._by_key:
                self._by_key[key] = self._new_session(_nested((await request.read()).decode()))
            return web.json_response(self._by_key[key])
        if request.method == "GET" and path.startswith("/v1/payment_intents/"):
            intent = self.intents.get(path.rpartition("/")[2])
            return web.json_response(intent) if intent else _error(404, "invalid_request_error")
        return _error(404, "invalid_request_error")

    def _new_session(self, asked: dict[str, Any]) -> dict[str, Any]:
        number = next(numbers)
        price = asked["line_items"]["0"]["price_data"]
        session = {
            "id": f"cs_test_{number}",
            "object": "checkout.session",
            "mode": asked["mode"],
            "livemode": False,
            "client_reference_id": asked["client_reference_id"],
            "metadata": asked["metadata"],
            "currency": price["currency"],
            "amount_total": int(price["unit_amount"]) * int(asked["line_items"]["0"]["quantity"]),
            "payment_status": "unpaid",
            "status": "open",
            "payment_intent": None,
            "success_url": asked["success_url"],
            "url": f"https://checkout.stripe.com/c/pay/cs_test_{number}",
        }
        self.sessions[session["id"]] = session
        self.intents[f"pi_{number}"] = {
            "id": f"pi_{number}",
            "object": "payment_intent",
            "metadata": asked["payment_intent_data"]["metadata"],
        }
        return session

    # ── what happens there ──────────────────────────────────────────────────────────────────────────────────────

    def session_of(self, order: str) -> dict[str, Any]:
        return next(each for each in self.sessions.values() if each["client_reference_id"] == order)

    def completed(self, order: str, *, status: str = "paid", **changes: Any) -> dict[str, Any]:
        """The event of a page that is through."""
        session = self.session_of(order)
        intent = "pi_" + session["id"].rpartition("_")[2]
        paid = {**session, "payment_status": status, "status": "complete", "payment_intent": intent, **changes}
        return event("checkout.session.completed", paid)

    def refunded(self, order: str, total: int, **changes: Any) -> dict[str, Any]:
        """The event of a refund; `total` of all so far."""
        session = self.session_of(order)
        number = session["id"].rpartition("_")[2]
        charge = {
            "id": f"ch_{number}",
            "object": "charge",
            "payment_intent": f"pi_{number}",
            "metadata": self.intents[f"pi_{number}"]["metadata"],
            "currency": session["currency"],
            "amount": session["amount_total"],
            "amount_refunded": total,
            **changes,
        }
        return event("charge.refunded", charge)

    def dispute(self, order: str, kind: str, *, status: str = "needs_response", **changes: Any) -> dict[str, Any]:
        """The event `charge.dispute.<kind>`; a dispute has no metadata of the charge's."""
        session = self.session_of(order)
        number = session["id"].rpartition("_")[2]
        disputed = {
            "id": f"dp_{number}",
            "object": "dispute",
            "payment_intent": f"pi_{number}",
            "charge": f"ch_{number}",
            "metadata": {},
            "currency": session["currency"],
            "amount": session["amount_total"],
            "status": status,
            **changes,
        }
        return event(f"charge.dispute.{kind}", disputed)


def event(kind: str, thing: dict[str, Any], *, livemode: bool = False) -> dict[str, Any]:
    return {
        "id": f"evt_{next(numbers)}",
        "object": "event",
        "type": kind,
        "livemode": livemode,
        "created": int(time.time()),
        "data": {"object": thing},
    }


def signed(body: bytes, at_s: int, secret: str = SECRET, scheme: str = "v1") -> str:
    """The Stripe-Signature header."""
    mac = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},{scheme}={mac}"


def wire(document: dict[str, Any]) -> bytes:
    """As Stripe writes it: with spaces and lines, so that a re-encoded body has another signature."""
    return json.dumps(document, indent=2).encode()


def _nested(form: str) -> dict[str, Any]:
    """`a[b][0][c]=1` → {"a": {"b": {"0": {"c": "1"}}}}."""
    found: dict[str, Any] = {}
    for name, value in parse_qsl(form, keep_blank_values=True):
        *outer, last = _PART.findall(name)
        place = found
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = value
    return found


def _error(status: int, kind: str) -> web.Response:
    return web.json_response({"error": {"type": kind, "message": "no"}}, status=status)
