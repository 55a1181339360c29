"""The code's shape: files and functions that a newcomer can hold in their head."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("layers", "functions", "scripts") for path in (ROOT / folder).rglob("*.py"))
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
LONGER = {"build"}
"""The composition root is one list of what there is; cut into pieces it would only be harder to read."""
HOMELESS = {"utils", "util", "helpers", "common", "misc", "manager", "base"}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short_named_for_a_thing_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text("utf-8")

    assert len(text.splitlines()) <= FILE_LINES_MAX
    assert path.stem not in HOMELESS
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_function_fits_a_screen(path: Path) -> None:
    long = {each.name: (each.end_lineno or 0) - each.lineno + 1 for each in functions(path)}

    assert {name: lines for name, lines in long.items() if lines > FUNCTION_LINES_MAX and name not in LONGER} == {}


def test_nothing_is_left_unfinished() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "Not" + "ImplementedError")
    found = [f"{path.name}: {mark}" for path in SOURCES for mark in marks if mark in path.read_text("utf-8")]

    assert found == []


def test_the_domain_and_the_money_path_know_no_float() -> None:
    folders = [ROOT / "layers" / "farebox" / "farebox" / name for name in ("domain", "relay", "adapters/dynamodb")]
    money = [path for folder in folders for path in folder.rglob("*.py")]
    found = [
        f"{path.name}:{node.lineno}"
        for path in money
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("float", "round")
    ]

    assert found == []
