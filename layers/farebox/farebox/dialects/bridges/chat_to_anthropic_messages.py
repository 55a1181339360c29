"""The conversation of a chat, as turns of Anthropic's messages.

Raises InvalidRequest alone, naming the caller's member. What may surprise is told in chat_to_anthropic.py, to which
this belongs; the checks here serve both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import orjson

from farebox.dialects.ask import Fields, refuse
from farebox.dialects.bridge import Terms
from farebox.dialects.bridges.chat_to_anthropic_stream import THOUGHT_FORMAT
from farebox.errors import InvalidRequest

IMAGE_TYPES: Mapping[str, str] = MappingProxyType(
    {f"image/{kind}": f"image/{kind}" for kind in ("jpeg", "png", "gif", "webp")} | {"image/jpg": "image/jpeg"}
)
THOUGHTS = frozenset({"thinking", "redacted_thinking"})
_CALL_ID = re.compile(r"[A-Za-z0-9_-]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")

Block = dict[str, Any]
T = TypeVar("T", str, dict[str, Any], list[Any])
_KINDS = {str: ("字符串", "a string"), dict: ("对象", "an object"), list: ("数组", "an array")}


# ── checks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def inexpressible(where: str) -> InvalidRequest:
    """Refusal of what the vendor has nothing like."""
    return refuse(
        where, zh="该模型的供应商无法表达此项，已拒绝", en="this model's vendor cannot express it, so it is refused"
    )


def path(where: str, name: str) -> str:
    """The member's path; a name that looks like none is not repeated."""
    shown = name if _NAME.fullmatch(name) else "?"
    return f"{where}.{shown}" if where else shown


def must(kind: type[T], value: Any, where: str) -> T:
    """The value, if it is of that kind."""
    if not isinstance(value, kind):
        zh, en = _KINDS[kind]
        raise refuse(where, zh=f"必须是{zh}", en=f"it must be {en}")
    return value


def named(value: Any, where: str) -> str:
    """A string that is not empty."""
    if not must(str, value, where):
        raise refuse(where, zh="不能为空", en="it must not be empty")
    return str(value)


def only(value: Fields, where: str, *known: str) -> None:
    """Refuses a member that has no translation, unless it is null."""
    for name, member in value.items():
        if member is not None and name not in known:
            raise inexpressible(path(where, name))


def array(value: Any, where: str) -> list[Any]:
    """A list; null and absent are an empty one."""
    return [] if value is None else must(list, value, where)


# ── the conversation ────────────────────────────────────────────────────────────────────────────────────────────────


def conversation(messages: Any, terms: Terms) -> tuple[list[Block], list[dict[str, Any]]]:
    """(system's blocks, turns). Messages of one side in a row are one turn."""
    system: list[Block] = []
    turns: list[dict[str, Any]] = []
    for index, item in enumerate(must(list, messages, "messages")):
        where = f"messages[{index}]"
        message = must(dict, item, where)
        role = message.get("role")
        if not isinstance(role, str) or role not in ROLES:
            raise inexpressible(f"{where}.role")
        side, read, members = ROLES[role]
        only(message, where, "role", "content", "cache_control", *members)
        blocks = read(message, where)
        if side == "assistant" and terms.reasoning:
            blocks = _thoughts(message, where) + blocks
        if "cache_control" in message and blocks and blocks[-1]["type"] not in THOUGHTS:
            cache(blocks[-1], message, where)
        if side == "system":
            system += blocks
        elif blocks and turns and turns[-1]["role"] == side:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": side, "content": blocks})
    if not turns:
        raise refuse("messages", zh="至少需要一条非空的对话消息", en="it must hold a message that is not empty")
    for turn in turns:  # the vendor wants results of tools before what else is said
        turn["content"].sort(key=lambda block: turn["role"] == "user" and block["type"] != "tool_result")
    return system, turns


