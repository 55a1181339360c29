"""DynamoDB's typed JSON, to and from plain values. Numbers are integers here; there is no float in this store."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

Attribute = dict[str, Any]
Item = dict[str, Attribute]


def n(number: int) -> Attribute:
    return {"N": str(number)}


def s(text: str) -> Attribute:
    return {"S": text}


def b(data: bytes) -> Attribute:
    return {"B": base64.b64encode(data).decode("ascii")}


def strings(texts: tuple[str, ...]) -> Attribute:
    return {"L": [s(text) for text in texts]}


def m(members: Mapping[str, Attribute]) -> Attribute:
    return {"M": dict(members)}


def plain(attribute: Attribute) -> Any:
    """An attribute → int, str, bytes, bool, None, list or dict."""
    ((kind, value),) = attribute.items()
    return _PLAIN[kind](value)


def plain_item(item: Mapping[str, Attribute]) -> dict[str, Any]:
    return {name: plain(attribute) for name, attribute in item.items()}


_PLAIN: dict[str, Callable[[Any], Any]] = {
    "N": int,
    "S": str,
    "B": base64.b64decode,
    "BOOL": bool,
    "NULL": lambda _: None,
    "L": lambda values: [plain(value) for value in values],
    "M": plain_item,
    "SS": list,
}
