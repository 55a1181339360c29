"""The API key: `sk-fb-` + kind + account + key number + secret + checksum, all base62.

    sk-fb- p 0aB3dE6gH9kL 4Qz8Wx <30 characters of secret> <6 of CRC-32>
           │ └ account     └ key number      178 bits
           └ f free, p paid

The account's id stands in the key, so that one conditional write finds the account, proves the key and holds the
money. The checksum lets a mistyped key fail without a look at the store. The kind stands there because it decides
which write that is; the store's record must agree with it.
"""

from __future__ import annotations

import hmac
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

PREFIX = "sk-fb-"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KINDS = {"f": "free", "p": "paid"}
LETTERS = {kind: letter for letter, kind in KINDS.items()}
ACCOUNT_CHARS, NUMBER_CHARS, SECRET_CHARS, CHECKSUM_CHARS = 12, 6, 30, 6
KEY_CHARS = len(PREFIX) + 1 + ACCOUNT_CHARS + NUMBER_CHARS + SECRET_CHARS + CHECKSUM_CHARS
_SHAPE = re.compile(
    rf"{PREFIX}([fp])([0-9A-Za-z]{{{ACCOUNT_CHARS}}})([0-9A-Za-z]{{{NUMBER_CHARS}}})"
    rf"[0-9A-Za-z]{{{SECRET_CHARS}}}([0-9A-Za-z]{{{CHECKSUM_CHARS}}})"
)
_ACCOUNT_ID = re.compile(rf"acc_[0-9A-Za-z]{{{ACCOUNT_CHARS}}}")
_KEY_ID = re.compile(rf"key_([0-9A-Za-z]{{{ACCOUNT_CHARS}}})([0-9A-Za-z]{{{NUMBER_CHARS}}})")

Random = Callable[[int], bytes]
"""`Random(n)` gives n random bytes."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A well-formed key. `text` is the secret itself: it is digested, never stored or logged."""

    text: str
    kind: str
    account: str
    number: str

    @property
    def id(self) -> str:
        """The public id, `key_…`; it leads to the account without an index."""
        return key_id(self.account, self.number)

    @property
    def last4(self) -> str:
        return self.text[-4:]

    def __repr__(self) -> str:
        return f"ApiKey({self.id})"

    def digest(self, pepper: bytes) -> bytes:
        """HMAC-SHA256 of the whole key: what the store keeps."""
        return hmac.digest(pepper, self.text.encode("ascii"), "sha256")


def mint_account(random: Random) -> str:
    """A new account's id: `acc_` + 71 random bits in base62."""
    return f"acc_{_base62_random(random, ACCOUNT_CHARS)}"


def mint(kind: str, account: str, random: Random) -> ApiKey:
    """A new key of `kind` ("free" or "paid") for `account`."""
    number = _base62_random(random, NUMBER_CHARS)
    body = f"{LETTERS[kind]}{account.removeprefix('acc_')}{number}{_base62_random(random, SECRET_CHARS)}"
    return ApiKey(text=f"{PREFIX}{body}{_checksum(body)}", kind=kind, account=account, number=number)


def parse(text: str) -> ApiKey | None:
    """The key in `text`, or None when its shape or its checksum is wrong. Touches no store."""
    if len(text) != KEY_CHARS:
        return None
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        return None
    letter, account, number, checksum = shape.groups()
    if _checksum(text[len(PREFIX) : -CHECKSUM_CHARS]) != checksum:
        return None
    return ApiKey(text=text, kind=KINDS[letter], account=f"acc_{account}", number=number)


def key_id(account: str, number: str) -> str:
    """The public id of an account's key."""
    return f"key_{account.removeprefix('acc_')}{number}"


def parse_key_id(text: str) -> tuple[str, str] | None:
    """`key_…` → (account id, key number), or None."""
    shape = _KEY_ID.fullmatch(text)
    return (f"acc_{shape[1]}", shape[2]) if shape else None


def is_account_id(text: str) -> bool:
    return _ACCOUNT_ID.fullmatch(text) is not None


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode("ascii")), CHECKSUM_CHARS)


def _base62(number: int, chars: int) -> str:
    digits = []
    for _ in range(chars):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def _base62_random(random: Random, chars: int) -> str:
    # Eight bytes more than the digits need: the remainder's bias is below 2**-64.
    return _base62(int.from_bytes(random(chars * 6 // 8 + 9), "big") % 62**chars, chars)
