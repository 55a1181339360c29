"""Files that are sent apart from the request: both places for them, and everything that must not work."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import stat
import struct
import subprocess
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from farebox.domain.uploads import BYTES_MAX, LIFE_S
from farebox.http.asgi import BODY_BYTES_MAX
from farebox.settings import Settings
from tests.fakes.caller import RawCaller, headers_of, problem
from tests.fakes.process import FareboxProcess, http, wait_until
from tests.fakes.s3 import FakeS3
from tests.fakes.service import ADMIN_TOKEN, Funded, RunningFarebox
from tests.fakes.upstream import (
    DONE,
    ScriptedUpstream,
    Send,
    WaitFor,
    chat_completion,
    chat_stream,
    chunk,
    json_answer,
    sse_answer,
    sse_head,
)

PRESIGN = "/v1/uploads/presigned"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HEARD = {"text": "hello", "usage": {"type": "duration", "seconds": 1}}


def wav(size: int) -> bytes:
    """Silence, `size` bytes of it with the header, at 32,000 bytes a second."""
    data = size - 44
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", data + 36, b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", data
    )
    return head + bytes(data)


@pytest.fixture(scope="module")
def s3() -> Iterator[FakeS3]:
    fake = FakeS3().start()
    yield fake
    fake.stop()


@pytest.fixture(scope="module")
def on_s3(
    s3: FakeS3, _upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningFarebox]:
    settings = Settings(admin_token=ADMIN_TOKEN, trusted_proxies=("127.0.0.1",))
    folder = tmp_path_factory.mktemp("on-s3")
    service = RunningFarebox(folder, _upstream.url, settings, environ=s3.environ).start()
    s3.now_ms = lambda: service.clock.now_ms()
    yield service
    service.stop()


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, upstream: ScriptedUpstream) -> Iterator[RunningFarebox]:
    """A running service; where its uploads lie is the test's parameter."""
    service: RunningFarebox = request.getfixturevalue("farebox" if request.param == "local" else "on_s3")
    yield service
    service.clock.offset_ms = 0


@pytest.fixture
def key(place: RunningFarebox) -> Funded:
    return place.new_key()


@pytest.fixture(autouse=True)
def _empty(farebox: RunningFarebox, s3: FakeS3) -> None:
    """Nothing lies anywhere yet."""
    for path in files(farebox):
        path.unlink(missing_ok=True)  # a deletion may still be on its way
    s3.objects.clear()
    s3.asked.clear()


def lying(place: RunningFarebox, s3: FakeS3) -> int:
    """How many uploads there are."""
    return len(files(place)) + len(s3.objects)


def files(farebox: RunningFarebox) -> list[Path]:
    folder = farebox.uploads_folder
    return sorted(folder.iterdir()) if folder.exists() else []


def presign(farebox: RunningFarebox, key: Funded, **asked: Any) -> httpx.Response:
    return http.post(farebox.url + PRESIGN, json=asked, headers=headers_of(key))


def permit(farebox: RunningFarebox, key: Funded, filename: str, size: int, **more: Any) -> dict[str, Any]:
    answer = presign(farebox, key, filename=filename, bytes=size, **more)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def put(permitted: dict[str, Any], data: bytes, **headers: str) -> httpx.Response:
    given = {name: value for name, value in permitted["headers"].items() if name != "Content-Length"}
    return http.request(permitted["method"], permitted["url"], content=data, headers={**given, **headers})


def upload(farebox: RunningFarebox, key: Funded, filename: str, data: bytes, **more: Any) -> str:
    permitted = permit(farebox, key, filename, len(data), **more)
    answer = put(permitted, data)
    assert answer.status_code == 200, answer.text
    return str(permitted["reference"])


def transcribe(farebox: RunningFarebox, key: Funded, content: bytes, filename: str = "a.wav") -> httpx.Response:
    return http.post(
        f"{farebox.base_url}/audio/transcriptions",
        files={"file": (filename, content)},
        data={"model": "whisper-1"},
        headers=headers_of(key),
    )


def see(farebox: RunningFarebox, key: Funded, link: str, **more: Any) -> httpx.Response:
    content = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": link}}]
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": content}], "max_tokens": 10, **more}
    return http.post(f"{farebox.base_url}/chat/completions", json=body, headers=headers_of(key))