def _said(message: Fields, where: str) -> list[Block]:
    """The content's blocks: one text, or parts of the types that the role may have."""
    content: Any = message.get("content")
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    blocks: list[Block] = []
    for index, item in enumerate(must(list, content, f"{where}.content")):
        at = f"{where}.content[{index}]"
        part = must(dict, item, at)
        kind = part.get("type")
        if not isinstance(kind, str) or kind not in PARTS_OF[message["role"]]:
            raise inexpressible(f"{at}.type")
        # A breakpoint of OpenAI's cache is a hint, and its times are not the vendor's.
        only(part, at, "type", kind, "cache_control", "prompt_cache_breakpoint")
        if block := PARTS[kind](part.get(kind), f"{at}.{kind}"):
            cache(block, part, at)
            blocks.append(block)
    return blocks


def _text(text: Any, where: str) -> Block | None:
    return {"type": "text", "text": text} if must(str, text, where) else None


def _image(value: Any, where: str) -> Block:
    image = must(dict, value, where)
    only(image, where, "url", "detail")
    if image.get("detail") not in (None, "auto", "high"):
        raise inexpressible(f"{where}.detail")
    url = must(str, image.get("url"), f"{where}.url")
    if url.startswith(("https://", "http://")):
        return {"type": "image", "source": {"type": "url", "url": url}}
    head, _, data = url.partition(",")
    media_type, *options = head.removeprefix("data:").lower().split(";")
    if not head.startswith("data:") or not data or media_type not in IMAGE_TYPES or "base64" not in options:
        raise refuse(
            f"{where}.url",
            zh="必须是 http(s) 链接，或 JPEG、PNG、GIF、WebP 的 base64 data URL",
            en="it must be an http(s) link, or a base64 data URL of a JPEG, PNG, GIF or WebP",
        )
    return {"type": "image", "source": {"type": "base64", "media_type": IMAGE_TYPES[media_type], "data": data}}


def cache(block: Block, source: Fields, where: str) -> None:
    """Passes on the mark up to which the vendor is to cache the prompt."""
    value: Any = source.get("cache_control")
    if value is None:
        return
    mark = must(dict, value, f"{where}.cache_control")
    only(mark, f"{where}.cache_control", "type", "ttl")
    if mark.get("type") != "ephemeral" or mark.get("ttl") not in (None, "5m", "1h"):
        raise inexpressible(f"{where}.cache_control")
    block["cache_control"] = {name: member for name, member in mark.items() if member is not None}


def _assistant(message: Fields, where: str) -> list[Block]:
    blocks = _said(message, where)
    refusal: Any = message.get("refusal")
    if refusal is not None and (block := _text(refusal, f"{where}.refusal")):
        blocks.append(block)
    for index, item in enumerate(array(message.get("tool_calls"), f"{where}.tool_calls")):
        at = f"{where}.tool_calls[{index}]"
        call = must(dict, item, at)
        if call.get("type") not in (None, "function"):
            raise inexpressible(f"{at}.type")
        # A stream's index says nothing any more; what Gemini adds are its own signatures.
        only(call, at, "id", "type", "function", "cache_control", "index", "extra_content")
        function = must(dict, call.get("function"), f"{at}.function")
        only(function, f"{at}.function", "name", "arguments")
        made: Block = {
            "type": "tool_use",
            "id": _call_id(call.get("id"), f"{at}.id"),
            "name": named(function.get("name"), f"{at}.function.name"),
            "input": _arguments(function.get("arguments"), f"{at}.function.arguments"),
        }
        cache(made, call, at)
        blocks.append(made)
    return blocks


def _arguments(value: Any, where: str) -> orjson.Fragment:
    """The JSON object as it was written. Some models write nothing where they pass nothing."""
    text = must(str, value, where).strip() or "{}"
    try:
        if isinstance(orjson.loads(text), dict):
            return orjson.Fragment(text)
    except ValueError:
        pass
    raise refuse(where, zh="必须是 JSON 对象的文本", en="it must be the text of a JSON object")


