"""Idempotency-Key: the same key and body never runs twice. The text is not kept, only keyed digests of it."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass

from farebox.domain.keys import ApiKey
from farebox.errors import InvalidRequest

LIFE_MS = 24 * 3600 * 1000
_PRINTABLE = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Claim:
    """A key's claim on running one body. `id` names the claim, `body_digest` the body, `request_id` who runs it.

    `replaces`: the request whose claim this one takes over, because that one brought nothing.
    """

    id: str
    body_digest: str
    request_id: str = ""
    replaces: str | None = None


def claim_of(key: ApiKey, given: str | None, endpoint: str, body: bytes, pepper: bytes) -> Claim | None:
    """The claim, or None where the caller makes none. Raises InvalidRequest for a key that is none."""
    if given is None:
        return None
    if not _PRINTABLE.fullmatch(given):
        raise InvalidRequest(
            param="Idempotency-Key",
            zh="Idempotency-Key 必须是 1 到 255 个可见 ASCII 字符。",
            en="Idempotency-Key must be 1 to 255 visible ASCII characters.",
        )
    name = hmac.digest(pepper, f"idempotency|{key.id}|{given}".encode(), "sha256").hex()
    content = hmac.digest(pepper, b"body|%s|%s" % (endpoint.encode(), body), "sha256").hex()
    return Claim(id=f"claim#{name}", body_digest=content)
