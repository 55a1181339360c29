"""multipart/form-data, read beside the body: texts and where the files stand. The body itself passes as received."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file of a form: its field's name, its file name ("" if none), its content type ("" if none), its bytes' span
    in the body, half-open.
    """

    field: str
    filename: str
    content_type: str
    start: int
    end: int
