"""Calls the admin API of a running service."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Service:
    """Where the service is, and what opens it."""

    url: str
    token: str

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer's JSON. Raises click.ClickException with the service's own sentence."""
        return fetch(self.url + path, method=method, body=body, authorization=f"Bearer {self.token}")


def fetch(url: str, *, method: str = "GET", body: dict[str, Any] | None = None, authorization: str = "") -> Any:
    """One JSON request. Raises click.ClickException."""
    if not url.startswith(("http://", "https://")):
        raise click.ClickException("the service's URL must begin with http:// or https://")
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", "authorization": authorization}
    request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        raise click.ClickException(_sentence(error)) from None
    except (urllib.error.URLError, OSError, json.JSONDecodeError) as error:
        raise click.ClickException(f"{url} does not answer ({type(error).__name__})") from None


def service_of(url: str, token: str | None, data_dir: Path) -> Service:
    """`token`, else FAREBOX_ADMIN_TOKEN, else that of the demo service in `data_dir`."""
    found = token or os.environ.get("FAREBOX_ADMIN_TOKEN")
    kept = data_dir / "admin.json"
    if not found and kept.exists():
        found = json.loads(kept.read_text("utf-8"))["token"]
    if not found:
        raise click.ClickException("no admin token: --token, FAREBOX_ADMIN_TOKEN, or --data-dir of a demo service")
    return Service(url.rstrip("/"), found)


def _sentence(error: urllib.error.HTTPError) -> str:
    try:
        told = json.loads(error.read())["error"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return f"status {error.code}"
    return f"{told['code']}: {told['message']}"
