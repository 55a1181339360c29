"""Idempotency-Key: the same key and body never runs twice while it runs, nor for a day after."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from farebox.domain.idempotency import LIFE_MS
from tests.fakes.caller import CHAT, STREAM, ask, headers_of, problem
from tests.fakes.process import http, wait_until
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import (
    ScriptedUpstream,
    Send,
    WaitFor,
    WaitForLeave,
    chat_completion,
    chat_stream,
    json_answer,
    sse_answer,
    sse_head,
)

COST_NANO = 10 * 1050 + 5 * 4200
KINDS = pytest.mark.parametrize("kind", ["paid", "free"])


def post(farebox: RunningFarebox, key: Funded, name: str = "order-1", body: Any = CHAT) -> httpx.Response:
    return ask(farebox, key, body, **{"idempotency-key": name})


def refused(answer: httpx.Response, code: str) -> dict[str, Any]:
    assert answer.status_code == 422
    error = problem(answer)
    assert error["code"] == code
    return error


@KINDS
def test_what_has_run_does_not_run_again(farebox: RunningFarebox, upstream: ScriptedUpstream, kind: str) -> None:
    key = farebox.new_key(kind)
    first = post(farebox, key)
    assert first.status_code == 200
    cost = "0.0000315" if kind == "paid" else "0"
    for _ in range(3):
        error = refused(post(farebox, key), "already_completed")
        assert error["request_id"] == first.headers["x-request-id"]
        assert error["outcome"] == "completed"
        assert error["cost"] == first.headers["x-farebox-cost"] == cost
        assert error["usage"]["output_token"] == {"count": 5, "source": "upstream"}
        assert "hello" not in json.dumps(error)
    assert len(upstream.requests) == 1
    assert len(farebox.receipts(key.account)) == 1
    account = farebox.account(key.account)
    assert (account.spent_nano, account.held_nano) == (COST_NANO if kind == "paid" else 0, 0)


def test_a_repeat_takes_no_free_unit(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key("free")
    assert post(farebox, key).headers["x-ratelimit-remaining-requests"] == "199"
    refused(post(farebox, key), "already_completed")
    assert ask(farebox, key).headers["x-ratelimit-remaining-requests"] == "198"


@KINDS
def test_streams_too(farebox: RunningFarebox, upstream: ScriptedUpstream, kind: str) -> None:
    upstream.script = sse_answer(chat_stream("he", "llo"))
    key = farebox.new_key(kind)
    assert post(farebox, key, body=STREAM).content.endswith(b"data: [DONE]\n\n")
    error = refused(post(farebox, key, body=STREAM), "already_completed")
    assert error["usage"]["output_token"]["count"] == 2
    refused(post(farebox, key, body=CHAT), "idempotency_mismatch")
    assert len(upstream.requests) == 1


@KINDS
def test_of_fifty_at_once_one_runs(farebox: RunningFarebox, upstream: ScriptedUpstream, kind: str) -> None:
    gate = WaitFor()
    upstream.script = [gate, *json_answer(chat_completion())]
    key = farebox.new_key(kind)

    with ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(post, farebox, key) for _ in range(50)]
        wait_until(lambda: sum(each.done() for each in asked) == 49, within_s=30)
        others = [each.result() for each in asked if each.done()]
        gate.event.set()
    statuses = Counter(each.result().status_code for each in asked)

    assert statuses == {200: 1, 422: 49}
    assert {refused(answer, "already_running")["code"] for answer in others} == {"already_running"}
    assert len(upstream.requests) == 1
    assert len(farebox.receipts(key.account)) == 1
    account = farebox.account(key.account)
    assert account.holds == {}
    assert account.spent_nano == (COST_NANO if kind == "paid" else 0)


@pytest.mark.parametrize(
    "other",
    [
        {**CHAT, "max_tokens": 99},
        {**CHAT, "model": "gpt-4o"},
        {**CHAT, "messages": [{"role": "user", "content": "ho"}]},
        json.dumps(CHAT, indent=1).encode(),
    ],
    ids=["limit", "model", "message", "the same JSON in other bytes"],
)
def test_another_body_is_a_mistake(farebox: RunningFarebox, upstream: ScriptedUpstream, other: Any) -> None:
    key = farebox.new_key()
    assert post(farebox, key).status_code == 200
    refused(post(farebox, key, body=other), "idempotency_mismatch")
    assert len(upstream.requests) == 1
    assert farebox.account(key.account).holds == {}


def test_another_endpoint_is_a_mistake(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key()
    body = {**CHAT, "prompt": "hi", "input": "hi", "model": "gpt-4o-mini"}
    assert post(farebox, key, body=body).status_code == 200
    embedding = {"model": "text-embedding-3-small", "input": "hi"}
    answer = ask(farebox, key, embedding, "/v1/embeddings", **{"idempotency-key": "order-1"})
    refused(answer, "idempotency_mismatch")


def test_another_name_or_key_is_another_request(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key, other = farebox.new_key(), farebox.new_key()
    answers = [post(farebox, key, "a"), post(farebox, key, "A"), post(farebox, other, "a"), ask(farebox, key)]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len(upstream.requests) == 4


FAILURES = {
    "refused": json_answer({"error": {"message": "no"}}, 400),
    "overloaded": json_answer({}, 503),
    "broken": [],
    "not sent": None,
}


@KINDS
@pytest.mark.parametrize("failure", FAILURES)
def test_what_failed_at_no_cost_may_run(
    farebox: RunningFarebox, upstream: ScriptedUpstream, failure: str, kind: str
) -> None:
    key = farebox.new_key(kind)
    script = FAILURES[failure]
    if script is None:  # refused by the relay itself
        assert post(farebox, key, body={**CHAT, "modalities": ["audio"]}).status_code == 400
    else:
        upstream.script = script  # type: ignore[assignment]
        assert post(farebox, key).status_code in (400, 502, 503)
    upstream.script = json_answer(chat_completion())
    assert post(farebox, key).status_code == 200
    refused(post(farebox, key), "already_completed")
    assert farebox.account(key.account).spent_nano == (COST_NANO if kind == "paid" else 0)


def test_after_several_failures_it_still_runs_once(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key()
    upstream.script = json_answer({}, 500)
    assert [post(farebox, key).status_code for _ in range(4)] == [502] * 4
    upstream.script = json_answer(chat_completion())
    with ThreadPoolExecutor(10) as pool:
        statuses = Counter(each.status_code for each in pool.map(lambda _: post(farebox, key), range(10)))
    assert statuses == {200: 1, 422: 9}
    assert farebox.account(key.account).spent_nano == COST_NANO


def test_what_was_cut_after_content_has_run(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = [Send(sse_head()), Send(chat_stream("hello")[0])]
    key = farebox.new_key()
    assert post(farebox, key, body=STREAM).status_code == 200
    error = refused(post(farebox, key, body=STREAM), "already_completed")
    assert error["outcome"] == "upstream_cut"
    assert error["cost"] != "0"


def test_who_left_may_ask_what_it_cost(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    """The retry after a lost connection: the case that all this is for."""
    gate = WaitFor()
    upstream.script = [gate, *json_answer(chat_completion())]
    key = farebox.new_key()
    with pytest.raises(httpx.ReadTimeout):
        http.post(
            f"{farebox.base_url}/chat/completions",
            json=CHAT,
            headers={**headers_of(key), "idempotency-key": "order-1"},
            timeout=0.5,
        )
    body = httpx.Request("POST", "http://x", json=CHAT).content
    refused(post(farebox, key, body=body), "already_running")
    gate.event.set()
    wait_until(lambda: bool(farebox.receipts(key.account)))
    error = refused(post(farebox, key, body=body), "already_completed")
    assert (error["outcome"], error["cost"]) == ("client_gone", "0.0000315")
    assert len(upstream.requests) == 1


@KINDS
def test_after_a_day_it_is_a_new_request(farebox: RunningFarebox, upstream: ScriptedUpstream, kind: str) -> None:
    key = farebox.new_key(kind)
    assert post(farebox, key).status_code == 200
    farebox.clock.offset_ms = LIFE_MS - 60_000
    refused(post(farebox, key), "already_completed")
    farebox.clock.offset_ms = LIFE_MS + 1000
    assert post(farebox, key).status_code == 200
    refused(post(farebox, key), "already_completed")
    assert len(upstream.requests) == 2


def test_what_ran_when_its_process_died_may_run_again(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    """A hold that lapsed has cost nothing: the claim is free as soon as the sweep has said so."""
    upstream.script = [WaitForLeave()]
    key = farebox.new_key()
    with pytest.raises(httpx.ReadTimeout):
        http.post(
            f"{farebox.base_url}/chat/completions",
            content=json.dumps(CHAT).encode(),
            headers={**headers_of(key), "idempotency-key": "order-1"},
            timeout=0.5,
        )
    farebox.clock.offset_ms = 1_021_000
    assert farebox.run(farebox.services.store.expire(key.account, farebox.clock.now_ms())) == 1
    upstream.script = json_answer(chat_completion())
    assert post(farebox, key).status_code == 200
    outcomes = Counter(receipt["outcome"] for receipt in farebox.receipts(key.account))
    assert outcomes == {"expired": 1, "completed": 1}


def test_the_last_of_the_money_is_in_the_first_request(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    """A repeat is told that it is one, even where the wallet could not pay for another."""
    gate = WaitFor()
    upstream.script = [gate, *json_answer(chat_completion(completion=100))]
    key = farebox.new_key(credit="0.0005")  # one hold
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, farebox, key)
        wait_until(lambda: bool(upstream.requests))
        refused(post(farebox, key), "already_running")
        gate.event.set()
        assert first.result().status_code == 200
    assert farebox.account(key.account).avail_nano < 100_000
    refused(post(farebox, key), "already_completed")
    other = ask(farebox, key)
    assert other.status_code == 402


def test_the_last_unit_of_the_day_is_in_the_first_request(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key("free")
    body = {**CHAT, "model": "gpt-4o"}
    for number in range(5):
        assert post(farebox, key, f"order-{number}", body).status_code == 200
    assert ask(farebox, key, body).status_code == 429
    refused(post(farebox, key, "order-4", body), "already_completed")
    assert post(farebox, key, "order-5", body).status_code == 429


def test_a_revoked_key_learns_nothing(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key()
    assert post(farebox, key).status_code == 200
    number = next(iter(farebox.account(key.account).keys))
    farebox.run(farebox.services.accounts.revoke(key.account, number))
    assert post(farebox, key).status_code == 401


@pytest.mark.parametrize("name", ["", "a b", "x" * 256, "caf\u00e9", "tab\there", "\u8ba2\u5355"])
def test_a_name_that_is_none(farebox: RunningFarebox, upstream: ScriptedUpstream, name: str) -> None:
    key = farebox.new_key()
    data = json.dumps(CHAT).encode()
    headers = [*headers_of(key).items(), ("idempotency-key", name)]
    encoded = [(each.encode(), value.encode()) for each, value in headers]
    answer = http.post(f"{farebox.base_url}/chat/completions", content=data, headers=encoded)
    assert answer.status_code == 400
    error = problem(answer)
    assert (error["code"], error["param"]) == ("invalid_request", "Idempotency-Key")
    assert upstream.requests == []
    assert farebox.receipts(key.account) == []


def test_the_longest_name_will_do(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key()
    assert post(farebox, key, "~" * 255).status_code == 200
    refused(post(farebox, key, "~" * 255), "already_completed")


def test_claims_hold_no_text(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key()
    body = {**CHAT, "messages": [{"role": "user", "content": "CANARY-PROMPT"}]}
    upstream.script = json_answer(chat_completion("CANARY-ANSWER"))
    assert post(farebox, key, "CANARY-NAME", body).status_code == 200

    services = farebox.services
    seen = 0
    for table in vars(type(services.tables)).get("__slots__", ()) or vars(services.tables):
        scan = farebox.run(services.db.call("Scan", {"TableName": getattr(services.tables, table)}))
        text = json.dumps(scan)
        assert "CANARY" not in text
        seen += "claim#" in text
    assert seen == 1
    assert "idempotency-key" not in upstream.requests[0].headers
