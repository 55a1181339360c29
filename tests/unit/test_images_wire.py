"""OpenAI's images and moderations: what is read of JSON and of forms, and what came back."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.ask import Ask, Pictures, SentImage
from farebox.dialects.form import read_form
from farebox.dialects.openai.images import EDITS, GENERATIONS, VARIATIONS
from farebox.dialects.openai.images_tap import ImagesTap
from farebox.dialects.openai.moderations import MODERATIONS, ModerationTap
from farebox.dialects.wire import Incoming, Wire
from farebox.errors import InvalidRequest

BODY: dict[str, Any] = {"model": "gpt-image-1", "prompt": "a cat"}
LINK = "https://example.org/cat.png"
Part = tuple[str, str | None, bytes]
"""A form's part: its name, its file name if it is a file, its bytes."""


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", width, height) + b"\x08\x06\x00\x00\x00"


def data_url(width: int, height: int) -> str:
    return "data:image/png;base64," + base64.b64encode(png(width, height)).decode()


def form(*parts: Part) -> Incoming:
    """A request whose body is a form of these parts."""
    body = b""
    for name, filename, data in parts:
        extra = "" if filename is None else f'; filename="{filename}"'
        body += f'--x\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + data + b"\r\n"
    body += b"--x--\r\n"
    read = read_form(body, "multipart/form-data; boundary=x")
    return Incoming(read.texts, body, read.files, form=read)


def edit(*parts: Part) -> Incoming:
    return form(("model", None, b"gpt-image-1"), ("prompt", None, b"a cat"), *parts)


IMAGE: Part = ("image", "cat.png", png(640, 480))


def refused(wire: Wire, incoming: Incoming) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        wire.read(incoming)
    assert caught.value.param is not None
    assert caught.value.en.isascii()
    return caught.value.param


def generation(**more: Any) -> Ask:
    return GENERATIONS.read(Incoming({**BODY, **more}))


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_pictures_that_are_wanted_are_read() -> None:
    ask = generation(n=3, size="1024x1536", quality="high", stream=True, partial_images=2, background="transparent")

    assert (ask.model, ask.stream) == ("gpt-image-1", True)
    assert ask.pictures == Pictures(3, "1024x1536", "high", 2)
    assert ask.count_input(len) == len("a cat")


def test_unsaid_wishes_are_none() -> None:
    assert generation().pictures == Pictures(1, None, None, 0)
    assert generation(n=None, size=None, quality=None, stream=None).pictures == Pictures()
    assert generation(partial_images=3).pictures == Pictures(), "nothing is shown unfinished without a stream"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", None),
        ("prompt", None),
        ("prompt", ""),
        ("prompt", ["x"]),
        ("n", 0),
        ("n", 11),
        ("n", "2"),
        ("n", True),
        ("size", "big"),
        ("size", 1024),
        ("size", "1024x1024\n"),
        ("quality", 5),
        ("quality", "HIGH"),
        ("stream", "true"),
        ("partial_images", 4),
        ("partial_images", -1),
        ("svg", {"model": "gpt-5"}),
        ("output_format", "svg"),
        ("frame_count", 8),
        ("frame_duration_ms", 100),
    ],
)
def test_a_wish_that_is_none_or_has_no_price_is_refused_by_name(name: str, value: Any) -> None:
    assert refused(GENERATIONS, Incoming({**BODY, name: value})) == name


def test_what_costs_nothing_extra_is_the_upstreams_to_judge() -> None:
    assert generation(style="vivid", response_format="url", moderation="low", user="u", output_format="webp")


def test_a_form_is_read_as_json_is() -> None:
    ask = EDITS.read(
        edit(
            ("n", None, b"2"),
            ("size", None, b"1024x1024"),
            ("quality", None, b"low"),
            ("stream", None, b"true"),
            ("partial_images", None, b"1"),
            ("input_fidelity", None, b"high"),
            ("image[]", "a.png", png(640, 480)),
            ("image[]", "b.png", png(64, 48)),
            ("mask", "m.png", png(640, 480)),
        )
    )

    assert (ask.model, ask.stream) == ("gpt-image-1", True)
    assert ask.pictures == Pictures(2, "1024x1024", "low", 1)
    assert ask.images == (SentImage(640, 480, "high"), SentImage(64, 48, "high"), SentImage(640, 480, "high"))
    assert ask.count_input(len) == len("a cat")


