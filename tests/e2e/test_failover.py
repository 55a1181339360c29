"""What one upstream does wrong before the first content, another one mends: one hold, one receipt, one bill."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from farebox.relay.call import Limits
from farebox.relay.channels import Channel
from farebox.settings import Settings
from farebox.vendors import VENDORS
from tests.fakes.process import http
from tests.fakes.service import ADMIN_TOKEN, Funded, RunningFarebox
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
    sse_answer,
    sse_head,
)

SECRET = "sk-upstream-secret-in-an-error at host-17.internal"
BODY = {"model": "gpt-4o", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
PRICE_IN_NANO, PRICE_OUT_NANO = 17_500, 70_000
COST_NANO = 10 * PRICE_IN_NANO + 5 * PRICE_OUT_NANO
LIMITS = Limits(ping_s=0.15, silence_s=3)


@pytest.fixture(scope="module")
def first() -> Iterator[ScriptedUpstream]:
    upstream = ScriptedUpstream().start()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="module")
def _service(
    first: ScriptedUpstream, _upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningFarebox]:
    def channel(name: str, url: str, priority: int, models: tuple[str, ...], keys: tuple[str, ...]) -> Channel:
        return Channel(
            name=name,
            vendor=VENDORS["openai"],
            base_url=url,
            keys=keys,
            models=models,
            priority=priority,
            first_content_s=1,
        )

    channels = (
        channel("first", first.url, 1, ("gpt-4o",), ("sk-a",)),
        channel("second", _upstream.url, 0, ("gpt-4o",), ("sk-b",)),
        channel("closed", "http://127.0.0.1:9/v1", 1, ("gpt-4o-mini",), ("sk-c",)),
        channel("open", _upstream.url, 0, ("gpt-4o-mini",), ("sk-d",)),
        channel("keys", _upstream.url, 0, ("gpt-4.1",), ("sk-1", "sk-2", "sk-3")),
        channel("alone", _upstream.url, 0, ("gpt-4.1-mini",), ("sk-e",)),
    )
    settings = Settings(admin_token=ADMIN_TOKEN, trusted_proxies=("127.0.0.1",))
    service = RunningFarebox(
        tmp_path_factory.mktemp("failover"), _upstream.url, settings, limits=LIMITS, channels=channels
    ).start()
    yield service
    service.stop()


@pytest.fixture
def service(_service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream) -> RunningFarebox:
    """Two upstreams behind it; `first` is asked first. What rested in an earlier test is awake again."""
    first.reset()
    _service.services.channels._rests_until_ms.clear()
    return _service


def ask(service: RunningFarebox, key: Funded, **more: Any) -> httpx.Response:
    return http.post(
        f"{service.base_url}/chat/completions",
        json={**BODY, **more},
        headers={"authorization": f"Bearer {key.text}"},
    )


def attempts(receipt: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["channel"], each["result"]) for each in receipt["attempts"]]


def billed_once(service: RunningFarebox, key: Funded, cost_nano: int = COST_NANO) -> dict[str, Any]:
    """The one receipt of the key's account, which its wallet agrees with."""
    account = service.account(key.account)
    (receipt,) = service.receipts(key.account)
    assert receipt["cost_nano"] == cost_nano
    assert (account.spent_nano, account.held_nano, dict(account.holds)) == (cost_nano, 0, {})
    return receipt


def error(status: int, **headers: str) -> list[Step]:
    return json_answer({"error": {"message": SECRET, "type": "x", "param": None, "code": None}}, status, **headers)


