"""What the Lambda Web Adapter says about an invocation. It overwrites these headers, so no client can send them."""

from __future__ import annotations

from typing import Any

import orjson

from farebox.errors import NotFound
from farebox.http.asgi import Scope


def lambda_address(scope: Scope) -> str:
    """The caller's address, from the request's own context. Raises NotFound for what came through no function URL."""
    context = _json_header(scope, b"x-amzn-request-context")
    try:
        return str(context["http"]["sourceIp"])
    except (KeyError, TypeError):
        raise NotFound from None


def lambda_deadline_ms(scope: Scope) -> int | None:
    """When the invocation is ended (epoch ms), None where the adapter does not say."""
    deadline = _json_header(scope, b"x-amzn-lambda-context").get("deadline")
    return deadline if isinstance(deadline, int) else None


def _json_header(scope: Scope, wanted: bytes) -> dict[str, Any]:
    for name, value in scope["headers"]:
        if name == wanted:
            try:
                document = orjson.loads(value)
            except orjson.JSONDecodeError:
                return {}
            return document if isinstance(document, dict) else {}
    return {}
