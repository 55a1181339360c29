"""AWS Signature Version 4 for the one kind of request that we make: POST / with a JSON body and a target.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
botocore's signer costs 100-180 us more per call (measured; docs/decisions/0002).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime

_SIGNED = "content-type;host;x-amz-date;x-amz-target"
_SIGNED_IN_SESSION = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"


@dataclass(frozen=True, slots=True)
class Credentials:
    """`expires_ms`: epoch ms, or None where they last."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires_ms: int | None = None


class Signer:
    """Signs for one service in one region. The day's signing key is derived once and kept."""

    def __init__(self, region: str, service: str, content_type: str) -> None:
        self._region = region
        self._service = service
        self._content_type = content_type
        self._derived: tuple[str, str, bytes] = ("", "", b"")

    def headers(self, *, host: str, target: str, body: bytes, credentials: Credentials, now_ms: int) -> dict[str, str]:
        """The headers of a signed request."""
        stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        headers = {"content-type": self._content_type, "x-amz-date": stamp, "x-amz-target": target}
        signed, token_line = _SIGNED, ""
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
            signed, token_line = _SIGNED_IN_SESSION, f"x-amz-security-token:{credentials.token}\n"
        canonical = (
            f"POST\n/\n\ncontent-type:{self._content_type}\nhost:{host}\nx-amz-date:{stamp}\n{token_line}"
            f"x-amz-target:{target}\n\n{signed}\n{hashlib.sha256(body).hexdigest()}"
        )
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._key(credentials.secret_key, stamp[:8]), to_sign.encode(), "sha256").hex()
        credential = f"{credentials.access_key}/{scope}"
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={signature}"
        )
        return headers

    def _key(self, secret_key: str, day: str) -> bytes:
        if self._derived[:2] != (secret_key, day):
            self._derived = (secret_key, day, signing_key(secret_key, day, self._region, self._service))
        return self._derived[2]


def signing_key(secret_key: str, day: str, region: str, service: str) -> bytes:
    """The key that signs for one day (YYYYMMDD), region and service."""
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
