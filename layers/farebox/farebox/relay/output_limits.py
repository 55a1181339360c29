"""Where a request's output limits stand, in whatever dialect, and how they are lowered to what a wallet covers."""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

from farebox.dialects.ask import Ask, Fields
from farebox.dialects.bridge import Terms
from farebox.dialects.wire import Wire
from farebox.domain.catalog import Model
from farebox.relay.ways import Way


def limit_param(way: Way, model: Model) -> str:
    """What an OpenAI-speaking vendor calls the limit on a chat's output."""
    vendor = way.channel.vendor
    return vendor.reasoning_limit_param if model.reasoning else vendor.limit_param


def by_its_name(fields: Fields, limit_param: str) -> Mapping[str, bytes]:
    """A chat's limit under the one name that its vendor knows: what it ignores it would answer beyond."""
    limit = fields.get("max_completion_tokens")
    return {limit_param: b"%d" % limit} if type(limit) is int and fields.get(limit_param) is None else {}


def can_be_set(ask: Ask, wire: Wire) -> bool:
    return bool(ask.output_limits) or wire.limit_param is not None


def lowered(ask: Ask, wire: Wire, terms: Terms, fields: Fields, tokens: int) -> Mapping[str, bytes]:
    """The outermost members to change so that at most `tokens` come back per choice, as raw JSON."""
    members: dict[str, list[str]] = {}
    for path in _paths(ask, wire, terms, fields):
        members.setdefault(path.partition(".")[0], []).append(path)
    return {name: _limited(fields, paths, tokens) for name, paths in members.items()}


def _paths(ask: Ask, wire: Wire, terms: Terms, fields: Fields) -> list[str]:
    """The caller's own limits, or the one that the operation has."""
    if ask.output_limits or wire.limit_param is None:
        return list(ask.output_limits)
    if wire.name == "chat.completions":
        return [terms.limit_param]
    name, dot, inner = wire.limit_param.partition(".")
    # Gemini takes generation_config for generationConfig: a second spelling beside the caller's would be refused.
    snake = re.sub(r"[A-Z]", lambda letter: "_" + letter[0].lower(), name)
    return [f"{snake if snake in fields else name}{dot}{inner}"]


def _limited(fields: Fields, paths: list[str], tokens: int) -> bytes:
    """The outermost member with its limits lowered: a number, or an object that holds numbers."""
    name, _, inner = paths[0].partition(".")
    if not inner:
        asked = fields.get(name)
        return b"%d" % (min(tokens, asked) if type(asked) is int else tokens)
    members = dict(fields.get(name) or {})
    for path in paths:
        key = path.partition(".")[2]
        members[key] = min(tokens, members.get(key) or tokens)
    return orjson.dumps(members)
