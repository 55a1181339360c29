"""Every price of the seed that is sold by the token, through the running relay: what a request costs, to the nano."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from farebox.domain.receipts import arithmetic_errors
from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import (
    DONE,
    ScriptedUpstream,
    chat_completion,
    chat_stream,
    json_answer,
    sse_answer,
)

SEED = Path(__file__).parents[1] / "data" / "seed"
COMPLETIONS = {"gpt-3.5-turbo-instruct"}
THOUSAND_TOKENS = "word " * 1100
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def rows(name: str) -> list[dict[str, str]]:
    with (SEED / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


TOKEN_ROWS = rows("token_prices.csv")
IMAGE_ROWS = [row for row in TOKEN_ROWS if row["per_image_when_streaming"]]
EMBEDDING_ROWS = [row for row in rows("other_prices.csv") if "embedding" in row["model"]]


def nano(ca: str) -> int:
    """The seed's figure in CA → nano-CA, without any code of ours."""
    exact = Decimal(ca) * 10**9
    assert exact == int(exact)
    return int(exact)


def ask(farebox: RunningFarebox, key: Funded, body: dict[str, Any]) -> httpx.Response:
    path = "completions" if body["model"] in COMPLETIONS else "chat/completions"
    body = {"prompt": THOUSAND_TOKENS, **body} if path == "completions" else {"messages": MESSAGES, **body}
    answer = http.post(f"{farebox.base_url}/{path}", json=body, headers={"authorization": f"Bearer {key.text}"})
    assert answer.status_code == 200, answer.text
    return answer


MESSAGES = [{"role": "user", "content": THOUSAND_TOKENS}]


def check(farebox: RunningFarebox, key: Funded, cost_nano: int, model: str) -> dict[str, Any]:
    """The wallet and the one receipt say the same cost; gives the receipt."""
    account = farebox.account(key.account)
    (receipt,) = farebox.receipts(key.account)

    assert (account.spent_nano, account.held_nano, account.holds) == (cost_nano, 0, {})
    assert account.avail_nano + account.spent_nano == account.credited_nano
    assert (receipt["cost_nano"], receipt["overrun_nano"], receipt["model"]) == (cost_nano, 0, model)
    assert (receipt["outcome"], arithmetic_errors(receipt)) == ("completed", [])
    assert receipt["price_version"].startswith(f"{model}@")
    return receipt


def test_the_seed_has_as_many_rows_as_it_should() -> None:
    assert (len(TOKEN_ROWS), len(EMBEDDING_ROWS), len(IMAGE_ROWS)) == (66, 3, 3)


@pytest.mark.parametrize("row", TOKEN_ROWS, ids=lambda row: row["model"])
def test_a_thousand_tokens_in_and_out_cost_what_the_list_says(
    farebox: RunningFarebox, upstream: ScriptedUpstream, row: dict[str, str]
) -> None:
    price_in, price_out = nano(row["input_per_1k"]), nano(row["output_per_1k"])
    if row["model"] in COMPLETIONS:
        upstream.script = json_answer({**chat_completion(prompt=1000, completion=1000), "choices": [TEXT_CHOICE]})
    else:
        upstream.script = json_answer(chat_completion(prompt=1000, completion=1000))
    key = farebox.new_key(credit="10")
    answer = ask(farebox, key, {"model": row["model"], "max_tokens": 1000})
    receipt = check(farebox, key, price_in + price_out, row["model"])

    assert Decimal(answer.headers["x-farebox-cost"]) == Decimal(row["input_per_1k"]) + Decimal(row["output_per_1k"])
    assert receipt["arithmetic"] == [
        {"unit": "input_token", "count": 1000, "price_nano": price_in // 1000, "cost_nano": price_in},
        {"unit": "output_token", "count": 1000, "price_nano": price_out // 1000, "cost_nano": price_out},
    ]
    assert receipt["usage"]["input_token"] == {"count": 1000, "source": "upstream"}


TEXT_CHOICE = {"index": 0, "text": "hello", "logprobs": None, "finish_reason": "stop"}


@pytest.mark.parametrize("row", TOKEN_ROWS, ids=lambda row: row["model"])
def test_a_stream_costs_the_same(farebox: RunningFarebox, upstream: ScriptedUpstream, row: dict[str, str]) -> None:
    events = chat_stream("hello", prompt=1000, completion=1000)
    if row["model"] in COMPLETIONS:
        events = [TEXT_EVENT, events[-2], DONE]
    upstream.script = sse_answer(events)
    key = farebox.new_key(credit="10")
    answer = ask(farebox, key, {"model": row["model"], "max_tokens": 1000, "stream": True})
    check(farebox, key, nano(row["input_per_1k"]) + nano(row["output_per_1k"]), row["model"])

    assert answer.content.endswith(DONE)
    assert "x-farebox-cost" not in answer.headers


TEXT_EVENT = (
    b'data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m",'
    b'"choices":[{"index":0,"text":"hello","logprobs":null,"finish_reason":"stop"}]}\n\n'
)


@pytest.mark.parametrize("row", EMBEDDING_ROWS, ids=lambda row: row["model"])
def test_a_thousand_embedded_tokens_cost_what_the_list_says(
    farebox: RunningFarebox, upstream: ScriptedUpstream, row: dict[str, str]
) -> None:
    figure = row["price_text"].split(" ")[0]
    upstream.script = json_answer(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}],
            "model": row["model"],
            "usage": {"prompt_tokens": 1000, "total_tokens": 1000},
        }
    )
    key = farebox.new_key(credit="1")
    answer = http.post(
        f"{farebox.base_url}/embeddings",
        json={"model": row["model"], "input": THOUSAND_TOKENS},
        headers={"authorization": f"Bearer {key.text}"},
    )

    assert answer.status_code == 200
    assert Decimal(answer.headers["x-farebox-cost"]) == Decimal(figure)
    receipt = check(farebox, key, nano(figure), row["model"])
    assert [line["unit"] for line in receipt["arithmetic"]] == ["input_token"]
    assert receipt["endpoint"] == "embeddings"


