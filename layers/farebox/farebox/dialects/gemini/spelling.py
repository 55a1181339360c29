"""Gemini's members have two spellings, systemInstruction and system_instruction: the vendor reads both, so we do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from farebox.dialects.ask import refuse

_CAPITAL = re.compile(r"[A-Z]")


@cache
def snake(name: str) -> str:
    """The other spelling of one of our own names (never of a caller's: they are kept for good)."""
    return _CAPITAL.sub(lambda letter: "_" + letter[0].lower(), name)


def value_of(holder: Mapping[str, Any], name: str) -> Any:
    """A member's value under either spelling; None where it is absent. `name`: as in systemInstruction."""
    value = holder.get(name)
    return holder.get(snake(name)) if value is None else value


def member(holder: Mapping[str, Any], name: str, where: str = "") -> tuple[str, Any]:
    """(the path in the caller's own spelling, the value). Raises InvalidRequest for a member that is there twice.

    Two readers of such a body may disagree about which one counts, and one of them is the price.
    """
    other = snake(name)
    dot = f"{where}." if where else ""
    if other == name or other not in holder:
        return dot + name, holder.get(name)
    if name in holder:
        raise refuse(dot + other, zh=f"与 {name} 重复", en=f"it repeats {name}")
    return dot + other, holder[other]


def spellings(*names: str) -> dict[str, str]:
    """Each spelling of these names → the name."""
    return {spelling: name for name in names for spelling in (name, snake(name))}