STATUS_WORDS = {
    401: "status_401",
    402: "status_402",
    403: "status_403",
    404: "status_404",
    408: "status_408",
    409: "status_409",
    429: "status_429",
    500: "status_5xx",
    502: "status_5xx",
    503: "status_503",
    504: "status_504",
    529: "status_529",
    302: "status_other",
}
SETBACKS: dict[str, tuple[list[Step], str]] = {
    **{f"status {status}": (error(status), word) for status, word in STATUS_WORDS.items()},
    "a redirect": ([Send(head(307, location="http://127.0.0.1:9/elsewhere") + b"")], "status_other"),
    "200 with an error in it": (json_answer({"error": {"message": SECRET, "code": 500}}), "error_answer"),
    "200 with a page": ([Send(head(200, "text/html") + b"<html>" + SECRET.encode() + b"</html>")], "error_answer"),
    "a reset at once": ([Reset()], "unreachable"),
    "a reset after the head": ([Send(head(200)), Reset()], "cut"),
    "half a body": ([Send(head(200, content_length="500") + b'{"choices":')], "cut"),
    "a stall": ([Send(head(200)), Sleep(2.5)], "stalled"),
    "silence": ([WaitForLeave()], "stalled"),
    "nothing in it": (json_answer({**chat_completion("", completion=0)}), "empty"),
}
STREAM_SETBACKS: dict[str, tuple[list[Step], str]] = {
    **{f"status {status}": (error(status), word) for status, word in STATUS_WORDS.items()},
    "an error event": (sse_answer([b'data: {"error":{"message":"' + SECRET.encode() + b'"}}\n\n']), "error_answer"),
    "a role, then an error event": (
        sse_answer([chunk(""), b'data: {"error":{"message":"' + SECRET.encode() + b'"}}\n\n']),
        "error_answer",
    ),
    "json instead of events": (json_answer(chat_completion()), "cut"),
    "nothing at all": ([Send(sse_head())], "cut"),
    "an end without content": (sse_answer([chunk(finish="stop"), DONE]), "empty"),
    "a role, then the end of the connection": (sse_answer([chunk("")]), "cut"),
    "a reset before content": ([Send(sse_head() + chunk("")), Reset()], "cut"),
    "comments, and then nothing": ([Send(sse_head() + b": wait\n\n"), WaitForLeave()], "stalled"),
    "comments without end": ([Send(sse_head()), *([Send(b": wait\n\n"), Sleep(0.2)] * 15)], "stalled"),
    "a reset at once": ([Reset()], "unreachable"),
}


@pytest.mark.parametrize("case", SETBACKS, ids=str)
def test_a_plain_answer_comes_from_the_next_upstream(
    service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream, case: str
) -> None:
    first.script, word = SETBACKS[case]
    key = service.new_key(credit="1")
    answer = ask(service, key)
    receipt = billed_once(service, key)

    assert (answer.status_code, answer.json()) == (200, chat_completion())
    assert attempts(receipt) == [("first", word), ("second", "answered")]
    assert (receipt["outcome"], receipt["channel"]) == ("completed", "second")
    assert (len(first.requests), len(upstream.requests)) == (1, 1)
    assert upstream.requests[0].headers["authorization"] == "Bearer sk-b"


@pytest.mark.parametrize("case", STREAM_SETBACKS, ids=str)
def test_a_stream_comes_from_the_next_upstream(
    service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream, case: str
) -> None:
    first.script, word = STREAM_SETBACKS[case]
    events = chat_stream("hel", "lo", prompt=10, completion=5)
    upstream.script = sse_answer(events)
    key = service.new_key(credit="1")
    answer = ask(service, key, stream=True)
    receipt = billed_once(service, key)

    assert answer.status_code == 200
    assert answer.content.replace(b": keep-alive\n\n", b"") == b"".join([*events[:-2], DONE])
    assert attempts(receipt) == [("first", word), ("second", "answered")]
    assert SECRET.encode() not in answer.content
    assert "host-17" not in json.dumps(receipt)


