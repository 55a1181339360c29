"""What the relay needs to know of a request, whatever its dialect; and the checks that dialects share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from farebox.errors import InvalidRequest

if TYPE_CHECKING:  # dialects/form refuses with what stands here
    from farebox.dialects.form import FilePart

Count = Callable[[str], int]
"""Text → tokens, in the model's own encoding."""
MODEL_CHARS_MAX = 200
Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SentImage:
    """An image in a request. Width and height in pixels, 0 where unknown (a link, which is never followed).

    `detail`: the caller's wish in OpenAI's words, "low", "high", "original" or "auto".
    """

    width: int = 0
    height: int = 0
    detail: str = "auto"


@dataclass(frozen=True, slots=True)
class Pictures:
    """Images to be made: how many, and the caller's words for size ("1024x1024", "auto") and quality, None if unsaid.

    `partial`: how many unfinished ones are to be streamed before each.
    """

    count: int = 1
    size: str | None = None
    quality: str | None = None
    partial: int = 0


def _nothing(_: Count) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, read. The body itself stays bytes; `changes` are members to splice into it for the upstream.

    `count_input`: the text's tokens, images and audio left out. `output_limits`: the caller's own limits, parameter →
    tokens per choice (a dot leads into a member: "generationConfig.maxOutputTokens"); `choices` is how many are
    generated. `images`: those that are sent; `pictures`: those to be made. `sound`: the file that is to be
    heard, which the planner measures. `bounds`: further units of the catalog →
    the most of each that this request can use. `needs`: parameter → the unit whose price makes it permissible; one
    without a price of its own is refused. `service_tier`: the tier asked for, None for the ordinary one.
    `strip_usage` says that usage is our own wish, so the caller must not see it. `json_array`: the caller wants its
    stream as one JSON array instead of server-sent events.
    """

    model: str
    stream: bool
    count_input: Callable[[Count], int] = _nothing
    output_limits: Mapping[str, int] = field(default_factory=dict)
    choices: int = 1
    images: tuple[SentImage, ...] = ()
    pictures: Pictures | None = None
    sound: FilePart | None = None
    bounds: Mapping[str, int] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    service_tier: str | None = None
    strip_usage: bool = False
    json_array: bool = False
    changes: Mapping[str, bytes] = field(default_factory=dict)


def refuse(param: str, *, zh: str, en: str) -> InvalidRequest:
    """An error that names the parameter."""
    return InvalidRequest(param=param, zh=f"参数 {param} 无效：{zh}。", en=f"Invalid '{param}': {en}.")


def unpriced(param: str) -> InvalidRequest:
    """Refusal of what has no price: nothing without a price is ever sent."""
    return refuse(param, zh="此项没有定价，已拒绝", en="it has no price here, so it is refused")


def model_of(body: Fields) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model or len(model) > MODEL_CHARS_MAX:
        raise refuse("model", zh="必须是模型名称", en="it must be a model's name")
    return model


def flag(body: Fields, name: str) -> bool:
    """A boolean member; absent and null are false."""
    value = body.get(name)
    if value is not None and type(value) is not bool:
        raise refuse(name, zh="必须是布尔值", en="it must be true or false")
    return bool(value)


def whole(body: Fields, name: str, *, low: int, high: int) -> int | None:
    """A whole number in [low, high]; absent and null are None."""
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        raise refuse(
            name, zh=f"必须是 {low} 到 {high} 之间的整数", en=f"it must be a whole number from {low} to {high}"
        )
    return value


def refuse_unpriced(body: Fields, allowed: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuses each member of `allowed` whose value is neither absent, null, nor one of those that cost nothing."""
    for name, values in allowed.items():
        value = body.get(name)
        if value is not None and value not in values:
            raise unpriced(name)
