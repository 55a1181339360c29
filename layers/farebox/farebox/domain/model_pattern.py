"""Which models a query means: `%` stands for any text, as in SQL's LIKE, where that costs no more than a comparison."""

from __future__ import annotations

from collections.abc import Callable

PATTERN_CHARS_MAX = 128
ANY = "%"
Matches = Callable[[str], bool]


def model_pattern(text: str) -> Matches:
    """A test of a model's id, whatever its case. No regular expression is made of what a caller wrote.

    `%` and the empty text are all models; else at most one `%` anywhere (`gpt-%`, `%-mini`, `gpt-%-mini`), or one at
    each end (`%4o%`). Raises ValueError for more of them, or for more than 128 characters.
    """
    if len(text) > PATTERN_CHARS_MAX:
        raise ValueError(f"a model's pattern has at most {PATTERN_CHARS_MAX} characters")
    wanted = text.lower()
    if wanted.strip("%") == "":
        return lambda _: True
    parts = wanted.split("%")
    if len(parts) == 1:
        return lambda model: model.lower() == wanted
    if len(parts) == 2:
        start, end = parts
        shortest = len(start) + len(end)
        return lambda model: len(model) >= shortest and model.lower().startswith(start) and model.lower().endswith(end)
    if len(parts) == 3 and parts[0] == parts[2] == "":
        inner = parts[1]
        return lambda model: inner in model.lower()
    raise ValueError("a model's pattern has one % anywhere, or one at each end")
