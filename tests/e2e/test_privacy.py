"""What stays between the caller and the model: no header goes up, no text is stored, logged or repeated in an error."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.caller import CHAT, CHAT_PATH, RawCaller
from tests.fakes.process import FareboxProcess, http, wait_until
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import (
    DONE,
    Request,
    Reset,
    ScriptedUpstream,
    Send,
    Step,
    WaitFor,
    chat_completion,
    chat_stream,
    chunk,
    json_answer,
    sse_answer,
    sse_head,
)

MARK = "canary7f3a"
ADDRESS = "203.0.113.211"
CALLER = {
    "user-agent": f"agent-{MARK}",
    "cookie": f"session={MARK}",
    "x-forwarded-for": ADDRESS,
    "x-real-ip": ADDRESS,
    "forwarded": f"for={ADDRESS}",
    "via": f"1.1 {MARK}",
    "cf-connecting-ip": ADDRESS,
    "accept": f"application/json, x/{MARK}",
    "accept-language": f"zh-{MARK}",
    "accept-encoding": f"gzip, {MARK}",
    "referer": f"https://{MARK}.example/",
    "origin": f"https://{MARK}.example",
    "openai-organization": f"org-{MARK}",
    "openai-project": f"proj-{MARK}",
    "openai-beta": f"assistants={MARK}",
    "idempotency-key": f"once-{MARK}",
    "x-stainless-lang": f"python-{MARK}",
    "x-stainless-os": f"Linux-{MARK}",
    "x-stainless-retry-count": "0",
    "x-request-id": MARK,
    "x-api-key": MARK,
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "baggage": f"user={MARK}",
    "x-custom": MARK,
    "te": "trailers",
}
UPSTREAM_HEARS = {"host", "authorization", "content-type", "content-length", "accept", "accept-encoding", "user-agent"}
SECRET_CHAT: dict[str, Any] = {
    **CHAT,
    "messages": [
        {"role": "system", "content": f"system {MARK}"},
        {"role": "user", "name": f"name_{MARK}", "content": [{"type": "text", "text": f"prompt 你好 {MARK}"}]},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": MARK, "type": "function", "function": {"name": MARK, "arguments": f'{{"x":"{MARK}"}}'}}
            ],
        },
        {"role": "tool", "tool_call_id": MARK, "content": MARK},
    ],
    "tools": [{"type": "function", "function": {"name": f"tool_{MARK}", "description": MARK, "parameters": {}}}],
    "user": f"user-{MARK}",
    "metadata": {"note": MARK},
    "unknown": [MARK],
}
SECRET_STREAM = {**SECRET_CHAT, "stream": True}


# ── what the upstream hears ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT_PATH, CHAT),
        ("/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "hi"}),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "hi"}),
    ],
)
def test_of_the_callers_headers_none_goes_up(
    path: str, body: dict[str, Any], stream: bool, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    key = farebox.new_key()
    headers = {**CALLER, "authorization": f"Bearer {key.text}"}
    http.post(f"{farebox.url}{path}?trace={MARK}", json={**body, "stream": stream}, headers=headers)
    request = upstream.requests[-1]  # to a plain answer where a stream was asked for, another attempt follows
    streams = stream and path != "/v1/embeddings"

    assert set(request.headers) == UPSTREAM_HEARS
    assert request.headers["authorization"] == "Bearer sk-up"
    assert request.headers["user-agent"] == "farebox"
    assert request.headers["accept"] == ("text/event-stream" if streams else "application/json")
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["content-type"] == "application/json"
    assert request.path == path
    heard = f"{request.method} {request.path} {request.headers}"
    assert [each for each in (MARK, ADDRESS, key.text, key.id, key.account) if each in heard] == []
    assert key.text.encode() not in request.body


# ── what is left behind ─────────────────────────────────────────────────────────────────────────────────────────────


def scenarios() -> dict[str, tuple[dict[str, Any], list[Step]]]:
    """A request and what the upstream makes of it; the caller's and the model's words all bear the mark."""
    error = {"error": {"message": f"bad {MARK}", "type": MARK, "param": MARK, "code": MARK}}
    events = chat_stream(f"answer {MARK}", f"你好 {MARK}")
    return {
        "plain": (SECRET_CHAT, json_answer(chat_completion(f"answer {MARK}"))),
        "plain without usage": (SECRET_CHAT, json_answer({**chat_completion(f"answer {MARK}"), "usage": None})),
        "stream": (SECRET_STREAM, sse_answer(events)),
        "stream without usage": (SECRET_STREAM, sse_answer([*events[:3], DONE])),
        "cut": (SECRET_STREAM, [Send(sse_head() + events[0]), Reset()]),
        "odd": (SECRET_STREAM, sse_answer([chunk().replace(b"{}", b'{"content":["%s"]}' % MARK.encode()), *events])),
        "no JSON": (SECRET_CHAT, json_answer(f"<html>{MARK}".encode())),
        "error event": (SECRET_STREAM, sse_answer([b"data: " + json.dumps(error).encode() + b"\n\n"])),
        **{f"status {status}": (SECRET_CHAT, json_answer(error, status)) for status in (400, 401, 404, 429, 500, 503)},
        "unknown model": ({**SECRET_CHAT, "model": f"gpt-{MARK}"}, []),
        "bad model": ({**SECRET_CHAT, "model": [MARK]}, []),
        "bad content": ({**SECRET_CHAT, "messages": [{"role": "user", "content": {"x": MARK}}]}, []),
        "bad part": ({**SECRET_CHAT, "messages": [{"role": "user", "content": [{"type": MARK, "x": MARK}]}]}, []),
        "bad tool": ({**SECRET_CHAT, "tools": [{"type": MARK}]}, []),
        "bad number": ({**SECRET_CHAT, "max_tokens": MARK}, []),
        "bad options": ({**SECRET_STREAM, "stream_options": MARK}, []),
        "twice": (SECRET_CHAT, []),
        "malformed": (SECRET_CHAT, []),
    }


SCENARIOS = scenarios()


def play(url: str, key: str, upstream: ScriptedUpstream) -> Iterator[tuple[str, httpx.Response]]:
    """Every scenario against a service; the answers."""
    for number, (name, (body, script)) in enumerate(SCENARIOS.items()):
        upstream.script = script
        data = json.dumps(body).encode()
        data = {"malformed": data[:-1], "twice": data[:-1] + b',"user":"%s"}' % MARK.encode()}.get(name, data)
        headers = {**CALLER, "authorization": f"Bearer {key}", "idempotency-key": f"{MARK}-{number}"}
        yield name, http.post(f"{url}{CHAT_PATH}?q={MARK}", content=data, headers=headers, timeout=20)


def traces(files: list[Path], words: list[str]) -> list[tuple[str, str]]:
    return [(file.name, word) for file in files for word in words if word.encode() in file.read_bytes()]


def test_no_word_is_stored_or_printed_or_repeated_in_an_error(
    farebox: RunningFarebox,
    upstream: ScriptedUpstream,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    key, wrong = farebox.new_key(), "Bearer sk-fb-" + MARK
    with caplog.at_level(logging.DEBUG):
        answers = dict(play(farebox.url, key.text, upstream))
        answers["wrong key"] = http.post(farebox.url + CHAT_PATH, json=SECRET_CHAT, headers={"authorization": wrong})
        answers["nowhere"] = http.get(f"{farebox.url}/v1/{MARK}?x={MARK}")
        leave(farebox, key, upstream)
        receipts = farebox.receipts(key.account)
    said = capfd.readouterr()
    logged = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    errors = [
        name
        for name, answer in answers.items()
        if answer.status_code != 200 and MARK in answer.text + repr(answer.headers)
    ]
    files = [file for file in farebox._data_dir.rglob("*") if file.is_file()]

    assert answers["plain"].status_code == answers["stream"].status_code == 200
    assert MARK in answers["plain"].text
    assert MARK in answers["stream"].text
    assert errors == []
    assert MARK not in answers["cut"].text.partition('{"error"')[2]
    assert len(receipts) == 15
    assert MARK not in json.dumps(receipts)
    assert traces(files, [key.account]) != []  # what is stored can be found this way
    assert any(file.name.endswith(".sqlite") for file in files)
    assert traces(files, [MARK, ADDRESS, "sk-up", key.text]) == []
    assert [word for word in (MARK, ADDRESS, "sk-up", key.text) if word in said.out + said.err + repr(logged)] == []


def leave(farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream) -> None:
    """A caller who leaves in the middle."""
    gate = WaitFor()
    before = len(farebox.receipts(key.account))
    upstream.script = [Send(sse_head() + chunk(MARK)), gate, *(Send(event) for event in chat_stream(MARK))]
    with RawCaller(farebox) as caller:
        caller.post(key, SECRET_STREAM)
        caller.read_until(MARK.encode())
    gate.event.set()
    wait_until(lambda: len(farebox.receipts(key.account)) == before + 1)


def test_a_free_keys_address_is_stored_only_as_a_keyed_hash(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    free = farebox.new_key("free", credit="0")
    address = "203.0.113.213"
    headers = {"authorization": f"Bearer {free.text}", "x-forwarded-for": address}

    assert http.post(farebox.url + CHAT_PATH, json=CHAT, headers=headers).status_code == 200
    farebox.account(free.account)
    files = [file for file in farebox._data_dir.rglob("*") if file.is_file()]
    assert traces(files, [free.account]) != []
    assert traces(files, [address]) == []


def test_a_real_process_leaves_no_word_on_its_disk_or_in_its_output(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    config = f"""
        [admin]
        token = "env:FAREBOX_ADMIN_TOKEN"
        [network]
        trusted_proxies = ["127.0.0.1"]
        [[channel]]
        name = "scripted"
        vendor = "openai"
        base_url = "{upstream.url}"
        keys = ["sk-up"]
        models = ["*"]
        """
    env = {
        "FAREBOX_ADMIN_TOKEN": "admin-token-of-this-test",
        "POWERTOOLS_LOG_LEVEL": "DEBUG",
        "PYTHONASYNCIODEBUG": "1",
    }
    heard: list[Request] = []
    with FareboxProcess(tmp_path / "data", config=config, env=env) as process:
        key = process.new_key(credit="10")
        answers = dict(play(process.url, key["key"], upstream))
        heard += upstream.requests
        wait_until(lambda: not process.account(key["account"])["holds"])
        assert process.stop() == 0
    files = [file for file in (tmp_path / "data").rglob("*") if file.is_file()]

    assert answers["plain"].status_code == answers["stream"].status_code == 200
    assert [name for name, answer in answers.items() if answer.status_code != 200 and MARK in answer.text] == []
    assert len(heard) == 18  # with the second attempts at what may have been a passing weakness
    assert {frozenset(request.headers) for request in heard} == {frozenset(UPSTREAM_HEARS)}
    assert traces(files, [key["account"]]) != []
    assert traces(files, [MARK, ADDRESS, key["key"]]) == []
    assert [word for word in (MARK, ADDRESS, "sk-up", key["key"]) if word in process.output + process.errors] == []
