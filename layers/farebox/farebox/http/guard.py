"""What the FastAPI applications share: errors in one envelope, an id on every answer, the admin's token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, cast

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from farebox.domain import ids
from farebox.domain.keys import ApiKey
from farebox.errors import FareboxError, InvalidApiKey, InvalidRequest, NotFound
from farebox.http.credentials import api_key
from farebox.http.errors import headers_of, openai_envelope, shape_of
from farebox.ports import Clock, Randomness


def new_app(title: str, clock: Clock, random: Randomness) -> FastAPI:
    """A FastAPI application with our errors and our request id, and no pages of its own."""
    app = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(FareboxError, _farebox_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)

    @app.middleware("http")
    async def with_request_id(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            response = await call_next(request)
        except Exception:  # noqa: BLE001 - what is left is a bug of ours; its text may hold anybody's
            response = error_response(FareboxError())
        response.headers["x-request-id"] = ids.request_id(clock.now_ms(), random.token)
        return response

    return app


def caller_key(request: Request) -> ApiKey:
    """The API key of a request: well-formed, not yet proven. Raises InvalidApiKey."""
    return api_key(request.headers.raw)


def admin_only(token: str | None) -> type[APIRoute]:
    """Routes that let only the admin pass; without a token nobody, and nothing tells that they are there.

    A route and not a dependency: FastAPI reads and judges the body before any dependency runs.
    """

    class AdminRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def checked(request: Request) -> Response:
                _check_admin(request, token)
                return await handle(request)

            return checked

    return AdminRoute


def _check_admin(request: Request, token: str | None) -> None:
    if token is None:
        raise NotFound
    given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
    if not hmac.compare_digest(given, token.encode()):
        raise InvalidApiKey


def json_response(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(document), status, headers, media_type="application/json")


def error_response(error: FareboxError) -> Response:
    headers = {name.decode(): value.decode() for name, value in headers_of(error)}
    return Response(openai_envelope(error), shape_of(error).status, headers)


async def _farebox_error(_: Request, error: Exception) -> Response:
    return error_response(cast(FareboxError, error))


async def _validation_error(_: Request, error: Exception) -> Response:
    problems = cast(RequestValidationError, error).errors()
    if problems[0]["type"] == "json_invalid":  # its place is a position in the text, not a parameter
        return error_response(InvalidRequest(zh="请求体不是有效的 JSON。", en="The body is not valid JSON."))
    places = [".".join(str(part) for part in each["loc"] if part != "body") for each in problems]
    param = places[0] or None
    return error_response(
        InvalidRequest(
            param=param,
            zh=f"参数无效：{'、'.join(places)}。",
            en=f"Invalid: {', '.join(places)}.",
        )
    )


async def _http_error(_: Request, error: Exception) -> Response:
    status = cast(HTTPException, error).status_code
    return error_response(NotFound() if status in (404, 405) else InvalidRequest())
