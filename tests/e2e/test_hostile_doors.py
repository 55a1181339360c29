"""Hostile bodies, paths, methods and framing at every door: a refusal in the door's own words, nothing held or sent."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.test_access import DOORS, Door, refusal
from tests.fakes.caller import RawCaller, headers_of
from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import ScriptedUpstream

JSON_DOORS = [name for name, door in DOORS.items() if isinstance(door.body, dict) and door.body]
POSTS = [name for name, door in DOORS.items() if door.method == "POST"]


@pytest.fixture
def key(vendors: RunningFarebox, upstream: ScriptedUpstream) -> Iterator[Funded]:
    """A key of an account that nothing must happen to."""
    made = vendors.new_key()
    before = vendors.account(made.account)
    yield made
    assert upstream.requests == []
    assert vendors.account(made.account) == before
    assert vendors.receipts(made.account) == []


def post(farebox: RunningFarebox, key: Funded, door: Door, data: bytes, path: str | None = None) -> httpx.Response:
    headers = {**headers_of(key), "content-type": "application/json"}
    return http.post(farebox.url + (path or door.path), content=data, headers=headers)


def hostile_bodies(door: Door) -> Iterator[bytes]:
    """Deep, broken and ambiguous bodies, each built on a good one."""
    good = json.dumps(door.body).encode()
    deep = b"[" * 100_000 + b"]" * 100_000
    yield from (b"", b"{", b"null", b"[]", b"\xff", good[:-1], good + b"}", good.decode().encode("utf-16"))
    for name, value in door.body.items():
        quoted = json.dumps(name).encode()
        yield b'{"x":%s,%s' % (deep, good[1:])
        yield good.replace(json.dumps(value).encode(), deep, 1)
        yield good[:-1] + b",%s:1}" % quoted
        for text in (b'"\xff"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xc0\xaf"', b'"\x00"'):
            yield good.replace(json.dumps(value).encode(), text, 1)
    yield good.replace(b'"hi"', b'"\\ud83d"')
    yield good.replace(b'"hi"', b'"hi\xf0\x9f"')
    yield good.replace(b'"hi"', b"1e999999")
    yield b'{"x":[{"a":1,"a":2}],%s' % good[1:]


@pytest.mark.parametrize("name", JSON_DOORS)
def test_no_hostile_body_is_more_than_a_refusal(name: str, vendors: RunningFarebox, key: Funded) -> None:
    door = DOORS[name]
    for body in hostile_bodies(door):
        if body == json.dumps(door.body).encode():
            continue
        answer = post(vendors, key, door, body)
        assert refusal(answer, door)[0] in (400, 404, 413), body[:80]
        assert len(answer.content) < 2000


@pytest.mark.parametrize("name", JSON_DOORS)
def test_no_type_of_a_member_is_more_than_a_refusal(
    name: str, vendors: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    """What passes the reader may go upstream; nothing is a bug of ours, and nothing stays held."""
    door, key = DOORS[name], vendors.new_key()
    for member in door.body:
        for odd in (None, True, -1, 1.5, 10**30, "", "x" * 300, [], {}, [None], [[]], [{}], {"a": {}}, ["\u0000"]):
            answer = post(vendors, key, door, json.dumps({**door.body, member: odd}).encode())
            assert answer.status_code != 500, (member, odd)
    assert vendors.account(key.account).holds == {}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"])
@pytest.mark.parametrize("name", POSTS)
def test_another_method_is_not_found(name: str, method: str, vendors: RunningFarebox, key: Funded) -> None:
    door = DOORS[name]
    answer = http.request(method, vendors.url + door.path, headers=headers_of(key))

    assert answer.status_code == 404
    assert "access-control-allow-origin" not in answer.headers


def tricks(path: str) -> list[str]:
    head, _, tail = path.rpartition("/")
    return [
        f"/{path}",
        f"{path}/",
        path.upper(),
        f"{head}//{tail}",
        f"{head}%2f{tail}/x",
        f"{head}/./{tail}",
        f"{head}/../{tail}",
        f"{path}%00",
        f"{path};x=1",
        f"{path}%20",
        f"{path}%0d%0ax:%201",
        f"/x/..{path}/..",
    ]


@pytest.mark.parametrize("name", ["messages", "count_tokens", "generateContent", "countTokens", "responses", "upload"])
def test_no_trick_with_a_path_leads_anywhere(name: str, vendors: RunningFarebox, key: Funded) -> None:
    door = DOORS[name]
    body = json.dumps(door.body).encode()
    for path in tricks(door.path):
        with RawCaller(vendors) as caller:
            head = [f"POST {path} HTTP/1.1", "host: farebox", f"content-length: {len(body)}", "connection: close"]
            head += [f"{name}: {value}" for name, value in headers_of(key).items()]
            caller.send("\r\n".join([*head, "", ""]).encode() + body)
            answer = caller.read_all()
        assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")), path


@pytest.mark.parametrize(
    "model", ["..", "../../v1/files", "a%2f..%2fb", "x%3fkey=1", "x%23", "%2e%2e", "o3%0d%0ax:1", "%ff", "models%2fo3"]
)
def test_no_model_in_a_path_leads_anywhere(model: str, vendors: RunningFarebox, key: Funded) -> None:
    for method in ("generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"):
        path = f"/v1beta/models/{model}:{method}"
        body = json.dumps({**DOORS["generateContent"].body, **DOORS["embedContent"].body}).encode()
        with RawCaller(vendors) as caller:
            head = [f"POST {path} HTTP/1.1", "host: farebox", f"content-length: {len(body)}", "connection: close"]
            head += [f"{name}: {value}" for name, value in headers_of(key).items()]
            caller.send("\r\n".join([*head, "", ""]).encode() + body)
            answer = caller.read_all()
        assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")), answer


GOOD = json.dumps({"model": "o3", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}).encode()
SECOND = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
FRAMINGS = {
    "two lengths": f"content-length: {len(GOOD)}\r\ncontent-length: 5\r\n",
    "a list of lengths": f"content-length: {len(GOOD)}, 5\r\n",
    "a signed length": f"content-length: +{len(GOOD)}\r\n",
    "a hexadecimal length": f"content-length: 0x{len(GOOD):x}\r\n",
    "a length and chunks": f"content-length: {len(GOOD)}\r\ntransfer-encoding: chunked\r\n",
    "chunks and a length": f"transfer-encoding: chunked\r\ncontent-length: {len(GOOD)}\r\n",
    "chunks of another name": f"transfer-encoding: xchunked\r\ncontent-length: {len(GOOD)}\r\n",
    "chunks, then something": "transfer-encoding: chunked, identity\r\n",
    "a space before the colon": f"content-length : {len(GOOD)}\r\n",
    "a folded line": f"x: y\r\n content-length: {len(GOOD)}\r\n",
    "a bare LF": f"x: y\ncontent-length: {len(GOOD)}\r\ncontent-length: 5\r\n",
    "a NUL": f"x: a\0b\r\ncontent-length: {len(GOOD)}\r\n",
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_no_framing_has_two_meanings(framing: str, vendors: RunningFarebox, upstream: ScriptedUpstream) -> None:
    """Whatever the head says, there is at most one answer to it, and none with 200 but to a body that is meant."""
    key = vendors.new_key()
    with RawCaller(vendors) as caller:
        head = f"POST /v1/messages HTTP/1.1\r\nhost: farebox\r\nauthorization: Bearer {key.text}\r\n"
        caller.send(f"{head}{FRAMINGS[framing]}\r\n".encode("latin-1") + GOOD + SECOND)
        caller._socket.settimeout(1)
        try:
            answer = caller.read_all()
        except (TimeoutError, ConnectionError):
            answer = caller.received

    assert answer.startswith(b"HTTP/1.1 400 ") or (framing == "a folded line" and b" 200 " not in answer[:20])
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert upstream.requests == []
    assert vendors.account(key.account).held_nano == 0
