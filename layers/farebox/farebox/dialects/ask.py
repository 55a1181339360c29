"""What the relay needs to know of a request, whatever its dialect; and the checks that dialects share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from farebox.errors import InvalidRequest

Count = Callable[[str], int]
"""Text → tokens, in the model's own encoding."""
MODEL_CHARS_MAX = 200
Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, read. The body itself stays bytes; `changes` are members to splice into it for the upstream.

    `output_limits`: the caller's own limits, parameter → tokens per choice; `choices` is how many are generated;
    `strip_usage` says that usage is our own wish, so the caller must not see it.
    """

    model: str
    stream: bool
    count_input: Callable[[Count], int]
    output_limits: Mapping[str, int] = field(default_factory=dict)
    choices: int = 1
    images: int = 0
    strip_usage: bool = False
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
