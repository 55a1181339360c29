"""The messages of an OpenAI chat as Gemini's contents and systemInstruction.

System and developer messages, later ones too, are one instruction, in order: Gemini has no other place for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from farebox.dialects.ask import refuse
from farebox.dialects.bridges.crossing import (
    inexpressible,
    inline_image,
    members,
    objects,
    parse,
    refuse_others,
    signature_of,
    text,
)

Json = dict[str, Any]

FOREIGN_SIGNATURE = "skip_thought_signature_validator"
"""What Google documents for a call that has no signature because another model made it, or its client lost it."""
MESSAGE_LEFT_OUT = frozenset(
    {"role", "reasoning_content", "reasoning", "reasoning_details", "annotations", "provider_specific_fields"}
)
"""Members that come back with an answer. Past thoughts are not input, only their signatures are."""
TEXTS = frozenset({"text", "refusal"})
MEDIA = frozenset({"image_url", "input_audio"})
SOUNDS: Mapping[str, str] = {"wav": "audio/wav", "mp3": "audio/mp3"}


@dataclass(slots=True)
class History:
    """What has been read of the messages. `names`: tool call's id → function's name. `last`: the last turn's kind."""

    needs_signature: bool
    system: list[Json] = field(default_factory=list)
    contents: list[Json] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    last: str = ""

    def add(self, kind: str, parts: list[Json]) -> None:
        """Parts of a turn of a "user", a "model" or a "result"; turns in a row of one kind are one."""
        if not parts:
            return
        if kind == self.last:
            self.contents[-1]["parts"] += parts
            return
        self.contents.append({"role": "model" if kind == "model" else "user", "parts": list(parts)})
        self.last = kind


def read_messages(messages: Any, *, needs_signature: bool) -> History:
    """Raises InvalidRequest. `needs_signature`: whether the model refuses a call without one."""
    history = History(needs_signature)
    for index, message in enumerate(objects(messages, "messages")):
        path = f"messages[{index}]."
        role = message.get("role")
        if not isinstance(role, str) or role not in ROLES:
            raise inexpressible(path + "role")
        read, known = ROLES[role]
        refuse_others(message, MESSAGE_LEFT_OUT | known, path)
        read(message, path, history)
    if not history.contents:
        raise refuse("messages", zh="至少要有一条非空的用户消息", en="there must be a message of a user in it")
    return history


def _system(message: Json, path: str, history: History) -> None:
    history.system += _parts(message.get("content"), path + "content")


def _user(message: Json, path: str, history: History) -> None:
    history.add("user", _parts(message.get("content"), path + "content", TEXTS | MEDIA))


def _assistant(message: Json, path: str, history: History) -> None:
    parts = _parts(message.get("content"), path + "content")
    parts += _parts(message.get("refusal"), path + "refusal")
    for number_, image in enumerate(objects(message.get("images"), path + "images")):
        parts.append(_image(image, f"{path}images[{number_}]."))
    if parts and (signature := signature_of(message)):
        parts[-1]["thoughtSignature"] = signature
    calls = objects(message.get("tool_calls"), path + "tool_calls")
    for number_, call in enumerate(calls):
        part = _call(call, f"{path}tool_calls[{number_}].", history)
        # Only the first call of a step has to carry one.
        if number_ == 0 and history.needs_signature:
            part.setdefault("thoughtSignature", FOREIGN_SIGNATURE)
        parts.append(part)
    history.add("model", parts)


def _call(call: Json, path: str, history: History) -> Json:
    if call.get("type", "function") != "function":
        raise inexpressible(path + "type")
    function = members(call.get("function"))
    name, identity = text(function.get("name")), text(call.get("id"))
    if not name:
        raise refuse(path + "function.name", zh="必须是函数名称", en="it must be a function's name")
    arguments = function.get("arguments") or "{}"
    args = parse(arguments) if isinstance(arguments, str) else None
    if not isinstance(args, dict):
        raise refuse(path + "function.arguments", zh="必须是 JSON 对象的文本", en="it must be a JSON object as text")
    made: Json = {"name": name, "args": args}
    if identity:
        history.names[identity] = name
        made["id"] = identity
    part: Json = {"functionCall": made}
    if signature := signature_of(call):
        part["thoughtSignature"] = signature
    return part


def _tool(message: Json, path: str, history: History) -> None:
    identity = message.get("tool_call_id")
    name = history.names.get(identity) if isinstance(identity, str) else None
    if name is None:
        raise refuse(
            path + "tool_call_id", zh="前文没有这个工具调用", en="no tool call before this message has this id"
        )
    said = "".join(part["text"] for part in _parts(message.get("content"), path + "content"))
    result = parse(said)
    response = result if isinstance(result, dict) else {"result": said}
    history.add("result", [{"functionResponse": {"id": identity, "name": name, "response": response}}])


_Read = Callable[[Json, str, History], None]
ROLES: Mapping[str, tuple[_Read, frozenset[str]]] = {
    "system": (_system, frozenset({"content"})),
    "developer": (_system, frozenset({"content"})),
    "user": (_user, frozenset({"content"})),
    "assistant": (_assistant, frozenset({"content", "refusal", "images", "tool_calls", "extra_content"})),
    "tool": (_tool, frozenset({"content", "tool_call_id", "name"})),
}
"""Role → how its messages are read, and the members that are expressed. Role "function" is of 2023, and refused."""


def _parts(content: Any, path: str, known: frozenset[str] = TEXTS) -> list[Json]:
    """A message's content as Gemini's parts. Empty texts are left out: Gemini refuses them."""
    if content is None or isinstance(content, str):
        return [{"text": content}] if content else []
    parts: list[Json] = []
    for index, part in enumerate(objects(content, path)):
        where = f"{path}[{index}]."
        kind = part.get("type")
        if not isinstance(kind, str) or kind not in known:
            raise inexpressible(where + "type")
        if kind == "image_url":
            parts.append(_image(part, where))
        elif kind == "input_audio":
            parts.append(_sound(members(part.get(kind)), f"{where}{kind}."))
        else:
            said = part.get(kind)
            if not isinstance(said, str):
                raise refuse(where + kind, zh="必须是字符串", en="it must be a string")
            parts += [{"text": said}] if said else []
    return parts


def _image(part: Json, path: str) -> Json:
    """`detail` is a wish that Gemini cannot be told of for one image, and it is left out."""
    blob = inline_image(members(part.get("image_url")).get("url"))
    if blob is None:
        raise refuse(
            path + "image_url.url",
            zh="此模型只接受 data: 形式的 base64 图片，链接不会被下载",
            en="this model takes images as base64 data: URLs only; links are not fetched",
        )
    return {"inlineData": blob}


def _sound(sound: Json, path: str) -> Json:
    kind, data = sound.get("format"), sound.get("data")
    if not isinstance(kind, str) or kind not in SOUNDS:
        raise inexpressible(path + "format")
    if not isinstance(data, str):
        raise refuse(path + "data", zh="必须是 base64 文本", en="it must be base64 text")
    return {"inlineData": {"mimeType": SOUNDS[kind], "data": data}}
