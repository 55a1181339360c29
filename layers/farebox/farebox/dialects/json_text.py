"""Any JSON as text, so that it can be counted: text that nobody counts is text that nobody pays for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def json_text(value: Any) -> str:
    """A string as it is, anything else as minified JSON. Never raises."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (RecursionError, TypeError, ValueError):
        return ",".join(_leaves(value))


def listed(value: Any) -> list[Any]:
    """A list as it is, nothing as no items, anything else as one item."""
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def _leaves(value: Any) -> Iterator[str]:
    """Every key and scalar of a value that is nested too deeply to be dumped, plus a bracket for each container."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Mapping):
            yield "{"
            yield from map(str, item)
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            yield "["
            stack.extend(item)
        else:
            yield str(item)
