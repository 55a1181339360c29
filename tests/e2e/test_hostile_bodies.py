"""Forms and sounds that lie, through the running relay: refused in the contract's words, nothing sent, nothing held."""

from __future__ import annotations

import json
import random
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from farebox.http.asgi import BODY_BYTES_MAX
from tests.fakes.caller import problem
from tests.fakes.openai_vendor import BOUNDARY, PNG, Files, answer, form, recorded, tones, wav
from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import ScriptedUpstream, json_answer

KIND = f"multipart/form-data; boundary={BOUNDARY}"
HEARD, EDITED, VARIED = "/audio/transcriptions", "/images/edits", "/images/variations"
SOUND = ("a.wav", wav(500), "audio/wav")
IMAGE = ("a.png", PNG, "image/png")
FIELDS: dict[str, dict[str, str]] = {
    HEARD: {"model": "whisper-1"},
    "/audio/translations": {"model": "whisper-1"},
    EDITED: {"model": "gpt-image-1", "prompt": "a lamp"},
    VARIED: {"model": "dall-e-2"},
}
FILES: dict[str, Files] = {
    HEARD: {"file": SOUND},
    "/audio/translations": {"file": SOUND},
    EDITED: {"image": IMAGE},
    VARIED: {"image": IMAGE},
}
JSONS: dict[str, dict[str, Any]] = {
    "/chat/completions": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
    "/completions": {"model": "gpt-3.5-turbo-instruct", "prompt": "hi"},
    "/responses": {"model": "gpt-4o-mini", "input": "hi"},
    "/embeddings": {"model": "text-embedding-3-small", "input": "hi"},
    "/moderations": {"input": "hi"},
    "/images/generations": {"model": "dall-e-3", "prompt": "a lamp"},
    "/audio/speech": {"model": "tts-1", "voice": "alloy", "input": "hi"},
}
PATHS = [*FIELDS, *JSONS]
TYPES = (
    "text/plain",
    "application/x-www-form-urlencoded",
    "application/octet-stream",
    "*/*",
    "x",
    "application/json;;=",
)


@pytest.fixture
def key(farebox: RunningFarebox, upstream: ScriptedUpstream) -> Iterator[Funded]:
    """A key of an account that nothing must happen to."""
    made = farebox.new_key()
    before = farebox.account(made.account)
    yield made
    assert upstream.requests == []
    assert farebox.account(made.account) == before
    assert farebox.receipts(made.account) == []


def send(farebox: RunningFarebox, key: Funded, path: str, body: bytes, kind: str = KIND) -> httpx.Response:
    return http.post(
        farebox.base_url + path, content=body, headers={"authorization": key.text, "content-type": kind}, timeout=30
    )


def refused(told: httpx.Response) -> str | None:
    """The parameter of a refusal as an invalid request."""
    error = problem(told)
    assert (told.status_code, error["code"]) == (400, "invalid_request"), told.text
    param: str | None = error["param"]
    return param


def part(disposition: bytes, data: bytes = b"x", *headers: bytes) -> bytes:
    lines = [b"Content-Disposition: " + disposition, *headers]
    return b"--" + BOUNDARY.encode() + b"\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + data + b"\r\n"


END = b"--" + BOUNDARY.encode() + b"--\r\n"


def good(path: str) -> bytes:
    return form(FIELDS[path], FILES[path])[1]


# ── forms ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def bombs(path: str) -> dict[str, tuple[bytes, str]]:
    """What is wrong → a whole body, and its content type."""
    whole, text = good(path), part(b'form-data; name="x"')
    opening = whole.removesuffix(END)
    return {
        "a thousand parts": (opening + text * 1000 + END, KIND),
        "a million delimiters": (b"--x\r\n" * 1_000_000, "multipart/form-data; boundary=x"),
        "a thousand files": (opening + part(b'form-data; name="image[]"; filename="a"') * 1000 + END, KIND),
        "no boundary": (whole, "multipart/form-data"),
        "an empty boundary": (whole, "multipart/form-data; boundary="),
        "another boundary": (whole, "multipart/form-data; boundary=other"),
        "two boundaries": (whole, f"{KIND}; boundary=other"),
        "an endless boundary": (whole, f"multipart/form-data; boundary={'x' * 5000}"),
        "a huge header": (opening + part(b'form-data; name="x"', b"x", b"X-A: " + b"a" * 100_000) + END, KIND),
        "a thousand headers": (opening + part(b'form-data; name="x"', b"x", *[b"X-A: a"] * 1000) + END, KIND),
        "a header without end": (
            opening + b"--" + BOUNDARY.encode() + b"\r\nContent-Disposition: " + b"a" * 9_000,
            KIND,
        ),
        "no name": (opening + part(b"form-data") + END, KIND),
        "an endless name": (opening + part(b'form-data; name="' + b"x" * 5000 + b'"') + END, KIND),
        "a name with a line break": (opening + part(b'form-data; name="x\r\n y"') + END, KIND),
        "a name in another tongue": (opening + part('form-data; name="模型"'.encode()) + END, KIND),
        "no end": (opening, KIND),
        "half an end": (whole[:-4], KIND),
        "something behind the end": (whole + opening, KIND),
        "something before the beginning": (b"preamble\r\n" + whole, KIND),
        "bare line feeds": (whole.replace(b"\r\n", b"\n"), KIND),
        "nothing": (b"", KIND),
        "an end alone": (END, KIND),
        "noise": (random.Random(7).randbytes(100_000), KIND),
        "JSON": (json.dumps(FIELDS[path]).encode(), KIND),
    }