@pytest.mark.parametrize("last", [Reset(), Send(b'data: {"error":{"message":"' + SECRET.encode() + b'"}}\n\n')])
def test_after_the_first_content_nobody_else_answers(
    service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream, last: Step
) -> None:
    first.script = [Send(sse_head() + chunk("hello")), Sleep(0.1), last]
    key = service.new_key(credit="1")
    answer = ask(service, key, stream=True)
    account = service.account(key.account)
    (receipt,) = service.receipts(key.account)

    assert answer.status_code == 200
    assert b"hello" in answer.content
    assert b'"code":"upstream_error"' in answer.content.rpartition(b"data: ")[2]
    assert SECRET.encode() not in answer.content
    assert (receipt["outcome"], len(receipt["attempts"]), upstream.requests) == ("upstream_cut", 1, [])
    assert account.spent_nano == receipt["cost_nano"] > 0


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_is_wrong_bothers_nobody_else(
    service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream, status: int, stream: bool
) -> None:
    first.script = error(status)
    key = service.new_key(credit="1")
    answer = ask(service, key, stream=stream)
    receipt = billed_once(service, key, 0)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert (attempts(receipt), receipt["outcome"]) == ([("first", "refused")], "refused")
    assert (upstream.requests, SECRET in answer.text) == ([], False)


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_cannot_be_reached_is_passed_by_and_then_left_alone(
    service: RunningFarebox, upstream: ScriptedUpstream, stream: bool
) -> None:
    upstream.script = sse_answer(chat_stream("hello", completion=5)) if stream else json_answer(chat_completion())
    key = service.new_key(credit="1")
    answers = [ask(service, key, model="gpt-4o-mini", stream=stream).status_code for _ in range(3)]
    seen = [attempts(receipt) for receipt in service.receipts(key.account)]

    assert answers == [200, 200, 200]
    assert sorted(seen, key=len) == [[("open", "answered")]] * 2 + [[("closed", "unreachable"), ("open", "answered")]]


@pytest.mark.parametrize("stream", [False, True])
def test_when_all_fail_the_caller_hears_the_last_failure_and_pays_nothing(
    service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream, stream: bool
) -> None:
    first.script, upstream.script = error(500), error(529, retry_after="7")
    key = service.new_key(credit="1")
    answer = ask(service, key, stream=stream)
    receipt = billed_once(service, key, 0)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_unavailable")
    assert answer.headers["retry-after"] == "7"
    assert attempts(receipt) == [("first", "status_5xx"), ("second", "status_529")]
    assert (receipt["outcome"], SECRET in answer.text) == ("failed", False)


