"""All functions on one origin: which path belongs to which function. On AWS each function has a URL of its own."""

from __future__ import annotations

from farebox.http.asgi import App, Hook, Receive, Scope, Send, lifespan

KEYS_PREFIXES = ("/admin/v1/", "/v1/topup/", "/v1/webhooks/")
KEYS_PATHS = frozenset({"/v1/redeem"})
BILLING_PREFIXES = ("/v1/query/", "/v1/receipts/", "/v1/dashboard/billing/", "/dashboard/billing/", "/status")
BILLING_PATHS = frozenset({"/", "/readyz", "/api/v1/key"})


class OneOrigin:
    """Sends each request to the function that owns its path; what nobody owns is the relay's, which answers 404."""

    def __init__(
        self,
        relay: App,
        keys: App,
        billing: App,
        *,
        on_start: Hook,
        on_stop: Hook,
    ) -> None:
        self._relay = relay
        self._keys = keys
        self._billing = billing
        self._on_start = on_start
        self._on_stop = on_stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._owner(scope["path"])(scope, receive, send)
        elif scope["type"] == "lifespan":
            await lifespan(receive, send, self._on_start, self._on_stop)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _owner(self, path: str) -> App:
        if path in KEYS_PATHS or path.startswith(KEYS_PREFIXES):
            return self._keys
        if path in BILLING_PATHS or path.startswith(BILLING_PREFIXES):
            return self._billing
        return self._relay
