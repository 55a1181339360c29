"""The one table from error class to status, type and code; and an error as each dialect's clients read it."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from farebox import errors
from farebox.errors import FareboxError


class Shape(NamedTuple):
    """`type` is OpenAI's family name, `code` the one stable word."""

    status: int
    type: str
    code: str


SHAPES: dict[type[FareboxError], Shape] = {
    errors.InvalidRequest: Shape(400, "invalid_request_error", "invalid_request"),
    errors.InvalidCode: Shape(400, "invalid_request_error", "invalid_code"),
    errors.InvalidApiKey: Shape(401, "authentication_error", "invalid_api_key"),
    errors.InsufficientBalance: Shape(402, "insufficient_quota", "insufficient_balance"),
    errors.ModelNotAllowed: Shape(403, "permission_error", "model_not_allowed"),
    errors.AddressNotAllowed: Shape(403, "permission_error", "ip_not_allowed"),
    errors.PromptTooLong: Shape(403, "permission_error", "prompt_too_long"),
    errors.AccountFrozen: Shape(403, "permission_error", "account_frozen"),
    errors.Forbidden: Shape(403, "permission_error", "forbidden"),
    errors.ModelNotFound: Shape(404, "invalid_request_error", "model_not_found"),
    errors.NotFound: Shape(404, "invalid_request_error", "not_found"),
    errors.RequestTooLarge: Shape(413, "invalid_request_error", "request_too_large"),
    errors.Conflict: Shape(422, "invalid_request_error", "idempotency_mismatch"),
    errors.AlreadyRunning: Shape(422, "invalid_request_error", "already_running"),
    errors.AlreadyCompleted: Shape(422, "invalid_request_error", "already_completed"),
    errors.Cancelled: Shape(499, "cancelled", "cancelled"),
    errors.DailyQuotaExceeded: Shape(429, "insufficient_quota", "daily_quota_exceeded"),
    errors.TooManyInFlight: Shape(429, "rate_limit_error", "too_many_in_flight"),
    errors.TooMany: Shape(429, "rate_limit_error", "too_many"),
    errors.UpstreamError: Shape(502, "upstream_error", "upstream_error"),
    errors.UpstreamUnavailable: Shape(503, "upstream_error", "upstream_unavailable"),
    errors.UpstreamTimeout: Shape(504, "upstream_error", "upstream_timeout"),
    errors.NotConfigured: Shape(503, "server_error", "not_configured"),
    errors.PaymentUnavailable: Shape(503, "server_error", "payment_unavailable"),
    errors.StoreUnavailable: Shape(503, "server_error", "store_unavailable"),
    errors.Unavailable: Shape(503, "server_error", "unavailable"),
    FareboxError: Shape(500, "server_error", "internal_error"),
}


def shape_of(error: FareboxError) -> Shape:
    """By the class, or its nearest ancestor in the table."""
    return next(SHAPES[kind] for kind in type(error).__mro__ if kind in SHAPES)


def openai_envelope(error: FareboxError) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}`; the message is Chinese, then English."""
    shape = shape_of(error)
    message = f"{error.zh} {error.en}"
    told = {"message": message, "type": shape.type, "param": error.param, "code": shape.code}
    return orjson.dumps({"error": {**told, **error.details}})


ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Status → the type that Anthropic's clients know; every other one is an api_error."""
GEMINI_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""Status → google.rpc.Code's name; every other one is INTERNAL."""


def anthropic_envelope(error: FareboxError) -> bytes:
    """`{"type": "error", "error": {"type", "message", "param", "code"}}`."""
    shape = shape_of(error)
    told = {
        "type": ANTHROPIC_TYPES.get(shape.status, "api_error"),
        "message": f"{error.zh} {error.en}",
        "param": error.param,
        "code": shape.code,
    }
    return orjson.dumps({"type": "error", "error": {**told, **error.details}})


def gemini_envelope(error: FareboxError) -> bytes:
    """`{"error": {"code", "message", "status", "details"}}`; the one stable word is the detail's reason."""
    shape = shape_of(error)
    metadata = {"param": error.param} if error.param else {}
    detail = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": shape.code,
        "domain": "farebox",
        "metadata": {**metadata, **error.details},
    }
    told = {
        "code": shape.status,
        "message": f"{error.zh} {error.en}",
        "status": GEMINI_STATUSES.get(shape.status, "INTERNAL"),
        "details": [detail],
    }
    return orjson.dumps({"error": told})


ENVELOPES = {"openai": openai_envelope, "anthropic": anthropic_envelope, "gemini": gemini_envelope}
"""An error as each dialect's clients read it."""


HOPELESS = (errors.DailyQuotaExceeded, errors.InvalidApiKey)
"""What no second try of the same request mends. SDKs would repeat the first, Claude Code the second, ten times over."""


def headers_of(error: FareboxError) -> list[tuple[bytes, bytes]]:
    """Headers that tell SDKs whether, and when, to try again."""
    headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % retry_after_s))
    if isinstance(error, HOPELESS):
        headers.append((b"x-should-retry", b"false"))
    return headers
