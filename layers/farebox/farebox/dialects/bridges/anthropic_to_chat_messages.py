"""The conversation of an Anthropic caller in OpenAI's words: a part of bridges/anthropic_to_chat.

Two things in it need care. A tool message of OpenAI's holds text only, so the images of a tool's result follow in a
user message behind all results, each under a line that names its result. And thoughts: Anthropic's are sealed for
Anthropic and left out, but DeepSeek, Moonshot and others demand their own thoughts back once a tool was called
(https://api-docs.deepseek.com/guides/thinking_mode), and Google its signatures. The way back therefore seals what such
a vendor sent with the name of its member and of the model (see `own_signature`), and here it returns to just that.

Members of a block that are not named here are annotations (cache_control, caller, citations of earlier answers) and
left out.
"""

from __future__ import annotations

import re
from typing import Any

from farebox.dialects.ask import Fields, refuse
from farebox.dialects.bridge import Terms
from farebox.dialects.bridges.anthropic_to_chat_stream import REASONING_MEMBERS, own_signature
from farebox.dialects.bridges.crossing import dump, extra_content, inexpressible

Json = dict[str, Any]

IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
BILLING_LINE = re.compile(r"\Ax-anthropic-billing-header:[^\n]*\n?")
"""Claude Code's note to Anthropic at the head of the system prompt. It differs from request to request, and would keep
every vendor from finding the prompt in its cache."""
ERROR_MARK = "[tool error]"
"""Stands before the text of a tool's result with is_error: OpenAI's tool messages have no member for it."""
IMAGE_MARK = "[image: see below]"
"""Stands in a tool's result where an image stood."""


def system_message(content: Any, where: str) -> list[Json]:
    """One system message, or none. Claude Code also puts such messages between the turns."""
    if content is None:
        return []
    texts = []
    for kind, block, at in _blocks(content, where):
        if kind != "text":
            raise inexpressible(f"{at}.type")
        texts.append(BILLING_LINE.sub("", a_string(block.get("text"), f"{at}.text")))
    text = "\n\n".join(filter(None, texts))
    return [{"role": "system", "content": text}] if text else []


def conversation(messages: Any, terms: Terms) -> list[Json]:
    """OpenAI's messages. Raises InvalidRequest."""
    if not isinstance(messages, list) or not messages:
        raise refuse("messages", zh="必须是非空数组", en="it must be a non-empty array")
    chat: list[Json] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role, content = an_object(message, where).get("role"), message.get("content")
        if role == "user":
            chat += _user(content, f"{where}.content")
        elif role == "assistant":
            chat += _assistant(content, f"{where}.content", terms)
        elif role == "system":
            chat += system_message(content, f"{where}.content")
        else:
            raise inexpressible(f"{where}.role")
    if messages[-1]["role"] == "assistant":
        raise refuse(
            f"messages[{len(messages) - 1}].role",
            zh="该模型无法续写预填的回答，最后一条必须来自 user",
            en="this model cannot go on with an answer begun for it, so the last message must be a user's",
        )
    return chat


def _user(content: Any, where: str) -> list[Json]:
    """Tool messages first, as OpenAI demands; then one user message: the results' images, and what else was said."""
    results: list[Json] = []
    images: list[Json] = []
    parts: list[Json] = []
    for kind, block, at in _blocks(content, where):
        if kind == "tool_result":
            results.append(_tool_result(block, at, images))
        else:
            parts.append(_part(kind, block, at))
    parts = [*images, *parts]
    if not parts:
        if not results:
            raise refuse(where, zh="不能为空", en="it must not be empty")
        return results
    return [*results, {"role": "user", "content": _joined(parts)}]


def _tool_result(block: Fields, where: str, images: list[Json]) -> Json:
    """A tool message; the result's images are added to `images`."""
    call_id = a_string(block.get("tool_use_id"), f"{where}.tool_use_id")
    texts = [ERROR_MARK] if a_flag(block, "is_error", where) else []
    content = block.get("content")
    for kind, inner, at in _blocks("" if content is None else content, f"{where}.content"):
        if kind == "tool_reference":  # a tool to be loaded later: here, all stand in the request from the start
            texts.append(f"[tool: {a_string(inner.get('tool_name'), f'{at}.tool_name')}]")
            continue
        part = _part(kind, inner, at)
        if part["type"] == "text":
            texts.append(part["text"])
        else:
            texts.append(IMAGE_MARK)
            images += [{"type": "text", "text": f"[image of tool result {call_id}]"}, part]
    return {"role": "tool", "tool_call_id": call_id, "content": "\n\n".join(texts)}


