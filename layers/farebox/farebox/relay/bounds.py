"""The most that a request can use, unit by unit: what its hold is made of. What has no price is refused here."""

from __future__ import annotations

from collections.abc import Mapping

from farebox.dialects.ask import Ask, Pictures, refuse, unpriced
from farebox.domain.catalog import Model, Price
from farebox.domain.image_tokens import image_tokens
from farebox.domain.pricing import PRICED_AS
from farebox.errors import InvalidRequest

INPUT_SLACK_TOKENS = 64
"""What a vendor may add to a prompt of its own accord (reply priming, hidden system text)."""
SERVICE_TIER = "service_tier/"
PER_IMAGE = "image_when_streaming"
PARTIAL_IMAGE_TOKENS = 100
"""What each unfinished image adds, by https://platform.openai.com/docs/guides/image-generation"""
QUALITIES = {None: "standard", "auto": "standard", "standard": "standard", "hd": "hd"}
"""A caller's word for quality → the catalog's."""
SIZE = "1024x1024"


def check_priced(ask: Ask, price: Price) -> None:
    """Raises InvalidRequest for the first parameter whose use has no price of its own."""
    for param, unit in ask.needs.items():
        if unit.startswith(SERVICE_TIER):
            known = price.has_service_tier(unit.removeprefix(SERVICE_TIER))
        else:
            known = unit in price.rates
        if not known:
            raise unpriced(param)


def image_tokens_of(ask: Ask, model: Model) -> int:
    """The most tokens that the sent images can be. Raises InvalidRequest where the model takes none.

    Where images that are made have a price each, those that are sent are free of charge.
    """
    if not ask.images or (ask.pictures is not None and model.image_tokens_max is None and not model.context_tokens):
        return 0
    if model.image_tokens_max is None:
        raise unpriced("image")
    rule = model.image_rule
    if rule is None:
        return len(ask.images) * model.image_tokens_max
    return sum(image_tokens(rule, image.width, image.height, image.detail) for image in ask.images)


def output_tokens_max(ask: Ask, model: Model) -> int:
    """The bound over all choices; raises InvalidRequest for more than the model could ever give."""
    for name, asked in ask.output_limits.items():
        if asked > model.context_tokens:
            raise refuse(
                name,
                zh=f"超过该模型的上下文长度 {model.context_tokens}",
                en=f"it exceeds the model's context of {model.context_tokens} tokens",
            )
    return max(ask.output_limits.values(), default=model.output_tokens_max) * ask.choices


def with_margin(input_tokens: int, margin_percent: int) -> int:
    return -(-input_tokens * (100 + margin_percent) // 100) + INPUT_SLACK_TOKENS


def bounds_of(
    ask: Ask, model: Model, price: Price, *, text_tokens: int, images_tokens: int, output_tokens: int, sound_ms: int
) -> dict[str, int]:
    """Unit → the most of it, for every unit that has a price. `text_tokens` with its margin; `sound_ms` as measured."""
    if "web_search" in ask.needs.values():  # what is found is read as well, and nobody knows how long it is
        text_tokens = max(text_tokens, model.context_tokens)
    bounds = {
        **ask.bounds,
        "input_token": text_tokens + ask.bounds.get("input_token", 0),
        "image_input_token": images_tokens,
        "output_token": output_tokens,
        "audio_ms": sound_ms or ask.bounds.get("audio_ms", 0),
    }
    if "audio_output_token" in ask.needs.values():
        bounds["audio_output_token"] = output_tokens
    if ask.stream and PER_IMAGE in price.rates:
        bounds[PER_IMAGE] = len(ask.images)
    if ask.pictures is not None:
        bounds |= _pictures(ask.pictures, model, price)
    return {unit: most for unit, most in bounds.items() if most and has_price(unit, price.rates)}


def has_price(unit: str, rates: Mapping[str, int]) -> bool:
    """Whether a unit has a price, of its own or as a part of something broader."""
    while unit not in rates:
        if unit not in PRICED_AS:
            return False
        unit = PRICED_AS[unit]
    return True


def picture_unit(pictures: Pictures, price: Price) -> str:
    """The unit of an image that is made, where images have a price each. Raises InvalidRequest for one without."""
    quality = QUALITIES.get(pictures.quality)
    size = SIZE if pictures.size in (None, "auto") else pictures.size
    key = f"{quality}:{size}"
    if key not in price.images:
        known = {each.partition(":")[0] for each in price.images}
        raise unpriced("quality" if quality not in known else "size")
    return f"image/{key}"


def _pictures(pictures: Pictures, model: Model, price: Price) -> dict[str, int]:
    if price.images:
        return {picture_unit(pictures, price): pictures.count}
    if "image_output_token" not in price.rates:
        raise InvalidRequest(param="model")
    each = model.output_tokens_max + pictures.partial * PARTIAL_IMAGE_TOKENS
    return {"image_output_token": pictures.count * each, "output_token": 0}
