"""Redeem codes."""

from __future__ import annotations

import click

from farebox.commands.admin import on_service, show
from farebox.commands.admin_client import Service


@click.group()
def codes() -> None:
    """Make redeem codes."""


@codes.command("create")
@click.option("--value", required=True, help="CA that each is worth, e.g. 30.00")
@click.option("--count", default=1, show_default=True, type=click.IntRange(1, 1000))
@click.option("--expires-at", help="With its zone, e.g. 2030-01-01T00:00:00Z; without it they do not expire.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, not one a line.")
@on_service
def create_codes(service: Service, value: str, count: int, expires_at: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Make codes; they are shown this once."""
    made = service.call("POST", "/admin/v1/codes", {"count": count, "value": value, "expires_at": expires_at})
    if as_json:
        show(made)
    else:
        click.echo("\n".join(made["codes"]))
