"""URLs that carry their own permission: AWS Signature Version 4 in the query, for requests to S3.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from farebox.adapters.sigv4 import Credentials, signing_key

_EMPTY: Mapping[str, str] = {}


def presigned(
    method: str,
    url: str,
    *,
    region: str,
    credentials: Credentials,
    now_ms: int,
    life_s: int,
    headers: Mapping[str, str] = _EMPTY,
) -> str:
    """`url` with its permission: `method` with exactly these `headers`, from now on for `life_s` seconds.

    `url` has a path in its final encoding and no query. Names of headers are lower-case, values without spaces around
    them; `host` is signed in any case. The body is not signed, its length only where `content-length` is among them.
    """
    parts = urlsplit(url)
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    signed = dict(sorted({**headers, "host": parts.netloc}.items()))
    names = ";".join(signed)
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{credentials.access_key}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(life_s),
        "X-Amz-SignedHeaders": names,
    }
    if credentials.token:
        query["X-Amz-Security-Token"] = credentials.token
    asked = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
    lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
    canonical = f"{method}\n{parts.path}\n{asked}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = signing_key(credentials.secret_key, stamp[:8], region, "s3")
    return f"{url}?{asked}&X-Amz-Signature={hmac.digest(key, to_sign.encode(), 'sha256').hex()}"
