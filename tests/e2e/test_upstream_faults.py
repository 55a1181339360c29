"""An upstream that fails in every way: what the caller sees, and that the money is right each time.

Whatever happens: one ledger entry, never above the hold, nothing held, the audit finds nothing.
"""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from farebox.adapters import upstream_aiohttp
from farebox.local.store_process import free_port
from farebox.relay import forward, passage
from farebox.relay.call import Limits
from farebox.service.audit import audit
from tests.fakes.service import REPO, Funded, RunningFarebox
from tests.fakes.upstream import (
    DONE,
    Reset,
    ScriptedUpstream,
    Send,
    Sleep,
    Step,
    WaitForLeave,
    chat_completion,
    chat_stream,
    chunk,
    head,
    json_answer,
    sse_head,
    usage_chunk,
)

TABLE = REPO / "build" / "upstream-fault-table.md"
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
INPUT_NANO, OUTPUT_NANO = 1050, 4200
SILENCE_S = 0.4
STREAM_MIB = 32
"""The limit on streams in these tests; 200 in earnest, and one test says so."""
MIB = 1024 * 1024
COUNTED = "our own count"
rows: list[tuple[str, ...]] = []


@pytest.fixture(scope="module")
def _service(_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFarebox]:
    """A service of its own, which is less patient with silence."""
    place = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upstream_aiohttp, "CONNECT_S", SILENCE_S)
        service = RunningFarebox(place, _upstream.url, limits=Limits(silence_s=SILENCE_S)).start()
        yield service
        service.stop()


@pytest.fixture
def service(_service: RunningFarebox, upstream: ScriptedUpstream) -> Iterator[RunningFarebox]:
    """Afterwards its one channel leads to the scripted upstream again."""
    channels = _service.services.channels.all
    yield _service
    _service.services.channels.all = channels


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    lines = ["| fault | answer | status | outcome | nano-CA | figures | unit |", "|---|---|---|---|---|---|---|"]
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n", "utf-8")


@dataclass(frozen=True)
class Seen:
    """What the caller saw."""

    status: int
    code: str | None
    text: bytes
    ended_cleanly: bool

    @property
    def events(self) -> list[bytes]:
        frames = re.split(rb"(?:\r\n|\r|\n){2}", self.text)
        return [frame[6:] for frame in frames if frame.startswith(b"data: ")]


def call(service: RunningFarebox, key: Funded, *, stream: bool, **more: Any) -> Seen:
    """Reads as far as it goes."""
    pieces: list[bytes] = []
    with httpx.Client(timeout=60) as client:
        request = client.build_request(
            "POST",
            f"{service.base_url}/chat/completions",
            json={**CHAT, "stream": stream, **more},
            headers={"authorization": f"Bearer {key.text}"},
        )
        answer = client.send(request, stream=True)
        cleanly = True
        try:
            pieces.extend(answer.iter_raw())
        except httpx.RemoteProtocolError:
            cleanly = False
        finally:
            answer.close()
    text = b"".join(pieces)
    seen = Seen(answer.status_code, None, text, cleanly)
    last = seen.events[-1] if seen.events else text
    error = json.loads(last)["error"] if last.startswith(b'{"error"') else None
    return replace(seen, code=error["code"] if error else None)


def check(
    service: RunningFarebox,
    fault: str,
    *,
    stream: bool,
    status: int = 200,
    code: str | None,
    outcome: str,
    cost: int | str = 0,
    requests: int = 1,
    upstream: ScriptedUpstream,
    **more: Any,
) -> Seen:
    """Runs the fault on a paid and on a free key. `cost`: nano-CA, or COUNTED where our count of it is billed."""
    seen = None
    for kind in ("paid", "free"):
        upstream.requests.clear()
        key = service.new_key(kind)
        seen = call(service, key, stream=stream, **more)
        assert (seen.status, seen.code) == (status, code), seen
        (receipt,) = service.receipts(key.account)
        assert receipt["outcome"] == outcome
        sources = {figure["source"] for figure in receipt["usage"].values()}
        if cost == COUNTED:
            assert sources == {"counted"}
            assert kind == "free" or 0 < receipt["cost_nano"] <= receipt["hold_nano"]
        elif kind == "paid":
            assert receipt["cost_nano"] == cost
        assert len(receipt["attempts"]) == (2 if outcome == "failed" and _passes(receipt) else 1)
        assert len(upstream.requests) == requests * len(receipt["attempts"])
        account = service.account(key.account)
        assert account.held_nano == 0
        assert account.holds == {}
        assert account.spent_nano == receipt["cost_nano"] <= receipt["hold_nano"]
        assert account.avail_nano == account.credited_nano - account.spent_nano
        if kind == "paid":
            cost_seen = receipt["cost_nano"]
        else:
            assert receipt["cost_nano"] == 0
            unit = units_taken(service, key, upstream)
            # A free unit comes back if and only if nothing is billed.
            assert unit == (1 if cost else 0)
            source = "/".join(sorted(sources)) or "none"
            told = f"{status} {code}" if code else str(status)
            rows.append(
                (
                    fault,
                    "stream" if stream else "plain",
                    told,
                    outcome,
                    str(cost_seen),
                    source,
                    "kept" if unit else "back",
                )
            )
    assert seen is not None
    return seen


