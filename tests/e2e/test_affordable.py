"""A wallet that covers only a part: the output limit is lowered to what it affords, and not by a token more."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from farebox.domain.money import format_ca
from farebox.relay.plan import OUTPUT_TOKENS_MIN
from tests.fakes.caller import CHAT, ask, problem
from tests.fakes.process import wait_until
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import (
    Request,
    ScriptedUpstream,
    Step,
    WaitFor,
    chat_completion,
    chat_stream,
    json_answer,
    sse_answer,
)

INPUT_NANO, OUTPUT_NANO = 1050, 4200
INPUT_MAX = 8 + 64
"""The bound on CHAT's input: 8 tokens, no margin on this model, 64 of slack."""
FIXED_NANO = INPUT_MAX * INPUT_NANO


def funded(farebox: RunningFarebox, nano: int) -> Funded:
    return farebox.new_key(credit=format_ca(nano))


def sent(upstream: ScriptedUpstream) -> dict[str, Any]:
    (request,) = upstream.requests
    body: dict[str, Any] = request.json
    return body


def hold_of(farebox: RunningFarebox, key: Funded) -> int:
    (receipt,) = farebox.receipts(key.account)
    return int(receipt["hold_nano"])


@pytest.mark.parametrize("tokens", [OUTPUT_TOKENS_MIN, 17, 50, 99])
@pytest.mark.parametrize("spare", [0, 1, OUTPUT_NANO - 1])
def test_the_limit_is_lowered_to_what_the_wallet_affords(
    farebox: RunningFarebox, upstream: ScriptedUpstream, tokens: int, spare: int
) -> None:
    balance = FIXED_NANO + tokens * OUTPUT_NANO + spare
    key = funded(farebox, balance)
    answer = ask(farebox, key, {**CHAT, "max_tokens": 100})

    assert answer.status_code == 200
    assert answer.headers["x-farebox-max-tokens"] == str(tokens)
    assert sent(upstream) == {**CHAT, "max_tokens": tokens}
    hold = hold_of(farebox, key)
    assert hold <= balance < hold + OUTPUT_NANO


