"""The operator's command line: `farebox …`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from farebox import __version__
from farebox.commands.admin import accounts, audit, keys, sweep
from farebox.commands.codes import codes
from farebox.commands.receipts import receipts

DEFAULT_CONFIG = "farebox.toml"


@click.group()
@click.version_option(__version__, prog_name="farebox")
def main() -> None:
    """Farebox: one base_url, every vendor's models, billed to the token."""


@main.command()
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="Settings (TOML).")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8787, show_default=True, type=click.IntRange(0, 65535), help="0 picks a free one.")
@click.option("--data-dir", default=".farebox", show_default=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--demo", is_flag=True, help="Make an admin token, a free and a paid key, and print them.")
def serve(config: Path | None, host: str, port: int, data_dir: Path, demo: bool) -> None:
    """Run the whole service on one origin."""
    from farebox.adapters.catalog_tables import CatalogError
    from farebox.bootstrap import BadEnvironment
    from farebox.errors import StoreUnavailable
    from farebox.local.data_dir import DirectoryInUse
    from farebox.local.demo_process import DemoMissing
    from farebox.local.serve import Options, run
    from farebox.local.store_process import StoreMissing
    from farebox.settings import SettingsError

    try:
        run(Options(host, port, data_dir, config_path(config), demo))
    except SettingsError as error:
        for problem in error.problems:
            click.echo(f"settings: {problem}", err=True)
        sys.exit(2)
    except CatalogError as error:
        for problem in error.problems:
            click.echo(f"catalog: {problem}", err=True)
        sys.exit(2)
    except StoreUnavailable:
        raise click.ClickException("the store does not answer; [store] endpoint says where it is") from None
    except (BadEnvironment, DirectoryInUse, DemoMissing, StoreMissing) as error:
        raise click.ClickException(str(error)) from None


def config_path(given: Path | None) -> Path | None:
    """--config, else FAREBOX_CONFIG, else farebox.toml if it is here."""
    if given is not None:
        return given
    if named := os.environ.get("FAREBOX_CONFIG"):
        return Path(named)
    here = Path(DEFAULT_CONFIG)
    return here if here.exists() else None


for verb in (keys, accounts, codes, sweep, audit, receipts):
    main.add_command(verb)
