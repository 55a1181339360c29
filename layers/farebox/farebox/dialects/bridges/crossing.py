"""What the bridges to and from Gemini share: JSON read without trust, and the refusal of what cannot cross."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from farebox.dialects.ask import Fields, refuse
from farebox.domain.usage import COUNT_MAX
from farebox.errors import InvalidRequest

_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]{0,63}")
_STANDARD_ALPHABET = str.maketrans("-_", "+/")
_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]{1,64});base64,", re.IGNORECASE)


def parse(data: bytes | str) -> Any:
    """Whatever it says, or None where it is no JSON. Forgives bad UTF-8 and halves of an emoji. Never raises."""
    try:
        return orjson.loads(data)
    except ValueError:
        pass
    try:
        whole = data if isinstance(data, str) else data.decode("utf-8", "replace")
        return json.loads(whole, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def dump(value: Any) -> bytes:
    """Compact JSON. Raises ValueError for what is nested too deeply."""
    try:
        return orjson.dumps(value)
    except TypeError:  # half an emoji, a number past 64 bits, many levels: the standard library bears them
        pass
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dump_request(body: Mapping[str, Any]) -> bytes:
    """A request's body. Raises InvalidRequest."""
    try:
        return dump(body)
    except ValueError:
        raise refuse("body", zh="嵌套过深", en="it is nested too deeply") from None


def members(value: Any) -> dict[str, Any]:
    """An object as it is, anything else as one without members."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """A list as it is, anything else as an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """A string as it is, anything else as none."""
    return value if isinstance(value, str) else ""


def count(value: Any) -> int:
    """A count that can be believed, anything else as nought."""
    return value if type(value) is int and 0 <= value <= COUNT_MAX else 0


def number(body: Fields, name: str, *, low: float, high: float, path: str = "") -> float | None:
    """A number in [low, high], as it stands; absent and null are None. Raises InvalidRequest."""
    value = body.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
        raise refuse(path + name, zh=f"必须是 {low} 到 {high} 之间的数", en=f"it must be a number from {low} to {high}")
    asked: float = value
    return asked


def texts(value: Any, param: str, *, at_most: int) -> list[str]:
    """Non-empty strings, no more than `at_most`. Raises InvalidRequest."""
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise refuse(param, zh="必须是非空字符串的数组", en="it must be an array of non-empty strings")
    if len(value) > at_most:
        raise refuse(param, zh=f"此模型最多支持 {at_most} 项", en=f"this model takes at most {at_most} of them")
    return value


def objects(value: Any, param: str) -> list[dict[str, Any]]:
    """An array of objects; absent and null are empty. Raises InvalidRequest."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise refuse(param, zh="必须是对象的数组", en="it must be an array of objects")
    return value


def inexpressible(param: str) -> InvalidRequest:
    """Refusal of what the vendor's dialect has no word for."""
    return refuse(param, zh="此模型的上游接口无法表达此项", en="this model's vendor has no way to express it")


def nameable(name: str) -> str:
    """A member's name as an error may repeat it: "?" for what is more of a text than a name."""
    return name if _NAME.fullmatch(name) else "?"


def refuse_others(fields: Mapping[str, Any], known: Iterable[str], path: str = "") -> None:
    """Refuses, by its name behind `path`, each member that is not known. Null is as good as absent."""
    for name in set(fields).difference(known):
        if fields[name] is not None:
            raise inexpressible(path + nameable(name))


def refuse_unless(fields: Mapping[str, Any], neutral: Mapping[str, tuple[Any, ...]], path: str = "") -> None:
    """Refuses each member of `neutral` whose value is not one of those that ask for nothing."""
    for name, values in neutral.items():
        value = fields.get(name)
        if value is not None and value not in values:
            raise inexpressible(path + name)


def inline_image(url: Any) -> dict[str, str] | None:
    """A data: URL of an image as Gemini's inlineData; None for any other URL, which is never fetched."""
    head = _DATA_URL.match(url) if isinstance(url, str) else None
    if head is None:
        return None
    return {"mimeType": head[1].lower(), "data": url[head.end() :]}


def image_url(blob: Mapping[str, Any]) -> str | None:
    """Gemini's inlineData as a data: URL; None for what is no image.

    Google's SDKs write base64 in the alphabet for URLs, which elsewhere is no base64.
    """
    mime, data = blob.get("mimeType"), blob.get("data")
    if not isinstance(mime, str) or not isinstance(data, str):
        return None
    url = f"data:{mime};base64,{data.translate(_STANDARD_ALPHABET)}"
    return url if _DATA_URL.match(url) else None


def signature_of(holder: Mapping[str, Any]) -> str:
    """The thought signature that Google's own OpenAI door puts beside a message or a tool call, "" if none.

    https://ai.google.dev/gemini-api/docs/thought-signatures
    """
    return text(members(members(holder.get("extra_content")).get("google")).get("thought_signature"))


def extra_content(signature: str) -> dict[str, Any]:
    """A thought signature where Google's own OpenAI door puts it."""
    return {"extra_content": {"google": {"thought_signature": signature}}}