def _assistant(content: Any, where: str, terms: Terms) -> list[Json]:
    """One assistant message, or none if only thoughts of others were in it."""
    texts: list[str] = []
    calls: list[Json] = []
    thoughts: dict[str, str] = {}
    seal = ""
    for kind, block, at in _blocks(content, where):
        if kind == "text":
            texts.append(a_string(block.get("text"), f"{at}.text"))
        elif kind == "tool_use":
            calls.append(_call(block, at, seal))
            seal = ""
        elif kind == "thinking":
            seal = _recall(block, terms.model, thoughts) or seal
        elif kind != "redacted_thinking":
            raise inexpressible(f"{at}.type")
    text = "\n\n".join(filter(None, texts))
    if not text and not calls:
        return []
    return [
        {"role": "assistant", "content": text or None, **thoughts, **({"tool_calls": calls} if calls else {})},
    ]


def _call(block: Fields, where: str, seal: str) -> Json:
    """A tool call. `seal`: Google's signature of it, or ""."""
    arguments = compact(an_object(block.get("input"), f"{where}.input"), f"{where}.input")
    name = a_string(block.get("name"), f"{where}.name")
    return {
        "id": a_string(block.get("id"), f"{where}.id"),
        "type": "function",
        "function": {"name": name, "arguments": arguments},
        **(extra_content(seal) if seal else {}),
    }


def _recall(block: Fields, model: str, thoughts: dict[str, str]) -> str:
    """Adds a thought that this very model sent us to `thoughts`, under the vendor's name for it; or gives its seal."""
    signature, text = block.get("signature"), block.get("thinking")
    if not isinstance(signature, str) or not isinstance(text, str):
        return ""
    for member in REASONING_MEMBERS:
        if signature == own_signature(member, model):
            thoughts[member] = thoughts.get(member, "") + text
    head = own_signature("thought_signature", model)
    return signature[len(head) :] if signature.startswith(head) else ""


# ── content ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _blocks(content: Any, where: str) -> list[tuple[str, Fields, str]]:
    """Each block's type, itself, its path. A string is a block of text, an empty one none."""
    if isinstance(content, str):
        return [("text", {"text": content}, where)] if content else []
    if not isinstance(content, list):
        raise refuse(where, zh="必须是字符串或数组", en="it must be a string or an array")
    blocks = []
    for index, block in enumerate(content):
        at = f"{where}[{index}]"
        blocks.append((a_string(an_object(block, at).get("type"), f"{at}.type"), block, at))
    return blocks


def _part(kind: str, block: Fields, where: str) -> Json:
    """What a user shows: text or an image."""
    if kind == "text":
        return {"type": "text", "text": a_string(block.get("text"), f"{where}.text")}
    if kind == "image":
        if block.get("transformations"):
            raise inexpressible(f"{where}.transformations")
        return {"type": "image_url", "image_url": {"url": _image_url(block, where)}}
    if kind == "document":
        return {"type": "text", "text": _document(block, where)}
    raise inexpressible(f"{where}.type")


def _image_url(block: Fields, where: str) -> str:
    source = an_object(block.get("source"), f"{where}.source")
    if source.get("type") == "url":
        return a_string(source.get("url"), f"{where}.source.url")
    if source.get("type") != "base64":
        raise inexpressible(f"{where}.source.type")
    media_type = source.get("media_type")
    if not isinstance(media_type, str) or media_type not in IMAGE_TYPES:
        raise inexpressible(f"{where}.source.media_type")
    return f"data:{media_type};base64,{a_string(source.get('data'), f'{where}.source.data')}"


def _document(block: Fields, where: str) -> str:
    """A plain text under its title and context."""
    source = an_object(block.get("source"), f"{where}.source")
    if source.get("type") != "text":
        raise inexpressible(f"{where}.source.type")
    cited = an_object(block.get("citations") or {}, f"{where}.citations")
    if a_flag(cited, "enabled", f"{where}.citations"):
        raise inexpressible(f"{where}.citations.enabled")
    heads = [a_string(block.get(name) or "", f"{where}.{name}") for name in ("title", "context")]
    return "\n\n".join(filter(None, [*heads, a_string(source.get("data"), f"{where}.source.data")]))


def _joined(parts: list[Json]) -> Any:
    """Text alone goes as one string: not every vendor takes parts."""
    if all(part["type"] == "text" for part in parts):
        return "\n\n".join(part["text"] for part in parts)
    return parts


# ── checks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def an_object(value: Any, where: str) -> Fields:
    """The value itself, or a refusal."""
    if not isinstance(value, dict):
        raise refuse(where, zh="必须是对象", en="it must be an object")
    return value


def a_string(value: Any, where: str) -> str:
    """The value itself, or a refusal."""
    if not isinstance(value, str):
        raise refuse(where, zh="必须是字符串", en="it must be a string")
    return value


def a_flag(holder: Fields, name: str, where: str) -> bool:
    """A boolean member; absent and null are false."""
    value = holder.get(name)
    if value is not None and type(value) is not bool:
        raise refuse(f"{where}.{name}", zh="必须是布尔值", en="it must be true or false")
    return bool(value)


def compact(value: Any, where: str) -> str:
    """A value as JSON's text."""
    try:
        return dump(value).decode()
    except ValueError:
        raise refuse(where, zh="嵌套过深", en="it is nested too deeply") from None
