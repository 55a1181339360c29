"""OpenAI images, read: POST /v1/images/generations, /edits, /variations, as JSON or as a form.

https://platform.openai.com/docs/api-reference/images
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from farebox.dialects.ask import (
    Ask,
    Count,
    Fields,
    Pictures,
    SentImage,
    flag,
    model_of,
    refuse,
    refuse_unpriced,
    whole,
)
from farebox.dialects.image_size import HEAD_BYTES, image_size
from farebox.dialects.openai.charges import stored_elsewhere
from farebox.dialects.openai.form_fields import fields_of, refuse_other_files
from farebox.dialects.openai.images_tap import ImagesTap
from farebox.dialects.openai.parts import sent_image
from farebox.dialects.wire import Incoming, Wire

PICTURES_MAX = 10
PARTIAL_MAX = 3
SENT_MAX = 16
UNPRICED: dict[str, tuple[Any, ...]] = {
    "svg": (),  # another model writes it, and charges for that
    "frame_count": (1,),
    "frame_duration_ms": (),
}
READ = frozenset(
    {
        "model",
        "prompt",
        "n",
        "size",
        "quality",
        "stream",
        "partial_images",
        "input_fidelity",
        "output_format",
        *UNPRICED,
    }
)
FILES = frozenset({"image", "image[]", "mask", "markup"})
LINKED = ("images", "image", "mask", "markup")
"""Members of a JSON body that are images: links, data: URLs, or objects that hold one; or lists of those."""
_SIZE = re.compile(r"auto|[0-9]{1,5}x[0-9]{1,5}", re.ASCII)
_QUALITY = re.compile(r"[a-z]{1,16}")


def read_generation(incoming: Incoming) -> Ask:
    """Raises InvalidRequest."""
    return _ask(incoming.fields, (), prompted=True)


def read_edit(incoming: Incoming) -> Ask:
    """A mask counts as one of the images that are sent. Raises InvalidRequest."""
    body = fields_of(incoming, READ)
    refuse_other_files(incoming.files, FILES)
    return _ask(body, _sent(incoming, body), prompted=True)


def read_variation(incoming: Incoming) -> Ask:
    """Raises InvalidRequest."""
    body = fields_of(incoming, READ)
    refuse_other_files(incoming.files, frozenset({"image"}))
    return _ask(body, _sent(incoming, body), prompted=False)


def tap(_: Count, ask: Ask) -> ImagesTap:
    return ImagesTap(ask.pictures or Pictures(), stream=ask.stream)


def _wire(name: str, read: Any, *, form: bool) -> Wire:
    return Wire(name, "openai", frozenset({"image"}), read=read, tap=tap, form=form)


GENERATIONS = _wire("images.generations", read_generation, form=False)
EDITS = _wire("images.edits", read_edit, form=True)
VARIATIONS = _wire("images.variations", read_variation, form=True)


def _ask(body: Fields, images: tuple[SentImage, ...], *, prompted: bool) -> Ask:
    model = model_of(body)
    prompt = body.get("prompt")
    if (prompted or prompt is not None) and not (isinstance(prompt, str) and prompt):
        raise refuse("prompt", zh="必须是非空字符串", en="it must be a non-empty string")
    refuse_unpriced(body, UNPRICED)
    if body.get("output_format") == "svg":
        refuse_unpriced(body, {"output_format": ()})
    stream = flag(body, "stream")
    partial = whole(body, "partial_images", low=0, high=PARTIAL_MAX) or 0
    pictures = Pictures(
        count=whole(body, "n", low=1, high=PICTURES_MAX) or 1,
        size=_word(body, "size", _SIZE),
        quality=_word(body, "quality", _QUALITY),
        partial=partial if stream else 0,
    )

    def count_input(count: Count) -> int:
        return count(prompt) if isinstance(prompt, str) else 0

    return Ask(model=model, stream=stream, count_input=count_input, images=images, pictures=pictures)


def _word(body: Fields, name: str, known: re.Pattern[str]) -> str | None:
    value = body.get(name)
    if value is not None and not (isinstance(value, str) and known.fullmatch(value)):
        raise refuse(name, zh="不是可用的取值", en="it is no such value")
    return value


def _sent(incoming: Incoming, body: Fields) -> tuple[SentImage, ...]:
    """The images that are sent, of a form's files or of a JSON body's links; raises InvalidRequest for none."""
    fidelity = body.get("input_fidelity")
    if fidelity not in (None, "high", "low"):
        raise refuse("input_fidelity", zh="必须是 high 或 low", en="it must be high or low")
    detail = "high" if fidelity == "high" else "low"
    if incoming.form is not None or incoming.files:
        for name in LINKED:
            for spelled in (name, f"{name}[]"):
                if spelled in body:
                    raise refuse(spelled, zh="必须是文件", en="it must be a file")
        sizes = (
            image_size(incoming.body[file.start : min(file.end, file.start + HEAD_BYTES)]) for file in incoming.files
        )
        images = [SentImage(*(size or (0, 0)), detail) for size in sizes]
        given = any(file.field in ("image", "image[]") for file in incoming.files)
    else:
        images = [each for name in LINKED for each in _linked(body.get(name), name, detail)]
        given = any(body.get(name) for name in ("images", "image"))
    if not given or len(images) > SENT_MAX + 1:
        raise refuse("image", zh=f"必须有 1 到 {SENT_MAX} 张图片", en=f"there must be 1 to {SENT_MAX} images")
    return tuple(images)


def _linked(value: Any, where: str, detail: str) -> Iterator[SentImage]:
    """{"image_url": …}, {"url": …}, a link or a data: URL by itself, or a list of these."""
    if value is None:
        return
    if isinstance(value, list):
        for index, each in enumerate(value):
            if isinstance(each, list):
                raise refuse(f"{where}[{index}]", zh="必须是图片", en="it must be an image")
            yield from _linked(each, f"{where}[{index}]", detail)
        return
    link = value
    if isinstance(value, Mapping):
        if value.get("file_id") is not None:
            raise stored_elsewhere(f"{where}.file_id")
        link = value.get("image_url", value.get("url"))
    if isinstance(link, Mapping):
        link = link.get("url")
    if not isinstance(link, str) or not link:
        raise refuse(where, zh="必须是带 image_url 的对象", en="it must be an object with an image_url")
    yield sent_image({"image_url": link, "detail": detail})
