"""Keys, accounts, jobs and the audit of a running service."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from farebox.commands.admin_client import Service, service_of

DEFAULT_URL = "http://127.0.0.1:8787"


def on_service(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command `service`, from --url, --token and --data-dir."""

    @click.option("--url", default=DEFAULT_URL, show_default=True, envvar="FAREBOX_URL", help="The running service.")
    @click.option("--token", help="The admin token; else FAREBOX_ADMIN_TOKEN, else the demo service's own.")
    @click.option("--data-dir", default=".farebox", type=click.Path(file_okay=False, path_type=Path))
    @wraps(command)
    def with_service(url: str, token: str | None, data_dir: Path, **arguments: Any) -> Any:
        return command(service=service_of(url, token, data_dir), **arguments)

    return with_service


def show(document: Any) -> None:
    """Prints an answer as JSON."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


@click.group()
def keys() -> None:
    """Make, look at and revoke keys."""


@keys.command("create")
@click.option("--kind", type=click.Choice(["free", "paid"]), required=True)
@click.option("--credit", help="CA to begin with, e.g. 10.00")
@click.option("--account", help="An account that is there already.")
@click.option("--name", default="")
@on_service
def create_key(service: Service, kind: str, credit: str | None, account: str | None, name: str) -> None:
    """Make a key; it is shown this once."""
    show(service.call("POST", "/admin/v1/keys", {"kind": kind, "credit": credit, "account": account, "name": name}))


@keys.command("show")
@click.argument("key_id")
@on_service
def show_key(service: Service, key_id: str) -> None:
    """A key's record."""
    show(service.call("GET", f"/admin/v1/keys/{key_id}"))


@keys.command("revoke")
@click.argument("key_id")
@on_service
def revoke_key(service: Service, key_id: str) -> None:
    """Revoke a key, with the next request."""
    show(service.call("DELETE", f"/admin/v1/keys/{key_id}"))


@click.group()
def accounts() -> None:
    """Look at accounts and credit them."""


@accounts.command("show")
@click.argument("account")
@on_service
def show_account(service: Service, account: str) -> None:
    """Balance, holds and keys."""
    show(service.call("GET", f"/admin/v1/accounts/{account}"))


@accounts.command("credit")
@click.argument("account")
@click.argument("amount")
@click.option("--reason", default="")
@click.option("--idempotency-key", required=True, help="The same key credits once.")
@on_service
def credit_account(service: Service, account: str, amount: str, reason: str, idempotency_key: str) -> None:
    """Add AMOUNT CA to ACCOUNT."""
    body = {"amount": amount, "reason": reason, "idempotency_key": idempotency_key}
    show(service.call("POST", f"/admin/v1/accounts/{account}/credit", body))


@click.command()
@on_service
def sweep(service: Service) -> None:
    """End the holds of dead processes now."""
    show(service.call("POST", "/admin/v1/schedule/sweep"))


@click.command()
@on_service
def audit(service: Service) -> None:
    """Recompute every wallet from its ledger; exit 1 on any violation."""
    found = service.call("GET", "/admin/v1/audit")
    show(found)
    if found["violations"] or found["difference_nano"]:
        sys.exit(1)