# ── as it is meant ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_that_is_too_long_for_a_request_is_transcribed_in_one_line(
    place: RunningFarebox, key: Funded, upstream: ScriptedUpstream, s3: FakeS3
) -> None:
    sound = wav(BODY_BYTES_MAX + 1_000_000)
    too_large = transcribe(place, key, sound)
    assert too_large.status_code == 413
    assert "POST /v1/uploads/presigned" in problem(too_large)["message"]

    reference = upload(place, key, "talk.wav", sound)
    upstream.script = json_answer(HEARD)
    with OpenAI(api_key=key.text, base_url=place.base_url) as client:
        heard = client.audio.transcriptions.create(model="whisper-1", file=reference.encode())
    assert heard.text == "hello"
    (sent,) = upstream.requests
    assert sound in sent.body
    assert b'filename="talk.wav"\r\nContent-Type: audio/wav\r\n\r\nRIFF' in sent.body
    assert b"farebox-upload" not in sent.body
    wait_until(lambda: lying(place, s3) == 0)


def test_a_part_with_a_name_of_its_own_keeps_it(place: RunningFarebox, key: Funded, upstream: ScriptedUpstream) -> None:
    upstream.script = json_answer(HEARD)
    reference = upload(place, key, "other.mp3", wav(32_044))
    assert transcribe(place, key, reference.encode(), "mine.wav").status_code == 200
    assert b'filename="mine.wav"' in upstream.requests[0].body


def test_an_image_stands_in_the_request_as_data(
    place: RunningFarebox, key: Funded, upstream: ScriptedUpstream, s3: FakeS3
) -> None:
    reference = upload(place, key, "点.png", PIXEL)
    assert see(place, key, reference).status_code == 200
    (sent,) = upstream.requests
    link = sent.json["messages"][0]["content"][1]["image_url"]["url"]
    assert link == "data:image/png;base64," + base64.b64encode(PIXEL).decode()
    wait_until(lambda: lying(place, s3) == 0)
    assert place.receipts(key.account)[-1]["outcome"] == "completed"


def test_the_answer_to_presigning_says_all_that_is_needed(place: RunningFarebox, key: Funded) -> None:
    permitted = permit(place, key, "你好.mp3", 5)
    assert set(permitted) == {"reference", "method", "url", "headers", "max_bytes", "expires_at"}
    assert permitted["method"] == "PUT"
    assert permitted["max_bytes"] == BYTES_MAX == 26_214_400
    assert abs(permitted["expires_at"] - place.clock.now_ms() / 1000 - LIFE_S) < 5
    assert permitted["headers"]["Content-Type"] == "audio/mpeg"
    assert permitted["headers"]["Content-Length"] == "5"
    assert key.account.removeprefix("acc_") not in json.dumps(permitted)


@pytest.mark.parametrize("header", ["x-api-key", "x-goog-api-key"])
def test_the_key_may_stand_where_any_dialect_has_it(place: RunningFarebox, key: Funded, header: str) -> None:
    asked = {"filename": "a.mp3", "bytes": 1}
    assert http.post(place.url + PRESIGN, json=asked, headers={header: key.text}).status_code == 200


