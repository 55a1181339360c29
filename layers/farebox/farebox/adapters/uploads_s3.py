"""Uploads in a private S3 bucket. Callers PUT there by a pre-signed URL, so that no body passes through a function.

The bucket's own rule removes what nobody used (template.yaml).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

import aiohttp
from yarl import URL

from farebox.adapters.dynamodb.credentials import CredentialSource
from farebox.adapters.http_session import Session
from farebox.adapters.presign import presigned
from farebox.domain.uploads import ANY_TYPE, TooMuch, Upload, is_content_type, is_filename
from farebox.errors import NotFound, StoreUnavailable
from farebox.ports import Clock

FOLDER = "uploads/"
"""What the proxy's role may touch."""
FILENAME = "x-amz-meta-filename"
OWN_LIFE_S = 60
"""How long a permission lives that this process makes for itself."""
ATTEMPTS = 2
CONNECT_S, SILENCE_S = 3, 5
ERROR_BYTES_MAX = 4096
_CODE = re.compile(rb"<Code>([A-Za-z]{1,60})</Code>")
_MISSING = frozenset({b"NoSuchKey", b"AccessDenied"})
"""What S3 says of an object that is not there: the second, to those who may not list the bucket."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """`url`: under which the objects lie, with a slash at its end."""

    url: str
    region: str


def bucket_of(name: str, region: str, environ: Mapping[str, str]) -> Bucket:
    """The bucket by its name; at AWS_ENDPOINT_URL_S3, if that is set (a test, or an S3 of one's own)."""
    if endpoint := environ.get("AWS_ENDPOINT_URL_S3"):
        return Bucket(f"{endpoint.rstrip('/')}/{name}/", region)
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return Bucket(f"https://{name}.s3.{region}.{suffix}/", region)


class S3Uploads:
    """`ports.Uploads` over S3."""

    def __init__(self, session: Session, bucket: Bucket, credentials: CredentialSource, clock: Clock) -> None:
        self._session = session
        self._bucket = bucket
        self._credentials = credentials
        self._clock = clock

    async def presign(self, name: str, upload: Upload, expires_s: int, origin: str) -> tuple[str, dict[str, str]]:  # noqa: ARG002 - see ports
        headers = {
            "Content-Length": str(upload.size),
            "Content-Type": upload.content_type,
            FILENAME: quote(upload.filename, safe=""),
        }
        lower = {header.lower(): value for header, value in headers.items()}
        return await self._url("PUT", name, max(1, expires_s - self._clock.now_ms() // 1000), lower), headers

    async def receive(self, name: str, query: bytes, length: int | None, pieces: AsyncIterator[bytes]) -> None:  # noqa: ARG002 - see ports
        raise NotFound

    async def fetch(self, name: str, size_max: int) -> tuple[Upload, bytes] | None:
        return await self._asked("GET", name, size_max)

    async def delete(self, name: str) -> None:
        await self._asked("DELETE", name, 0)

    async def sweep(self) -> int:
        return 0

    async def _url(self, method: str, name: str, life_s: int, headers: Mapping[str, str] | None = None) -> str:
        now_ms = self._clock.now_ms()
        return presigned(
            method,
            f"{self._bucket.url}{FOLDER}{name}",
            region=self._bucket.region,
            credentials=await self._credentials.current(now_ms),
            now_ms=now_ms,
            life_s=life_s,
            headers=headers or {},
        )

    async def _asked(self, method: str, name: str, size_max: int) -> tuple[Upload, bytes] | None:
        for _ in range(ATTEMPTS):
            url = URL(await self._url(method, name, OWN_LIFE_S), encoded=True)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
            try:
                async with self._session().request(method, url, timeout=timeout, allow_redirects=False) as response:
                    if response.status == 200:
                        return await _file(response, size_max)
                    if response.status == 204 or await _is_missing(response):
                        return None
                    if response.status < 500:
                        break
            except (aiohttp.ClientError, TimeoutError):
                continue
        raise StoreUnavailable(retry_after_s=2)


async def _file(response: aiohttp.ClientResponse, size_max: int) -> tuple[Upload, bytes]:
    if response.content_length is None:
        raise StoreUnavailable(retry_after_s=2)
    if response.content_length > size_max:
        raise TooMuch
    data = await response.read()
    filename = unquote(response.headers.get(FILENAME, ""))
    kind = response.headers.get("content-type", "")
    upload = Upload(
        filename if is_filename(filename) else "upload",
        kind if is_content_type(kind) else ANY_TYPE,
        len(data),
    )
    return upload, data


async def _is_missing(response: aiohttp.ClientResponse) -> bool:
    if response.status not in (403, 404):
        return False
    code = _CODE.search(await response.content.read(ERROR_BYTES_MAX))
    return code is not None and code[1] in _MISSING