@pytest.mark.parametrize("row", IMAGE_ROWS, ids=lambda row: row["model"])
def test_a_streamed_image_has_its_own_price_and_its_tokens_are_not_charged_as_text(
    farebox: RunningFarebox, upstream: ScriptedUpstream, row: dict[str, str]
) -> None:
    upstream.script = sse_answer(chat_stream("hello", prompt=5000, completion=1000))
    key = farebox.new_key(credit="10")
    image = {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
    content = [{"type": "text", "text": "What is this?"}, image, image]
    ask(
        farebox,
        key,
        {"model": row["model"], "max_tokens": 1000, "stream": True, "messages": [{"role": "user", "content": content}]},
    )
    text_tokens = farebox.receipts(key.account)[0]["usage"]["input_token"]["count"]
    expected = (
        text_tokens * nano(row["input_per_1k"]) // 1000
        + nano(row["output_per_1k"])
        + 2 * nano(row["per_image_when_streaming"])
    )
    receipt = check(farebox, key, expected, row["model"])

    assert 4 < text_tokens < 40
    assert receipt["usage"]["image_when_streaming"] == {"count": 2, "source": "counted"}
    assert receipt["usage"]["output_token"] == {"count": 1000, "source": "upstream"}


@pytest.mark.parametrize("stream", [False, True])
def test_cached_tokens_without_a_price_of_their_own_are_charged_as_input(
    farebox: RunningFarebox, upstream: ScriptedUpstream, stream: bool
) -> None:
    cached = {"prompt_tokens_details": {"cached_tokens": 400}}
    usage = {"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000, **cached}
    if stream:
        events = chat_stream("hello", prompt=1000, completion=1000)
        last = events[-2].replace(
            b'"total_tokens":2000', b'"total_tokens":2000,"prompt_tokens_details":{"cached_tokens":400}'
        )
        assert last != events[-2]
        upstream.script = sse_answer([*events[:-2], last, DONE])
    else:
        upstream.script = json_answer({**chat_completion(), "usage": usage})
    key = farebox.new_key(credit="1")
    ask(farebox, key, {"model": "gpt-4o", "max_tokens": 1000, "stream": stream})
    receipt = check(farebox, key, nano("0.0175") + nano("0.07"), "gpt-4o")

    assert [(line["unit"], line["count"], line["price_nano"]) for line in receipt["arithmetic"]] == [
        ("input_token", 600, 17_500),
        ("cached_input_token", 400, 17_500),
        ("output_token", 1000, 70_000),
    ]


def test_deepseeks_name_for_what_was_cached_is_understood(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 10,
        "prompt_cache_hit_tokens": 900,
        "prompt_cache_miss_tokens": 100,
    }
    upstream.script = json_answer({**chat_completion(), "usage": usage})
    key = farebox.new_key(credit="1")
    ask(farebox, key, {"model": "deepseek-v3", "max_tokens": 100})
    receipt = check(farebox, key, 1000 * 1200 + 10 * 4800, "deepseek-v3")

    assert receipt["usage"]["cached_input_token"] == {"count": 900, "source": "upstream"}


def test_a_usage_above_the_hold_costs_the_hold_and_the_house_bears_the_rest(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer(chat_completion(prompt=5000, completion=10))
    key = farebox.new_key(credit="1")
    answer = http.post(
        f"{farebox.base_url}/chat/completions",
        json={"model": "gpt-4o", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]},
        headers={"authorization": f"Bearer {key.text}"},
    )
    account = farebox.account(key.account)
    (receipt,) = farebox.receipts(key.account)

    assert receipt["cost_nano"] == receipt["hold_nano"] == account.spent_nano
    assert receipt["cost_nano"] + receipt["overrun_nano"] == 5000 * 17_500 + 10 * 70_000
    assert arithmetic_errors(receipt) == []
    assert Decimal(answer.headers["x-farebox-cost"]) * 10**9 == account.spent_nano