def test_a_channel_alone_is_tried_twice_where_the_weakness_may_pass(
    service: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    answers = iter([error(500), json_answer(chat_completion())])
    upstream.on_request = lambda _: next(answers)
    key = service.new_key(credit="1")
    answer = ask(service, key, model="gpt-4.1-mini")
    (receipt,) = service.receipts(key.account)

    assert answer.status_code == 200
    assert attempts(receipt) == [("alone", "status_5xx"), ("alone", "answered")]


@pytest.mark.parametrize("status", [401, 404])
def test_a_channel_alone_is_not_asked_again_for_what_it_will_not_have(
    service: RunningFarebox, upstream: ScriptedUpstream, status: int
) -> None:
    upstream.script = error(status)
    key = service.new_key(credit="1")

    assert ask(service, key, model="gpt-4.1-mini").status_code == 502
    assert len(upstream.requests) == 1


BLAMES = {
    "google": (400, {"error": {"code": 400, "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}}),
    "anthropic": (400, {"type": "error", "error": {"message": "Your credit balance is too low to access the API."}}),
    "xai": (400, {"code": "invalid argument", "error": "Incorrect API key provided: xa***1."}),
}


@pytest.mark.parametrize("vendor", BLAMES)
def test_a_400_that_means_our_key_is_not_the_callers_fault(
    service: RunningFarebox, upstream: ScriptedUpstream, first: ScriptedUpstream, vendor: str
) -> None:
    status, body = BLAMES[vendor]
    first.script = json_answer(body, status)
    routes = service.services.channels
    was = routes.all
    routes.all = tuple(
        replace(each, vendor=replace(VENDORS["openai"], key_refusals=VENDORS[vendor].key_refusals)) for each in was
    )
    key = service.new_key(credit="1")
    try:
        answer = ask(service, key)
    finally:
        routes.all = was

    assert answer.status_code == 200
    assert attempts(billed_once(service, key)) == [("first", "bad_key"), ("second", "answered")]


def test_a_refusal_that_breaks_off_is_a_refusal(
    service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream
) -> None:
    first.script = [Send(head(400, content_length="500") + b'{"error":'), Reset()]
    key = service.new_key(credit="1")

    assert (ask(service, key).status_code, upstream.requests) == (400, [])
    assert billed_once(service, key, 0)["outcome"] == "refused"


def test_a_key_that_is_told_to_wait_rests_and_the_next_one_answers(
    service: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    def by_key(request: Any) -> list[Step]:
        limited = request.headers["authorization"] == "Bearer sk-1"
        return error(429, retry_after="30") if limited else json_answer(chat_completion())

    upstream.on_request = by_key
    key = service.new_key(credit="1")
    answers = [ask(service, key, model="gpt-4.1").status_code for _ in range(7)]
    used = [request.headers["authorization"].removeprefix("Bearer ") for request in upstream.requests]

    assert answers == [200] * 7
    assert used.count("sk-1") == 1
    assert min(used.count("sk-2"), used.count("sk-3")) >= 2


def test_keys_that_all_rest_are_used_all_the_same(service: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = error(429, retry_after="30")
    key = service.new_key(credit="1")
    first_try = ask(service, key, model="gpt-4.1")
    asked = len(upstream.requests)
    upstream.script = json_answer(chat_completion())

    assert (first_try.status_code, first_try.headers["retry-after"], asked) == (503, "30", 3)
    assert ask(service, key, model="gpt-4.1").status_code == 200


def test_a_long_thinker_gets_signs_of_life_and_its_answer_stays_whole(
    service: RunningFarebox, first: ScriptedUpstream
) -> None:
    events = chat_stream("hello", completion=5)
    first.script = [Sleep(0.6), *sse_answer(events)]
    key = service.new_key(credit="1")
    answer = ask(service, key, stream=True)

    assert answer.content.startswith(b": keep-alive\n\n: keep-alive\n\n")
    assert answer.content.replace(b": keep-alive\n\n", b"") == b"".join([*events[:-2], DONE])
    assert answer.headers["content-type"].startswith("text/event-stream")
    billed_once(service, key)


def test_after_a_sign_of_life_another_upstream_may_still_answer(
    service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream
) -> None:
    first.script = [Sleep(0.5), *error(500)]
    upstream.script = sse_answer(chat_stream("hello", completion=5))
    key = service.new_key(credit="1")
    answer = ask(service, key, stream=True)

    assert answer.content.startswith(b": keep-alive\n\n")
    assert b"hello" in answer.content
    assert attempts(billed_once(service, key)) == [("first", "status_5xx"), ("second", "answered")]


def test_after_a_sign_of_life_a_failure_is_told_in_the_stream_and_costs_nothing(
    service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream
) -> None:
    first.script, upstream.script = [Sleep(0.5), *error(500)], error(503)
    key = service.new_key(kind="free")
    answer = ask(service, key, stream=True)
    receipt = billed_once(service, key, 0)

    assert (answer.status_code, receipt["outcome"]) == (200, "failed")
    assert json.loads(answer.content.rpartition(b"data: ")[2])["error"]["code"] == "upstream_unavailable"
    assert b"[DONE]" not in answer.content


def test_an_answer_without_content_is_given_as_it_came_when_nobody_has_a_better_one(
    service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream
) -> None:
    empty = [chunk(""), chunk(finish="stop"), DONE]
    first.script = upstream.script = sse_answer(empty)
    key = service.new_key(credit="1")
    answer = ask(service, key, stream=True)
    receipt = billed_once(service, key, 0)

    assert (answer.status_code, answer.content) == (200, b"".join(empty))
    assert (receipt["outcome"], attempts(receipt)) == ("completed", [("first", "empty"), ("second", "empty")])


def test_who_has_left_before_content_is_not_served_again(
    service: RunningFarebox, first: ScriptedUpstream, upstream: ScriptedUpstream
) -> None:
    first.script = [Sleep(0.6), *error(500)]
    key = service.new_key(credit="1")
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{service.base_url}/chat/completions",
            json={**BODY, "stream": False},
            headers={"authorization": f"Bearer {key.text}"},
            timeout=0.2,
        )
    end = time.monotonic() + 5
    while not service.receipts(key.account) and time.monotonic() < end:
        time.sleep(0.05)
    receipt = billed_once(service, key, 0)

    assert (attempts(receipt), upstream.requests) == ([("first", "status_5xx")], [])
