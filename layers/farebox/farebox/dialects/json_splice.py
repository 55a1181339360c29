"""Changes to a JSON object's members that leave every other byte as it was.

Floats, key order, escapes and unknown fields of the caller must survive; a parse and a dump would lose them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]', re.DOTALL)
_KEY = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"[ \t\r\n]*+(:?)', re.DOTALL)
"""A string, and the colon behind it if it names a member."""
_SPACE = b" \t\r\n"


class Member(NamedTuple):
    """Where a member of the outermost object stands: its name, escapes undone, and its value's half-open span."""

    name: str
    start: int
    end: int


def members(body: bytes) -> list[Member]:
    """The outermost members of a JSON object, in order. `body` must be valid JSON; duplicates are listed."""
    found: list[Member] = []
    depth = 0
    key = b""
    value_start = -1
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
            if depth == 0 and value_start >= 0:
                found.append(_member(body, key, value_start, token.start()))
        elif depth == 1:
            if first == 0x22 and value_start < 0:
                key = token[0]
            elif first == 0x3A:  # a colon: the value begins
                value_start = token.end()
            elif first == 0x2C:  # a comma: it has ended
                found.append(_member(body, key, value_start, token.start()))
                value_start = -1
    return found


def splice(body: bytes, changes: Mapping[str, bytes]) -> bytes:
    """`body` with each named member's value replaced, or put first where there was none. Values are raw JSON."""
    if not changes:
        return body
    missing = dict(changes)
    pieces: list[bytes] = []
    position = 0
    for member in () if _times_at_most(body, changes, 0) else members(body):
        if member.name in changes:
            pieces += (body[position : member.start], changes[member.name])
            position = member.end
            missing.pop(member.name, None)
    changed = b"".join((*pieces, body[position:]))
    if not missing:
        return changed
    brace = changed.index(b"{") + 1
    added = b",".join(b'"%s":%s' % (name.encode(), value) for name, value in missing.items())
    comma = b"" if changed[brace:].lstrip(_SPACE).startswith(b"}") else b","
    return changed[:brace] + added + comma + changed[brace:]


def has_duplicates(body: bytes, document: Any) -> bool:
    """Whether any object in `body` names a member twice (escaped spellings included); `document` is the body, parsed.

    Two readers of such a body may disagree about which one counts, and one of them is the price: of the request as
    a whole, of a tool, of a part, of a cache's life. Time is linear in the body, however many names there are.
    """
    try:
        if orjson.dumps(document) == body:  # what has been parsed holds no name twice, and nothing was lost
            return False
    except TypeError:  # nested too deeply for orjson to write
        pass
    return sum(map(len, _KEY.findall(body))) != _names(document)


def _names(document: Any) -> int:
    """How many members all objects in it have."""
    count, stack = 0, [document]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            count += len(value)
            stack += value.values()
        elif isinstance(value, list):
            stack += value
    return count


def _times_at_most(body: bytes, names: Iterable[str], times: int) -> bool:
    """Whether it is plain without a scan that no member of these names stands in `body` more than so many times.

    A name of plain letters can only hide behind a \\u escape; where there is none, it stands there in quotes.
    """
    return b"\\u" not in body and all(
        name.isascii() and name.isidentifier() and body.count(b'"%s"' % name.encode()) <= times for name in names
    )


def _member(body: bytes, key: bytes, start: int, end: int) -> Member:
    while start < end and body[start] in _SPACE:
        start += 1
    while end > start and body[end - 1] in _SPACE:
        end -= 1
    return Member(json.loads(key) if b"\\" in key else key[1:-1].decode(), start, end)
