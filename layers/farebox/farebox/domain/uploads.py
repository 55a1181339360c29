"""Files that come apart from the request that uses them: what is known of one, its id, its name where it lies.

    farebox-upload:up_6735a1f0 <22 characters of base62>
                      │        └ 131 random bits
                      └ when it expires: epoch seconds, hexadecimal

The time stands in the id, and the name where the bytes lie is a keyed hash of account and id. So an id whose time was
changed, and another account's id, lead to nothing, and no record has to be kept of either.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

from farebox.domain.keys import ALPHABET

BYTES_MAX = 25 * 1024 * 1024
"""Of one file, and of all that one request uses."""
LIFE_S = 3600
"""How long a file may be sent and used."""
FILENAME_CHARS_MAX = 100
CONTENT_TYPE_CHARS_MAX = 100
ANY_TYPE = "application/octet-stream"
TYPES = {
    "flac": "audio/flac",
    "gif": "image/gif",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "m4a": "audio/mp4",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "mpeg": "audio/mpeg",
    "mpga": "audio/mpeg",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "png": "image/png",
    "wav": "audio/wav",
    "webm": "audio/webm",
    "webp": "image/webp",
}
"""A file name's ending → its content type, where the caller gives none."""

_RANDOM_CHARS = 22
_ID = re.compile(rf"up_([0-9a-f]{{8}})[0-9A-Za-z]{{{_RANDOM_CHARS}}}")
_CONTENT_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*")
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f"\\/]')


@dataclass(frozen=True, slots=True)
class Upload:
    """What is known of a file: how its sender calls it, its content type, its length in bytes."""

    filename: str
    content_type: str
    size: int


class TooMuch(Exception):
    """The file is longer than there is room for in the request."""


def mint_id(expires_s: int, random: Callable[[int], bytes]) -> str:
    """A new id, of a file that can be used until `expires_s` (epoch seconds)."""
    # Eight bytes more than the digits need: the remainder's bias is below 2**-60.
    number = int.from_bytes(random(25), "big")
    letters = []
    for _ in range(_RANDOM_CHARS):
        number, digit = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[digit])
    return f"up_{expires_s:08x}{''.join(letters)}"


def expiry_s(upload_id: str) -> int | None:
    """When the id expires, epoch seconds; None for what is no id."""
    shape = _ID.fullmatch(upload_id)
    return int(shape[1], 16) if shape else None


def object_name(upload_id: str, account: str, pepper: bytes) -> str:
    """What the file is called where it lies: 64 hexadecimal digits, so nothing of a caller's stands in a path."""
    return hmac.digest(pepper, f"upload|{account}|{upload_id}".encode(), "sha256").hex()


def is_filename(text: str) -> bool:
    """Whether `text` can stand in a form's header as it is, and is no path."""
    return 0 < len(text) <= FILENAME_CHARS_MAX and not _UNSAFE.search(text)


def is_content_type(text: str) -> bool:
    """Whether `text` is a content type without parameters; such a one needs no escape in JSON or in a header."""
    return len(text) <= CONTENT_TYPE_CHARS_MAX and _CONTENT_TYPE.fullmatch(text) is not None


def type_of(filename: str) -> str:
    """The content type that a file name suggests."""
    return TYPES.get(filename.rpartition(".")[2].lower(), ANY_TYPE)