def test_an_image_of_unknown_size_is_sent_all_the_same() -> None:
    assert EDITS.read(edit(("image", "cat.heic", b"\x00\x00\x00 ftypheic"))).images == (SentImage(0, 0, "low"),)


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([], "image"),
        ([("mask", "m.png", png(1, 1))], "image"),
        ([("image[]", "a.png", png(1, 1))] * 18, "image"),
        ([("image", None, b"https://example.org/cat.png")], "image"),
        ([IMAGE, ("image_file", "b.png", png(1, 1))], "image_file"),
        ([IMAGE, ("images", None, b"x")], "images"),
        ([IMAGE, ("n", None, b"two")], "n"),
        ([IMAGE, ("n", None, b"11")], "n"),
        ([IMAGE, ("n", None, b"+2")], "n"),
        ([IMAGE, ("n", None, "２".encode())], "n"),
        ([IMAGE, ("n[]", None, b"10")], "n[]"),
        ([IMAGE, ("model[]", None, b"x")], "model[]"),
        ([IMAGE, ("svg[model]", None, b"gpt-5")], "svg[model]"),
        ([IMAGE, ("svg", None, b"{}")], "svg"),
        ([IMAGE, ("stream", None, b"1")], "stream"),
        ([IMAGE, ("stream", None, b"True")], "stream"),
        ([IMAGE, ("input_fidelity", None, b"highest")], "input_fidelity"),
        ([IMAGE, ("size", None, b"huge")], "size"),
    ],
)
def test_a_form_that_is_none_is_refused_by_name(parts: list[Part], param: str) -> None:
    assert refused(EDITS, edit(*parts)) == param


def test_a_form_without_a_model_is_refused() -> None:
    assert refused(EDITS, form(("prompt", None, b"a cat"), IMAGE)) == "model"
    assert refused(VARIATIONS, form(IMAGE)) == "model"


@pytest.mark.parametrize(
    ("images", "sent"),
    [
        ({"images": [{"image_url": LINK}]}, (SentImage(detail="low"),)),
        (
            {"images": [{"image_url": data_url(640, 480)}, {"image_url": LINK}]},
            (SentImage(640, 480, "low"), SentImage(detail="low")),
        ),
        (
            {"images": [{"image_url": {"url": LINK}}], "mask": {"image_url": data_url(8, 8)}},
            (SentImage(detail="low"), SentImage(8, 8, "low")),
        ),
        ({"image": {"url": data_url(8, 8)}}, (SentImage(8, 8, "low"),)),
        ({"image": [LINK, data_url(8, 8)]}, (SentImage(detail="low"), SentImage(8, 8, "low"))),
        ({"image": LINK, "input_fidelity": "high"}, (SentImage(detail="high"),)),
    ],
)
def test_images_in_json_are_links_or_data(images: dict[str, Any], sent: tuple[SentImage, ...]) -> None:
    assert EDITS.read(Incoming({**BODY, **images})).images == sent


@pytest.mark.parametrize(
    ("images", "param"),
    [
        ({}, "image"),
        ({"images": []}, "image"),
        ({"mask": {"image_url": LINK}}, "image"),
        ({"images": [{"file_id": "file_1"}]}, "images[0].file_id"),
        ({"images": [{"image_url": LINK}], "mask": {"file_id": "file_1"}}, "mask.file_id"),
        ({"images": [{}]}, "images[0]"),
        ({"images": [5]}, "images[0]"),
        ({"images": [[LINK]]}, "images[0]"),
        ({"images": {"image_url": 5}}, "images"),
        ({"image": ""}, "image"),
        ({"images": [{"image_url": LINK}] * 18}, "image"),
    ],
)
def test_images_in_json_that_are_none_are_refused(images: dict[str, Any], param: str) -> None:
    assert refused(EDITS, Incoming({**BODY, **images})) == param


def test_a_variation_is_of_one_image_and_has_no_prompt() -> None:
    ask = VARIATIONS.read(form(("model", None, b"dall-e-2"), ("n", None, b"2"), IMAGE))

    assert (ask.images, ask.pictures, ask.count_input(len)) == ((SentImage(640, 480, "low"),), Pictures(2), 0)
    assert refused(VARIATIONS, form(("model", None, b"dall-e-2"))) == "image"
    assert refused(VARIATIONS, form(("model", None, b"dall-e-2"), IMAGE, ("mask", "m", b""))) == "mask"


def test_the_wires_say_whether_they_take_forms() -> None:
    assert [wire.form for wire in (GENERATIONS, EDITS, VARIATIONS, MODERATIONS)] == [False, True, True, False]


# ── the tap ─────────────────────────────────────────────────────────────────────────────────────────────────────────

