"""One laboratory for all fault tests; what they hit is told at the end and written to build/fault-table.md."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.lab import Lab
from tests.faults.table import HITS, markdown

TABLE = Path(__file__).resolve().parents[2] / "build" / "fault-table.md"


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    opened = Lab().open()
    yield opened
    opened.close()


@pytest.fixture
def hits() -> Counter[tuple[str, str]]:
    """(scenario, fault) → points that were hit."""
    return HITS


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "soak" in (config.option.markexpr or "") or os.environ.get("FAREBOX_SOAK") == "1":
        return
    for item in items:
        if item.get_closest_marker("soak") and "tests/faults" in item.nodeid:
            item.add_marker(pytest.mark.skip(reason="long: make soak, or FAREBOX_SOAK=1"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if HITS:
        terminalreporter.section("faults that were hit: points by scenario and fault")
        terminalreporter.write(markdown())
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(markdown(), "utf-8")
