"""The relay as one plain ASGI application: the same under uvicorn here and behind the Lambda Web Adapter there."""

from __future__ import annotations

import re
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
from farebox.relay.call import Call
from farebox.relay.endpoints import ENDPOINTS
from farebox.relay.relay_request import Relay
from farebox.service.authenticate import Authenticator

MODELS = "/v1/models"
JSON: RawHeaders = [(b"content-type", b"application/json")]
AddressOf = Callable[[Scope], str]
DeadlineOf = Callable[[Scope], int | None]
CANCEL = re.compile(r"/v1/requests/(req_[0-9A-Z]{26})/cancel")


class RelayApp:
    """`address_of` says who calls: the socket's peer here, the request context on Lambda. `deadline_of` says
    when this function's time is up. `close` ends connections. `freezes`: see AsgiCaller.
    """

    def __init__(
        self,
        relay: Relay,
        models: ModelList,
        *,
        clock: Clock,
        random: Randomness,
        address_of: AddressOf,
        deadline_of: DeadlineOf,
        authenticator: Authenticator,
        close: Hook,
        freezes: bool = False,
    ) -> None:
        self._relay = relay
        self._models = models
        self._clock = clock
        self._random = random
        self._address_of = address_of
        self._deadline_of = deadline_of
        self._authenticator = authenticator
        self._close = close
        self._freezes = freezes

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
        except Exception as error:  # noqa: BLE001 - what is left is a bug of ours; its text may hold anybody's
            self._relay.telemetry.trouble("request_failed", {"error": type(error).__name__})
            await reply_error(send, FareboxError(), own)

    async def _route(self, scope: Scope, receive: Receive, send: Send, request_id: str, own: RawHeaders) -> None:
        path, method = scope["path"], scope["method"]
        endpoint = ENDPOINTS.get(path)
        if endpoint is not None and method == "POST":
            key = api_key(scope["headers"])
            body = await read_body(scope, receive)
            call = Call(
                request_id=request_id,
                endpoint=endpoint,
                body=body,
                key=key,
                address=self._address_of(scope),
                envelope=openai_envelope,
                deadline_ms=self._deadline_of(scope),
                idempotency_key=_header(scope, b"idempotency-key"),
            )
            await self._relay.handle(call, AsgiCaller(receive, send, own, freezes=self._freezes))
        elif method == "POST" and (cancel := CANCEL.fullmatch(path)):
            await reply(send, 200, [*JSON, *own], await self._cancel(scope, cancel[1]))
        elif method == "GET" and (path == MODELS or path.startswith(MODELS + "/")):
            await reply(send, 200, [*JSON, *own], await self._model_list(scope))
        elif method in ("GET", "HEAD") and path == "/healthz":
            await reply(send, 200, [*JSON, *own], b'{"status":"ok"}')
        else:
            raise NotFound

    async def _cancel(self, scope: Scope, request_id: str) -> bytes:
        """Stops one of the caller's own streams. Raises InvalidApiKey, NotFound."""
        account, _ = await self._authenticator.owner(api_key(scope["headers"]))
        await self._relay.streams.cancel(account.id, request_id)
        return orjson.dumps({"request_id": request_id, "status": "cancelling"})

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


def _header(scope: Scope, wanted: bytes) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), None)


def no_deadline(_: Scope) -> int | None:
    """Nothing ends this process on a clock."""
    return None


async def _nothing() -> None:
    """Nothing connects at start-up: the first request does."""
