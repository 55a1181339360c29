"""One TOML table of the catalog, read key by key. What is wrong is collected, so that all of it is told at once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

_NAMES = {str: "a string", int: "a whole number", bool: "true or false", list: "a list of tables", dict: "a table"}
T = TypeVar("T")


class CatalogError(ValueError):
    """The catalog is refused. `problems`: one sentence for each thing that is wrong, naming file, model and key."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("the catalog is refused:\n" + "\n".join(f"- {problem}" for problem in problems))
        self.problems = problems


class _Float(str):
    """Stands for a float in a file, so that it can be refused by name. No float is ever made."""


class Table:
    """One TOML table, read key by key. Whatever is wrong goes to `problems`, with `where` in front."""

    def __init__(self, fields: Mapping[str, Any], where: str, problems: list[str]) -> None:
        self.keys = fields.keys()
        self._left = dict(fields)
        self._problems = problems
        self.where = where

    def child(self, fields: Mapping[str, Any], name: str) -> Table:
        return Table(fields, f"{self.where}: {name}", self._problems)

    def refuse(self, problem: str) -> None:
        self._problems.append(f"{self.where}: {problem}")

    def peek(self, key: str) -> object:
        """The value of `key`, which still is to be taken; None if it is absent."""
        return self._left.get(key)

    def take(self, key: str, wanted: type[T], *, needed: bool = False) -> T | None:
        """The value of `key`; None if it is absent, which is a problem if `needed`, or no `wanted`, which always is."""
        if key not in self._left:
            if needed:
                self.refuse(f"{key} is missing")
            return None
        value = self._left.pop(key)
        if type(value) is wanted:  # not isinstance: TOML's true is no number here
            return value
        hint = "; a float is never exact, write it in quotes" if isinstance(value, _Float) else ""
        self.refuse(f"{key} must be {_NAMES[wanted]}{hint}")
        return None

    def take_word(self, key: str, words: Iterable[str], *, needed: bool = False) -> Any:
        """A string out of a closed list, or None."""
        word = self.take(key, str, needed=needed)
        if word is None or word in words:
            return word
        self.refuse(f"{key} must be one of {', '.join(sorted(words))}, not {word!r}")
        return None

    def take_count(self, key: str, *, most: int, least: int = 1, needed: bool = False) -> int | None:
        """A whole number from `least` to `most`, or None."""
        count = self.take(key, int, needed=needed)
        if count is None or least <= count <= most:
            return count
        self.refuse(f"{key} must be from {least} to {most}")
        return None

    def take_tables(self, key: str, *, needed: bool = False) -> list[Mapping[str, Any]]:
        """A list of tables, not empty; else a problem. Empty if it is absent."""
        entries: list[Any] | None = self.take(key, list, needed=needed)
        if entries and all(isinstance(entry, dict) for entry in entries):
            return entries
        if entries is not None:
            self.refuse(f"{key} must be a list of tables, not empty")
        return []

    @property
    def problem_count(self) -> int:
        """How many problems there are so far, in all tables: what was read in between is sound if it stays the same."""
        return len(self._problems)

    def refuse_the_rest(self) -> None:
        for key in self._left:
            self.refuse(f"no such key: {key}")


def parsed(file_name: str, content: bytes, problems: list[str]) -> Table:
    """One file's top table; empty if it cannot be read."""
    try:
        return Table(tomllib.loads(content.decode(), parse_float=_Float), file_name, problems)
    except ValueError as error:  # tomllib's own error and wrong UTF-8 both derive from it
        problems.append(f"{file_name}: is not valid TOML: {error}")
        return Table({"vendor": "", "tier": "", "model": []}, file_name, [])
