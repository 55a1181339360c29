"""The API key in a request's headers."""

from __future__ import annotations

from collections.abc import Iterable

from farebox.domain import keys
from farebox.domain.keys import ApiKey
from farebox.errors import InvalidApiKey

HEADER_BYTES_MAX = 512


def api_key(headers: Iterable[tuple[bytes, bytes]]) -> ApiKey:
    """`Authorization: Bearer KEY` or the bare key. Raises InvalidApiKey; a bad checksum never reaches the store."""
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) != 1 or len(given[0]) > HEADER_BYTES_MAX:
        raise InvalidApiKey
    scheme, _, rest = given[0].decode("latin-1").strip().partition(" ")
    text = rest.strip() if scheme.lower() == "bearer" else scheme if not rest else ""
    key = keys.parse(text)
    if key is None:
        raise InvalidApiKey
    return key