def test_other_dialects_refer_to_uploads_in_their_own_members(
    place: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    reference = upload(place, key, "a.png", PIXEL)
    source = {"type": "base64", "media_type": "image/png", "data": reference}
    body = {
        "model": "gpt-4o-mini",
        "max_tokens": 10,
        "messages": [{"role": "user", "content": [{"type": "image", "source": source}]}],
    }
    answer = http.post(f"{place.base_url}/messages", json=body, headers=headers_of(key))
    assert answer.status_code == 200, answer.text
    assert base64.b64encode(PIXEL).decode() in upstream.requests[0].body.decode()


def test_an_estimate_reads_the_upload_and_leaves_it(place: RunningFarebox, key: Funded) -> None:
    reference = upload(place, key, "a.png", PIXEL)
    content = [{"type": "image_url", "image_url": {"url": reference}}]
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": content}], "max_tokens": 10}
    estimate = http.post(f"{place.base_url}/estimate", json=body, headers=headers_of(key))
    assert estimate.status_code == 200, estimate.text
    assert see(place, key, reference).status_code == 200


def test_a_reference_in_the_prompt_is_text(place: RunningFarebox, key: Funded, upstream: ScriptedUpstream) -> None:
    reference = upload(place, key, "a.png", PIXEL)
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": reference}], "max_tokens": 10}
    assert http.post(f"{place.base_url}/chat/completions", json=body, headers=headers_of(key)).status_code == 200
    assert upstream.requests[0].json["messages"][0]["content"] == reference
    assert see(place, key, reference).status_code == 200, "nothing used it"


# ── how long it lives ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_failed_request_leaves_the_upload_for_the_next_try(
    place: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    reference = upload(place, key, "a.png", PIXEL)
    upstream.script = json_answer({"error": {"message": "no"}}, status=500)
    assert see(place, key, reference).status_code >= 500
    upstream.reset()
    assert see(place, key, reference).status_code == 200


def test_a_stream_that_breaks_leaves_it_and_one_that_ends_does_not(
    place: RunningFarebox, key: Funded, upstream: ScriptedUpstream, s3: FakeS3
) -> None:
    reference = upload(place, key, "a.png", PIXEL)
    upstream.script = [Send(sse_head()), Send(chunk("half an ans"))]
    broken = see(place, key, reference, stream=True)
    assert broken.status_code == 200
    assert '"error"' in broken.text
    assert lying(place, s3) == 1
    upstream.script = sse_answer(chat_stream("yes"))
    whole = see(place, key, reference, stream=True)
    assert whole.text.endswith(DONE.decode())
    wait_until(lambda: lying(place, s3) == 0)


def test_a_used_upload_is_unknown(place: RunningFarebox, key: Funded, s3: FakeS3) -> None:
    reference = upload(place, key, "a.png", PIXEL)
    assert see(place, key, reference).status_code == 200
    wait_until(lambda: lying(place, s3) == 0)
    assert_unknown(see(place, key, reference))


def test_after_an_hour_it_is_neither_taken_nor_given(place: RunningFarebox, key: Funded) -> None:
    permitted = permit(place, key, "a.png", len(PIXEL))
    assert put(permitted, PIXEL).status_code == 200
    place.clock.offset_ms = (LIFE_S + 1) * 1000
    assert put(permitted, PIXEL).status_code == 403
    assert_unknown(see(place, key, permitted["reference"]))


# ── whose it is ─────────────────────────────────────────────────────────────────────────────────────────────────────


def assert_unknown(answer: httpx.Response) -> None:
    error = problem(answer)
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_request", "url")
    assert error["message"] == (
        "参数 url 无效：引用的上传文件不存在、未传完、已过期或已用过。 "
        "Invalid 'url': the upload that it refers to is unknown, incomplete, expired or already used."
    )


def test_another_accounts_upload_a_made_up_one_and_one_never_sent_are_the_same(
    place: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    stranger = place.new_key()
    theirs = upload(place, stranger, "a.png", PIXEL)
    made_up = theirs[:-1] + ("a" if theirs[-1] != "a" else "b")
    prolonged = theirs.replace("up_6", "up_7")
    never_sent = permit(place, key, "a.png", len(PIXEL))["reference"]
    for reference in (theirs, made_up, prolonged, never_sent, "farebox-upload:up_1"):
        assert_unknown(see(place, key, reference))
    assert upstream.requests == []
    assert see(place, stranger, theirs).status_code == 200


def test_two_keys_of_an_account_share_its_uploads(place: RunningFarebox, key: Funded) -> None:
    reference = upload(place, key, "a.png", PIXEL)
    made = http.post(
        f"{place.url}/admin/v1/keys",
        json={"kind": "paid", "account": key.account},
        headers={"authorization": f"Bearer {ADMIN_TOKEN}"},
    ).json()
    assert see(place, Funded(made["key"], made["id"], key.account), reference).status_code == 200


@pytest.mark.parametrize("change", [None, "sk-fb-nonsense"])
def test_presigning_and_using_want_a_key(place: RunningFarebox, key: Funded, change: str | None) -> None:
    headers = {"authorization": f"Bearer {change}"} if change else {}
    answer = http.post(place.url + PRESIGN, json={"filename": "a.mp3", "bytes": 1}, headers=headers)
    assert answer.status_code == 401


def test_a_well_formed_key_that_nobody_issued_finds_no_upload(place: RunningFarebox, key: Funded) -> None:
    from farebox.domain import keys

    reference = upload(place, key, "a.png", PIXEL)
    forged = keys.mint("paid", key.account, lambda length: b"\x07" * length)
    answer = see(place, Funded(forged.text, forged.id, key.account), reference)
    assert answer.status_code == 401


# ── how much ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [0, -1, BYTES_MAX + 1, 1.5, "5", None, True, 10**30])
def test_a_length_is_a_whole_number_within_the_limit(place: RunningFarebox, key: Funded, size: Any) -> None:
    error = problem(answer := presign(place, key, filename="a.mp3", bytes=size))
    assert (answer.status_code, error["param"]) == (400, "bytes")


@pytest.mark.parametrize("filename", ["../../etc/passwd", "a/b", "", "a" * 101, 'a".mp3', "a\r\nb", None, 5, ["a"]])
def test_a_file_name_that_is_a_path_is_refused(place: RunningFarebox, key: Funded, filename: Any) -> None:
    error = problem(answer := presign(place, key, filename=filename, bytes=1))
    assert (answer.status_code, error["param"]) == (400, "filename")


@pytest.mark.parametrize("kind", ["audio", "a/b;c", "a/b\r\nx-amz-acl: public-read", 'a/"', 5])
def test_a_content_type_that_is_none_is_refused(place: RunningFarebox, key: Funded, kind: Any) -> None:
    error = problem(answer := presign(place, key, filename="a.mp3", bytes=1, content_type=kind))
    assert (answer.status_code, error["param"]) == (400, "content_type")


@pytest.mark.parametrize("size", [0, 9, 11, 100_000])
def test_more_or_less_than_was_declared_is_refused(place: RunningFarebox, key: Funded, s3: FakeS3, size: int) -> None:
    before = lying(place, s3)
    permitted = permit(place, key, "a.png", 10)
    assert put(permitted, b"x" * size).status_code in (400, 403)
    assert lying(place, s3) == before
    assert_unknown(see(place, key, permitted["reference"]))


def test_all_uploads_of_a_request_together_have_a_limit(
    place: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    big = PIXEL + bytes(BYTES_MAX * 2 // 3)
    one, other = (upload(place, key, "a.png", big) for _ in range(2))
    part = [{"type": "image_url", "image_url": {"url": each}} for each in (one, other)]
    twice = [part[0], part[0]]
    for content in (part, twice):
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": content}], "max_tokens": 10}
        answer = http.post(f"{place.base_url}/chat/completions", json=body, headers=headers_of(key))
        error = problem(answer)
        assert (answer.status_code, error["param"]) == (400, "url")
        assert "25 MB" in error["message"]
    assert upstream.requests == []


def test_ten_thousand_references_are_one_refusal(place: RunningFarebox, key: Funded, s3: FakeS3) -> None:
    reference = permit(place, key, "a.png", 10)["reference"]
    asked = len(s3.asked)
    content = [{"type": "image_url", "image_url": {"url": reference}}] * 10_000
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": content}], "max_tokens": 10}
    answer = http.post(f"{place.base_url}/chat/completions", json=body, headers=headers_of(key))
    assert (answer.status_code, problem(answer)["param"]) == (400, "url")
    assert len(s3.asked) == asked


# ── the URL ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_put_may_be_repeated_and_the_last_one_counts(
    place: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    permitted = permit(place, key, "a.png", len(PIXEL))
    assert put(permitted, bytes(len(PIXEL))).status_code == 200
    assert put(permitted, PIXEL).status_code == 200
    assert see(place, key, permitted["reference"]).status_code == 200
    assert base64.b64encode(PIXEL) in upstream.requests[0].body


def test_puts_at_once_leave_one_whole_file(
    place: RunningFarebox, key: Funded, upstream: ScriptedUpstream, s3: FakeS3
) -> None:
    before = lying(place, s3)
    size = 300_000
    permitted = permit(place, key, "a.png", size)
    contents = [PIXEL + bytes([number]) * (size - len(PIXEL)) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda data: put(permitted, data).status_code, contents))
    assert set(answers) == {200}
    assert lying(place, s3) == before + 1
    assert see(place, key, permitted["reference"]).status_code == 200
    sent = upstream.requests[0].json["messages"][0]["content"][1]["image_url"]["url"]
    assert base64.b64decode(sent.partition(",")[2]) in contents


def test_nobody_reads_lists_or_deletes_by_the_url(place: RunningFarebox, key: Funded, s3: FakeS3) -> None:
    permitted = permit(place, key, "a.png", len(PIXEL))
    put(permitted, PIXEL)
    for method in ("GET", "DELETE", "POST", "HEAD"):
        assert http.request(method, permitted["url"]).status_code in (403, 404)
    assert see(place, key, permitted["reference"]).status_code == 200


def test_a_changed_url_is_forbidden(farebox: RunningFarebox) -> None:
    key = farebox.new_key()
    permitted = permit(farebox, key, "a.png", len(PIXEL))
    base, _, query = permitted["url"].partition("?")
    other = permit(farebox, key, "b.png", len(PIXEL))["url"].partition("?")[0]
    longer = query.replace(f"expires={permitted['expires_at']}", f"expires={permitted['expires_at'] + 9}")
    changed = [
        base,
        f"{base}?",
        f"{base}?{query[:-1]}",
        f"{base}?{query}0",
        f"{base}?{query}&expires=99999999999",
        f"{base}?{longer}",
        f"{base}?{query.replace('image%2Fpng', 'image%2Fgif')}",
        f"{base}?{query.replace(f'bytes={len(PIXEL)}', 'bytes=99999')}",
        f"{other}?{query}",
        f"{base}?{'a=b&' * 3000}{query}",
        f"{base}?expires=%00&bytes=%ff&signature=%E4%BD%A0&filename=a&content_type=b",
    ]
    for url in changed:
        answer = http.put(url, content=PIXEL)
        error = problem(answer)
        assert (answer.status_code, error["code"]) == (403, "forbidden"), url
    assert put(permitted, PIXEL).status_code == 200


@pytest.mark.parametrize("name", ["..", "../store.sqlite", "%2e%2e%2fstore.sqlite", "a" * 63, "A" * 64, "", "a/" * 32])
def test_a_name_that_is_a_path_leads_nowhere(farebox: RunningFarebox, name: str) -> None:
    caller = httpx.URL(farebox.url).copy_with(raw_path=f"{PRESIGN}/{name}?signature=0".encode())
    assert http.put(caller, content=b"x").status_code in (403, 404)


def test_a_put_on_a_service_whose_uploads_lie_elsewhere_is_not_found(on_s3: RunningFarebox) -> None:
    answer = http.put(f"{on_s3.url}{PRESIGN}/{'0' * 64}?signature=0", content=b"x")
    assert (answer.status_code, problem(answer)["code"]) == (404, "not_found")


# ── the folder ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_files_are_their_owners_only_and_named_for_nobody(farebox: RunningFarebox) -> None:
    key = farebox.new_key()
    reference = upload(farebox, key, "secret name.png", PIXEL)
    (path,) = files(farebox)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert key.account.removeprefix("acc_") not in str(path)
    assert reference.partition("_")[2] not in str(path)
    assert see(farebox, key, reference).status_code == 200


def test_a_caller_who_leaves_half_way_leaves_nothing(farebox: RunningFarebox) -> None:
    key = farebox.new_key()
    size = 5_000_000
    permitted = permit(farebox, key, "a.png", size)
    path = permitted["url"].removeprefix(farebox.url)
    with RawCaller(farebox) as caller:
        caller.send(
            f"PUT {path} HTTP/1.1\r\nhost: farebox\r\ncontent-length: {size}\r\n\r\n".encode() + bytes(3_000_000)
        )
        wait_until(lambda: [each for each in files(farebox) if each.name.endswith(".draft")])
    wait_until(lambda: files(farebox) == [])


def test_a_body_without_a_length_is_cut_off_at_the_declared_one(farebox: RunningFarebox) -> None:
    key = farebox.new_key()
    permitted = permit(farebox, key, "a.png", 100_000)
    given = {"Content-Type": "image/png"}
    for sizes, status in (([50_000, 50_000], 200), ([50_000] * 3, 400), ([99_999], 400)):
        pieces = (bytes(size) for size in sizes)
        answer = http.put(permitted["url"], content=pieces, headers=given)
        assert answer.status_code == status
    assert len(files(farebox)) == 1


def test_the_sweep_removes_what_expired_and_what_a_killed_process_left(farebox: RunningFarebox) -> None:
    key = farebox.new_key()
    old = upload(farebox, key, "a.png", PIXEL)
    (farebox.uploads_folder / ("0" * 64 + ".12.draft")).write_bytes(b"half")
    (farebox.uploads_folder / "not ours").write_bytes(b"x")
    assert farebox.run(farebox.services.uploads.sweep()) == 2
    assert len(files(farebox)) == 1
    farebox.clock.offset_ms = (LIFE_S + 1) * 1000
    assert farebox.run(farebox.services.uploads.sweep()) == 1
    assert files(farebox) == []
    farebox.clock.offset_ms = 0
    assert_unknown(see(farebox, key, old))


def test_the_sweep_leaves_what_is_arriving(farebox: RunningFarebox) -> None:
    key = farebox.new_key()
    permitted = permit(farebox, key, "a.png", 2_000_000)
    release = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield PIXEL + bytes(1_000_000 - len(PIXEL))
        assert release.wait(10)
        yield bytes(1_000_000)

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(lambda: http.put(permitted["url"], content=pieces()).status_code)
        wait_until(lambda: files(farebox))
        farebox.run(farebox.services.uploads.sweep())
        release.set()
        assert sending.result() == 200
    assert see(farebox, key, permitted["reference"]).status_code == 200


def test_the_folder_has_a_limit(farebox: RunningFarebox, monkeypatch: pytest.MonkeyPatch) -> None:
    key = farebox.new_key()
    monkeypatch.setattr(farebox.services.uploads, "_room_bytes", 1000)
    permitted = permit(farebox, key, "a.png", 1001)
    answer = put(permitted, bytes(1001))
    assert (answer.status_code, problem(answer)["code"]) == (429, "too_many")
    assert answer.headers["retry-after"] == "60"
    assert files(farebox) == []


@pytest.mark.parametrize("host", ["evil/../x", "a b", "", "x" * 300, "例.com"])
def test_a_host_that_is_none_does_not_get_into_the_url(farebox: RunningFarebox, host: str) -> None:
    key = farebox.new_key()
    body = json.dumps({"filename": "a.mp3", "bytes": 1}).encode()
    with RawCaller(farebox) as caller:
        lines = [f"POST {PRESIGN} HTTP/1.1", f"host: {host}", f"content-length: {len(body)}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in headers_of(key).items()]
        caller.send("\r\n".join([*lines, "", ""]).encode() + body)
        answer = caller.read_until(b"}")
    assert b'"url":"http://127.0.0.1:' in answer or b" 400 " in answer


def test_many_small_files_fill_the_folder_too(farebox: RunningFarebox, monkeypatch: pytest.MonkeyPatch) -> None:
    key = farebox.new_key()
    monkeypatch.setattr(farebox.services.uploads, "_room_bytes", 200_000)
    permitted = permit(farebox, key, "a.png", 1)
    others = [permit(farebox, key, "a.png", 1) for _ in range(3)]
    assert [put(each, b"x").status_code for each in (permitted, permitted, *others)] == [200, 200, 200, 200, 429]


def test_uploads_in_running_requests_have_a_limit_in_memory(
    farebox: RunningFarebox, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = farebox.new_key()
    monkeypatch.setattr("farebox.http.uploads.LENT_BYTES_MAX", len(PIXEL))
    one, other = (upload(farebox, key, "a.png", PIXEL) for _ in range(2))
    hold = WaitFor()
    upstream.script = [hold, *json_answer(chat_completion())]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(see, farebox, key, one)
        wait_until(lambda: upstream.requests)
        refused = see(farebox, key, other)
        hold.event.set()
        assert running.result().status_code == 200
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
    wait_until(lambda: see(farebox, key, other).status_code == 200)  # room is given back


def test_a_frozen_account_is_given_no_place(farebox: RunningFarebox) -> None:
    key = farebox.new_key()
    change = {
        "TableName": farebox.services.tables.accounts,
        "Key": {"acct": {"S": key.account}},
        "UpdateExpression": "SET st = :frozen",
        "ExpressionAttributeValues": {":frozen": {"S": "frozen"}},
    }
    farebox.run(farebox.services.db.call("UpdateItem", change))
    answer = presign(farebox, key, filename="a.mp3", bytes=1)
    assert (answer.status_code, problem(answer)["code"]) == (403, "account_frozen")


def test_a_service_that_was_killed_keeps_what_is_whole_and_clears_what_is_half(tmp_path: Path) -> None:
    with FareboxProcess(tmp_path / "data", demo=True) as service:
        headers = {"authorization": f"Bearer {service.paid_key}"}
        asked = {"filename": "a.png", "bytes": len(PIXEL)}
        permitted = http.post(service.url + PRESIGN, json=asked, headers=headers).json()
        assert put(permitted, PIXEL).status_code == 200
        folder = tmp_path / "data" / "uploads"
        (folder / f"{'0' * 64}.00.draft").write_bytes(b"half")
    with FareboxProcess(tmp_path / "data", demo=True) as service:
        wait_until(lambda: not list(folder.glob("*.draft")))
        picture = {"type": "image_url", "image_url": {"url": permitted["reference"]}}
        content = [{"type": "text", "text": "hi"}, picture]
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": content}], "max_tokens": 5}
        answer = http.post(f"{service.url}/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        wait_until(lambda: not list(folder.iterdir()))


# ── S3 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_s3_is_asked_twice_before_the_caller_hears_of_it(
    on_s3: RunningFarebox, s3: FakeS3, upstream: ScriptedUpstream
) -> None:
    key = on_s3.new_key()
    reference = upload(on_s3, key, "a.png", PIXEL)
    s3.failing = 2
    answer = see(on_s3, key, reference)
    assert (answer.status_code, problem(answer)["code"]) == (503, "store_unavailable")
    assert upstream.requests == []
    s3.failing = 1
    assert see(on_s3, key, reference).status_code == 200
    assert on_s3.account(key.account).held_nano == 0


def test_an_answer_does_not_fail_because_the_deletion_does(on_s3: RunningFarebox, s3: FakeS3) -> None:
    key = on_s3.new_key()
    reference = upload(on_s3, key, "a.png", PIXEL)

    s3.asked.clear()
    real = s3._respond

    def no_deletion(request: Any, body: bytes) -> Any:
        if request.method == "DELETE":
            s3.failing = 1
        return real(request, body)

    s3._respond = no_deletion  # type: ignore[method-assign]
    try:
        assert see(on_s3, key, reference).status_code == 200
        wait_until(lambda: [each[::2] for each in s3.asked] == [("GET", 200), ("DELETE", 503), ("DELETE", 503)])
    finally:
        s3._respond = real  # type: ignore[method-assign]


def test_only_named_headers_are_taken_along(on_s3: RunningFarebox, s3: FakeS3) -> None:
    key = on_s3.new_key()
    permitted = permit(on_s3, key, "a.png", len(PIXEL))
    assert put(permitted, PIXEL, **{"x-amz-acl": "public-read"}).status_code == 403
    assert put(permitted, PIXEL, **{"Content-Type": "text/html"}).status_code == 403
    assert s3.objects == {}


# ── as the docs have it ─────────────────────────────────────────────────────────────────────────────────────────────


def snippet(language: str) -> str:
    text = (Path(__file__).resolve().parents[2] / "docs" / "uploads.md").read_text("utf-8")
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_python_of_the_docs_runs(
    place: RunningFarebox, key: Funded, upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("talk.mp3").write_bytes(wav(32_044))
    upstream.script = json_answer(HEARD)
    code = snippet("python").replace("http://127.0.0.1:8787/v1", place.base_url).replace("sk-fb-…", key.text)
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the file and the client to the interpreter
        exec(compile(code, "docs/uploads.md", "exec"), names)
        names["client"].close()
    assert names["heard"].text == "hello"
    assert wav(32_044) in upstream.requests[0].body


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")
def test_the_shell_of_the_docs_runs(
    place: RunningFarebox, key: Funded, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    (tmp_path / "talk.mp3").write_bytes(wav(32_044))
    upstream.script = json_answer(HEARD)
    environ = {"BASE_URL": place.base_url, "KEY": key.text, "PATH": os.environ["PATH"]}
    run = subprocess.run(
        ["bash", "-euc", snippet("bash")], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=30
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith(json.dumps(HEARD))
    assert wav(32_044) in upstream.requests[0].body