def test_what_the_wallet_covers_is_left_alone(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = funded(farebox, FIXED_NANO + 100 * OUTPUT_NANO)
    answer = ask(farebox, key)
    assert answer.status_code == 200
    assert "x-farebox-max-tokens" not in answer.headers
    assert upstream.requests[0].body == json.dumps(CHAT).encode()


@pytest.mark.parametrize("n", [2, 3, 7])
def test_each_of_n_choices_gets_its_share(farebox: RunningFarebox, upstream: ScriptedUpstream, n: int) -> None:
    balance = FIXED_NANO + (n * 40 + n - 1) * OUTPUT_NANO
    key = funded(farebox, balance)
    answer = ask(farebox, key, {**CHAT, "n": n})

    assert answer.headers["x-farebox-max-tokens"] == "40"
    assert sent(upstream)["max_tokens"] == 40
    assert sent(upstream)["n"] == n
    hold = hold_of(farebox, key)
    assert hold <= balance < hold + n * OUTPUT_NANO


def test_without_a_limit_one_is_put_in(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    body = {name: value for name, value in CHAT.items() if name != "max_tokens"}
    key = funded(farebox, FIXED_NANO + 33 * OUTPUT_NANO)
    assert ask(farebox, key, body).headers["x-farebox-max-tokens"] == "33"
    assert sent(upstream) == {**body, "max_tokens": 33}


def test_a_reasoning_model_gets_its_own_parameter(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    body = {"model": "o4-mini", "messages": CHAT["messages"]}
    key = farebox.new_key(credit="0.05")
    answer = ask(farebox, key, body)
    lowered = int(answer.headers["x-farebox-max-tokens"])
    assert sent(upstream) == {**body, "max_completion_tokens": lowered}
    model = farebox.services.catalog.models["o4-mini"]
    output_nano = model.prices[-1].rates["output_token"]
    assert hold_of(farebox, key) <= 50_000_000 < hold_of(farebox, key) + output_nano


def test_both_limits_are_lowered_and_neither_raised(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = funded(farebox, FIXED_NANO + 50 * OUTPUT_NANO)
    body = {**CHAT, "max_tokens": 20, "max_completion_tokens": 100}
    assert ask(farebox, key, body).headers["x-farebox-max-tokens"] == "50"
    assert sent(upstream) == {**body, "max_completion_tokens": 50}


def test_a_stream_says_so_too(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = sse_answer(chat_stream("he", "llo"))
    key = funded(farebox, FIXED_NANO + 20 * OUTPUT_NANO)
    answer = ask(farebox, key, {**CHAT, "stream": True})
    assert answer.headers["x-farebox-max-tokens"] == "20"
    assert answer.content.endswith(b"data: [DONE]\n\n")
    assert sent(upstream)["max_tokens"] == 20


def test_completions_too(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    body = {"model": "gpt-3.5-turbo-instruct", "prompt": ["one", "two"], "best_of": 2, "n": 1, "max_tokens": 1000}
    upstream.script = json_answer({"choices": [{"text": "x", "index": 0, "finish_reason": "stop"}]})
    model = farebox.services.catalog.models[body["model"]]  # type: ignore[index]
    rates = model.prices[-1].rates
    balance = (2 + 64) * rates["input_token"] + 4 * 30 * rates["output_token"] + 1
    key = funded(farebox, balance)
    answer = ask(farebox, key, body, "/v1/completions")
    assert answer.headers["x-farebox-max-tokens"] == "30"
    assert sent(upstream)["max_tokens"] == 30


def test_a_few_tokens_are_no_answer(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    balance = FIXED_NANO + OUTPUT_TOKENS_MIN * OUTPUT_NANO - 1
    key = funded(farebox, balance)
    answer = ask(farebox, key)
    assert answer.status_code == 402
    error = problem(answer)
    assert error["code"] == "insufficient_balance"
    assert format_ca(balance) in error["message"]
    assert upstream.requests == []
    assert farebox.receipts(key.account) == []
    assert farebox.account(key.account).avail_nano == balance


def test_who_asks_for_few_tokens_gets_them_if_they_are_covered(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    key = funded(farebox, FIXED_NANO + 2 * OUTPUT_NANO)
    assert ask(farebox, key, {**CHAT, "max_tokens": 2}).status_code == 200
    poorer = funded(farebox, FIXED_NANO + 2 * OUTPUT_NANO - 1)
    assert ask(farebox, poorer, {**CHAT, "max_tokens": 2}).status_code == 402


def test_an_empty_wallet_and_one_that_does_not_cover_the_input(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    for balance in (0, 1, FIXED_NANO):
        assert ask(farebox, funded(farebox, balance)).status_code == 402
    assert upstream.requests == []


def test_embeddings_have_no_output_to_lower(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = funded(farebox, 1)
    answer = ask(farebox, key, {"model": "text-embedding-3-small", "input": "hi"}, "/v1/embeddings")
    assert answer.status_code == 402


def test_the_bill_never_exceeds_the_lowered_hold(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    """An upstream that gives all it was asked for: the wallet ends at what its slack leaves, never below nought."""

    def generous(request: Request) -> list[Step]:
        return json_answer(chat_completion(prompt=INPUT_MAX, completion=request.json["max_tokens"]))

    upstream.on_request = generous
    key = funded(farebox, FIXED_NANO + 30 * OUTPUT_NANO + 17)
    assert ask(farebox, key).status_code == 200
    account = farebox.account(key.account)
    assert (account.avail_nano, account.held_nano) == (17, 0)
    assert ask(farebox, key).status_code == 402


def test_many_at_once_never_overdraw_a_small_wallet(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    gate = WaitFor()

    def generous(request: Request) -> list[Step]:
        return [gate, *json_answer(chat_completion(prompt=INPUT_MAX, completion=request.json["max_tokens"]))]

    upstream.on_request = generous
    whole = FIXED_NANO + 100 * OUTPUT_NANO
    balance = 3 * whole + FIXED_NANO + 40 * OUTPUT_NANO  # three in full, one lowered
    key = funded(farebox, balance)
    with ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(ask, farebox, key) for _ in range(40)]
        wait_until(lambda: sum(each.done() for each in asked) == 36, within_s=30)
        account = farebox.run(farebox.services.accounts.get(key.account))
        assert account.avail_nano == 0
        assert account.held_nano == balance
        gate.event.set()
    answers = [each.result() for each in asked]

    assert Counter(answer.status_code for answer in answers) == {200: 4, 402: 36}
    lowered = [answer.headers["x-farebox-max-tokens"] for answer in answers if "x-farebox-max-tokens" in answer.headers]
    assert lowered == ["40"]
    account = farebox.account(key.account)
    assert (account.avail_nano, account.held_nano, account.spent_nano) == (0, 0, balance)


def test_what_comes_back_can_be_spent_at_once(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    """One after another on a wallet of little more than one hold: the settlement before is always waited for."""
    key = funded(farebox, FIXED_NANO + 100 * OUTPUT_NANO + 20 * 31_500)
    answers = [ask(farebox, key) for _ in range(20)]
    assert [answer.status_code for answer in answers] == [200] * 20
    assert not [answer for answer in answers if "x-farebox-max-tokens" in answer.headers]
