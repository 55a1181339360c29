"""Copies the price lists that a farebox.toml names beside where it travels: python scripts/price_lists.py TOML FOLDER.

Their paths are relative to the file and stay so. One that leads out of its folder, or to no file, fails the build.
"""

import shutil
import sys
import tomllib
from pathlib import Path


def copy(config: Path, folder: Path) -> None:
    """Raises SystemExit with what is wrong."""
    for name in tomllib.loads(config.read_text("utf-8")).get("catalog", {}).get("files", []):
        source = config.parent / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            sys.exit(f"{config}: catalog.files: {name} leads out of the folder, so it cannot travel with it")
        if not source.is_file():
            sys.exit(f"{config}: catalog.files: there is no {name}")
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o644)


if __name__ == "__main__":
    copy(Path(sys.argv[1]), Path(sys.argv[2]))
