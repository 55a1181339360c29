"""The journal: settlements that the store may not know yet, in a file that outlives a kill -9 of this process.

A line is written before the caller sees the end of an answer, and played to the store at the next start. Settling is
idempotent, so a line too many does no harm. There is no fsync: it is the process that may die here, not the machine;
what a machine's crash loses is what the hold's expiry would lose as well.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import orjson

from farebox.domain.quota import Limit, Unit
from farebox.ports import Settlement

SIZE_BYTES_MAX = 256 * 1024
"""A longer file is written anew with only what is still waiting."""


class NoJournal:
    """Where a process's files die with it, as on Lambda."""

    def append(self, settlement: Settlement) -> None:
        """Nothing."""

    def forget(self, request_id: str) -> None:
        """Nothing."""


class FileJournal:
    """See ports.Journal. One process at a time; the data directory's lock sees to that."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: dict[str, bytes] = {}
        self._size = 0
        self._file = -1

    def open(self) -> list[Settlement]:
        """What an earlier process left. It stays on record until each of it is forgotten."""
        left = [settlement for line in self._lines() if (settlement := _settlement(line)) is not None]
        self._waiting = {settlement.request_id: _line(settlement) for settlement in left}
        self._start()
        return left

    def append(self, settlement: Settlement) -> None:
        line = _line(settlement)
        self._waiting[settlement.request_id] = line
        self._size += os.write(self._file, line)

    def forget(self, request_id: str) -> None:
        self._waiting.pop(request_id, None)
        if self._size > SIZE_BYTES_MAX:
            self._start()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _start(self) -> None:
        """A new file with what is waiting, in place of the old one."""
        draft = self._path.with_suffix(".draft")
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        self._size = os.write(file, b"".join(self._waiting.values()))
        draft.replace(self._path)
        self.close()
        self._file = file

    def _lines(self) -> list[bytes]:
        return self._path.read_bytes().splitlines() if self._path.exists() else []


def _line(settlement: Settlement) -> bytes:
    units = [
        [unit.subject, unit.counter, [limit.field for limit in unit.limits], unit.ends_ms]
        for unit in settlement.units_back
    ]
    document = {
        "request_id": settlement.request_id,
        "account": settlement.account,
        "key_number": settlement.key_number,
        "hold_nano": settlement.hold_nano,
        "cost_nano": settlement.cost_nano,
        "units_back": units,
        "receipt": base64.b64encode(settlement.receipt).decode("ascii"),
        "signature": base64.b64encode(settlement.signature).decode("ascii"),
        "signer_key_id": settlement.signer_key_id,
        "at_ms": settlement.at_ms,
        "attempt": settlement.attempt,
    }
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def _settlement(line: bytes) -> Settlement | None:
    """None for a line that the process died over: then the caller had not seen the end yet."""
    try:
        document: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    units = tuple(
        Unit(subject, counter, tuple(Limit(field, 0) for field in fields), ends_ms)
        for subject, counter, fields, ends_ms in document.pop("units_back")
    )
    receipt, signature = (base64.b64decode(document.pop(name)) for name in ("receipt", "signature"))
    return Settlement(**document, units_back=units, receipt=receipt, signature=signature)
