"""A form is read beside its body: exactly, with the places of its texts, or refused; never guessed at."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any

import httpx
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.form import HEADER_BYTES_MAX, PARTS_MAX, TEXT_BYTES_MAX, FilePart, Form, read_form, replace_text
from farebox.errors import InvalidRequest

BOUNDARY = "----farebox7MA4YWxkTrZu0gW"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"

NAMES = st.from_regex(r"[A-Za-z0-9_.\-]{1,20}", fullmatch=True).filter(lambda name: name != "_charset_")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
FILENAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='%"\\'), min_size=1, max_size=20
).filter(lambda name: name.isprintable())
DATA = st.one_of(
    st.binary(max_size=60), st.sampled_from([b"\r\n", b"--", b"\r\n--", b"\r\n----farebox", b"\r" * 9, b"\n\n"])
)


def part(disposition: str | bytes, data: bytes, *more: bytes) -> bytes:
    if isinstance(disposition, str):
        disposition = disposition.encode()
    return b"\r\n".join((b"Content-Disposition: form-data" + disposition, *more, b"", data))


def form(*parts: bytes, boundary: str = BOUNDARY) -> bytes:
    """The independent encoder: RFC 7578, nothing else."""
    mark = b"--" + boundary.encode()
    return b"".join(mark + b"\r\n" + each + b"\r\n" for each in parts) + mark + b"--\r\n"


def text(name: str, value: str | bytes) -> bytes:
    return part(f'; name="{name}"', value.encode() if isinstance(value, str) else value)


def file(name: str, data: bytes, filename: str = "a.mp3", kind: str = "audio/mpeg") -> bytes:
    return part(f'; name="{name}"; filename="{filename}"', data, f"Content-Type: {kind}".encode())


def refused(body: bytes, content_type: str = TYPE) -> str | None:
    """The parameter that the refusal names. Its sentences are in both languages and hold nothing of the form."""
    with pytest.raises(InvalidRequest) as caught:
        read_form(body, content_type)
    error = caught.value
    assert error.param is not None
    assert error.param in error.zh
    assert error.param in error.en
    assert "secret" not in error.zh + error.en
    assert any("\u4e00" <= letter <= "\u9fff" for letter in error.zh)
    assert error.en.isascii()
    return error.param


# ── what is read ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_texts_files_and_their_places_are_read() -> None:
    body = form(text("model", "whisper-1"), file("file", b"\x00\r\n--\xff"), text("prompt", "你好"))

    read = read_form(body, TYPE)

    assert read.texts == {"model": "whisper-1", "prompt": "你好"}
    assert {name: body[slice(*span)] for name, span in read.spans.items()} == {
        "model": b"whisper-1",
        "prompt": "你好".encode(),
    }
    [sent] = read.files
    assert sent == FilePart("file", "a.mp3", "audio/mpeg", sent.start, sent.end)
    assert body[sent.start : sent.end] == b"\x00\r\n--\xff"


def test_an_empty_text_and_an_empty_file_stand_where_they_would() -> None:
    body = form(text("prompt", ""), file("file", b""), text("model", "whisper-1"))

    read = read_form(body, TYPE)

    assert read.texts["prompt"] == ""
    assert replace_text(body, read, "prompt", b"x") == form(
        text("prompt", "x"), file("file", b""), text("model", "whisper-1")
    )
    assert read.files[0].start == read.files[0].end


@pytest.mark.parametrize("name", ["image[]", "image", "timestamp_granularities[]", "include"])
def test_a_repeatable_name_has_a_list_even_of_one(name: str) -> None:
    once, twice = form(text(name, "a")), form(text(name, "a"), text(name, "b"))

    assert read_form(once, TYPE).texts == {name: ["a"]}
    read = read_form(twice, TYPE)
    assert read.texts == {name: ["a", "b"]}
    assert twice[slice(*read.spans[name])] == b"a"


def test_many_images_are_read_in_order() -> None:
    body = form(*(file("image[]", bytes([n]), f"{n}.png", "image/png") for n in range(5)), text("model", "gpt-image-1"))

    assert [body[each.start : each.end] for each in read_form(body, TYPE).files] == [bytes([n]) for n in range(5)]


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ('; name="file"; filename="a b.mp3"', "a b.mp3"),
        ("; name=file; filename=a.mp3", "a.mp3"),
        ('; filename="a.mp3"; name="file"', "a.mp3"),
        ('; name="file"; filename="你好.mp3"', "你好.mp3"),
        ('; name="file"; filename="a%22b.mp3"', 'a"b.mp3'),
        (r'; name="file"; filename="a\"b.mp3"', 'a"b.mp3'),
        (r'; name="file"; filename="C:\dir\a.mp3"', r"C:\dir\a.mp3"),
        ("; name=\"file\"; filename*=UTF-8''%E4%BD%A0%E5%A5%BD.mp3", "你好.mp3"),
        ("; name=\"file\"; filename*=utf-8'zh'%E4%BD%A0.mp3", "你.mp3"),
        ("; name=\"file\"; filename*=ISO-8859-1''%E4.mp3", "ä.mp3"),
        ('; name="file"; filename="x.mp3"; filename*=UTF-8\'\'%E4%BD%A0.mp3', "你.mp3"),
        ('; name="file"; filename="../../etc/passwd"', "../../etc/passwd"),
        ('; name="file"; filename="a;b=c.mp3"', "a;b=c.mp3"),
        (b'; name="file"; filename="\xc4\xe3.mp3"', "\ufffd\ufffd.mp3"),
    ],
)
def test_file_names_are_read_as_clients_write_them(disposition: str | bytes, filename: str) -> None:
    [sent] = read_form(form(part(disposition, b"x")), TYPE).files

    assert (sent.filename, sent.content_type) == (filename, "")


@pytest.mark.parametrize(
    "content_type",
    [
        f'multipart/form-data; boundary="{BOUNDARY}"',
        f"Multipart/Form-Data;charset=utf-8;  Boundary={BOUNDARY}",
        f'multipart/form-data; charset="utf-8"; boundary={BOUNDARY} ',
    ],
)
def test_the_boundary_is_found_as_clients_write_it(content_type: str) -> None:
    assert read_form(form(text("model", "m")), content_type).texts == {"model": "m"}


def test_a_text_may_say_that_it_is_text() -> None:
    body = form(
        part('; name="a"', b"1", b"Content-Type: text/plain; charset=UTF-8"),
        part('; name="b"', b"{}", b"content-type: application/json"),
        part('; name="c"', b"3", b"Content-Transfer-Encoding: 8bit", b"Content-Length: 1"),
    )

    assert read_form(body, TYPE).texts == {"a": "1", "b": "{}", "c": "3"}


def test_a_body_that_ends_without_a_last_line_break_is_whole() -> None:
    assert read_form(form(text("model", "m"))[:-2], TYPE).texts == {"model": "m"}


@given(
    texts=st.dictionaries(NAMES, TEXTS, max_size=5),
    files=st.lists(st.tuples(FILENAMES, DATA), max_size=3),
    boundary=st.from_regex(r"[0-9A-Za-z'()+_,./:=?-]{12,70}", fullmatch=True),
    data=st.data(),
)
def test_any_form_is_read_back_exactly(
    texts: dict[str, str], files: list[tuple[str, bytes]], boundary: str, data: st.DataObject
) -> None:
    sections = [text(name, value) for name, value in texts.items()]
    sections += [file("upload[]", content, name) for name, content in files]
    sections = data.draw(st.permutations(sections)) or [text("x", "")]
    body = form(*sections, boundary=boundary)
    if body.count(b"--" + boundary.encode()) != len(sections) + 1:
        return

    read = read_form(body, f'multipart/form-data; boundary="{boundary}"')

    plain = {name: value if isinstance(value, str) else value[0] for name, value in read.texts.items()}
    assert plain == (texts or (plain if files else {"x": ""}))
    assert {name: body[slice(*span)].decode() for name, span in read.spans.items()} == plain
    assert sorted((each.filename, body[each.start : each.end]) for each in read.files) == sorted(files)


@given(
    texts=st.dictionaries(NAMES, TEXTS, min_size=1, max_size=4),
    files=st.lists(st.tuples(FILENAMES, st.binary(max_size=60)), min_size=1, max_size=3),
)
def test_what_httpx_encodes_is_read_back_exactly(texts: dict[str, str], files: list[tuple[str, bytes]]) -> None:
    request = httpx.Request(
        "POST", "http://relay/", data=texts, files=[("upload[]", (name, content)) for name, content in files]
    )
    body = request.read()

    read = read_form(body, request.headers["content-type"])

    expected = {name: [value] if name in ("image", "include") else value for name, value in texts.items()}
    assert read.texts == expected
    assert [(each.filename, body[each.start : each.end]) for each in read.files] == files
    assert all(body[slice(*span)].decode() == texts[name] for name, span in read.spans.items())


def sent_by_the_sdk(call: str, **arguments: Any) -> tuple[bytes, str]:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json={"text": "", "data": [], "created": 0})

    transport = httpx2.MockTransport(answer)
    with openai.OpenAI(
        api_key="k", base_url="http://relay/v1", http_client=httpx2.Client(transport=transport)
    ) as client:
        target: Any = client
        for name in call.split("."):
            target = getattr(target, name)
        target(**arguments)
    return seen[0].read(), seen[0].headers["content-type"]


def test_a_transcription_of_openais_sdk_is_read() -> None:
    body, content_type = sent_by_the_sdk(
        "audio.transcriptions.create",
        file=("语音.mp3", b"\xff\xfb\r\n--x", "audio/mpeg"),
        model="gpt-4o-transcribe",
        timestamp_granularities=["word", "segment"],
        include=["logprobs"],
        temperature=0.5,
        stream=True,
        chunking_strategy={"type": "server_vad"},
    )

    read = read_form(body, content_type)

    assert read.texts["model"] == "gpt-4o-transcribe"
    assert read.texts["timestamp_granularities[]"] == ["word", "segment"]
    assert read.texts["include[]"] == ["logprobs"]
    assert (read.texts["temperature"], read.texts["stream"]) == ("0.5", "true")
    [sent] = read.files
    assert (sent.field, sent.filename, body[sent.start : sent.end]) == ("file", "语音.mp3", b"\xff\xfb\r\n--x")


def test_an_edit_of_openais_sdk_is_read() -> None:
    body, content_type = sent_by_the_sdk(
        "images.edit", image=[b"one", b"two"], mask=b"three", prompt="a hat", model="gpt-image-1", n=2
    )

    read = read_form(body, content_type)

    assert read.texts == {"prompt": "a hat", "model": "gpt-image-1", "n": "2"}
    assert [(each.field, body[each.start : each.end]) for each in read.files] == [
        ("image[]", b"one"),
        ("image[]", b"two"),
        ("mask", b"three"),
    ]


# ── what is changed ─────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.binary(max_size=40).filter(lambda value: not {10, 13} & set(value) and not value.startswith(b"--")))
def test_a_replaced_text_leaves_every_other_byte_as_it_was(value: bytes) -> None:
    body = form(file("file", b"\x00\xff\r\n"), text("model", "cheap"), text("prompt", "cheap"))

    changed = replace_text(body, read_form(body, TYPE), "model", value)

    assert changed == form(file("file", b"\x00\xff\r\n"), text("model", value), text("prompt", "cheap"))


def test_a_text_that_is_not_there_cannot_be_replaced() -> None:
    body = form(file("file", b"x"))

    with pytest.raises(KeyError):
        replace_text(body, read_form(body, TYPE), "file", b"y")


@pytest.mark.parametrize("value", [b"--", b"--x", b"a\r\n--x", b"\n"])
def test_a_value_that_could_pass_for_a_delimiter_is_not_put_in(value: bytes) -> None:
    body = form(text("model", "m"))

    with pytest.raises(ValueError, match="line break"):
        replace_text(body, read_form(body, TYPE), "model", value)


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────────────

GOOD = text("model", "secret")


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "multipart/form-data",
        "application/json",
        "multipart/mixed; boundary=" + BOUNDARY,
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        f"{TYPE}; boundary=other",
        f"{TYPE}; ;",
        'multipart/form-data; boundary="a\r\nb"',
        "multipart/form-data; boundary=" + "x" * 71,
        "multipart/form-data; boundary=中文",
        'multipart/form-data; boundary="unclosed',
    ],
)
def test_a_content_type_without_one_good_boundary_is_refused(content_type: str) -> None:
    assert refused(form(GOOD), content_type) == "body"


MARK = b"--" + BOUNDARY.encode()
SPOILT = {
    "empty": b"",
    "no part": MARK + b"--\r\n",
    "another boundary": form(GOOD, boundary="other"),
    "a preamble": b"x\r\n" + form(GOOD),
    "an epilogue": form(GOOD) + b"x",
    "a second form": form(GOOD) + form(GOOD),
    "padding": form(GOOD, GOOD).replace(MARK + b"\r\n", MARK + b" \r\n"),
    "a delimiter with more": form(text("a", b"\r\n" + MARK + b"x")),
    "a delimiter inside a line": form(text("a", b"x" + MARK)),
    "bare line feeds": form(GOOD).replace(b"\r\n", b"\n"),
    "a bare line feed in a header": form(part('; name="a"\nX: y', b"")),
    "a folded header": form(part(';\r\n name="a"', b"")),
    "no header": MARK + b"\r\n\r\nx\r\n" + MARK + b"--",
    "no name": form(part("", b"secret")),
    "an empty name": form(part('; name=""', b"secret")),
    "an escaped name": form(part(r'; name="mod\el"', b"secret")),
    "an encoded name": form(part("; name*=UTF-8''model", b"secret")),
    "a name in pieces": form(part('; name*0="mo"; name*1="del"', b"secret")),
    "two names": form(part('; name="a"; name="b"', b"secret")),
    "a strange name": form(part('; name="secret field"', b"x")),
    "a long name": form(part(f'; name="{"x" * 101}"', b"x")),
    "_charset_": form(text("_charset_", "utf-16")),
    "no form-data": form(GOOD).replace(b"form-data", b"attachment"),
    "two dispositions": form(part('; name="a"', b"x", b'content-disposition: form-data; name="b"')),
    "base64": form(part('; name="n"', b"MQ==", b"Content-Transfer-Encoding: base64")),
    "quoted-printable": form(part('; name="n"', b"=31", b"Content-Transfer-Encoding: Quoted-Printable")),
    "long headers": form(part('; name="a"', b"", *(b"X-%d: " % n + b"x" * 2000 for n in range(5)))),
    "a long header": form(part('; name="a"', b"", b"X: " + b"x" * HEADER_BYTES_MAX)),
    "many headers": form(part('; name="a"', b"", *(b"X-%d: y" % n for n in range(20)))),
    "many parts": form(*(text(f"a{n}", "") for n in range(PARTS_MAX + 1))),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_malformed_body_is_refused(name: str) -> None:
    assert refused(SPOILT[name]) == "body"


FIELDS = {
    "a model twice": ("model", form(GOOD, GOOD)),
    "a file twice": ("file", form(file("file", b"1"), file("file", b"2"))),
    "a text and a file": ("model", form(GOOD, file("model", b"x"))),
    "texts and files of one name": ("image[]", form(text("image[]", "x"), file("image[]", b"x"))),
    "no UTF-8": ("prompt", form(text("prompt", b"\xff\xfe"))),
    "another charset": (
        "n",
        form(part('; name="n"', "10".encode("utf-16"), b"Content-Type: text/plain; charset=utf-16")),
    ),
    "no text": ("n", form(part('; name="n"', b"1", b"Content-Type: audio/mpeg"))),
    "a content type that is none": ("n", form(part('; name="n"', b"1", b"Content-Type: ;;"))),
    "an empty file name": ("n", form(part('; name="n"; filename=""', b"1"))),
    "a file name in pieces": ("n", form(part('; name="n"; filename*0="a"; filename*1="b"', b"1"))),
    "an unknown charset": ("file", form(part("; name=\"file\"; filename*=gbk''%C4%E3", b"1"))),
    "a charset that it is not in": ("file", form(part("; name=\"file\"; filename*=UTF-8''%C4", b"1"))),
    "a file name that is not encoded": ("file", form(part('; name="file"; filename*="a.mp3"', b"1"))),
    "much text": ("b", form(text("a", "x" * TEXT_BYTES_MAX), text("b", "x"))),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_bad_field_is_refused_by_name(name: str) -> None:
    param, body = FIELDS[name]

    assert refused(body) == param


def test_as_many_parts_and_as_much_text_as_allowed_are_read() -> None:
    each = "x" * (TEXT_BYTES_MAX // PARTS_MAX)

    assert len(read_form(form(*(text(f"a{n}", each) for n in range(PARTS_MAX))), TYPE).texts) == PARTS_MAX


WHOLE = form(
    text("model", "whisper-1"), file("file", b"\x00\r\n--\xff"), text("a[]", "1"), text("a[]", "2"), text("e", "")
)


def test_a_truncated_body_is_refused_wherever_it_ends() -> None:
    for end in range(len(WHOLE) - 2):
        assert refused(WHOLE[:end]) == "body"


def honest(read: Form, body: bytes) -> bool:
    """Whether what was read stands in the body where it says."""
    texts: Mapping[str, Any] = read.texts
    first = {name: value if isinstance(value, str) else value[0] for name, value in texts.items()}
    return {name: body[slice(*span)].decode() for name, span in read.spans.items()} == first and all(
        0 <= each.start <= each.end <= len(body) for each in read.files
    )


@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 20), DATA), min_size=1, max_size=3),
    st.sampled_from([TYPE, "multipart/form-data; boundary=-", "multipart/form-data; boundary=farebox"]),
)
def test_a_mutated_body_is_read_honestly_or_refused(cuts: list[tuple[int, int, bytes]], content_type: str) -> None:
    body = WHOLE
    for start, length, put in cuts:
        body = body[:start] + put + body[start + length :]
    try:
        read = read_form(body, content_type)
    except InvalidRequest:
        return
    assert honest(read, body)


@given(st.binary(max_size=300), st.text(max_size=60))
def test_no_bytes_make_the_reader_raise_anything_but_a_refusal(body: bytes, content_type: str) -> None:
    for kind in (content_type, TYPE, "multipart/form-data; boundary=" + content_type):
        try:
            read_form(MARK + b"\r\n" + body, kind)
        except InvalidRequest:
            continue


@pytest.mark.parametrize(
    "fill", [b"\r", b"\r\n", b"\r\n--", b"-", b"\r\n--b", b"\r\n--bX", b"\r\n--b\r\nA: b\r\n\r\n", b"\0"]
)
@pytest.mark.parametrize("boundary", ["b", "-" * 70, BOUNDARY])
def test_the_time_is_linear_whatever_the_body(fill: bytes, boundary: str) -> None:
    body = form(file("file", fill * (8_000_000 // len(fill))), boundary=boundary)
    started = time.monotonic()
    with contextlib.suppress(InvalidRequest):
        read_form(body, f"multipart/form-data; boundary={boundary}")

    assert time.monotonic() - started < 2


def test_a_hostile_body_leaves_nothing_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        refused(form(part('; name="a"', b"", b"secret@header: x")))

    assert caplog.records == []
