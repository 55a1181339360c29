"""Which letters of a request are a reference, and what stands in their place."""

from __future__ import annotations

import base64
import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects import upload_refs
from farebox.dialects.form import read_form
from farebox.dialects.upload_refs import REFERENCES_MAX, filled, places_in_form, places_in_json
from farebox.domain import uploads
from farebox.domain.uploads import Upload, expiry_s, is_content_type, is_filename, mint_id, object_name, type_of
from farebox.errors import InvalidRequest

ACCOUNT, OTHER = "acc_0000000000AA", "acc_0000000000AB"
PEPPER = b"p" * 32
BOUNDARY = "----farebox7"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
SONG = b"ID3\x00\xff\r\n--not the delimiter\r\n" + bytes(range(256))
UPLOAD = Upload("talk.mp3", "audio/mpeg", len(SONG))


_counter = iter(range(1, 1000))


def new_id(expires_s: int = 2_000_000_000) -> str:
    seed = next(_counter)
    return mint_id(expires_s, lambda length: (seed * 0x9E3779B97F4A7C15 << 64).to_bytes(40, "little")[:length])


def ref(upload_id: str) -> str:
    return f"farebox-upload:{upload_id}"


def form(*parts: tuple[str, bytes]) -> bytes:
    """(rest of Content-Disposition, content) each."""
    lines = b"".join(
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"
        for disposition, content in parts
    )
    return lines + f"--{BOUNDARY}--\r\n".encode()


def put_in(body: bytes, data: bytes = SONG, upload: Upload = UPLOAD) -> bytes:
    places = places_in_json(body)
    return filled(body, places, {place.upload_id: (upload, data) for place in places})


def put_in_form(body: bytes, data: bytes = SONG, upload: Upload = UPLOAD) -> bytes:
    places = places_in_form(body, CONTENT_TYPE)
    return filled(body, places, {place.upload_id: (upload, data) for place in places})


# ── ids and names ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_id_says_when_it_expires_and_is_otherwise_random() -> None:
    first, second = new_id(1_734_000_000), new_id(1_734_000_000)
    assert expiry_s(first) == expiry_s(second) == 1_734_000_000
    assert first != second
    assert len(first) == len("up_") + 8 + 22


@pytest.mark.parametrize(
    "text",
    [
        "",
        "up_",
        "up_../../etc/passwd",
        "up_" + "0" * 29,
        "up_" + "0" * 31,
        "up_" + "Z" * 30,
        "up_00000000" + "/" * 22,
        "xx_" + "0" * 30,
        "up_" + "0" * 29 + "\n",
        "up_" + "０" * 30,
    ],
)
def test_what_is_no_id_has_no_expiry(text: str) -> None:
    assert expiry_s(text) is None


def test_a_name_belongs_to_one_account_one_id_and_one_moment() -> None:
    upload_id = new_id()
    later = f"up_{expiry_s(upload_id) or 0:x}"[:-1] + "f" + upload_id[11:]
    names = {object_name(upload_id, account, PEPPER) for account in (ACCOUNT, OTHER)}
    names |= {object_name(later, ACCOUNT, PEPPER), object_name(upload_id, ACCOUNT, b"q" * 32)}
    assert len(names) == 4
    assert all(len(name) == 64 and int(name, 16) for name in names)


@pytest.mark.parametrize("name", ["a.mp3", "你好 (1).m4a", "%2e%2e", "..", "a" * 100])
def test_a_file_name_is_what_can_stand_in_a_header(name: str) -> None:
    assert is_filename(name)


@pytest.mark.parametrize("name", ["", "a" * 101, "a/b", "..\\b", 'a"b', "a\r\nb", "a\x00", "a\x7f", "a\x85"])
def test_a_path_a_quote_or_a_control_character_is_no_file_name(name: str) -> None:
    assert not is_filename(name)


@pytest.mark.parametrize("kind", ["", "audio", "audio/", "/mp3", "a/b;c=d", 'a/"b"', "a/b\r\nx: y", "a/b c", "a/b/c"])
def test_a_content_type_needs_no_escape(kind: str) -> None:
    assert not is_content_type(kind)


def test_a_type_is_told_by_the_ending() -> None:
    assert type_of("A.MP3") == "audio/mpeg"
    assert type_of("photo.jpeg") == "image/jpeg"
    assert type_of("mp3") == "audio/mpeg"
    assert type_of("a.exe") == type_of("noending") == "application/octet-stream"
    assert all(is_content_type(kind) for kind in uploads.TYPES.values())