@pytest.mark.parametrize("path", FIELDS)
@pytest.mark.parametrize("name", bombs(HEARD))
def test_a_form_that_is_none_is_refused(name: str, path: str, farebox: RunningFarebox, key: Funded) -> None:
    body, kind = bombs(path)[name]
    began = time.monotonic()

    assert refused(send(farebox, key, path, body, kind)) in ("body", None)
    assert time.monotonic() - began < 5


SPOILT: dict[str, tuple[str, bytes, str]] = {
    "two models": (HEARD, part(b'form-data; name="model"', b"gpt-4o-transcribe"), "model"),
    "the same model twice": (HEARD, part(b'form-data; name="model"', b"whisper-1"), "model"),
    "a model in brackets": (HEARD, part(b'form-data; name="model[]"', b"gpt-4o-transcribe"), "model[]"),
    "two files": (HEARD, part(b'form-data; name="file"; filename="b.wav"', wav(9)), "file"),
    "a file in brackets": (HEARD, part(b'form-data; name="file[]"; filename="b.wav"', wav(9)), "file[]"),
    "a file of another name": (HEARD, part(b'form-data; name="music"; filename="b.wav"', wav(9)), "music"),
    "a file and a link": (HEARD, part(b'form-data; name="url"', b"https://sounds.example/a.mp3"), "url"),
    "a text as a file": (HEARD, part(b'form-data; name="prompt"; filename="p.txt"', b"a"), "prompt"),
    "a prompt that is no UTF-8": (HEARD, part(b'form-data; name="prompt"', b"\xff\xfe"), "prompt"),
    "a prompt in another charset": (
        HEARD,
        part(b'form-data; name="prompt"', b"a", b"Content-Type: text/plain; charset=utf-16"),
        "prompt",
    ),
    "an endless prompt": (HEARD, part(b'form-data; name="prompt"', b"a" * 1_100_000), "prompt"),
    "an encoded part": (
        HEARD,
        part(b'form-data; name="prompt"', b"YQ==", b"Content-Transfer-Encoding: base64"),
        "body",
    ),
    "a stream that is no flag": (HEARD, part(b'form-data; name="stream"', b"yes"), "stream"),
    "two prompts": (EDITED, part(b'form-data; name="prompt"', b"b"), "prompt"),
    "two sizes": (EDITED, part(b'form-data; name="size"', b"auto") * 2, "size"),
    "n in brackets": (EDITED, part(b'form-data; name="n[]"', b"9"), "n[]"),
    "n as a word": (EDITED, part(b'form-data; name="n"', b"nine"), "n"),
    "n below one": (EDITED, part(b'form-data; name="n"', b"-1"), "n"),
    "n above ten": (EDITED, part(b'form-data; name="n"', b"11"), "n"),
    "n in other figures": (EDITED, part(b'form-data; name="n"', "９".encode()), "n"),
    "an image as a text": (EDITED, part(b'form-data; name="image"', b"data:,"), "image"),
    "too many images": (EDITED, part(b'form-data; name="image[]"; filename="a"', PNG) * 17, "image"),
    "a file without a name": (VARIED, part(b'form-data; name="image"; filename=""', PNG), "image"),
    "a mask where none is taken": (VARIED, part(b'form-data; name="mask"; filename="a"', PNG), "mask"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_field_that_two_readers_might_read_differently_is_refused(
    name: str, farebox: RunningFarebox, key: Funded
) -> None:
    path, added, param = SPOILT[name]

    assert refused(send(farebox, key, path, good(path).removesuffix(END) + added + END)) == param


@pytest.mark.parametrize("path", FIELDS)
@pytest.mark.parametrize("model", [None, "as a file", "", "gpt-9", "gpt-4o", "x" * 300])
def test_a_form_needs_a_model_of_its_kind(model: str | None, path: str, farebox: RunningFarebox, key: Funded) -> None:
    fields = {name: value for name, value in FIELDS[path].items() if name != "model"}
    files: Files = FILES[path]
    if model == "as a file":
        files = {**dict(files), "model": ("model.txt", FIELDS[path]["model"].encode(), "text/plain")}
    elif model is not None:
        fields["model"] = model
    told = send(farebox, key, path, form(fields, files)[1])

    assert (told.status_code, problem(told)["param"]) == (404 if model in ("gpt-9", "gpt-4o") else 400, "model")


NAMES = (
    b"../../../../etc/passwd",
    b"/etc/shadow",
    b"C:\\\\Windows\\\\win.ini",
    b"file:///etc/passwd",
    b'a\\"; name=\\"model',
    b"\x7f" * 2,
    b"a" * 255,
    "灯 🌍.wav".encode(),
    b"'; DROP TABLE accounts; --",
    b"%00%0d%0aX-Evil:%201",
    b"\xff\xfe",
)


@pytest.mark.parametrize("filename", NAMES, ids=repr)
def test_a_files_name_is_only_a_name(filename: bytes, farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    """It opens nothing, and reaches the vendor as it came, or not at all."""
    upstream.script = json_answer({"text": "hi"})
    key = farebox.new_key(credit="1")
    file = part(b'form-data; name="file"; filename="' + filename + b'"', wav(500), b"Content-Type: audio/wav")
    body = part(b'form-data; name="model"', b"whisper-1") + file + END
    told = send(farebox, key, HEARD, body)

    assert told.status_code in (200, 400)
    assert [request.body for request in upstream.requests] == ([body] if told.status_code == 200 else [])
    assert farebox.account(key.account).held_nano == 0


# ── sounds ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def sounds() -> dict[str, bytes]:
    """What is wrong → a file whose length cannot be told."""
    sound, mp3, mp4 = wav(500), tones()["bare_vbr.mp3"], tones()["table.m4a"]
    header = bytearray(sound[:44])
    noise = random.Random(11)
    return {
        "nothing": b"",
        "one byte": b"R",
        "a head alone": sound[:12],
        "a wav without sound": sound[:44][:40] + bytes(4),
        "a wav at no rate": bytes(header[:24]) + bytes(4) + sound[28:],
        "a wav of no channels": bytes(header[:22]) + bytes(2) + sound[24:],
        "a wav whose blocks lie": bytes(header[:32]) + struct.pack("<H", 60_000) + sound[34:],
        "a wav of an unknown codec": bytes(header[:20]) + b"\x99\x99" + sound[22:],
        "text": b"ID3 is what I want for my birthday. " * 100,
        "noise": noise.randbytes(100_000),
        "an image": PNG,
        "a page": b"<!doctype html><html></html>",
        "an mp4 without a table": mp4[:64],
        "an mp4 box without end": b"\x00\x00\x00\x00ftypM4A " + b"\xff" * 4000,
        "boxes in boxes": b"\x00\x00\x00\x14ftypM4A \x00\x00\x00\x00isom" + b"\x00\x0f\xff\xffmoov" * 10_000,
        "a flac head alone": b"fLaC\x80\x00\x00\x22" + bytes(34),
        "an ogg head alone": b"OggS" + bytes(1000),
        "a webm head alone": b"\x1a\x45\xdf\xa3" + b"\xff" * 1000,
        "tags without end": b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + mp3,
        "a hundred tags": b"ID3\x04\x00\x00\x00\x00\x00\x00" * 100 + mp3,
    }


@pytest.mark.parametrize("name", sounds())
@pytest.mark.parametrize("kind", ["audio/wav", "audio/pcm"])
def test_a_sound_whose_length_cannot_be_told_is_refused(
    name: str, kind: str, farebox: RunningFarebox, key: Funded
) -> None:
    body = form(FIELDS[HEARD], {"file": ("a.pcm", sounds()[name], kind)})[1]

    assert refused(send(farebox, key, HEARD, body)) == "file"


LIES: dict[str, tuple[bytes, int]] = {
    "a length of nought": (wav(2000)[:40] + bytes(4) + wav(2000)[44:], 2000),
    "a length beyond the end": (wav(2000)[:40] + b"\xff\xff\xff\x7f" + wav(2000)[44:], 2000),
    "a length of one sample": (wav(2000)[:40] + struct.pack("<I", 2) + wav(2000)[44:], 2000),
    "two sounds in a row": (tones()["bare_vbr.mp3"] * 3, 3 * 1080),
    "a wav that calls itself an mp3": (wav(777), 777),
}
"""What the header says → the sound, and what it really plays: milliseconds."""


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies_makes_nothing_cheaper(
    name: str, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer({"text": "hi"})
    data, milliseconds = LIES[name]
    key = farebox.new_key(credit="1")
    told = send(farebox, key, HEARD, form(FIELDS[HEARD], {"file": ("a.mp3", data, "audio/mpeg")})[1])
    (receipt,) = farebox.receipts(key.account)

    assert told.status_code == 200
    assert receipt["usage"]["audio_ms"]["count"] == milliseconds
    assert farebox.account(key.account).spent_nano == receipt["cost_nano"] == milliseconds * 700


# ── the wrong kind of body ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", JSONS)
def test_a_form_where_json_is_wanted_is_refused(path: str, farebox: RunningFarebox, key: Funded) -> None:
    fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in JSONS[path].items()}

    assert refused(send(farebox, key, path, form(fields, {})[1])) is None


@pytest.mark.parametrize("path", FIELDS)
@pytest.mark.parametrize("kind", ["application/json", *TYPES])
def test_a_form_that_is_called_something_else_is_refused(
    kind: str, path: str, farebox: RunningFarebox, key: Funded
) -> None:
    assert refused(send(farebox, key, path, good(path), kind)) is None


@pytest.mark.parametrize("path", FIELDS)
@pytest.mark.parametrize("kind", ["application/json", *TYPES])
def test_json_where_a_file_is_wanted_is_refused(kind: str, path: str, farebox: RunningFarebox, key: Funded) -> None:
    param = refused(send(farebox, key, path, json.dumps(FIELDS[path]).encode(), kind))

    assert param == ("file" if "audio" in path else "image")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["application/json", KIND, *TYPES])
@pytest.mark.parametrize("body", [b"", b"null", b"model=gpt-4o&prompt=hi", b"\x00" * 100], ids=repr)
def test_a_body_that_is_none_is_refused(
    body: bytes, kind: str, path: str, farebox: RunningFarebox, key: Funded
) -> None:
    assert refused(send(farebox, key, path, body, kind)) in (None, "body")


@pytest.mark.parametrize("kind", [*TYPES, "multipart/form-data; boundary=x", "application/json; charset=utf-16", None])
def test_json_under_another_name_reaches_the_vendor_as_what_it_was_read_as(
    kind: str | None, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    """Else the vendor might read the same bytes in a way that has another price."""
    upstream.script = answer(recorded("responses.text.json"))
    key = farebox.new_key(credit="1")
    body = b'{"model":"gpt-4o-mini","input":"&model=o3&","store":false}'
    headers = {"authorization": key.text, **({} if kind is None else {"content-type": kind})}

    assert http.post(f"{farebox.base_url}/responses", content=body, headers=headers).status_code == 200
    assert upstream.requests[0].headers["content-type"] == "application/json"
    assert upstream.requests[0].body == body


# ── size ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", FIELDS)
def test_a_form_over_the_limit_is_refused(path: str, farebox: RunningFarebox, key: Funded) -> None:
    name, (filename, data, kind) = next(iter(dict(FILES[path]).items()))
    body = form(FIELDS[path], {name: (filename, data + bytes(BODY_BYTES_MAX), kind)})[1]
    told = send(farebox, key, path, body)

    assert (told.status_code, problem(told)["code"]) == (413, "request_too_large")


def test_a_form_of_just_the_limit_is_heard(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = json_answer({"text": "hi"})
    room = BODY_BYTES_MAX - len(form(FIELDS[HEARD], {"file": ("a.wav", b"", "audio/wav")})[1])
    header = bytearray(wav(0))
    header[40:44] = struct.pack("<I", room - 44)
    body = form(FIELDS[HEARD], {"file": ("a.wav", bytes(header) + bytes(room - 44), "audio/wav")})[1]
    key = farebox.new_key(credit="10")

    assert len(body) == BODY_BYTES_MAX
    assert send(farebox, key, HEARD, body).status_code == 200
    assert upstream.requests[0].body == body


def test_many_hostile_forms_at_once_hold_nobody_up(farebox: RunningFarebox, key: Funded) -> None:
    """Measured on the very loop that they come in by."""
    body, kind = bombs(HEARD)["a million delimiters"]
    threads = [threading.Thread(target=send, args=(farebox, key, HEARD, body, kind)) for _ in range(8)]
    for thread in threads:
        thread.start()
    slowest = 0.0
    while any(thread.is_alive() for thread in threads):
        began = time.monotonic()
        assert http.get(f"{farebox.url}/healthz").status_code == 200
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 2
