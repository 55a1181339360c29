"""Streams that go well, that break, and that nobody hears to the end: what the caller sees and what it costs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.caller import CHAT_PATH, INPUT_NANO, OUTPUT_NANO, STREAM, RawCaller, ask, headers_of, problem
from tests.fakes.process import wait_until
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import (
    DONE,
    Reset,
    ScriptedUpstream,
    Send,
    Sleep,
    Step,
    WaitFor,
    chat_stream,
    chunk,
    json_answer,
    sse_answer,
    sse_head,
    usage_chunk,
)

CREDIT_NANO = 100 * 10**9
ASKS = {**STREAM, "stream_options": {"include_usage": True}}
ERROR = b'data: {"error":'
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@pytest.fixture
def key(farebox: RunningFarebox) -> Funded:
    return farebox.new_key()


def only_receipt(farebox: RunningFarebox, key: Funded) -> dict[str, Any]:
    """The one receipt of an account, which explains its wallet to the nano; nothing is held any more."""
    (receipt,) = farebox.receipts(key.account)
    account = farebox.account(key.account)
    assert account.held_nano == 0
    assert account.holds == {}
    assert account.spent_nano == receipt["cost_nano"]
    assert account.avail_nano == account.credited_nano - receipt["cost_nano"]
    return receipt


def sources(receipt: dict[str, Any]) -> set[str]:
    return {figure["source"] for figure in receipt["usage"].values()}


def units(receipt: dict[str, Any]) -> dict[str, int]:
    return {name: figure["count"] for name, figure in receipt["usage"].items()}


def last_event(body: bytes) -> dict[str, Any]:
    """The error event that ends a broken stream."""
    frames = body.split(b"\n\n")
    assert frames[-1] == b""
    assert frames[-2].startswith(ERROR), body
    error: dict[str, Any] = json.loads(frames[-2].removeprefix(b"data: "))["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    return error


# ── each event leaves as it comes ───────────────────────────────────────────────────────────────────────────────────


def test_each_event_leaves_before_the_next_has_come(
    farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    first, *others = chat_stream(*WORDS)
    events = [first, b": waiting\n\n", *others]
    gates = [WaitFor() for _ in events]
    upstream.script = [Send(sse_head())]
    for event, gate in zip(events, gates, strict=True):
        upstream.script += [Send(event), gate]
    try:
        with httpx.stream("POST", farebox.url + CHAT_PATH, json=ASKS, headers=headers_of(key), timeout=20) as answer:
            pieces, got = answer.iter_raw(), b""
            for number, gate in enumerate(gates):
                expected = b"".join(events[: number + 1])
                while len(got) < len(expected):
                    got += next(pieces)
                assert got == expected  # the upstream sends no more before it is told that this has arrived
                gate.event.set()
            assert b"".join(pieces) == b""
    finally:
        for gate in gates:
            gate.event.set()
    assert only_receipt(farebox, key)["outcome"] == "completed"


def test_half_an_event_waits_for_its_other_half(
    farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    gate = WaitFor()
    whole, half = chunk("first"), chunk("second")
    upstream.script = [Send(sse_head() + whole + half[:40]), gate, Send(half[40:] + chunk(finish="stop") + DONE)]
    with httpx.stream("POST", farebox.url + CHAT_PATH, json=STREAM, headers=headers_of(key), timeout=20) as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == whole
        gate.event.set()
        assert b"".join(pieces) == half + chunk(finish="stop") + DONE


def test_a_stream_says_that_nobody_may_hold_it_back(
    farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    upstream.script = sse_answer(
        chat_stream("x"),
    )
    answer = ask(farebox, key, STREAM)

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "no-transform" in answer.headers["cache-control"]
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-request-id"] == farebox.receipts(key.account)[0]["request_id"]
    assert "x-farebox-cost" not in answer.headers


# ── what is billed ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_is_billed_by_the_upstreams_usage(
    farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    upstream.script = sse_answer(chat_stream("a", "b", prompt=12, completion=34))
    ask(farebox, key, STREAM)
    receipt = only_receipt(farebox, key)

    assert receipt["cost_nano"] == 12 * INPUT_NANO + 34 * OUTPUT_NANO
    assert (receipt["outcome"], receipt["stream"], sources(receipt)) == ("completed", True, {"upstream"})


@pytest.mark.parametrize(
    "end",
    [
        [chunk(finish="stop"), DONE],
        [chunk(finish="stop", usage=None), DONE],
        [chunk(finish="stop"), usage_chunk(-1, 5), DONE],
        [chunk(finish="stop"), usage_chunk(10, 0), DONE],
        [chunk(finish="stop"), usage_chunk(10, 101), DONE],
        [chunk(finish="stop"), usage_chunk(10**9, 5), DONE],
        [chunk(finish="stop"), usage_chunk(10, 5).replace(b"10", b"1e308"), DONE],
        [chunk(finish="stop"), usage_chunk(10, 5).replace(b'"prompt_tokens":10', b'"prompt_tokens":"10"'), DONE],
        [chunk(finish="stop"), usage_chunk(10, 5).replace(b'"prompt_tokens":10', b'"prompt_tokens":NaN'), DONE],
        [chunk(finish="stop"), usage_chunk(10, 5).replace(b'"prompt_tokens":10', b'"prompt_tokens":10.0'), DONE],
    ],
    ids=[
        "none",
        "null",
        "negative",
        "nought",
        "beyond max_tokens",
        "beyond context",
        "1e308",
        "string",
        "NaN",
        "float",
    ],
)
def test_without_a_believable_usage_our_own_count_is_billed(
    end: list[bytes], farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    upstream.script = sse_answer([*(chunk(f" {word}") for word in WORDS), *end])
    assert ask(farebox, key, STREAM).content.endswith(DONE)
    receipt = only_receipt(farebox, key)

    assert sources(receipt) == {"counted"}
    assert units(receipt) == {"input_token": 8, "output_token": len(WORDS)}  # 3 + role + "hi" + 3 of priming
    assert receipt["cost_nano"] == 8 * INPUT_NANO + len(WORDS) * OUTPUT_NANO


def test_of_two_usages_the_last_counts(farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded) -> None:
    first = chunk(finish="stop", usage={"prompt_tokens": 1, "completion_tokens": 1})
    upstream.script = sse_answer([chunk("a"), first, usage_chunk(10, 2), DONE])
    ask(farebox, key, STREAM)

    assert units(only_receipt(farebox, key)) == {"input_token": 10, "output_token": 2}


@pytest.mark.parametrize(
    "event",
    [
        chunk().replace(b'"delta":{}', b'"delta":{"content":[{"type":"text","text":" one"}]}'),
        chunk().replace(b'"delta":{}', b'"delta":{"content":" one","tool_calls":{"odd":1}}'),
        chunk(" one").replace(b'"index":0', b'"index":0,"finish_reason":7').replace(b',"finish_reason":null', b""),
    ],
)
def test_content_of_an_odd_shape_is_passed_on_and_counted_by_its_text(
    event: bytes, farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    upstream.script = sse_answer([event, chunk(finish="stop"), DONE])

    assert ask(farebox, key, STREAM).content == event + chunk(finish="stop") + DONE
    assert units(only_receipt(farebox, key))["output_token"] == 1


def test_an_emoji_in_two_halves_is_passed_on_and_counted_once(
    farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    halves = [chunk("@").replace(b"@", half) for half in (b"\\ud83c", b"\\udf0d")]
    upstream.script = sse_answer([*halves, chunk(finish="stop"), DONE])

    assert ask(farebox, key, STREAM).content == b"".join([*halves, chunk(finish="stop"), DONE])
    assert 1 <= units(only_receipt(farebox, key))["output_token"] <= 2


# ── broken streams ──────────────────────────────────────────────────────────────────────────────────────────────────


def breaks() -> Iterator[Any]:
    content = [Send(sse_head())] + [Send(chunk(f" {word}")) for word in WORDS]
    yield pytest.param([*content, Sleep(0.1), Reset()], id="reset")
    yield pytest.param(content, id="closed without an end")
    yield pytest.param([*content, Send(chunk(" half")[:50])], id="closed within an event")
    yield pytest.param([*content, Send(b": still here\n\n")], id="closed after a comment")
    yield pytest.param(
        [*content, Sleep(0.1), Send(b'data: {"error":{"message":"SECRET","code":500}}\n\n'), Send(DONE)],
        id="error event",
    )
    yield pytest.param(
        [*content, Sleep(0.1), Send(b'event: error\ndata: {"error":"SECRET"}\n\n')], id="named error event"
    )
    short = [Send(sse_head(content_length="100000")), *content[1:]]
    yield pytest.param(short, id="shorter than announced")
    chunked = [Send(b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")]
    chunked += [Send(b"%x\r\n%s\r\n" % (len(step.data), step.data)) for step in content[1:]]  # type: ignore[union-attr]
    yield pytest.param(chunked, id="chunks without an end")
    yield pytest.param([*chunked, Sleep(0.1), Send(b"zz\r\n")], id="a chunk that is none")
    yield pytest.param([*chunked, Sleep(0.1), Send(b"5\r\nabcdefghijk\r\n")], id="a chunk that is too long")


@pytest.mark.parametrize("script", list(breaks()))
def test_a_stream_that_breaks_after_content_ends_with_an_error_and_costs_what_came(
    script: list[Step], farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    upstream.script = script
    answer = ask(farebox, key, STREAM)
    receipt = only_receipt(farebox, key)

    assert answer.status_code == 200
    assert answer.content.startswith(b"".join(chunk(f" {word}") for word in WORDS))
    assert last_event(answer.content)["code"] == "upstream_error"
    assert b"[DONE]" not in answer.content
    assert b"SECRET" not in answer.content
    assert receipt["outcome"] == "upstream_cut"
    assert sources(receipt) == {"counted"}
    assert units(receipt)["output_token"] in (len(WORDS), len(WORDS) + 1)
    assert (
        receipt["cost_nano"]
        == units(receipt)["input_token"] * INPUT_NANO + units(receipt)["output_token"] * OUTPUT_NANO
    )


def test_a_stream_that_breaks_after_its_finish_reason_is_complete(
    farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    upstream.script = [Send(sse_head() + chunk("x") + chunk(finish="stop")), Sleep(0.1), Reset()]
    answer = ask(farebox, key, STREAM)

    assert ERROR not in answer.content
    assert only_receipt(farebox, key)["outcome"] == "completed"


def test_a_missing_done_is_no_fault_where_a_finish_reason_came(
    farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    events = chat_stream("a", "b")[:-1]
    upstream.script = sse_answer(events)
    answer = ask(farebox, key, ASKS)

    assert answer.content == b"".join(events)
    assert only_receipt(farebox, key)["outcome"] == "completed"


@pytest.mark.parametrize("missing", [b"\n", b"\n\n"])
@pytest.mark.parametrize("events", [[chunk("a"), chunk(finish="stop"), DONE], [chunk("a"), chunk(finish="stop")]])
def test_a_last_event_without_its_blank_line_gets_one(
    events: list[bytes], missing: bytes, farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    upstream.script = [Send(sse_head() + b"".join(events).removesuffix(missing))]

    assert ask(farebox, key, STREAM).content == b"".join(events)
    assert only_receipt(farebox, key)["outcome"] == "completed"


def test_what_follows_done_is_nobodys_business(
    farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    events = chat_stream("a")
    upstream.script = sse_answer([*events, chunk("more"), b'data: {"error":{}}\n\n', DONE])

    assert ask(farebox, key, ASKS).content == b"".join(events)
    assert only_receipt(farebox, key)["outcome"] == "completed"


def test_an_upstream_that_stays_after_done_holds_nobody(
    farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    stays = WaitFor()
    upstream.script = [*sse_answer(chat_stream("a")), stays]
    try:
        assert ask(farebox, key, STREAM).content.endswith(DONE)
    finally:
        stays.event.set()


def test_lone_carriage_returns_end_lines_too(farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded) -> None:
    events = [event.replace(b"\n", b"\r") for event in chat_stream("a", "b")]
    upstream.script = sse_answer(events)
    answer = ask(farebox, key, ASKS)

    assert answer.content.rstrip() == b"".join(events).rstrip()
    assert only_receipt(farebox, key)["outcome"] == "completed"


def test_events_that_break_clients_are_left_out_and_comments_are_not(
    farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    good = [b": comment\n\n", *chat_stream("a")]
    bad = [b"retry: 3000\n\n", b"id: 7\n\n", b"data:\n\n", b"event: ping\n\n", b"\n\n"]
    upstream.script = sse_answer([each for pair in zip(good, bad, strict=True) for each in pair])

    assert ask(farebox, key, ASKS).content == b"".join(good)


# ── failures before content ─────────────────────────────────────────────────────────────────────────────────────────

SECRET = "SECRET-of-the-upstream"
FRUITLESS: dict[str, list[Step]] = {
    "error body": json_answer({"error": {"message": SECRET, "type": "server_error", "code": SECRET}}),
    "error body as a stream": [Send(sse_head() + json.dumps({"error": {"message": SECRET}}).encode())],
    "first event an error": sse_answer([b'data: {"error":{"message":"%s"}}\n\n' % SECRET.encode(), DONE]),
    "error after a role": sse_answer([chunk(""), b'data: {"error":{"message":"%s"}}\n\n' % SECRET.encode()]),
    "nothing": [Send(sse_head())],
    "only comments": [Send(sse_head() + b": wait\n\n: wait\n\n")],
    "only a role": [Send(sse_head() + chunk(""))],
    "JSON instead of a stream": json_answer({"choices": [{"message": {"content": SECRET}, "finish_reason": "stop"}]}),
    "HTML": [Send(b"HTTP/1.1 200 X\r\ncontent-type: text/html\r\n\r\n<html>%s</html>" % SECRET.encode())],
    "reset after the head": [Send(sse_head()), Sleep(0.1), Reset()],
    "no JSON": sse_answer([b"data: oops\n\n"]),
    "half an event": [Send(sse_head() + chunk("x")[:40])],
}


@pytest.mark.parametrize("case", FRUITLESS)
def test_a_stream_that_brings_nothing_is_an_error_and_costs_nothing(
    case: str, farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    upstream.script = FRUITLESS[case]
    answer = ask(farebox, key, STREAM)
    receipt = only_receipt(farebox, key)

    if answer.status_code == 200:  # something harmless had left already: then an error event ends it
        assert last_event(answer.content)["code"] == "upstream_error"
    else:
        assert answer.status_code == 502
        assert problem(answer)["code"] == "upstream_error"
    assert SECRET not in answer.text
    assert b"[DONE]" not in answer.content
    assert (receipt["cost_nano"], receipt["outcome"], receipt["usage"]) == (0, "failed", {})


@pytest.mark.parametrize("case", ["error body", "first event an error", "nothing"])
def test_where_nothing_has_left_the_status_says_it(
    case: str, farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    upstream.script = FRUITLESS[case]

    assert ask(farebox, key, STREAM).status_code == 502


@pytest.mark.parametrize("case", FRUITLESS)
def test_a_free_unit_comes_back_where_nothing_came(
    case: str, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    key, asked = farebox.new_key("free", credit="0"), {**STREAM, "model": "gpt-4o"}
    headers = headers_of(key)
    for _ in range(3):
        upstream.script = FRUITLESS[case]
        ask(farebox, key, asked, **headers)
        farebox.account(key.account)  # waits for the settlement
    upstream.script = sse_answer(chat_stream("x"))
    answer = ask(farebox, key, asked, **headers)

    assert answer.headers["x-ratelimit-remaining-requests"] == "4"


def test_a_free_unit_is_kept_where_content_came(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key, asked = farebox.new_key("free", credit="0"), {**STREAM, "model": "gpt-4o"}
    headers = headers_of(key)
    upstream.script = [Send(sse_head() + chunk("x"))]
    ask(farebox, key, asked, **headers)
    upstream.script = sse_answer(chat_stream("x"))

    assert ask(farebox, key, asked, **headers).headers["x-ratelimit-remaining-requests"] == "3"
    assert [receipt["outcome"] for receipt in farebox.receipts(key.account)] == ["upstream_cut", "completed"]


def test_an_answer_that_is_complete_but_empty_costs_nothing(
    farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    events = [chunk(""), chunk(finish="stop"), usage_chunk(10, 0), DONE]
    upstream.script = sse_answer(events)

    assert ask(farebox, key, ASKS).content == b"".join(events)
    assert only_receipt(farebox, key)["cost_nano"] == 0


# ── a caller who leaves ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("heard", [0, 1, 3])
def test_when_the_caller_leaves_the_upstream_is_heard_out_and_billed(
    how: str, heard: int, farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    gate = WaitFor()
    events = chat_stream(*WORDS, prompt=10, completion=50)
    upstream.script = [Send(sse_head()), *(Send(event) for event in events[:heard]), gate]
    upstream.script += [step for event in events[heard:] for step in (Send(event), Sleep(0.01))]
    with RawCaller(farebox) as caller:
        caller.post(key, STREAM)
        if heard:
            caller.read_until(WORDS[heard - 1].encode())
        else:
            wait_until(lambda: len(upstream.requests) == 1)
        if how == "reset":
            caller.reset()
    gate.event.set()
    wait_until(lambda: upstream.sent_all == 1)
    wait_until(lambda: len(farebox.receipts(key.account)) == 1)
    receipt = only_receipt(farebox, key)

    assert upstream.writes_failed == 0
    assert receipt["outcome"] == "client_gone"
    assert sources(receipt) == {"upstream"}
    assert receipt["cost_nano"] == 10 * INPUT_NANO + 50 * OUTPUT_NANO


def test_when_both_leave_what_came_is_billed_once(
    farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    gate = WaitFor()
    upstream.script = [Send(sse_head() + chunk(" one")), gate, Send(chunk(" two")), Sleep(0.1), Reset()]
    with RawCaller(farebox) as caller:
        caller.post(key, STREAM)
        caller.read_until(b"one")
    gate.event.set()
    wait_until(lambda: len(farebox.receipts(key.account)) == 1)
    receipt = only_receipt(farebox, key)

    assert receipt["outcome"] == "upstream_cut"
    assert units(receipt)["output_token"] == 2


@pytest.mark.parametrize("how", ["close", "reset"])
def test_leaving_right_after_done_is_no_leaving(
    how: str, farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    upstream.script = sse_answer(chat_stream("a", "b"))
    with RawCaller(farebox) as caller:
        caller.post(key, STREAM)
        caller.read_until(DONE)
        if how == "reset":
            caller.reset()
    wait_until(lambda: len(farebox.receipts(key.account)) == 1)

    assert only_receipt(farebox, key)["outcome"] == "completed"


def test_leaving_a_plain_request_is_leaving_too(
    farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    gate = WaitFor()
    upstream.script = [gate, *upstream.script]
    plain = {name: value for name, value in STREAM.items() if name != "stream"}
    with RawCaller(farebox) as caller:
        caller.post(key, plain)
        wait_until(lambda: len(upstream.requests) == 1)
    gate.event.set()
    wait_until(lambda: len(farebox.receipts(key.account)) == 1)
    receipt = only_receipt(farebox, key)

    assert (receipt["outcome"], receipt["cost_nano"]) == ("client_gone", 10 * INPUT_NANO + 5 * OUTPUT_NANO)


def test_a_caller_who_reads_slowly_holds_back_the_upstream(
    farebox: RunningFarebox, upstream: ScriptedUpstream, key: Funded
) -> None:
    upstream.script = sse_answer([chunk("xxx"), *[b":" + b"-" * 1_000_000 + b"\n\n"] * 60, chunk(finish="stop"), DONE])
    with RawCaller(farebox) as caller:
        caller.post(key, {**STREAM, "max_tokens": 16_000})
        caller.read_until(b"xxx")
        time.sleep(1.5)
        assert upstream.sent_all == 0  # 60 MB do not fit into what lies between: it waits for the reader
        assert caller.skip_until(b"[DONE]") > 59_000_000
    wait_until(lambda: len(farebox.receipts(key.account)) == 1, within_s=60)
    assert only_receipt(farebox, key)["outcome"] == "completed"