USAGE = {
    "input_tokens": 150,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 140},
    "output_tokens": 272,
    "total_tokens": 422,
}
COUNTS = {"input_token": 10, "image_input_token": 140, "output_token": 0, "image_output_token": 272}


def tapped(*documents: Any, stream: bool = False, **asked: Any) -> ImagesTap:
    tap = ImagesTap(Pictures(**asked), stream=stream)
    for each in documents:
        assert not tap.see(each if isinstance(each, bytes) else json.dumps(each).encode())
    return tap


def test_an_answer_with_usage_is_metered_by_it() -> None:
    tap = tapped({"created": 1, "data": [{"b64_json": "iVBORw0KGgo="}], "usage": USAGE, "size": "1024x1024"})

    assert (tap.finished, tap.content_seen, tap.error_seen, tap.service_tier, tap.heavy) == (
        True,
        True,
        False,
        None,
        False,
    )
    assert dict(tap.reported().counts) == COUNTS


def test_output_that_is_text_too_is_told_apart() -> None:
    details = {"image_tokens": 272, "text_tokens": 28}
    tap = tapped({"data": [{}], "usage": {**USAGE, "output_tokens": 300, "output_tokens_details": details}})

    assert dict(tap.reported().counts) == {**COUNTS, "output_token": 28}


def test_an_answer_without_usage_is_metered_by_its_images() -> None:
    tap = tapped({"created": 1, "data": [{"url": "https://x"}, {"url": "https://y"}]}, count=2)

    assert tap.reported() is None
    assert tap.counted().of("image") == 2
    assert tap.finished


@pytest.mark.parametrize(
    ("size", "quality", "tokens"),
    [
        ("1024x1024", "low", 272),
        ("1024x1536", "medium", 1584),
        ("1024x1024", "auto", 4160),
        (None, None, 6240),
        ("1536x864", "low", 408),
    ],
)
def test_tokens_without_usage_are_estimated_by_the_table(size: Any, quality: Any, tokens: int) -> None:
    counted = tapped({"data": [{"b64_json": "x"}]}, size=size, quality=quality).counted()

    assert (counted.of("image_output_token"), counted.sources["image_output_token"]) == (tokens, "estimated")


def event(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "b64_json": "iVBORw0KGgo=", "size": "1024x1024", "quality": "low", **more}


@pytest.mark.parametrize("what", ["image_generation", "image_edit"])
def test_a_stream_ends_when_every_image_is_complete(what: str) -> None:
    partial = event(f"{what}.partial_image", partial_image_index=0)
    complete = event(f"{what}.completed", usage=USAGE)
    begun = tapped(partial, stream=True, count=2)
    half = tapped(partial, complete, stream=True, count=2)
    whole = tapped(partial, complete, complete, stream=True, count=2)

    assert (begun.content_seen, begun.done, begun.finished) == (True, False, False)
    assert (half.done, half.finished) == (False, False)
    assert (whole.done, whole.finished) == (True, True)
    assert dict(whole.reported().counts) == {unit: 2 * count for unit, count in COUNTS.items()}


def test_a_stream_that_breaks_off_has_cost_the_image_that_was_begun() -> None:
    tap = tapped(*[event("image_generation.partial_image")] * 2, stream=True, size="1024x1024", quality="low")

    assert tap.reported() is None
    assert dict(tap.counted().counts) == {"image": 0, "image_output_token": 272 + 200}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "document", [{"error": {"message": "x"}}, {"type": "error", "message": "x"}, {"error": "x", "data": 5}]
)
def test_an_error_is_an_error(stream: bool, document: Any) -> None:
    tap = tapped(document, stream=stream)

    assert tap.error_seen
    assert not tap.finished


@pytest.mark.parametrize(
    "document", [{}, [], {"data": []}, {"data": None}, {"data": "x"}, b"<html>", b"", {"data": [None]}]
)
def test_an_answer_without_images_is_none(document: Any) -> None:
    assert tapped(document).counted().of("image") == (1 if document == {"data": [None]} else 0)
    assert tapped({**document, "error": None} if isinstance(document, dict) else document).error_seen is False


def test_an_answer_of_an_odd_shape_is_read_as_far_as_it_can_be() -> None:
    tap = tapped({"data": [{"b64_json": "x"}, None], "size": 5, "quality": ["low"], "usage": USAGE})

    assert tap.counted().of("image") == 1
    assert dict(tap.reported().counts) == COUNTS


def test_a_usage_that_cannot_be_is_none() -> None:
    assert tapped({"data": [{}], "usage": {**USAGE, "input_tokens": -1}}).reported() is None
    complete = [event("image_edit.completed", usage=USAGE), event("image_edit.completed")]
    assert tapped(*complete, stream=True, count=2).reported() is None


