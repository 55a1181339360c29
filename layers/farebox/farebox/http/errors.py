"""The one table from error class to status, type and code; and an error as OpenAI's clients read it."""

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


def headers_of(error: FareboxError) -> list[tuple[bytes, bytes]]:
    """Headers that tell SDKs whether, and when, to try again."""
    headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % retry_after_s))
    if isinstance(error, errors.DailyQuotaExceeded):
        headers.append((b"x-should-retry", b"false"))
    return headers
