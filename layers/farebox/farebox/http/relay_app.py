"""The relay as one plain ASGI application: the same under uvicorn here and behind the Lambda Web Adapter there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import orjson

from farebox.dialects.anthropic import betas
from farebox.dialects.wires import WIRES
from farebox.domain import ids
from farebox.domain.keys import ApiKey
from farebox.errors import FareboxError, ModelNotAllowed, NotFound
from farebox.http import cors
from farebox.http.address import AddressOf
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
from farebox.http.errors import ENVELOPES
from farebox.http.models import ModelList
from farebox.http.uploads import PRESIGN, UploadDesk
from farebox.ports import Clock, Randomness
from farebox.relay.call import Call
from farebox.relay.count_tokens import COUNTINGS, Counting, TokenCounter
from farebox.relay.endpoints import GEMINI_ROOTS, Endpoint, dialect_of, endpoint_at, gemini_method
from farebox.relay.estimate import Estimator
from farebox.relay.relay_request import Relay
from farebox.relay.request import Request
from farebox.service.authenticate import Authenticator

MODELS = ("/v1/models", *(f"{root}/models" for root in GEMINI_ROOTS))
REQUEST_ID = {
    "openai": (b"x-request-id",),
    "anthropic": (b"x-request-id", b"request-id"),
    "gemini": (b"x-request-id",),
}
"""Dialect → the headers in which its clients look for the request's id."""
ESTIMATE = "/v1/estimate"
COUNT_TOKENS = "/v1/messages/count_tokens"
PASSED = {"anthropic": (b"anthropic-version", b"anthropic-beta")}
"""Dialect → the headers of a caller's that mean something to its vendor."""
BETA = "anthropic-beta"
TELLING = {b"anthropic-version": "anthropic", b"x-api-key": "anthropic", b"x-goog-api-key": "gemini"}
"""A header that only one dialect's clients send."""
KEY_QUERY = re.compile(rb"(?:^|&)key=")
PASSABLE = re.compile(r"[A-Za-z0-9._,: -]{1,1024}")
SSE = re.compile(rb"(?:^|&)alt=sse(?:&|$)")
ANY_FORM = replace(WIRES["chat.completions"], form=True)
"""Reads a body of any operation, JSON or form, until it is known which one it is."""
JSON: RawHeaders = [(b"content-type", b"application/json")]
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
        estimator: Estimator,
        token_counter: TokenCounter,
        uploads: UploadDesk,
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
        self._estimator = estimator
        self._token_counter = token_counter
        self._uploads = uploads
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
        dialect = _dialect(scope)
        own: RawHeaders = [(name, request_id.encode()) for name in REQUEST_ID[dialect]] + cors.answer_headers(scope)
        try:
            await self._route(scope, receive, send, request_id, own)
        except FareboxError as error:
            await reply_error(send, error, own, dialect)
        except CallerGone:
            return
        except Exception as error:  # noqa: BLE001 - what is left is a bug of ours; its text may hold anybody's
            self._relay.telemetry.trouble("request_failed", {"error": type(error).__name__})
            await reply_error(send, FareboxError(), own, dialect)

    async def _route(self, scope: Scope, receive: Receive, send: Send, request_id: str, own: RawHeaders) -> None:
        path, method = scope["path"], scope["method"]
        if cors.is_preflight(scope):
            await reply(send, 204, [*own, *cors.preflight_headers(scope)], b"")
            return
        if method == "POST":
            endpoint = endpoint_at(path)
            if endpoint is not None:
                call = await self._call(scope, receive, request_id, endpoint)
                caller = AsgiCaller(receive, send, own, freezes=self._freezes)
                await self._relay.handle(*self._uploads.spent(call, caller))
                return
            answer = await self._other_post(scope, receive, request_id)
        elif method in ("GET", "HEAD") and path == "/healthz":
            answer = b'{"status":"ok"}'
        elif method == "PUT" and path.startswith(PRESIGN + "/"):
            await self._uploads.receive(scope, receive)
            answer = b"{}"
        elif method == "GET":
            answer = orjson.dumps(await self._model_list(scope))
        else:
            raise NotFound
        await reply(send, 200, [*JSON, *own], answer)

    async def _call(
        self, scope: Scope, receive: Receive, request_id: str, endpoint: Endpoint, dialect: str | None = None
    ) -> Call:
        """The request, read as far as its headers and its size say, with the files that it refers to.

        Raises InvalidApiKey, RequestTooLarge, InvalidRequest, StoreUnavailable.
        """
        dialect = dialect or endpoint.wire.dialect
        query = scope.get("query_string", b"")
        key = api_key(scope["headers"], dialect, query)
        body = await read_body(scope, receive)
        call = Call(
            request_id=request_id,
            request=Request(
                wire=endpoint.wire,
                body=body,
                content_type=_header(scope, b"content-type") or "application/json",
                model=endpoint.model,
                stream=endpoint.stream,
                json_array=endpoint.stream is True and not SSE.search(query),
                passed=_passed(scope, endpoint.wire.dialect),
            ),
            key=key,
            address=self._address_of(scope),
            envelope=ENVELOPES[dialect],
            deadline_ms=self._deadline_of(scope),
            idempotency_key=_header(scope, b"idempotency-key"),
        )
        return await self._uploads.filled(call)

    async def _other_post(self, scope: Scope, receive: Receive, request_id: str) -> bytes:
        """What is no relayed request: cancelling or estimating one, counting its tokens, an upload. Raises NotFound."""
        path = scope["path"]
        if cancel := CANCEL.fullmatch(path):
            return await self._cancel(scope, cancel[1])
        if path == ESTIMATE:
            return await self._estimate(scope, receive, request_id)
        if path == PRESIGN:
            return await self._uploads.presign(scope, receive, _any_key(scope), self._address_of(scope))
        if path == COUNT_TOKENS:
            return await self._count(scope, receive, request_id, COUNTINGS["messages.count_tokens"], None)
        model, method = gemini_method(path) or ("", "")
        if method == "countTokens":
            return await self._count(scope, receive, request_id, COUNTINGS["countTokens"], model)
        raise NotFound

    async def _cancel(self, scope: Scope, request_id: str) -> bytes:
        """Stops one of the caller's own streams. Raises InvalidApiKey, AddressNotAllowed, NotFound."""
        account, _ = await self._authenticator.owner(_any_key(scope), self._address_of(scope))
        await self._relay.streams.cancel(account.id, request_id)
        return orjson.dumps({"request_id": request_id, "status": "cancelling"})

    async def _estimate(self, scope: Scope, receive: Receive, request_id: str) -> bytes:
        """What such a request can cost at most, and whether the key can pay. Nothing is sent, nothing held."""
        key = _any_key(scope)
        call = await self._call(scope, receive, request_id, Endpoint(ANY_FORM), _key_dialect(scope))
        account, record = await self._authenticator.user(key, call.address)
        wanted = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("endpoint", [None])[0]
        estimate = await self._estimator.estimate(call, wanted, account)
        if record.models and estimate["model"] not in record.models:
            raise ModelNotAllowed
        return orjson.dumps(estimate)

    async def _count(
        self, scope: Scope, receive: Receive, request_id: str, counting: Counting, model: str | None
    ) -> bytes:
        call = await self._call(scope, receive, request_id, Endpoint(counting.wire, model, stream=None))
        _, record = await self._authenticator.user(call.key, call.address)
        free = record.kind == "free"
        return await self._token_counter.count(counting, call.request, free=free, allowed=record.models)

    async def _model_list(self, scope: Scope) -> dict[str, Any]:
        """The models that the key may use, or one of them, as the caller's dialect has it. Raises NotFound."""
        path = scope["path"]
        root = next((root for root in MODELS if path == root or path.startswith(root + "/")), None)
        if root is None:
            raise NotFound
        dialect = _dialect(scope)
        key = api_key(scope["headers"], dialect, scope.get("query_string", b""))
        wanted, address = path.removeprefix(root).lstrip("/"), self._address_of(scope)
        if wanted:
            return await self._models.one(key, address, wanted, dialect)
        return await self._models.all(key, address, dialect)


