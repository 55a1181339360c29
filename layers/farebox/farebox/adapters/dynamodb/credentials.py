"""Where AWS credentials come from: the environment, or the container endpoint that SnapStart uses.

https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol

import aiohttp
import orjson

from farebox.adapters.http_session import Session
from farebox.adapters.sigv4 import Credentials
from farebox.errors import StoreUnavailable

REFRESH_BEFORE_MS = 5 * 60 * 1000
LOCAL = Credentials("farebox", "farebox")
"""What a local store is given; it checks nothing."""


class CredentialSource(Protocol):
    async def current(self, now_ms: int) -> Credentials: ...


class Fixed:
    """Credentials that do not change while the process lives."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def current(self, now_ms: int) -> Credentials:  # noqa: ARG002 - see CredentialSource
        return self._credentials


class Container:
    """Credentials from the container endpoint, fetched anew before they expire."""

    def __init__(self, session: Session, url: str, environ: Mapping[str, str]) -> None:
        self._session = session
        self._url = url
        self._environ = environ
        self._current: Credentials | None = None

    async def current(self, now_ms: int) -> Credentials:
        known = self._current
        if known is None or (known.expires_ms or 0) - REFRESH_BEFORE_MS < now_ms:
            self._current = known = await self._fetch()
        return known

    async def _fetch(self) -> Credentials:
        token = self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
        if token_file := self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
            token = Path(token_file).read_text("utf-8")  # noqa: ASYNC240 - a few bytes, every few hours
        headers = {"authorization": token.strip()} if token else {}
        try:
            async with self._session().get(
                self._url, headers=headers, timeout=aiohttp.ClientTimeout(total=2)
            ) as response:
                answer = orjson.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            raise StoreUnavailable(retry_after_s=2) from error
        expires = datetime.fromisoformat(answer["Expiration"])
        return Credentials(
            answer["AccessKeyId"], answer["SecretAccessKey"], answer["Token"], int(expires.timestamp() * 1000)
        )


def credential_source(session: Session, environ: Mapping[str, str], *, local: bool) -> CredentialSource:
    """The first source that the environment offers; a local store gets LOCAL."""
    if key := environ.get("AWS_ACCESS_KEY_ID"):
        return Fixed(Credentials(key, environ.get("AWS_SECRET_ACCESS_KEY", ""), environ.get("AWS_SESSION_TOKEN")))
    if url := environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return Container(session, url, environ)
    if local:
        return Fixed(LOCAL)
    raise RuntimeError("no AWS credentials: neither AWS_ACCESS_KEY_ID nor AWS_CONTAINER_CREDENTIALS_FULL_URI is set")
