"""The data directory of a local service: the store's file, this machine's secrets, and what the first run made."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from farebox.bootstrap import Secrets


class DirectoryInUse(Exception):
    """Another `farebox serve` works on this directory."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """Everything in it is readable by its owner only."""

    path: Path

    @property
    def database(self) -> Path:
        return self.path / "store.sqlite"

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def uploads(self) -> Path:
        return self.path / "uploads"

    def claim(self) -> IO[str]:
        """Makes the directory and locks it for this process; hold on to what is returned. Raises DirectoryInUse."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (self.path / "lock").open("w", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise DirectoryInUse(f"another farebox is running on {self.path}") from None
        return lock

    def secrets(self) -> Secrets:
        """This machine's pepper and signing key, made on the first run. Without them old keys would be worthless."""
        kept = self._document(
            "secrets.json", lambda: {"pepper": secrets.token_hex(32), "signing_key": secrets.token_hex(32)}
        )
        return Secrets(bytes.fromhex(kept["pepper"]), bytes.fromhex(kept["signing_key"]))

    def admin_token(self) -> str:
        """The admin token of a demo service."""
        return str(self._document("admin.json", lambda: {"token": f"admin-{secrets.token_urlsafe(24)}"})["token"])

    def read(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        return json.loads(path.read_text("utf-8")) if path.exists() else None

    def write(self, name: str, document: dict[str, Any]) -> None:
        """Atomically, owner-only, on disk when it returns."""
        path = self.path / name
        draft = path.with_suffix(".draft")
        with open(draft, "w", encoding="utf-8", opener=_owner_only) as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def _document(self, name: str, make: Any) -> dict[str, Any]:
        found = self.read(name)
        if found is None:
            found = make()
            self.write(name, found)
        return found


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
