"""How many prompt tokens a Responses body is: its items are counted as the chat messages that they stand for.

Pure, and never raises on any JSON, as in counting.py, whose method this is. What OpenAI makes of the items that are no
messages is not published: a call counts as a call in a chat, other items as their JSON text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from farebox.dialects.ask import Count
from farebox.dialects.json_text import listed
from farebox.dialects.openai.counting import count_chat

Json = Any
SEALED_CHARS_PER_TOKEN = 4
"""Thoughts come back encrypted, in base64: three bytes in four characters, and a token is seldom shorter than that."""
SPEAKING_TOOLS = frozenset({"function", "custom"})


def count_response(body: Mapping[str, Json], count: Count) -> int:
    """Prompt tokens of a responses body, images and sound left out."""
    items = items_of(body)
    messages = [_message(item) for item in items]
    if body.get("instructions") is not None:
        messages.insert(0, {"role": "system", "content": body["instructions"]})
    text = body.get("text")
    format_ = text.get("format") if isinstance(text, Mapping) else None
    kind = format_.get("type") if isinstance(format_, Mapping) else None
    chat = {
        "messages": messages,
        "tools": list(_functions(body.get("tools"))),
        "tool_choice": body.get("tool_choice"),
        "response_format": {"type": kind, "json_schema": format_},
    }
    return count_chat(chat, count) + sum(_sealed_tokens(item) for item in items)


def items_of(body: Mapping[str, Json]) -> list[Json]:
    """The `input` as a list of items."""
    given = body.get("input")
    if isinstance(given, list):
        return given
    return [] if given is None else [{"role": "user", "content": given}]


def contents_of(body: Mapping[str, Json]) -> Iterator[Json]:
    """Where content parts can stand: what messages say and what tools gave back."""
    for item in items_of(body):
        if isinstance(item, Mapping):
            yield item.get("content")
            yield item.get("output")


def item_type(item: Mapping[str, Json]) -> str:
    """An item with a role is a message, one with neither role nor type is a reference; "" for what is none."""
    kind = item.get("type")
    if kind is None:
        return "message" if item.get("role") is not None else "item_reference"
    return kind if isinstance(kind, str) else ""


def _message(item: Json) -> Json:
    """The chat message that an item stands for."""
    kind = item_type(item) if isinstance(item, Mapping) else ""
    if kind == "message":
        return {"role": item.get("role"), "content": item.get("content")}
    if kind in ("function_call", "custom_tool_call"):
        return {"tool_calls": [item]}
    if kind in ("function_call_output", "custom_tool_call_output"):
        return {"role": "tool", "content": item.get("output")}
    if kind == "reasoning":
        return {"content": [*listed(item.get("summary")), *listed(item.get("content"))]}
    return {"content": {"item": item}}


def _functions(tools: Json) -> Iterator[Json]:
    for tool in listed(tools):
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        if kind == "namespace" and isinstance(tool.get("tools"), list):
            yield {"name": tool.get("name", ""), "description": tool.get("description")}
            yield from tool["tools"]
        elif isinstance(kind, str) and kind in SPEAKING_TOOLS:
            yield tool
        else:
            yield {"description": tool, "name": kind or ""}


def _sealed_tokens(item: Json) -> int:
    sealed = item.get("encrypted_content") if isinstance(item, Mapping) else None
    return -(-len(sealed) // SEALED_CHARS_PER_TOKEN) if isinstance(sealed, str) else 0
