"""Gemini's tools: the caller's own functions, and searches that Google makes.

A search has a fee for each answer that it grounds (Gemini 2.x). Gemini 3 is billed for every query, of which there
may be several: its models must have no price for `web_search`, which refuses the tool.
https://ai.google.dev/gemini-api/docs/google-search
"""

from __future__ import annotations

from typing import Any

from farebox.dialects.ask import refuse, unpriced
from farebox.dialects.gemini.parts import Found
from farebox.dialects.gemini.spelling import member, spellings
from farebox.dialects.json_text import listed

FUNCTIONS = spellings("functionDeclarations")
SEARCHES = spellings("googleSearch", "googleSearchRetrieval")
UNPRICED = spellings(
    "codeExecution",
    "urlContext",
    "fileSearch",
    "googleMaps",
    "computerUse",
    "mcpServers",
    "retrieval",
    "enterpriseWebSearch",
    "parallelAiSearch",
    "exaAiSearch",
)


def check_tools(tools: Any, found: Found) -> None:
    """Raises InvalidRequest."""
    for index, tool in enumerate(listed(tools)):
        where = f"tools[{index}]"
        if not isinstance(tool, dict):
            raise refuse(where, zh="必须是对象", en="it must be an object")
        for name, value in tool.items():
            if value is None or name in FUNCTIONS:
                continue
            if name not in SEARCHES:
                raise unpriced(f"{where}.{name}" if name in UNPRICED else where)
            _check_search(value, f"{where}.{name}")
            found.needs[f"{where}.{name}"] = "web_search"
            found.bounds["web_search"] = 1


def _check_search(search: Any, where: str) -> None:
    if not isinstance(search, dict):
        raise refuse(where, zh="必须是对象", en="it must be an object")
    name, kinds = member(search, "searchTypes", where)
    if kinds is not None and not (isinstance(kinds, dict) and set(kinds) <= {"webSearch", "web_search"}):
        raise unpriced(name)  # images have a price of their own
