"""Server-sent events as bytes: framed on blank lines, never on TCP chunks; nothing is decoded that need not be.

A frame is one event with its blank line, exactly as received. Whatever the chunks, the frames are the same, and
joined they are the stream.
"""

from __future__ import annotations

import re

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""An event above this is an attack or a bug; images in partial-image events stay well below it."""

# A line ends with CRLF, LF or CR; a blank line is two ends in a row. A CR at the very end of the buffer may yet be
# half of a CRLF, so it waits for the next byte.
_END = rb"(?:\r\n|\n|\r(?![\n]|\Z))"
_BLANK_LINE = re.compile(_END + _END)
_LINE = re.compile(rb"\r\n|\n|\r")


class FrameTooLarge(ValueError):
    """An event grew past FRAME_BYTES_MAX without an end."""


class Framer:
    """Cuts a stream of chunks into frames. Holds at most one unfinished frame."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The frames that `chunk` completes."""
        seen = len(self._rest)
        data: bytes | bytearray = chunk
        if seen:
            self._rest += chunk
            data = self._rest
        frames: list[bytes] = []
        start = 0
        # The longest blank line has four bytes: only its first three can stand in what was searched before.
        for blank_line in _BLANK_LINE.finditer(data, max(0, seen - 3)):
            frames.append(bytes(data[start : blank_line.end()]))
            start = blank_line.end()
        if start or not seen:
            self._rest = bytearray(data[start:])
        if len(self._rest) > FRAME_BYTES_MAX:
            raise FrameTooLarge
        return frames

    def flush(self) -> bytes:
        """What is left at the stream's end: an event without its blank line, or nothing."""
        rest = bytes(self._rest)
        self._rest = bytearray()
        return rest


def data_of(frame: bytes) -> bytes | None:
    """The event's data, its `data:` lines joined by LF; None for a comment, a ping or an event without data."""
    if frame.startswith(b"data: ") and frame.endswith(b"\n\n") and frame.find(b"\n", 0, -2) < 0 and b"\r" not in frame:
        return frame[6:-2]
    lines = [line[5:].removeprefix(b" ") for line in _LINE.split(frame) if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def event(data: bytes, name: str | None = None) -> bytes:
    """One event, ready to send."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + data + b"\n\n"