def _dialect(scope: Scope) -> str:
    """Whose clients call: told by the path, and where several share one (/v1/models), by a header of theirs."""
    path, names = scope["path"], {name for name, _ in scope["headers"]}
    dialect = dialect_of(path)
    if dialect != "openai" or not (path == MODELS[0] or path.startswith(f"{MODELS[0]}/")):
        return dialect
    if KEY_QUERY.search(scope.get("query_string", b"")):
        return "gemini"
    return next((dialect for name, dialect in TELLING.items() if name in names), dialect)


def _any_key(scope: Scope) -> ApiKey:
    """The key, wherever any dialect's clients put it."""
    return api_key(scope["headers"], _key_dialect(scope))


def _key_dialect(scope: Scope) -> str:
    """Whose place for a key is in use, where the path does not tell."""
    names = {name for name, _ in scope["headers"]}
    return "gemini" if b"x-goog-api-key" in names else "anthropic" if b"x-api-key" in names else "openai"


def _passed(scope: Scope, dialect: str) -> dict[str, str]:
    """The caller's headers that a vendor of the same dialect may see, where they are what they should be."""
    found = {name.decode(): _header(scope, name) for name in PASSED.get(dialect, ())}
    kept = {name: value for name, value in found.items() if value is not None and PASSABLE.fullmatch(value)}
    features = betas.priced(kept.pop(BETA, ""))
    return kept if features is None else {**kept, BETA: features}


def _header(scope: Scope, wanted: bytes) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), None)


def no_deadline(_: Scope) -> int | None:
    """Nothing ends this process on a clock."""
    return None


async def _nothing() -> None:
    """Nothing connects at start-up: the first request does."""
