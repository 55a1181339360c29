"""The relay as one plain ASGI application: the same under uvicorn here and behind the Lambda Web Adapter there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from farebox.domain import ids
from farebox.errors import FareboxError, NotFound
from farebox.http.address import Network, caller_address
from farebox.http.asgi import (
    AsgiCaller,
    CallerGone,
    Hook,
    RawHeaders,
    Receive,
    Scope,
    Send,
    lifespan,
    read_body,
    reply,
    reply_error,
)
from farebox.http.credentials import api_key
from farebox.http.errors import openai_envelope
from farebox.http.models import ModelList
from farebox.ports import Clock, Randomness
from farebox.relay.endpoints import ENDPOINTS
from farebox.relay.relay_request import Call, Relay

MODELS = "/v1/models"
JSON: RawHeaders = [(b"content-type", b"application/json")]
AddressOf = Callable[[Scope], str]


class RelayApp:
    """`address_of` says who calls: the socket's peer here, the request context on Lambda. `close` ends connections."""

    def __init__(
        self,
        relay: Relay,
        models: ModelList,
        *,
        clock: Clock,
        random: Randomness,
        address_of: AddressOf,
        close: Hook,
    ) -> None:
        self._relay = relay
        self._models = models
        self._clock = clock
        self._random = random
        self._address_of = address_of
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send, _nothing, self._close)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        request_id = ids.request_id(self._clock.now_ms(), self._random.token)
        own: RawHeaders = [(b"x-request-id", request_id.encode())]
        try:
            await self._route(scope, receive, send, request_id, own)
        except FareboxError as error:
            await reply_error(send, error, own)
        except CallerGone:
            return

    async def _route(self, scope: Scope, receive: Receive, send: Send, request_id: str, own: RawHeaders) -> None:
        path, method = scope["path"], scope["method"]
        endpoint = ENDPOINTS.get(path)
        if endpoint is not None and method == "POST":
            key = api_key(scope["headers"])
            body = await read_body(scope, receive)
            call = Call(request_id, endpoint, body, key, self._address_of(scope), openai_envelope)
            await self._relay.handle(call, AsgiCaller(receive, send, own))
        elif method == "GET" and (path == MODELS or path.startswith(MODELS + "/")):
            await reply(send, 200, [*JSON, *own], await self._model_list(scope))
        elif method in ("GET", "HEAD") and path == "/healthz":
            await reply(send, 200, [*JSON, *own], b'{"status":"ok"}')
        else:
            raise NotFound

    async def _model_list(self, scope: Scope) -> bytes:
        key = api_key(scope["headers"])
        wanted = scope["path"].removeprefix(MODELS).lstrip("/")
        answer: dict[str, Any] = await (self._models.one(key, wanted) if wanted else self._models.all(key))
        return orjson.dumps(answer)


def peer_address(trusted: tuple[Network, ...]) -> AddressOf:
    """Who calls, from the socket and the hops that the operator trusts."""

    def address_of(scope: Scope) -> str:
        client = scope.get("client")
        return caller_address(client[0] if client else None, scope["headers"], trusted)

    return address_of


def lambda_address(scope: Scope) -> str:
    """Who calls, on Lambda: the adapter overwrites this header, so that no client can send it."""
    for name, value in scope["headers"]:
        if name == b"x-amzn-request-context":
            return str(orjson.loads(value)["http"]["sourceIp"])
    raise NotFound  # not a function-URL request


async def _nothing() -> None:
    """Nothing connects at start-up: the first request does."""