# ── moderations ─────────────────────────────────────────────────────────────────────────────────────────────────────


def moderation(**body: Any) -> Ask:
    return MODERATIONS.read(Incoming(body))


def test_a_moderation_is_one_request_whatever_is_in_it() -> None:
    parts = [{"type": "text", "text": "ab"}, {"type": "image_url", "image_url": {"url": LINK}}]

    for given_, chars in (("abc", 3), (["a", "bc"], 3), (parts, 2)):
        ask = moderation(input=given_)
        assert (ask.model, ask.bounds, ask.count_input(len)) == ("omni-moderation-latest", {"request": 1}, chars)
    assert moderation(input="x", model="text-moderation-stable").model == "text-moderation-stable"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": {}}, "input"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [{"type": 5}]}, "input[0]"),
        ({"input": ["x", {"type": "input_audio"}]}, "input[1].type"),
        ({"input": "x", "model": 5}, "model"),
        ({"input": "x", "model": ""}, "model"),
    ],
)
def test_a_moderation_of_nothing_is_refused(body: dict[str, Any], param: str) -> None:
    assert refused(MODERATIONS, Incoming(body)) == param


def test_a_moderations_results_are_its_content() -> None:
    tap = MODERATIONS.tap(len, moderation(input="x"))
    tap.see(b'{"id":"modr-1","model":"omni-moderation-latest","results":[{"flagged":false}]}')

    assert (tap.content_seen, tap.finished, tap.error_seen) == (True, True, False)
    assert (dict(tap.reported().counts), dict(tap.reported().sources)) == ({"request": 1}, {"request": "upstream"})


@pytest.mark.parametrize(
    ("data", "error"), [(b"", False), (b'{"results":[]}', False), (b'{"error":{"message":"x"},"results":[1]}', True)]
)
def test_a_moderation_without_results_is_none(data: bytes, error: bool) -> None:
    tap = ModerationTap()
    tap.see(data)

    assert (tap.finished, tap.error_seen, tap.reported()) == (False, error, None)


# ── nothing raises ──────────────────────────────────────────────────────────────────────────────────────────────────

WORDS = st.sampled_from(
    [
        *("model", "prompt", "n", "size", "quality", "stream", "partial_images", "images", "image", "mask", "markup"),
        *("image_url", "url", "file_id", "input_fidelity", "type", "data", "usage", "error", "input", "text", "svg"),
        *("input_tokens", "output_tokens", "output_tokens_details", "results", "auto", "image_edit.completed"),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4),
    max_leaves=15,
)


@pytest.mark.parametrize("wire", [GENERATIONS, EDITS, VARIATIONS, MODERATIONS], ids=lambda wire: wire.name)
@given(more=st.dictionaries(WORDS, JSON, max_size=4))
def test_no_json_makes_a_reader_raise_anything_but_a_refusal(wire: Wire, more: dict[str, Any]) -> None:
    try:
        ask = wire.read(Incoming({**BODY, "image": LINK, "input": "x", **more}))
    except InvalidRequest:
        return
    assert ask.count_input(len) >= 0
    assert not wire.tap(len, ask).finished


PARTS = st.tuples(
    st.sampled_from(["model", "prompt", "n", "size", "stream", "image", "image[]", "mask", "n[]", "quality", "other"]),
    st.none() | st.just("f.png"),
    st.sampled_from([b"", b"2", b"true", b"auto", b"gpt-image-1", png(2, 3), b"\xff"]),
)


@pytest.mark.parametrize("wire", [EDITS, VARIATIONS], ids=lambda wire: wire.name)
@given(parts=st.lists(PARTS, max_size=6))
def test_no_form_does_either(wire: Wire, parts: list[Part]) -> None:
    try:
        ask = wire.read(form(*parts))
    except InvalidRequest:
        return
    assert ask.pictures is not None
    assert ask.images


@pytest.mark.parametrize("stream", [True, False])
@given(st.lists(st.binary(max_size=30) | JSON | st.dictionaries(WORDS, JSON, max_size=5), max_size=4))
def test_no_bytes_make_a_tap_raise(stream: bool, documents: list[Any]) -> None:
    tap = tapped(*documents, stream=stream)
    moderated = ModerationTap()
    for each in documents:
        moderated.see(each if isinstance(each, bytes) else json.dumps(each).encode())

    assert all(count >= 0 for count in tap.counted().counts.values())
    assert tap.reported() is None or tap.reported().sources
    assert moderated.counted().of("request") <= 1
