"""The API key of a request, wherever its dialect's clients put it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast
from urllib.parse import parse_qs

from farebox.domain import keys
from farebox.domain.keys import ApiKey
from farebox.errors import InvalidApiKey

HEADER_BYTES_MAX = 512
QUERY_BYTES_MAX = 4096
KEY_HEADERS = {"openai": (), "anthropic": (b"x-api-key",), "gemini": (b"x-goog-api-key",)}
"""Dialect → the headers that may hold a bare key, besides Authorization. Gemini's clients may use ?key= as well."""
RawHeaders = Iterable[tuple[bytes, bytes]]


def api_key(headers: RawHeaders, dialect: str = "openai", query: bytes = b"") -> ApiKey:
    """The one key that the request has. Raises InvalidApiKey; a bad checksum never reaches the store.

    `Authorization: Bearer KEY` or the bare key, or the dialect's own place. Two different keys are none.
    """
    parsed = {keys.parse(text) for text in _given(list(headers), dialect, query)} - {None}
    if len(parsed) != 1:
        raise InvalidApiKey
    return cast(ApiKey, parsed.pop())


def _given(headers: list[tuple[bytes, bytes]], dialect: str, query: bytes) -> Iterable[str]:
    """Every key in the request, as text. Raises InvalidApiKey where a header comes twice or is absurd."""
    for wanted in (b"authorization", *KEY_HEADERS[dialect]):
        values = [value for name, value in headers if name == wanted]
        if len(values) > 1 or any(len(value) > HEADER_BYTES_MAX for value in values):
            raise InvalidApiKey
        for value in values:
            text = value.decode("latin-1").strip()
            yield _bare(text) if wanted == b"authorization" else text
    if dialect == "gemini" and len(query) <= QUERY_BYTES_MAX:
        yield from parse_qs(query.decode("latin-1")).get("key", ())


def _bare(authorization: str) -> str:
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    return "" if rest else scheme