def _call_id(value: Any, where: str) -> str:
    call_id = named(value, where)
    if _CALL_ID.fullmatch(call_id):
        return call_id
    return "call_" + hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _tool_result(message: Fields, where: str) -> list[Block]:
    made: Block = {
        "type": "tool_result",
        "tool_use_id": _call_id(message.get("tool_call_id"), f"{where}.tool_call_id"),
    }
    content = _said(message, where)
    for block in content:  # the vendor caches whole results
        if mark := block.pop("cache_control", None):
            made["cache_control"] = mark
    return [{**made, "content": content} if content else made]


def _thoughts(message: Fields, where: str) -> list[Block]:
    """The thoughts that the vendor signed, byte for byte; those of other vendors it could not read."""
    found: list[Block] = []
    for detail in _joined(array(message.get("reasoning_details"), f"{where}.reasoning_details"), where):
        if detail.get("format") in (None, THOUGHT_FORMAT):
            kind = detail.get("type")
            thought = {"type": "thinking", "thinking": detail["text"], "signature": detail.get("signature")}
            hidden = {"type": "redacted_thinking", "data": detail.get("data")}
            found.append(hidden if kind == "reasoning.encrypted" else thought if kind == "reasoning.text" else {})
    signed = [block for block in found if _signed(block)]
    if not signed:
        blocks = array(message.get("thinking_blocks"), f"{where}.thinking_blocks")
        for index, item in enumerate(blocks):
            block = must(dict, item, f"{where}.thinking_blocks[{index}]")
            signed += [{name: block[name] for name in _MEMBERS[block["type"]]}] if _signed(block) else []
    return signed


_MEMBERS = {"thinking": ("type", "thinking", "signature"), "redacted_thinking": ("type", "data")}


def _signed(block: Block) -> bool:
    members = _MEMBERS.get(block["type"], ()) if isinstance(block.get("type"), str) else ()
    return bool(members and block.get(members[-1])) and all(isinstance(block.get(name), str) for name in members)


def _joined(details: list[Any], where: str) -> list[dict[str, Any]]:
    """The details, with a text that came in pieces (one index, the signature last) in one: clients keep deltas so."""
    whole_ones: list[dict[str, Any]] = []
    for index, item in enumerate(details):
        detail = must(dict, item, f"{where}.reasoning_details[{index}]")
        text = [detail["text"]] if isinstance(detail.get("text"), str) else []
        if whole_ones and _continues(whole_ones[-1], detail):
            whole_ones[-1]["texts"] += text
            whole_ones[-1]["signature"] = detail.get("signature")
        else:
            whole_ones.append({**detail, "texts": text})
    return [{**detail, "text": "".join(detail["texts"])} for detail in whole_ones]


def _continues(last: Fields, detail: Fields) -> bool:
    alike = last.get("type") == detail.get("type") == "reasoning.text" and last.get("index") == detail.get("index")
    return alike and type(detail.get("index")) is int and not last.get("signature")


DERIVED = ("reasoning_content", "reasoning", "annotations", "provider_specific_fields")
"""Members that come back with an answer and say again, in other words, what is in it: left out."""
Parts = Mapping[str, Callable[[Any, str], Block | None]]
PARTS: Parts = MappingProxyType({"text": _text, "refusal": _text, "image_url": _image})
PARTS_OF: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "system": frozenset({"text"}),
        "developer": frozenset({"text"}),
        "user": frozenset({"text", "image_url"}),
        "assistant": frozenset({"text", "refusal"}),
        "tool": frozenset({"text", "image_url"}),
    }
)
ROLES: Mapping[str, tuple[str, Callable[[Fields, str], list[Block]], tuple[str, ...]]] = MappingProxyType(
    {
        "system": ("system", _said, ()),
        "developer": ("system", _said, ()),
        "user": ("user", _said, ()),
        "assistant": (
            "assistant",
            _assistant,
            ("refusal", "tool_calls", "reasoning_details", "thinking_blocks", *DERIVED),
        ),
        "tool": ("user", _tool_result, ("tool_call_id", "name")),  # the id says which tool
    }
)
"""Role → the side that speaks, its reader, the members it may have besides the common ones."""
