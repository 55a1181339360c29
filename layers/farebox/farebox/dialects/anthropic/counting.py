"""How many input tokens a messages request is, counted from its parsed JSON: an estimate.

Claude's tokenizer is not public: `count` is another one, and the catalog's margin covers the difference. What is
known is from Anthropic's documentation, the rest is estimated upwards. Nothing here raises on any JSON; what has an
unknown shape counts as its JSON text. Images are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from farebox.dialects.anthropic.tools import hidden_tokens
from farebox.dialects.ask import Count
from farebox.dialects.json_text import json_text, listed

MESSAGE_TOKENS = 4
REPLY_TOKENS = 3
CALL_TOKENS = 10  # the frame around a tool's use or result
TOOL_TOKENS = 10  # around each definition
TOOLS_TOKENS = 350
"""The system text that tools bring with them: 346 for Claude 4, by the documentation's table."""
FORMAT_TOKENS = 10
SEALED_CHARS_PER_TOKEN = 5
"""Encrypted text (thoughts, search results) comes back as base64: three bytes in four characters, about four a token.
"""
DEPTH_MAX = 16  # blocks nested deeper count as their JSON text

Block = Mapping[str, Any]


def count_messages(body: Mapping[str, Any], count: Count) -> int:
    """Input tokens of a body of /v1/messages or /v1/messages/count_tokens."""
    tokens = REPLY_TOKENS + _content_tokens(body.get("system"), count, 0)
    for message in listed(body.get("messages")):
        if isinstance(message, Mapping):
            tokens += MESSAGE_TOKENS + _content_tokens(message.get("content"), count, 0)
        else:
            tokens += MESSAGE_TOKENS + count(json_text(message))
    return tokens + _tools_tokens(body, count) + _format_tokens(body.get("output_config"), count)


def _tools_tokens(body: Mapping[str, Any], count: Count) -> int:
    tools = listed(body.get("tools"))
    tokens = TOOLS_TOKENS if tools else 0
    for tool in tools:
        hidden = hidden_tokens(tool.get("type")) if isinstance(tool, Mapping) else 0
        tokens += TOOL_TOKENS + hidden + count(json_text(_without_cache(tool)))
    choice = body.get("tool_choice")
    return tokens + (count(json_text(choice)) if choice else 0)


def _format_tokens(config: Any, count: Count) -> int:
    """A schema for the answer is put before the model as text."""
    if not isinstance(config, Mapping):
        return 0 if config is None else count(json_text(config))
    return FORMAT_TOKENS + count(json_text(config["format"])) if config.get("format") else 0


def _content_tokens(content: Any, count: Count, depth: int) -> int:
    if content is None:
        return 0
    if isinstance(content, str):
        return count(content)
    if depth > DEPTH_MAX:
        return count(json_text(content))
    return sum(_block_tokens(block, count, depth) for block in listed(content))


def _block_tokens(block: Any, count: Count, depth: int) -> int:
    kind = block.get("type") if isinstance(block, Mapping) else None
    if isinstance(kind, str) and kind in _BLOCKS:
        return _BLOCKS[kind](block, count, depth)
    return count(json_text(_without_cache(block)))


def _text(block: Block, count: Count, _depth: int) -> int:
    """Citations go back with a text, and cost nothing."""
    return count(json_text(block.get("text", "")))


def _image(_block: Block, _count: Count, _depth: int) -> int:
    return 0


def _thinking(block: Block, count: Count, _depth: int) -> int:
    """A signature seals the whole thought, of which the text may be a summary, or nothing."""
    return max(count(json_text(block.get("thinking", ""))), _sealed_tokens(block.get("signature")))


def _redacted(block: Block, _count: Count, _depth: int) -> int:
    return _sealed_tokens(block.get("data"))


def _call(block: Block, count: Count, _depth: int) -> int:
    return CALL_TOKENS + count(json_text(block.get("name", ""))) + count(json_text(block.get("input", "")))


def _result(block: Block, count: Count, depth: int) -> int:
    return CALL_TOKENS + _content_tokens(block.get("content"), count, depth + 1)


def _document(block: Block, count: Count, depth: int) -> int:
    source = block.get("source")
    tokens = sum(count(json_text(block[name])) for name in ("title", "context") if block.get(name))
    if not isinstance(source, Mapping):
        return tokens + count(json_text(source))
    if source.get("type") == "content":
        return tokens + _content_tokens(source.get("content"), count, depth + 1)
    return tokens + count(json_text(source["data"] if isinstance(source.get("data"), str) else source))


def _search_result(block: Block, count: Count, depth: int) -> int:
    named = sum(count(json_text(block[name])) for name in ("source", "title") if block.get(name))
    return named + _content_tokens(block.get("content"), count, depth + 1)


def _found(block: Block, count: Count, _depth: int) -> int:
    """What a server's tool found earlier: results whose text is sealed."""
    return CALL_TOKENS + sum(_found_tokens(each, count) for each in listed(block.get("content")))


def _found_tokens(result: Any, count: Count) -> int:
    if not isinstance(result, Mapping):
        return count(json_text(result))
    seen = {name: value for name, value in result.items() if name != "encrypted_content"}
    return _sealed_tokens(result.get("encrypted_content")) + count(json_text(seen))


def _sealed_tokens(value: Any) -> int:
    return -(-len(value) // SEALED_CHARS_PER_TOKEN) if isinstance(value, str) else 0


def _without_cache(value: Any) -> Any:
    """`cache_control` is an instruction: no model reads it."""
    if isinstance(value, Mapping) and "cache_control" in value:
        return {name: member for name, member in value.items() if name != "cache_control"}
    return value


_BLOCKS: dict[str, Callable[[Block, Count, int], int]] = {
    "text": _text,
    "image": _image,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _call,
    "server_tool_use": _call,
    "tool_result": _result,
    "document": _document,
    "search_result": _search_result,
    "web_search_tool_result": _found,
}
"""A block's type → its tokens. The rest count as their JSON text."""