# ── JSON ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_links_become_data_urls_and_data_becomes_base64() -> None:
    upload_id = new_id()
    encoded = base64.b64encode(SONG).decode()
    body = {
        "chat": {"type": "image_url", "image_url": {"url": ref(upload_id), "detail": "low"}},
        "responses": {"type": "input_image", "image_url": ref(upload_id)},
        "anthropic": {"type": "base64", "media_type": "audio/mpeg", "data": ref(upload_id)},
    }
    got = json.loads(put_in(json.dumps(body).encode()))
    assert got["chat"]["image_url"] == {"url": f"data:audio/mpeg;base64,{encoded}", "detail": "low"}
    assert got["responses"]["image_url"] == f"data:audio/mpeg;base64,{encoded}"
    assert got["anthropic"] == {"type": "base64", "media_type": "audio/mpeg", "data": encoded}


def test_every_other_byte_stays() -> None:
    upload_id = new_id()
    body = b'{ "a":1.0e5,\t"url" :\r\n "%s" , "b":"\\u4f60" }' % ref(upload_id).encode()
    got = put_in(body, b"x")
    assert got == b'{ "a":1.0e5,\t"url" :\r\n "data:audio/mpeg;base64,eA==" , "b":"\\u4f60" }'


@pytest.mark.parametrize(
    "make",
    [
        lambda r: {"content": r},
        lambda r: {"prompt": r, "input": [r], "text": r},
        lambda r: {"content": f'please look at "url": "{r}" and "data":"{r}"'},
        lambda r: {"content": f'"url":"{r}'},
        lambda r: {'x"url': r},
        lambda r: {'"url': r},
        lambda r: {"url": [r]},
        lambda r: {"url": f" {r}"},
        lambda r: {"url": f"{r} "},
        lambda r: {"url": f'{r}"'},
        lambda r: {"url": f"see {r}"},
        lambda r: {"URL": r, "urls": r, "file_url": r, "the data": r},
        lambda r: {"url": "data", "data": "url", "x": r},
        lambda r: {r: r},
        lambda r: ["url", r],
    ],
)
def test_a_reference_elsewhere_is_text(make: Any) -> None:
    body = json.dumps(make(ref(new_id())), separators=(",", ":")).encode()
    assert places_in_json(body) == ()
    assert put_in(body) == body


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("REF") | st.sampled_from(['"url":"REF"', "\\"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["url", "image_url", "data", "text", 'a"url', "a\\", ""]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(value=json_values, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_it_replaces_what_a_parser_would(value: Any, ascii_only: bool, indent: int | None) -> None:
    upload_id = "up_7735940000000000000000000000ab"
    places = 0

    def expected(item: Any, name: str = "") -> Any:
        nonlocal places
        if isinstance(item, dict):
            return {key: expected(each, key) for key, each in item.items()}
        if isinstance(item, list):
            return [expected(each) for each in item]
        if item == "REF" and name in upload_refs.MEMBERS:
            places += 1
            return "aGk=" if name == "data" else "data:audio/mpeg;base64,aGk="
        return item.replace("REF", ref(upload_id)) if isinstance(item, str) else item

    wanted = expected(value)
    sent = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    body = sent.replace(b"REF", ref(upload_id).encode())
    assert expiry_s(upload_id) is not None
    if places <= REFERENCES_MAX:
        assert json.loads(put_in(body, b"hi").decode("utf-8", "surrogatepass")) == wanted


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise_anything_but_a_refusal(data: bytes) -> None:
    file = form(('name="f"; filename="a"', b"farebox-upload:up_" + data))
    for find in (places_in_json, lambda body: places_in_form(body, CONTENT_TYPE)):
        for body in (data, b'{"url":"farebox-upload:up_' + data, file):
            with suppress(InvalidRequest):
                find(body)


def test_a_malformed_reference_is_refused_and_its_member_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        places_in_json(b'{"image_url":"farebox-upload:up_123"}')
    assert caught.value.param == "image_url"
    assert "123" not in caught.value.zh + caught.value.en


def test_a_reference_nested_deep_is_found_without_recursion() -> None:
    upload_id = new_id()
    body = b'{"a":' + b"[" * 50_000 + b'{"url":"%s"}' % ref(upload_id).encode() + b"]" * 50_000 + b"}"
    (place,) = places_in_json(body)
    assert (place.upload_id, place.param) == (upload_id, "url")


def test_sixteen_references_are_enough() -> None:
    def body(count: int) -> bytes:
        return json.dumps([{"url": ref(new_id())} for _ in range(count)]).encode()

    assert len(places_in_json(body(REFERENCES_MAX))) == REFERENCES_MAX
    with pytest.raises(InvalidRequest) as caught:
        places_in_json(body(REFERENCES_MAX + 1))
    assert caught.value.param == "url"


@pytest.mark.parametrize(
    "body",
    [
        b'{"url":"farebox-upload:up_' * 200_000,
        b'"url"' * 1_000_000,
        b'"url"' + b" " * 5_000_000,
        (b'"url"' + b" " * 1000 + b":" + b" " * 1000) * 2500,
        b'{"url":"farebox-upload:up_%s"}' % (b"a" * 5_000_000),
        b'"farebox-upload:' * 300_000,
    ],
    ids=["unclosed", "names", "spaces", "spaced", "long", "prefixes"],
)
def test_hostile_bodies_take_no_time(body: bytes) -> None:
    begin = time.process_time()
    with suppress(InvalidRequest):
        places_in_json(body)
    assert time.process_time() - begin < 2


def test_ten_thousand_references_are_refused_at_the_seventeenth() -> None:
    body = json.dumps([{"url": ref("up_" + "0" * 30)}] * 10_000).encode()
    begin = time.process_time()
    with pytest.raises(InvalidRequest):
        places_in_json(body)
    assert time.process_time() - begin < 0.1


# ── forms ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_that_is_a_reference_becomes_the_upload_and_keeps_its_name() -> None:
    reference = ref(new_id()).encode()
    body = form(('name="model"', b"whisper-1"), ('name="file"; filename="mine.wav"', reference))
    got = put_in_form(body)
    assert got == body.replace(reference, SONG)
    (part,) = read_form(got, CONTENT_TYPE).files
    assert (part.filename, got[part.start : part.end]) == ("mine.wav", SONG)


def test_a_file_whose_name_tells_no_format_takes_the_uploads_name_and_type() -> None:
    """As SDKs send bare bytes."""
    body = form(
        ('name="file"; filename="upload"\r\nContent-Type: application/octet-stream', ref(new_id()).encode()),
        ('name="model"', b"whisper-1"),
    )
    got = put_in_form(body, upload=Upload("你 100%.mp3", "audio/mpeg", len(SONG)))
    read = read_form(got, CONTENT_TYPE)
    (part,) = read.files
    assert (part.field, part.filename, part.content_type) == ("file", "你 100_.mp3", "audio/mpeg")
    assert got[part.start : part.end] == SONG
    assert read.texts == {"model": "whisper-1"}
    assert b"octet-stream" not in got


def test_several_files_each_get_their_own() -> None:
    ids = [new_id() for _ in range(3)]
    body = form(
        *(('name="image[]"; filename="a.png"', ref(each).encode()) for each in ids), ('name="mask"; filename="m"', b"m")
    )
    places = places_in_form(body, CONTENT_TYPE)
    got = filled(body, places, {each: (UPLOAD, each.encode() * 3) for each in ids})
    contents = [got[part.start : part.end] for part in read_form(got, CONTENT_TYPE).files]
    assert contents == [each.encode() * 3 for each in ids] + [b"m"]


@pytest.mark.parametrize(
    ("disposition", "around"),
    [
        ('name="prompt"', b"%s"),
        ('name="file"; filename="a.mp3"', b"%s\n"),
        ('name="file"; filename="a.mp3"', b" %s"),
        ('name="file"; filename="a.mp3"', b"%s%%s" % (b"x" * 200)),
        ('name="file"; filename="a.mp3"', b"%s and more"),
        ('name="file"; filename="a.mp3"', b"farebox-upload:up_../../etc/passwd%.0s"),
    ],
)
def test_a_text_and_a_file_that_only_contains_one_stay(disposition: str, around: bytes) -> None:
    body = form((disposition, around % ref(new_id()).encode()))
    assert put_in_form(body) == body


def test_a_malformed_reference_in_a_form_names_the_field() -> None:
    with pytest.raises(InvalidRequest) as caught:
        places_in_form(form(('name="file"; filename="a.mp3"', b"farebox-upload:up_12")), CONTENT_TYPE)
    assert caught.value.param == "file"


def test_an_upload_cannot_add_fields_to_the_form() -> None:
    body = form(('name="file"; filename="a.mp3"', ref(new_id()).encode()))
    hostile = f'x\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-4o-transcribe'.encode()
    with pytest.raises(InvalidRequest) as caught:
        put_in_form(body, hostile)
    assert caught.value.param == "file"


def test_a_seventeenth_file_is_refused() -> None:
    body = form(*(('name="image[]"; filename="a.png"', ref(new_id()).encode()) for _ in range(17)))
    with pytest.raises(InvalidRequest) as caught:
        places_in_form(body, CONTENT_TYPE)
    assert caught.value.param == "image[]"
