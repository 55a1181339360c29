"""The vendors' recorded answers, and what must come of them: see tests/data/recordings/README.md."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "data" / "recordings"
TYPES = {
    "json": "application/json",
    "sse": "text/event-stream; charset=utf-8",
    "mp3": "audio/mpeg",
    "txt": "text/plain; charset=utf-8",
}
"""A recording's suffix → its content type."""
ERRORS = ("error.json", "error.sse", "error.param.json")
"""Of every vendor: a failure told with a status of 5xx, one in the midst of a stream, and a refusal."""

CHAT = ("text.json", "text.sse", "tool.json", "tool.sse")
CASES: dict[str, tuple[str, ...]] = {
    "chat.completions": CHAT,
    "messages": CHAT,
    "generateContent": CHAT,
    "responses": CHAT,
    "completions": ("text.json", "text.sse"),
    "embeddings": ("vector.json",),
    "embedContent": ("vector.json",),
    "batchEmbedContents": ("vector.json",),
    "moderations": ("verdict.json",),
    "images.generations": ("picture.json|priced.json",),
    "images.edits": ("picture.json",),
    "images.variations": ("picture.json",),
    "audio.speech": ("sound.mp3",),
    "audio.transcriptions": ("text.json", "text.sse"),
    "audio.translations": ("text.json",),
    "messages.count_tokens": ("count.json",),
    "countTokens": ("count.json",),
}
"""Operation → the recordings that a vendor with it must have at least."""


@dataclass(frozen=True)
class Facts:
    """What a recording says. `finish`: in OpenAI's words. `usage`: unit → count, as a receipt must have it.

    `calls`: name and arguments. `source`: of the usage. `model`: of the catalog, None for the vendor's usual one.
    `ask`: further members of the request. `count`: what a counting of tokens gives.
    """

    text: str = ""
    thoughts: str = ""
    refusal: str = ""
    signature: str = ""
    calls: list[list[Any]] = field(default_factory=list)
    finish: str | None = None
    usage: dict[str, int] | None = None
    source: str = "upstream"
    model: str | None = None
    ask: dict[str, Any] = field(default_factory=dict)
    count: int | None = None


@dataclass(frozen=True)
class Recording:
    """One answer. `name`: its file's."""

    vendor: str
    name: str
    operation: str
    facts: Facts

    @property
    def data(self) -> bytes:
        return read(self.vendor, self.name)

    @property
    def suffix(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def stream(self) -> bool:
        return self.suffix == "sse"

    @property
    def tools(self) -> bool:
        return bool(self.facts.calls)


@dataclass(frozen=True)
class Contract:
    """What a vendor is held to. `auth`: dialect of a door → header and value; KEY stands for the key. `paths`:
    operation → path behind base_url; MODEL and METHOD stand for what they say. `models`: kind → a model.
    """

    auth: dict[str, tuple[str, str]]
    paths: dict[str, str]
    models: dict[str, str]
    recordings: tuple[Recording, ...]


@cache
def contract(vendor: str) -> Contract:
    """Raises FileNotFoundError for a vendor without one, StopIteration for facts of an operation without a path."""
    told = tomllib.loads((FOLDER / vendor / "contract.toml").read_text("utf-8"))
    # The longest first: "messages.count_tokens" is no case of "messages".
    operations = sorted(told["paths"], key=len, reverse=True)
    recordings = tuple(
        Recording(vendor, name, next(each for each in operations if name.startswith(each + ".")), Facts(**facts))
        for name, facts in told["facts"].items()
    )
    return Contract(
        {dialect: (name, value) for dialect, (name, value) in told["auth"].items()},
        told["paths"],
        told["models"],
        recordings,
    )


@cache
def read(vendor: str, name: str) -> bytes:
    """A recording's bytes."""
    return (FOLDER / vendor / name).read_bytes()
