"""The `anthropic-beta` header: names of features that a caller may switch on."""

from __future__ import annotations

DEARER = ("context-1m-",)
"""Features that change the price of the whole request, and not by a parameter that the reader sees: above 200,000
tokens of input all of it is charged twice. Without the feature the vendor refuses such a request.
https://docs.claude.com/en/docs/build-with-claude/context-windows
"""


def priced(header: str) -> str | None:
    """The header without the features that have no price here; None if nothing is left of it."""
    names = (name.strip() for name in header.split(","))
    return ",".join(name for name in names if name and not name.lower().startswith(DEARER)) or None
