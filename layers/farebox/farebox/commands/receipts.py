"""Receipts: is this one genuine, and does it add up?"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import click

from farebox.adapters.signer_ed25519 import verifies
from farebox.commands.admin import DEFAULT_URL
from farebox.commands.admin_client import fetch
from farebox.domain.receipts import arithmetic_errors, canonical


@click.group()
def receipts() -> None:
    """Verify receipts."""


@receipts.command("verify")
@click.argument("source")
@click.option("--url", default=DEFAULT_URL, show_default=True, envvar="FAREBOX_URL", help="Where an ID is looked up.")
@click.option("--api-key", envvar="FAREBOX_API_KEY", help="The key whose request an ID is.")
@click.option(
    "--keys",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What GET /v1/receipts/key answered, saved; without it the service is asked.",
)
def verify(source: str, url: str, api_key: str | None, keys: Path | None) -> None:
    """Check the signature and the arithmetic of SOURCE: a saved receipt, or a request's id. Exit 1 if it is wrong."""
    url = url.rstrip("/")
    path = Path(source)
    if path.exists():
        stored = _read(path)
    elif api_key:
        stored = fetch(f"{url}/v1/receipts/{source}", authorization=f"Bearer {api_key}")
    else:
        raise click.ClickException("no such file; to look up a request's id, give --api-key")
    wrong = problems(stored, _read(keys) if keys else fetch(f"{url}/v1/receipts/key"))
    for problem in wrong:
        click.echo(f"WRONG: {problem}", err=True)
    if wrong:
        sys.exit(1)
    click.echo(f"good: {stored['receipt']['request_id']} cost {stored['cost']} CA, signed by {_signer(stored)}")


def problems(stored: Any, published: Any) -> list[str]:
    """What is wrong with a receipt, given the published keys; empty when all is well."""
    try:
        document, signature = stored["receipt"], base64.b64decode(stored["signature"]["value"], validate=True)
        known = {each["id"]: base64.b64decode(each["public_key"], validate=True) for each in published["keys"]}
        public_key = known.get(_signer(stored))
        if public_key is None:
            return [f"the signing key {_signer(stored)} is not among the published ones"]
        found = [] if verifies(public_key, canonical(document), signature) else ["the signature does not fit"]
        return found + arithmetic_errors(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return [f"this is no receipt ({type(error).__name__})"]


def _signer(stored: Any) -> str:
    return str(stored["signature"]["key_id"])


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        raise click.ClickException(f"{path} is not JSON") from None
