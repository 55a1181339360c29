"""The system's clock and randomness: the only place that asks for either."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path


class SystemClock:
    """The machine's time, shifted by `offset_s()` seconds. Only tests shift it."""

    def __init__(self, offset_s: Callable[[], float] = lambda: 0.0) -> None:
        self._offset_s = offset_s

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + int(self._offset_s() * 1000)


def offset_from_file(path: Path) -> Callable[[], float]:
    """An offset that is read anew at each use, so that a test can move the time of a running service."""

    def offset_s() -> float:
        try:
            return float(path.read_text("utf-8").strip() or 0)
        except FileNotFoundError:
            return 0.0

    return offset_s


class SystemRandomness:
    """The operating system's random source."""

    def token(self, length: int) -> bytes:
        return secrets.token_bytes(length)

    def below(self, limit: int) -> int:
        return secrets.randbelow(limit)
