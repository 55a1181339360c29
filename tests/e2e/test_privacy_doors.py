"""What stays between the caller and the model, at every door and over every bridge; test_privacy.py has the rest."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest

from tests.e2e.test_access import DOORS, GEMINI, Door
from tests.e2e.test_privacy import ADDRESS, CALLER, MARK, traces
from tests.fakes.any_vendor import answer, broken, data_event
from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import Request, ScriptedUpstream, Send, Step, head, json_answer, sse_answer

RELAYED = [name for name, door in DOORS.items() if door.names_model and name != "estimate"]
UPSTREAM_HEARS = {"host", "content-type", "content-length", "accept", "accept-encoding", "user-agent"}
AUTH = {"openai": "authorization", "anthropic": "x-api-key", "google": "x-goog-api-key"}
PATHS = {
    "chat at Anthropic": "/v1/messages",
    "chat at Google": f"/v1beta/models/{GEMINI}:generateContent",
    "messages at OpenAI": "/v1/chat/completions",
    "generateContent at OpenAI": "/v1/chat/completions",
    "streamGenerateContent": f"/v1beta/models/{GEMINI}:streamGenerateContent?alt=sse",
    "embedContent": "/v1/embeddings",
}
"""Where the vendor is asked, if not at the caller's own path."""
STREAMS = {
    **{name: {"stream": True} for name in ("chat", "chat at Anthropic", "chat at Google", "responses", "completions")},
    "messages": {"stream": True},
    "messages at OpenAI": {"stream": True},
    "streamGenerateContent": {},
}
"""A door whose answers stream → what asks for that."""
SECRETS = ("SECRET-marker", "sk-proj-abcdefSECRET", "internal-7.openai.example", "org-SECRET", "acct_SECRET")
TEXT = f"Incorrect key {SECRETS[1]} at https://{SECRETS[2]}/v1 for {SECRETS[3]} ({SECRETS[4]}): {SECRETS[0]} sk-up"
LEAKS = (*SECRETS, "sk-up", "Traceback", "aiohttp")
SHAPES: dict[str, Any] = {
    "openai": {"error": {"message": TEXT, "type": SECRETS[0], "param": TEXT, "code": SECRETS[1]}},
    "anthropic": {"type": "error", "error": {"type": SECRETS[0], "message": TEXT}, "request_id": SECRETS[4]},
    "gemini": {
        "error": {
            "code": 400,
            "message": TEXT,
            "status": SECRETS[0],
            "details": [{"@type": TEXT, "reason": SECRETS[1], "fieldViolations": [{"field": TEXT}]}],
        }
    },
    "gemini's array": [{"error": {"code": 400, "message": TEXT, "status": "INVALID_ARGUMENT"}}],
    "a string": TEXT,
    "strange": {"error": [TEXT], "detail": {"loc": TEXT}, "message": TEXT},
    "deep": {"error": {"param": {"param": [[[TEXT]]]}, "message": TEXT}},
}


def call(farebox: RunningFarebox, key: Funded, name: str, more: Any = None, **headers: str) -> httpx.Response:
    """A request at a door, by a caller who says a lot about himself."""
    door = DOORS[name]
    data = door.body if isinstance(door.body, bytes) else json.dumps({**door.body, **(more or {})}).encode()
    kind = "multipart/form-data; boundary=b" if isinstance(door.body, bytes) else "application/json"
    told = {
        **CALLER,
        "content-type": f"{kind}; x={MARK}",
        "anthropic-version": "2023-06-01",
        **key_header(door, key),
        **headers,
    }
    told.pop("idempotency-key")
    query = f"?trace={MARK}" + (f"&key={key.text}" if door.dialect == "gemini" else "")
    return http.post(farebox.url + door.path + query, content=data, headers=told)


def key_header(door: Door, key: Funded) -> dict[str, str]:
    """The key where the dialect's own clients put it, and no other key."""
    if door.dialect == "openai":
        return {"authorization": f"Bearer {key.text}"}
    return dict.fromkeys(("x-api-key", *door.headers), key.text)


