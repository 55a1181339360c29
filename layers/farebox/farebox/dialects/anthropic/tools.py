"""Anthropic's tools: the caller's own, those whose definition the vendor knows, and those that the vendor runs.

https://docs.claude.com/en/docs/agents-and-tools/tool-use/overview
"""

from __future__ import annotations

from typing import Any

from farebox.dialects.anthropic.blocks import Found, check_cache
from farebox.dialects.ask import refuse, unpriced, whole

CUSTOM = (None, "custom")
SEARCH = "web_search_"
SEARCHES_MAX = 100
SEARCH_RESULT_TOKENS = 10_000
"""What one search may put before the model: an estimate, above what Anthropic's own examples show (5,300)."""
HIDDEN_TOKENS = {
    "bash_": 1_000,
    "text_editor_": 1_000,
    "memory_": 1_000,
    "tool_search_tool_": 1_000,
    "computer_toolset_": 4_000,
    "computer_": 1_500,
    "browser_toolset_": 4_000,
    SEARCH: 1_000,
}
"""Prefix of a tool's type → a bound for the definition that the vendor adds for it, which is billed as input. The
published figures are 245 for bash, 700 for the editor, 735 and 499 for the computer; the toolsets are estimates.

Tools of other types are refused: fetching, code and MCP bring in input without a bound, or have fees of their own.
"""


def check_tools(tools: Any, found: Found) -> int:
    """How many web searches are allowed in all. Raises InvalidRequest."""
    if tools is None:
        return 0
    if not isinstance(tools, list):
        raise refuse("tools", zh="必须是数组", en="it must be an array")
    searches = 0
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        if not isinstance(tool, dict):
            raise refuse(where, zh="必须是对象", en="it must be an object")
        check_cache(tool, where, found)
        kind = tool.get("type")
        if kind not in CUSTOM and not hidden_tokens(kind):
            raise unpriced(f"{where}.type")
        if isinstance(kind, str) and kind.startswith(SEARCH):
            found.needs[f"{where}.type"] = "web_search"
            searches += _max_uses(tool, where)
    return searches


def hidden_tokens(kind: Any) -> int:
    """What a tool of this type adds to the input unseen; nought for a custom tool and for one that is not known."""
    if not isinstance(kind, str):
        return 0
    return next((bound for prefix, bound in HIDDEN_TOKENS.items() if kind.startswith(prefix)), 0)


def search_input_tokens(searches: int, prompt_tokens: int) -> int:
    """The most input that searches add: each is a further turn, which reads the prompt and all results again."""
    return searches * prompt_tokens + SEARCH_RESULT_TOKENS * searches * (searches + 1) // 2


def _max_uses(tool: dict[str, Any], where: str) -> int:
    uses = whole({f"{where}.max_uses": tool.get("max_uses")}, f"{where}.max_uses", low=1, high=SEARCHES_MAX)
    if uses is None:
        raise refuse(
            f"{where}.max_uses",
            zh="每次搜索都要收费，请给出次数上限",
            en="every search has a fee, so say how many there may be",
        )
    return uses
