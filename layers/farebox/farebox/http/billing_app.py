"""The billing function: what a key's owner may ask about money, and the pages that anyone may read."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import orjson
from fastapi import APIRouter, FastAPI, Request, Response

from farebox.domain import ids, money
from farebox.errors import NotFound
from farebox.http.address import AddressOf
from farebox.http.guard import caller_key, json_response, new_app
from farebox.http.status_page import StatusFacts, status_document, status_html
from farebox.ports import Accounts, Clock, Randomness
from farebox.service.authenticate import Authenticator


def billing_app(
    accounts: Accounts,
    authenticator: Authenticator,
    status: StatusFacts,
    *,
    clock: Clock,
    random: Randomness,
    public_keys: dict[str, bytes],
    address_of: AddressOf,
    routes: Sequence[APIRouter] = (),
) -> FastAPI:
    """The application. `public_keys`: signing key id → raw Ed25519 public key, the current one first.

    `routes`: queries and dashboards.
    """
    app = new_app("Farebox billing", clock, random)

    for router in routes:
        app.include_router(router)

    @app.get("/v1/receipts/key")
    async def receipt_key() -> Response:
        listed = [{"id": key_id, "public_key": _base64(raw)} for key_id, raw in public_keys.items()]
        return json_response({"algorithm": "Ed25519", **listed[0], "keys": listed})

    @app.get("/v1/receipts/{request_id}")
    async def receipt(request: Request, request_id: str) -> Response:
        account, _ = await authenticator.owner(caller_key(request), address_of(request.scope))
        if not ids.is_request_id(request_id):
            raise NotFound
        stored = await accounts.receipt(account.id, request_id)
        document = orjson.loads(stored.document)
        return json_response(
            {
                "receipt": document,
                "cost": money.format_ca(document["cost_nano"]),
                "signature": {
                    "algorithm": "Ed25519",
                    "key_id": stored.signer_key_id,
                    "value": _base64(stored.signature),
                    "signed": "canonical JSON of receipt: keys sorted, no spaces, UTF-8",
                },
            }
        )

    @app.get("/status.json")
    async def status_json() -> Response:
        return json_response(status_document(status))

    @app.get("/")
    @app.get("/status")
    async def status_page() -> Response:
        return Response(status_html(status), media_type="text/html; charset=utf-8", headers=PAGE_HEADERS)

    @app.get("/readyz")
    async def ready() -> Response:
        await accounts.ready()
        return json_response({"status": "ready"})

    return app


PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