def _passes(receipt: dict[str, Any]) -> bool:
    """Whether what went wrong may be a passing weakness, so that the one channel there is was asked twice."""
    return receipt["attempts"][0]["result"] not in ("status_401", "status_402", "status_403", "status_404") and (
        receipt["attempts"][0]["result"] not in ("status_429", "status_other")
    )


def units_taken(service: RunningFarebox, key: Funded, upstream: ScriptedUpstream) -> int:
    """What the key's day has counted."""
    services = service.services
    (unit,) = [unit for unit in _units(service, key) if unit.subject == "key"]
    (counts,) = service.run(services.store.counts((unit,)))
    return max(counts.values(), default=0)


def _units(service: RunningFarebox, key: Funded) -> tuple[Any, ...]:
    from farebox.domain import quota

    services = service.services
    day = quota.day_at(service.clock.now_ms(), services.relay.zone)
    return quota.free_units(
        kind="chat", group="gpt-4o-mini", key_id=key.id, address_hash="x", day=day, limits=services.settings.free
    )


def audit_is_clean(service: RunningFarebox) -> bool:
    found = service.run(audit(service.services.accounts, service.services.clock)).document()
    assert found["violations"] == []
    assert found["difference_nano"] == 0
    return bool(found["open_holds"] == 0)


BOTH = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
UNREACHABLE = {"status": 503, "code": "upstream_unavailable", "outcome": "failed"}
WRONG = {"status": 502, "code": "upstream_error", "outcome": "failed"}
STALLED = {"status": 504, "code": "upstream_timeout", "outcome": "failed"}


# ── before an answer ────────────────────────────────────────────────────────────────────────────────────────────────


def lead(service: RunningFarebox, base_url: str) -> None:
    """The channel leads there until the test ends."""
    (channel,) = service.services.channels.all
    service.services.channels.all = (replace(channel, base_url=base_url),)


@BOTH
def test_nobody_listens(service: RunningFarebox, upstream: ScriptedUpstream, stream: bool) -> None:
    lead(service, f"http://127.0.0.1:{free_port()}/v1")
    check(service, "connection refused", stream=stream, **UNREACHABLE, requests=0, upstream=upstream)


@BOTH
def test_no_tls_where_tls_should_be(service: RunningFarebox, upstream: ScriptedUpstream, stream: bool) -> None:
    class Talker(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"220 mail.example ESMTP\r\n")
            self.request.recv(1000)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        lead(service, f"https://127.0.0.1:{server.server_address[1]}/v1")
        check(service, "TLS failure", stream=stream, **UNREACHABLE, requests=0, upstream=upstream)
        server.shutdown()


@BOTH
def test_a_handshake_without_an_answer(service: RunningFarebox, upstream: ScriptedUpstream, stream: bool) -> None:
    lead(service, upstream.url.replace("http://", "https://"))
    check(service, "TLS handshake stalls", stream=stream, **UNREACHABLE, requests=0, upstream=upstream)


@BOTH
def test_no_such_host(service: RunningFarebox, upstream: ScriptedUpstream, stream: bool) -> None:
    lead(service, "http://nowhere.invalid/v1")
    check(service, "no such host", stream=stream, **UNREACHABLE, requests=0, upstream=upstream)


