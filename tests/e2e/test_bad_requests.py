"""What is refused before anything is held or sent: the contract's error, in both languages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from farebox.http.asgi import BODY_BYTES_MAX
from tests.fakes.caller import CHAT, CHAT_PATH, RawCaller, ask, headers_of, problem
from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import ScriptedUpstream

COMPLETION = {"model": "gpt-3.5-turbo-instruct", "prompt": "hi"}
EMBEDDING = {"model": "text-embedding-3-small", "input": "hi"}
PATHS = {CHAT_PATH: CHAT, "/v1/completions": COMPLETION, "/v1/embeddings": EMBEDDING}
TOO_BIG = BODY_BYTES_MAX + 1


@pytest.fixture
def key(farebox: RunningFarebox, upstream: ScriptedUpstream) -> Iterator[Funded]:
    """A key of an account that nothing must happen to."""
    made = farebox.new_key()
    before = farebox.account(made.account)
    yield made
    assert upstream.requests == []
    assert farebox.account(made.account) == before
    assert farebox.receipts(made.account) == []


def refusal(answer: httpx.Response) -> tuple[int, str, str | None]:
    error = problem(answer)
    return answer.status_code, error["code"], error["param"]


# ── bodies ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{'model':'gpt-4o-mini'}",
        b'{"model":"gpt-4o-mini",}',
        b'{"model":"gpt-4o-mini"}}',
        b'{"model":NaN}',
        b'{"model":"\xff"}',
        b'{"model":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        b'{"model":"gpt-4o-mini"}'.decode().encode("utf-16"),
        b"null",
        b"[]",
        b'"gpt-4o-mini"',
        b"7",
        b"model=gpt-4o-mini",
        b"[" * 100_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"\x00" * 1000,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_no_json_object_is_refused(path: str, body: bytes, farebox: RunningFarebox, key: Funded) -> None:
    assert refusal(ask(farebox, key, body, path)) == (400, "invalid_request", None)


@pytest.mark.parametrize(
    "twice",
    [
        b'"max_tokens":1,"max_tokens":100',
        b'"n":1,"n":1',
        b'"model":"gpt-4o"',
        b'"mod\\u0065l":"gpt-4o"',
        b'"messages":[]',
    ],
)
def test_a_parameter_that_stands_twice_is_refused(twice: bytes, farebox: RunningFarebox, key: Funded) -> None:
    body = json.dumps(CHAT).encode()[:-1] + b"," + twice + b"}"

    assert refusal(ask(farebox, key, body)) == (400, "invalid_request", None)


@pytest.mark.parametrize(
    ("path", "wrong"),
    [(path, {name: value}) for path, name in [
        (CHAT_PATH, "max_tokens"), (CHAT_PATH, "max_completion_tokens"), (CHAT_PATH, "n"),
        ("/v1/completions", "max_tokens"), ("/v1/completions", "n"), ("/v1/completions", "best_of"),
        ("/v1/embeddings", "dimensions"),
    ] for value in (-1, 0, 1.5, "5", True, [], {}, 10**9, 10**18, 10**30, 1e300)],
)  # fmt: skip
def test_an_absurd_number_is_refused_by_name(
    path: str, wrong: dict[str, Any], farebox: RunningFarebox, key: Funded
) -> None:
    assert refusal(ask(farebox, key, {**PATHS[path], **wrong}, path)) == (400, "invalid_request", next(iter(wrong)))


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-0.0", b"1e309", b"0x10", b"01", b"+1", b"1_0", b"9" * 5000])
def test_a_number_that_json_does_not_know_is_refused(number: bytes, farebox: RunningFarebox, key: Funded) -> None:
    body = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}],"max_tokens":%s}' % number

    assert refusal(ask(farebox, key, body))[:2] == (400, "invalid_request")


@pytest.mark.parametrize(
    ("path", "wrong", "param"),
    [
        (CHAT_PATH, {"model": 5}, "model"),
        (CHAT_PATH, {"model": None}, "model"),
        (CHAT_PATH, {"messages": "hi"}, "messages"),
        (CHAT_PATH, {"messages": []}, "messages"),
        (CHAT_PATH, {"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        (CHAT_PATH, {"stream": "true"}, "stream"),
        (CHAT_PATH, {"stream_options": {"include_usage": True}}, "stream_options"),
        (CHAT_PATH, {"tools": {}}, "tools"),
        (CHAT_PATH, {"tools": [{"type": "web_search"}]}, "tools[0].type"),
        (CHAT_PATH, {"tools": [{"type": ["function"]}]}, "tools[0].type"),
        (CHAT_PATH, {"modalities": ["text", "audio"]}, "modalities"),
        (CHAT_PATH, {"service_tier": "priority"}, "service_tier"),
        (CHAT_PATH, {"web_search_options": {}}, "web_search_options"),
        (CHAT_PATH, {"prediction": {"type": "content", "content": "x"}}, "prediction"),
        (
            CHAT_PATH,
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "messages[0].content[0].type",
        ),
        ("/v1/completions", {"prompt": {}}, "prompt"),
        ("/v1/completions", {"n": 2, "best_of": 1}, "best_of"),
        ("/v1/embeddings", {"input": 5}, "input"),
        ("/v1/embeddings", {"input": []}, "input"),
        ("/v1/embeddings", {"encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_a_wrong_or_unpriced_parameter_is_refused_by_name(
    path: str, wrong: dict[str, Any], param: str, farebox: RunningFarebox, key: Funded
) -> None:
    answer = ask(farebox, key, {**PATHS[path], **wrong}, path)

    assert refusal(answer) == (400, "invalid_request", param)
    assert param in problem(answer)["message"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("model", ["gpt-9", "GPT-4o-mini", " gpt-4o-mini", "gpt-4o-mini\n", "../gpt-4o", "*", "你好"])
def test_an_unknown_model_is_not_found(path: str, model: str, farebox: RunningFarebox, key: Funded) -> None:
    assert refusal(ask(farebox, key, {**PATHS[path], "model": model}, path)) == (404, "model_not_found", "model")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("other", PATHS)
def test_a_model_of_another_endpoint_is_not_found(path: str, other: str, farebox: RunningFarebox, key: Funded) -> None:
    if path != other:
        asked = {**PATHS[path], "model": PATHS[other]["model"]}

        assert refusal(ask(farebox, key, asked, path)) == (404, "model_not_found", "model")


def test_a_body_that_announces_too_much_is_refused_unread(farebox: RunningFarebox, key: Funded) -> None:
    with RawCaller(farebox) as caller:
        head = [f"POST {CHAT_PATH} HTTP/1.1", "host: farebox", f"content-length: {TOO_BIG}", "connection: close"]
        head += [f"{name}: {value}" for name, value in headers_of(key).items()]
        caller.send("\r\n".join([*head, "", ""]).encode())
        answer = caller.read_until(b'"request_too_large"')

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"6.0 MB" in answer


def test_a_body_that_grows_too_much_is_refused(farebox: RunningFarebox, key: Funded) -> None:
    with RawCaller(farebox) as caller:
        head = [f"POST {CHAT_PATH} HTTP/1.1", "host: farebox", "transfer-encoding: chunked"]
        head += [f"{name}: {value}" for name, value in headers_of(key).items()]
        caller.send("\r\n".join([*head, "", ""]).encode())
        for _ in range(TOO_BIG // 65_536 + 1):
            caller.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        answer = caller.read_until(b'"request_too_large"')

    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("size", [BODY_BYTES_MAX, BODY_BYTES_MAX + 1])
def test_the_limit_is_met_to_the_byte(size: int, farebox: RunningFarebox, key: Funded) -> None:
    body = b'{"model":"gpt-9","messages":[{"role":"user","content":"hi"}]}'
    answer = ask(farebox, key, body + b" " * (size - len(body)))

    assert answer.status_code == (404 if size <= BODY_BYTES_MAX else 413)


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_key_that_is_no_good_gets_the_very_same_answer(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    from farebox.domain import keys

    random = farebox.services.random.token
    good, revoked, expired = farebox.new_key(), farebox.new_key(), farebox.new_key(expires_ms=1)
    farebox.run(farebox.services.accounts.revoke(revoked.account, keys.parse(revoked.text).number))  # type: ignore[union-attr]
    unknown = keys.mint("paid", keys.mint_account(random), random).text
    neighbour = keys.mint("paid", keys.parse(good.text).account, random).text  # type: ignore[union-attr]
    bad: list[str | None] = [None, "", "Bearer", "Bearer sk-proj-abc", f"Basic {good.text}", f"Bearer {good.text}x"]
    bad += [f"Bearer {each}" for each in (unknown, neighbour, revoked.text, expired.text, good.text.upper())]
    answers = [
        http.post(farebox.url + path, json=body, headers={} if value is None else {"authorization": value})
        for value in bad
        for path, body in PATHS.items()
    ]

    assert {refusal(answer) for answer in answers} == {(401, "invalid_api_key", None)}
    assert len({answer.content for answer in answers}) == 1
    assert len({frozenset(answer.headers) for answer in answers}) == 1
    assert upstream.requests == []
    for each in (good, revoked, expired):
        assert farebox.account(each.account).spent_nano == farebox.account(each.account).held_nano == 0
        assert farebox.receipts(each.account) == []


def test_a_key_that_is_no_good_is_refused_before_the_body_is_looked_at(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    answer = http.post(farebox.url + CHAT_PATH, content=b"{", headers={"authorization": "Bearer nonsense"})

    assert refusal(answer) == (401, "invalid_api_key", None)


# ── the free tier ───────────────────────────────────────────────────────────────────────────────────────────────────


def words(count: int) -> list[dict[str, str]]:
    """A chat of `count` tokens: 3 + role + words + 3 of priming."""
    return [{"role": "user", "content": " hello" * (count - 7)}]


@pytest.mark.parametrize("model", ["o3", "gpt-4-turbo", "gpt-4o-ca"])
def test_a_free_key_may_not_use_a_paid_model(model: str, farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    free = farebox.new_key("free", credit="0")
    answer = ask(farebox, free, {**CHAT, "model": model})

    assert refusal(answer) == (403, "model_not_allowed", "model")
    assert upstream.requests == []
    assert farebox.receipts(free.account) == []


def test_a_free_prompt_has_4096_tokens_and_not_one_more(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    free = farebox.new_key("free", credit="0")
    headers = headers_of(free)
    refused = ask(farebox, free, {**CHAT, "model": "gpt-4o", "messages": words(4097)}, **headers)

    assert refusal(refused)[:2] == (403, "prompt_too_long")
    assert "4096" in problem(refused)["message"]
    assert upstream.requests == []
    assert farebox.receipts(free.account) == []

    accepted = ask(farebox, free, {**CHAT, "model": "gpt-4o", "messages": words(4096)}, **headers)
    assert accepted.status_code == 200
    assert accepted.headers["x-ratelimit-remaining-requests"] == "4"  # the refused one counted for nothing


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────────────────────

NOWHERE = ["/v1", "/v1/", "/v2/chat/completions", "/v1/chat", "/v1/chat/completions/", "/v1/files", "/chat/completions"]
HOSTILE = [
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/../v1/chat/completions",
    "/v1/../admin/v1/audit",
    "/v1/%2e%2e/admin/v1/audit",
    "/v1/..%2fadmin%2fv1%2faudit",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/v1/%252e%252e/admin",
    "/v1/chat/completions;x=1",
    "/v1/chat/completions%00",
    "/v1/chat/completions%0d%0ax:1",
    "/v1/chat%2fcompletions/x",
    "/v1\\chat\\completions",
    "/V1/CHAT/COMPLETIONS",
    "/v1/chat/completions/../../../admin/v1/keys",
    "/v1/%c0%ae%c0%ae/admin",
    "/v1/embeddings/..",
    "/.env",
]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", NOWHERE)
def test_an_unknown_path_is_not_found(method: str, path: str, farebox: RunningFarebox, key: Funded) -> None:
    answer = http.request(method, farebox.url + path, headers=headers_of(key))

    assert refusal(answer) == (404, "not_found", None)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_method_is_not_found(method: str, path: str, farebox: RunningFarebox, key: Funded) -> None:
    assert refusal(http.request(method, farebox.url + path, headers=headers_of(key))) == (404, "not_found", None)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_path_leads_nowhere(method: str, path: str, farebox: RunningFarebox, key: Funded) -> None:
    body = json.dumps(CHAT).encode()
    with RawCaller(farebox) as caller:
        head = [f"{method} {path} HTTP/1.1", "host: farebox", f"content-length: {len(body)}", "connection: close"]
        head += [f"{name}: {value}" for name, value in headers_of(key).items()]
        caller.send("\r\n".join([*head, "", ""]).encode() + body)
        answer = caller.read_all()

    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")), answer
    if answer.startswith(b"HTTP/1.1 404 "):
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "not_found"


@pytest.mark.parametrize("host", ["farebox/admin", "farebox?x", "farebox#x", "evil.example", "admin", "a b"])
def test_no_host_header_leads_anywhere_else(host: str, farebox: RunningFarebox, key: Funded) -> None:
    with RawCaller(farebox) as caller:
        caller.send(f"GET /v1/nothing HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        answer = caller.read_all()

    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))


def test_a_query_changes_nothing(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    query = "?api_base=http://evil.example&base_url=http://evil.example&key=x"

    assert ask(farebox, farebox.new_key(), CHAT, CHAT_PATH + query).status_code == 200
    assert upstream.requests[0].path == CHAT_PATH
