"""Pages of other origins may call the relay: their visitors bring a key of their own, and cookies mean nothing here.

Nothing is said of credentials, so browsers send none. The pages and the admin's calls are not opened.
"""

from __future__ import annotations

import re

from farebox.http.asgi import RawHeaders, Scope

_NAMES = re.compile(rb"[A-Za-z0-9-]{1,64}(?: *, *[A-Za-z0-9-]{1,64}){0,63}")
EXPOSED = (
    b"x-request-id, request-id, retry-after, x-should-retry, x-farebox-cost, x-farebox-max-tokens, "
    b"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests"
)
MAX_AGE_S = 86_400


def is_preflight(scope: Scope) -> bool:
    """Whether a browser asks if a page may call."""
    names = {name for name, _ in scope["headers"]}
    return scope["method"] == "OPTIONS" and {b"origin", b"access-control-request-method"} <= names


def preflight_headers(scope: Scope) -> RawHeaders:
    """Yes, with the headers that the page wants to send, where they are names."""
    wanted = next((value for name, value in scope["headers"] if name == b"access-control-request-headers"), b"")
    allowed = wanted if _NAMES.fullmatch(wanted) else b"authorization, content-type"
    return [
        (b"access-control-allow-methods", b"GET, POST, PUT"),
        (b"access-control-allow-headers", allowed),
        (b"access-control-max-age", b"%d" % MAX_AGE_S),
    ]


def answer_headers(scope: Scope) -> RawHeaders:
    """What an answer to a page says; nothing to anybody else."""
    if not any(name == b"origin" for name, _ in scope["headers"]):
        return []
    return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", EXPOSED)]