NO_ANSWER: dict[str, list[Step]] = {
    "reset before the head": [Reset()],
    "closed before the head": [],
    "reset amid the head": [Send(b"HTTP/1.1 200 OK\r\ncontent-ty"), Reset()],
    "closed amid the head": [Send(b"HTTP/1.1 200 OK\r\ncontent-ty")],
    "no HTTP": [Send(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n")],
    "a status of four digits": [Send(b"HTTP/1.1 2000 OK\r\n\r\n")],
    "a head without an end": [Send(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000)],
}


@BOTH
@pytest.mark.parametrize("fault", NO_ANSWER)
def test_no_head(service: RunningFarebox, upstream: ScriptedUpstream, fault: str, stream: bool) -> None:
    upstream.script = NO_ANSWER[fault]
    check(service, fault, stream=stream, **UNREACHABLE, upstream=upstream)
    assert audit_is_clean(service)


@BOTH
def test_silence_before_the_head(service: RunningFarebox, upstream: ScriptedUpstream, stream: bool) -> None:
    upstream.script = [WaitForLeave()]
    check(service, "stall before the head", stream=stream, **STALLED, upstream=upstream)
    assert len(upstream.left_at) == 4  # it was left each time, not kept


STATUSES = {
    **dict.fromkeys((400, 413, 422), (400, "invalid_request", "refused")),
    **dict.fromkeys((401, 402, 403, 404, 405, 409, 500, 501, 502), (502, "upstream_error", "failed")),
    **dict.fromkeys((429, 503, 529), (503, "upstream_unavailable", "failed")),
    **dict.fromkeys((408, 504), (504, "upstream_timeout", "failed")),
    **dict.fromkeys((201, 204, 302, 307, 599), (502, "upstream_error", "failed")),
}


@BOTH
@pytest.mark.parametrize("theirs", STATUSES)
def test_an_error_status(service: RunningFarebox, upstream: ScriptedUpstream, theirs: int, stream: bool) -> None:
    status, code, outcome = STATUSES[theirs]
    secret = {"error": {"message": "account org-SECRET of sk-up", "param": "top_p", "code": "x"}}
    upstream.script = json_answer(b"" if theirs == 204 else secret, theirs, location="http://127.0.0.1:1/elsewhere")
    seen = check(service, str(theirs), stream=stream, status=status, code=code, outcome=outcome, upstream=upstream)
    assert b"SECRET" not in seen.text
    assert b"sk-up" not in seen.text


# ── a plain answer ──────────────────────────────────────────────────────────────────────────────────────────────────


GOOD = json.dumps(chat_completion()).encode()
BAD_BODIES: dict[str, bytes] = {
    "200 with an error body": b'{"error":{"message":"overloaded","type":"server_error"}}',
    "empty body": b"",
    "empty lines": b"\n\n\n",
    "an empty object": b"{}",
    "null": b"null",
    "an array": b"[]",
    "a page": b"<!doctype html><title>Bad gateway</title>",
    "half of it, cleanly ended": GOOD[: len(GOOD) // 2],
    "no choices": b'{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}',
    "invalid UTF-8": b'{"choices": "\xff\xfe"}',
    "depth of 100,000": b"[" * 100_000,
}


@pytest.mark.parametrize("fault", BAD_BODIES)
def test_a_success_that_is_none(service: RunningFarebox, upstream: ScriptedUpstream, fault: str) -> None:
    upstream.script = json_answer(BAD_BODIES[fault])
    check(service, fault, stream=False, **WRONG, upstream=upstream)


@pytest.mark.parametrize("ending", ["closed", "reset", "stalled"])
@pytest.mark.parametrize("quarter", range(4))
def test_a_plain_answer_breaks_off(
    service: RunningFarebox, upstream: ScriptedUpstream, quarter: int, ending: str
) -> None:
    last: list[Step] = {"closed": [], "reset": [Sleep(0.05), Reset()], "stalled": [WaitForLeave()]}[ending]  # type: ignore[assignment]
    upstream.script = [Send(head(content_length=str(len(GOOD))) + GOOD[: len(GOOD) * quarter // 4]), *last]
    wanted = STALLED if ending == "stalled" else WRONG
    check(service, f"{ending} after {quarter}/4 of the body", stream=False, **wanted, upstream=upstream)


def test_a_plain_answer_of_more_than_its_limit(
    service: RunningFarebox, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "PLAIN_BYTES_MAX", MIB)
    upstream.on_request = lambda _: (Send(piece) for piece in (head(), *[b" " * 65_536] * 32, GOOD))
    check(service, "a plain answer above its limit", stream=False, **WRONG, upstream=upstream)


# ── a stream ────────────────────────────────────────────────────────────────────────────────────────────────────────


EVENTS = chat_stream("he", "llo", " there", prompt=10, completion=3)
"""Three with content, finish_reason, usage, [DONE]."""
WITH_CONTENT = range(1, 4)


@pytest.mark.parametrize("ending", ["closed", "reset", "stalled"])
@pytest.mark.parametrize("sent", range(len(EVENTS) + 1))
def test_a_stream_is_cut_after_each_event(
    service: RunningFarebox, upstream: ScriptedUpstream, sent: int, ending: str
) -> None:
    last: list[Step] = {"closed": [], "reset": [Sleep(0.05), Reset()], "stalled": [WaitForLeave()]}[ending]  # type: ignore[assignment]
    upstream.script = [Send(sse_head()), *(Send(event) for event in EVENTS[:sent]), *last]
    fault = f"{ending} after {sent} of {len(EVENTS)} events"
    if sent == 0:
        wanted = STALLED if ending == "stalled" else WRONG
        check(service, fault, stream=True, **wanted, upstream=upstream)
        return
    if sent in WITH_CONTENT:
        code = "upstream_timeout" if ending == "stalled" else "upstream_error"
        seen = check(service, fault, stream=True, code=code, outcome="upstream_cut", cost=COUNTED, upstream=upstream)
        assert [event for event in seen.events if event != b"[DONE]"] == seen.events  # it never looks complete
        return
    full = 10 * INPUT_NANO + 3 * OUTPUT_NANO
    cost = COUNTED if sent == 4 else full  # after finish_reason nothing is missing but the usage
    seen = check(service, fault, stream=True, code=None, outcome="completed", cost=cost, upstream=upstream)
    assert (b"[DONE]" in seen.events) == (sent == len(EVENTS))


def test_one_choice_of_two_has_ended_when_the_stream_breaks(
    service: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    second = chunk("b").replace(b'"index":0', b'"index":1')
    upstream.script = [Send(sse_head()), *(Send(event) for event in (chunk("a"), second, chunk(finish="stop")))]
    seen = check(
        service,
        "closed after one choice of two",
        stream=True,
        n=2,
        code="upstream_error",
        outcome="upstream_cut",
        cost=COUNTED,
        upstream=upstream,
    )
    assert b"[DONE]" not in seen.events


def test_two_choices_of_two_have_ended(service: RunningFarebox, upstream: ScriptedUpstream) -> None:
    second = chunk("b", finish="stop").replace(b'"index":0', b'"index":1')
    upstream.script = [Send(sse_head()), *(Send(event) for event in (chunk("a", finish="stop"), second))]
    fault = "closed after two choices of two"
    check(service, fault, stream=True, n=2, code=None, outcome="completed", cost=COUNTED, upstream=upstream)


NO_STREAMS: dict[str, list[Step]] = {
    "200 with an error body": json_answer({"error": {"message": "no"}}),
    "a plain answer": json_answer(chat_completion()),
    "a page": [Send(head(content_type="text/html") + b"<title>Bad gateway</title>")],
    "empty stream": [Send(sse_head())],
    "comments alone": [Send(sse_head()), Send(b": OPENROUTER PROCESSING\n\n")],
    "an error event first": [Send(sse_head()), Send(b'data: {"error":{"message":"no","code":500}}\n\n'), Send(DONE)],
    "an event: error first": [Send(sse_head()), Send(b'event: error\ndata: {"error":"no"}\n\n')],
    "lines without a field": [Send(sse_head()), Send(b"hello\n\nworld\n\n")],
}


@pytest.mark.parametrize("fault", NO_STREAMS)
def test_a_success_that_is_no_stream(service: RunningFarebox, upstream: ScriptedUpstream, fault: str) -> None:
    upstream.script = NO_STREAMS[fault]
    check(service, fault, stream=True, **WRONG, upstream=upstream)


def test_an_error_event_after_content(service: RunningFarebox, upstream: ScriptedUpstream) -> None:
    events = [chunk("he"), b'data: {"error":{"message":"SECRET"}}\n\n', DONE]
    upstream.script = [Send(sse_head()), *(step for event in events for step in (Send(event), Sleep(0.1)))]
    seen = check(
        service,
        "an error event after content",
        stream=True,
        code="upstream_error",
        outcome="upstream_cut",
        cost=COUNTED,
        upstream=upstream,
    )
    assert b"SECRET" not in seen.text
    assert b"[DONE]" not in seen.text


MALFORMED: dict[str, tuple[list[bytes], int | str]] = {
    "events that are no JSON": ([b"data: {oops\n\n", b"data: \x00\x01\n\n", *EVENTS], 23_100),
    "invalid UTF-8 in the content": ([chunk("X").replace(b"X", b"\xff\xfe\xe4"), *EVENTS], 23_100),
    "CR, LF and CRLF": (
        [event.replace(b"\n", end) for event, end in zip(EVENTS, [b"\r", b"\r\n", b"\n"] * 2, strict=True)],
        23_100,
    ),
    "fields of no meaning": ([b"id: 7\nretry: 1\nfoo\ndata: {}\n\n", *EVENTS], 23_100),
    "no blank line at the end": ([*EVENTS[:-1], b"data: [DONE]"], 23_100),
    "an event a byte": ([bytes([byte]) for byte in b"".join(EVENTS)], 23_100),
    "more after [DONE]": ([*EVENTS, chunk("more"), usage_chunk(10, 99)], 23_100),
    "choices of odd shape": ([b'data: {"choices":{"0":{"delta":"hello"}}}\n\n', DONE], COUNTED),
    "content in parts": ([b'data: {"choices":[{"delta":{"content":[{"text":"hello"}]}}]}\n\n', DONE], COUNTED),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_stream(service: RunningFarebox, upstream: ScriptedUpstream, fault: str) -> None:
    events, cost = MALFORMED[fault]
    upstream.script = [Send(sse_head()), *(Send(event) for event in events)]
    check(service, fault, stream=True, code=None, outcome="completed", cost=cost, upstream=upstream)


def test_a_stream_that_has_nothing_but_its_end(service: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = [Send(sse_head()), Send(DONE)]
    key = service.new_key()
    seen = call(service, key, stream=True)
    (receipt,) = service.receipts(key.account)

    assert (seen.status, seen.text, receipt["outcome"], receipt["cost_nano"]) == (200, DONE, "completed", 0)
    assert [each["result"] for each in receipt["attempts"]] == ["empty", "empty"]


@pytest.mark.parametrize(("name", "sent"), [("before content", 0), ("after content", 2), ("after usage", 5)])
def test_a_stall(service: RunningFarebox, upstream: ScriptedUpstream, name: str, sent: int) -> None:
    upstream.script = [Send(sse_head() + b": ping\n\n"), *(Send(event) for event in EVENTS[:sent]), WaitForLeave()]
    if sent == 5:
        check(service, f"stall {name}", stream=True, code=None, outcome="completed", cost=23_100, upstream=upstream)
    else:
        check(
            service,
            f"stall {name}",
            stream=True,
            status=200 if sent else 504,
            code="upstream_timeout",
            outcome="upstream_cut" if sent else "failed",
            cost=COUNTED if sent else 0,
            upstream=upstream,
        )
    assert len(upstream.left_at) == (2 if sent else 4)


# ── lies ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def lie(**usage: Any) -> bytes:
    """A usage object, as text: what is no JSON stays none."""
    told = {"prompt_tokens": "10", "completion_tokens": "5", **usage}
    return ("{" + ",".join(f'"{name}":{value}' for name, value in told.items() if value is not None) + "}").encode()


LIES: dict[str, bytes] = {
    "negative": lie(completion_tokens="-5"),
    "negative input": lie(prompt_tokens="-1"),
    "huge": lie(completion_tokens="9" * 30),
    "a number of 5,000 digits": lie(completion_tokens="9" * 5000),
    "NaN": lie(completion_tokens="NaN"),
    "Infinity": lie(prompt_tokens="Infinity"),
    "1e400": lie(prompt_tokens="1e400"),
    "a string": lie(completion_tokens='"5"'),
    "true": lie(completion_tokens="true"),
    "a half": lie(completion_tokens="5.5"),
    "a list": lie(prompt_tokens="[10]"),
    "an object": lie(prompt_tokens="{}"),
    "null": lie(prompt_tokens="null"),
    "no input": lie(prompt_tokens=None),
    "more than max_tokens": lie(completion_tokens="101"),
    "more input than the context": lie(prompt_tokens="128001"),
    "nought with text": lie(completion_tokens="0"),
    "no output with text": lie(completion_tokens=None),
    "more cached than sent": lie(prompt_tokens_details='{"cached_tokens":11}'),
    "negative cached": lie(prompt_tokens_details='{"cached_tokens":-1}'),
    "an empty object": b"{}",
    "usage is a string": b'"5"',
    "usage is a list": b"[10,5]",
    "usage is null": b"null",
}


@BOTH
@pytest.mark.parametrize("fault", LIES)
def test_a_lie_about_usage(service: RunningFarebox, upstream: ScriptedUpstream, fault: str, stream: bool) -> None:
    if stream:
        told = b'data: {"choices":[],"usage":' + LIES[fault] + b"}\n\n"
        events = [chunk("hello"), chunk(finish="stop"), told, DONE]
        upstream.script = [Send(sse_head()), *(Send(event) for event in events)]
    else:
        body = GOOD[: GOOD.index(b'"usage"')] + b'"usage":' + LIES[fault] + b"}"
        upstream.script = json_answer(body)
    check(service, f"usage: {fault}", stream=stream, code=None, outcome="completed", cost=COUNTED, upstream=upstream)


def test_a_believable_lie_costs_at_most_the_hold(service: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = json_answer(chat_completion(prompt=127_000, completion=100))
    key = service.new_key()
    assert call(service, key, stream=False).status == 200
    (receipt,) = service.receipts(key.account)
    assert receipt["cost_nano"] == receipt["hold_nano"] == service.account(key.account).spent_nano
    assert receipt["overrun_nano"] == 127_000 * INPUT_NANO + 100 * OUTPUT_NANO - receipt["hold_nano"]


def test_the_last_sane_word_counts(service: RunningFarebox, upstream: ScriptedUpstream) -> None:
    """A vendor may report usage again and again; the last object is the one that counts."""
    events = [chunk("he"), usage_chunk(10, 1), chunk("llo"), chunk(finish="stop"), usage_chunk(10, 2), DONE]
    upstream.script = [Send(sse_head()), *(Send(event) for event in events)]
    cost = 10 * INPUT_NANO + 2 * OUTPUT_NANO
    check(service, "usage twice", stream=True, code=None, outcome="completed", cost=cost, upstream=upstream)


# ── too much ────────────────────────────────────────────────────────────────────────────────────────────────────────


def endless(piece: bytes) -> Iterable[Step]:
    yield Send(sse_head())
    yield Send(chunk("he"))
    while True:
        yield Send(piece)


def test_a_stream_without_an_end_is_cut_at_its_limit(
    service: RunningFarebox, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert passage.STREAM_BYTES_MAX == 200 * MIB
    monkeypatch.setattr(passage, "STREAM_BYTES_MAX", STREAM_MIB * MIB)
    piece = chunk("word " * 13_000)
    upstream.on_request = lambda _: endless(piece)
    seen = check(
        service,
        "a stream without an end",
        stream=True,
        code="upstream_error",
        outcome="upstream_cut",
        cost=COUNTED,
        upstream=upstream,
    )
    assert len(seen.text) <= STREAM_MIB * MIB + 1000


def test_a_line_of_64_mib(service: RunningFarebox, upstream: ScriptedUpstream) -> None:
    def line() -> Iterable[Step]:
        yield Send(sse_head())
        yield Send(chunk("he"))
        yield Send(b'data: {"choices":[{"delta":{"content":"')
        for _ in range(64):
            yield Send(b"a" * MIB)
        yield Send(b'"}}]}\n\n')

    upstream.on_request = lambda _: line()
    seen = check(
        service,
        "a line of 64 MiB",
        stream=True,
        code="upstream_error",
        outcome="upstream_cut",
        cost=COUNTED,
        upstream=upstream,
    )
    assert len(seen.text) < 2000


# ── in the end ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_after_all_that_the_audit_finds_nothing(service: RunningFarebox) -> None:
    assert audit_is_clean(service)