def vendor_of(request: Request) -> str:
    """Told by the header that has a key; there is no other one."""
    found = [vendor for vendor, name in AUTH.items() if name in request.headers]
    assert len(found) == 1
    return found[0]


def no_trace_of_the_caller(request: Request, key: Funded) -> None:
    vendor = vendor_of(request)
    more = {"anthropic-version"} if vendor == "anthropic" else set()
    heard = f"{request.method} {request.path} {request.headers}"

    assert set(request.headers) - more == UPSTREAM_HEARS | {AUTH[vendor]}
    assert request.headers[AUTH[vendor]].removeprefix("Bearer ") == f"sk-up-{vendor}"
    assert request.headers["user-agent"] == "farebox"
    assert request.headers["content-type"].startswith(("application/json", "multipart/form-data"))
    assert [each for each in (MARK, ADDRESS, key.text, key.id, key.account, "203.0.113") if each in heard] == []
    assert key.text.encode() not in request.body


# ── what a vendor hears ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", RELAYED)
def test_of_the_caller_no_vendor_hears_anything(name: str, vendors: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.on_request = answer
    key = vendors.new_key()
    got = call(vendors, key, name)

    assert got.status_code == 200, got.text
    assert [request.path for request in upstream.requests] == [PATHS.get(name, DOORS[name].path)]
    no_trace_of_the_caller(upstream.requests[0], key)


@pytest.mark.parametrize("status", [401, 429, 500])
@pytest.mark.parametrize("name", RELAYED)
def test_nor_do_those_who_fail(name: str, status: int, vendors: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = json_answer(SHAPES["openai"], status)
    key = vendors.new_key()
    call(vendors, key, name, STREAMS.get(name))

    assert upstream.requests
    for request in upstream.requests:
        no_trace_of_the_caller(request, key)


@pytest.mark.parametrize("name", ["messages", "messages at OpenAI", "count_tokens"])
def test_who_an_anthropic_callers_users_are_is_never_told(
    name: str, vendors: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    upstream.on_request = answer
    got = call(vendors, vendors.new_key(), name, {"metadata": {"user_id": f"user-{MARK}", "x": {"y": MARK}}})

    assert got.status_code == 200, got.text
    assert MARK.encode() not in upstream.requests[0].body


@pytest.mark.parametrize("name", ["chat at Anthropic", "chat at Google"])
def test_nor_those_of_a_chat_over_a_bridge(name: str, vendors: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.on_request = answer
    more = {"user": MARK, "safety_identifier": MARK, "metadata": {"x": MARK}, "prompt_cache_key": MARK}
    got = call(vendors, vendors.new_key(), name, more)

    assert got.status_code == 200, got.text
    assert MARK.encode() not in upstream.requests[0].body


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("interleaved-thinking-2025-05-14", "interleaved-thinking-2025-05-14"),
        ("context-1m-2025-08-07", None),
        ("context-1m-2025-08-07, a-1", "a-1"),
        ("x" * 8192, None),
        ("a;b", None),
        ("a\tb", None),
        ('a"b', None),
    ],
)
@pytest.mark.parametrize("name", ["messages", "count_tokens"])
def test_of_the_features_that_are_asked_for_only_names_get_through(
    name: str, said: str, heard: str | None, vendors: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    upstream.on_request = answer
    got = call(vendors, vendors.new_key(), name, **{"anthropic-beta": said, "anthropic-version": f"2023 {said}"})

    assert got.status_code == 200, got.text
    assert upstream.requests[0].headers.get("anthropic-beta") == heard


# ── what a caller hears of a vendor's errors ────────────────────────────────────────────────────────────────────────


def told(got: httpx.Response) -> None:
    """It is an error, if in a stream that has begun, and nothing of the vendor's stands anywhere in it."""
    everything = got.text + repr(got.headers.raw)
    assert [leak for leak in LEAKS if leak.lower() in everything.lower()] == []
    assert got.headers["x-request-id"].startswith("req_")
    assert '"error"' in got.text


@pytest.mark.parametrize("status", [200, 400, 403, 413, 429, 500, 529])
@pytest.mark.parametrize("name", RELAYED)
def test_no_word_of_an_error_is_passed_on(
    name: str, status: int, vendors: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    key = vendors.new_key()
    for called, shape in SHAPES.items():
        if (name, called, status) == ("transcription", "a string", 200):
            continue  # somebody may have said it
        upstream.script = json_answer(shape, status, x_secret=SECRETS[0], retry_after=SECRETS[1])
        for more in (None, STREAMS.get(name)):
            got = call(vendors, key, name, more)
            if name not in ("count_tokens", "countTokens"):  # counted here where the vendor does not
                told(got)
            assert [leak for leak in LEAKS if leak in got.text + repr(got.headers.raw)] == []
            assert got.status_code >= 400 or more is not None or "count" in name
    assert vendors.account(key.account).spent_nano == 0
    assert [leak for leak in LEAKS[:-2] if leak in json.dumps(vendors.receipts(key.account))] == []


ODD_HEADS = {
    "HTML": "text/html",
    "events": "text/event-stream",
    "no type": "",
    "odd": "APPLICATION/JSON;;;=",
    "long": "x" * 8000,
    "PDF": "application/pdf",
}


@pytest.mark.parametrize("kind", ODD_HEADS)
@pytest.mark.parametrize("status", [200, 400, 502])
@pytest.mark.parametrize("name", ["chat", "chat at Anthropic", "chat at Google", "messages", "generateContent"])
def test_no_page_is_passed_on_whatever_it_is_called(
    name: str, status: int, kind: str, vendors: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    key = vendors.new_key()
    for page in (f"<html><title>{TEXT}</title></html>", TEXT, json.dumps(TEXT), f"data: {TEXT}\n\n", ""):
        upstream.script = [Send(head(status, content_type=ODD_HEADS[kind]) + page.encode())]
        for more in (None, STREAMS.get(name)):
            got = call(vendors, key, name, more)
            told(got)
            assert got.status_code >= 400 or more is not None
    assert vendors.account(key.account).spent_nano == 0


def error_events() -> list[bytes]:
    events = [data_event(shape) for shape in SHAPES.values()]
    events += [b"event: error\n" + data_event(SHAPES["anthropic"])]
    events += [data_event({"type": "response.failed", "response": {"error": {"code": SECRETS[0], "message": TEXT}}})]
    events += [data_event({"type": "error", "code": SECRETS[0], "message": TEXT, "param": TEXT})]
    events += [data_event({"object": "error", "message": TEXT, "code": 500}), data_event({"detail": TEXT})]
    events += [data_event({"error_code": 17, "error_msg": TEXT}), data_event({"error": None, "errors": [TEXT]})]
    events += [f"data: {TEXT}\n\n".encode(), f"event: error\ndata: <html>{TEXT}</html>\n\n".encode()]
    return events


@pytest.mark.parametrize("name", STREAMS)
def test_no_word_of_an_error_in_a_stream_is_passed_on(
    name: str, vendors: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    key = vendors.new_key()
    for event in error_events():
        upstream.script = sse_answer([event])
        first = call(vendors, key, name, STREAMS[name])
        upstream.on_request = lambda request, event=event: broken(request, "hello", event)
        later = call(vendors, key, name, STREAMS[name])
        upstream.on_request = None

        told(first)
        told(later)
        assert "hello" in later.text
    assert [leak for leak in LEAKS[:-2] if leak in json.dumps(vendors.receipts(key.account))] == []


# ── headers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

HOSTILE_VALUES = [
    b"\xff\xfe \xc3\xa9",
    b"x\x00y",
    b"x\x07y\x7f",
    b"x\ry: z",
    b'attachment; filename="a\\"b\xe4\xbd\xa0"',
    b"x" * 8000,
    b"text/html; charset=\"'><script>",
]


@pytest.mark.parametrize("value", HOSTILE_VALUES, ids=lambda value: repr(value[:12]))
@pytest.mark.parametrize("header", [b"content-disposition", b"content-type", b"openai-version", b"retry-after"])
@pytest.mark.parametrize("name", ["speech", "chat", "messages at OpenAI"])
def test_no_header_of_a_vendors_breaks_an_answer(
    name: str, header: bytes, value: bytes, vendors: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    def say(request: Request) -> list[Step]:
        (whole,) = answer(request)
        assert isinstance(whole, Send)
        status, _, rest = whole.data.partition(b"\r\n")
        return [Send(status + b"\r\n" + header + b": " + value + b"\r\nx-evil: 1\r\n" + rest)]

    upstream.on_request = say
    got = call(vendors, vendors.new_key(), name)

    assert "x-evil" not in got.headers
    for given in (value for _, value in got.headers.raw):
        assert not set(given) & set(b"\x00\x07\x7f\r\n")
        assert len(given) < 1100
    assert got.headers["x-request-id"].startswith("req_")


# ── what is left behind ─────────────────────────────────────────────────────────────────────────────────────────────


def test_no_word_of_any_door_is_stored_or_printed(
    vendors: RunningFarebox,
    upstream: ScriptedUpstream,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = vendors.new_key()
    words = {
        "chat": {"messages": [{"role": "user", "content": MARK}], "user": MARK},
        "chat at Anthropic": {"messages": [{"role": "user", "content": MARK}]},
        "chat at Google": {"messages": [{"role": "user", "content": MARK}]},
        "responses": {"input": MARK, "instructions": MARK},
        "completions": {"prompt": MARK},
        "embeddings": {"input": MARK},
        "moderations": {"input": MARK},
        "images": {"prompt": MARK},
        "speech": {"input": MARK},
        "messages": {"system": MARK, "tools": [{"name": MARK, "input_schema": {"type": "object", "x": MARK}}]},
        "messages at OpenAI": {"messages": [{"role": "user", "content": MARK}]},
        "count_tokens": {"system": MARK},
        "generateContent": {"contents": [{"parts": [{"text": MARK}]}]},
        "generateContent at OpenAI": {"contents": [{"parts": [{"text": MARK}]}]},
        "streamGenerateContent": {"contents": [{"parts": [{"text": MARK}]}]},
        "countTokens": {"contents": [{"parts": [{"text": MARK}]}]},
        "embedContent": {"content": {"parts": [{"text": MARK}]}},
        "estimate": {"messages": [{"role": "user", "content": MARK}]},
    }
    wrong = {"model": f"gpt-{MARK}", "messages": {MARK: MARK}, "contents": {MARK: MARK}, "input": {MARK: MARK}}
    error = {"error": {"message": MARK, "type": MARK, "param": MARK, "code": MARK}}
    with caplog.at_level(logging.DEBUG):
        for name, more in words.items():
            upstream.on_request = lambda request: answer(request, f"answer {MARK}")
            first = call(vendors, key, name, more)
            assert first.status_code == 200, (name, first.text)
            refused = call(vendors, key, name, {**more, **wrong})
            assert refused.status_code in (400, 404), name
            assert MARK not in refused.text + repr(refused.headers), name
            upstream.on_request = None
            for script in (json_answer(error, 400), json_answer(error, 500), sse_answer([data_event(error)])):
                upstream.script = script
                failed = call(vendors, key, name, {**more, **STREAMS.get(name, {})})
                assert MARK not in failed.text + repr(failed.headers), name
        call(vendors, key, "transcription")
        receipts = vendors.receipts(key.account)
    said = capfd.readouterr()
    logged = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    files = [file for file in vendors._data_dir.rglob("*") if file.is_file()]

    assert len(receipts) > 3 * len(words)
    assert traces(files, [key.account]) != []  # what is stored can be found this way
    hidden = [MARK, ADDRESS, "sk-up-openai", "sk-up-anthropic", "sk-up-google", key.text]
    assert [word for word in hidden if word in json.dumps(receipts)] == []
    assert traces(files, hidden) == []
    assert [word for word in hidden if word in said.out + said.err + repr(logged)] == []
