"""Daily limits over HTTP: each at its edge, and what many requests at once can take of the last unit or the last CA.

Counters are set to just below a limit through the store; the requests that reach and cross it are real.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from farebox.adapters.dynamodb.tables import TTL
from farebox.adapters.dynamodb.values import n, plain_item, s
from farebox.domain.quota import Unit, address_hash, day_at, free_units
from tests.fakes.addresses import addresses
from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import (
    Reset,
    ScriptedUpstream,
    Send,
    WaitFor,
    chat_completion,
    chat_stream,
    chunk,
    head,
    json_answer,
    sse_answer,
    sse_head,
)

NOON_MS = 1_795_492_800_000  # 2026-11-24T12:00 in Shanghai
ZONE = ZoneInfo("Asia/Shanghai")
EMBEDDING = {"object": "list", "data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 2, "total_tokens": 2}}


@pytest.fixture(autouse=True)
def _noon(farebox: RunningFarebox) -> None:
    """No test runs over midnight by chance; `farebox` gives the real time back."""
    farebox.clock.fixed_ms = NOON_MS


@pytest.fixture
def address() -> str:
    """An address that no other test has used."""
    return next(addresses)


class Free:
    """A free key that calls from an address, and what the store counts of both."""

    def __init__(self, farebox: RunningFarebox, address: str, key: Funded | None = None) -> None:
        self.farebox = farebox
        self.address = address
        self.key = key or farebox.new_key("free", "0")

    def headers(self, address: str | None = None) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key.text}", "x-forwarded-for": address or self.address}

    def chat(self, model: str = "gpt-4o-mini", address: str | None = None, **more: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10, **more}
        url = f"{self.farebox.base_url}/chat/completions"
        return http.post(url, json=body, headers=self.headers(address), timeout=60)

    def embed(self) -> httpx.Response:
        body = {"model": "text-embedding-3-small", "input": "hi"}
        return http.post(f"{self.farebox.base_url}/embeddings", json=body, headers=self.headers(), timeout=60)

    def units(self) -> tuple[Unit, ...]:
        services = self.farebox.services
        day = day_at(self.farebox.clock.now_ms(), ZONE)
        hashed = address_hash(self.address, day_name=day.name, pepper=services.secrets.pepper)
        return free_units(
            kind="chat", group="", key_id=self.key.id, address_hash=hashed, day=day, limits=services.settings.free
        )

    def raise_to(self, of: str, **fields: int) -> None:
        """Sets fields of the key's or the address's counter. `group_x` is the group x."""
        unit = self.units()[("key", "address").index(of)]
        names = {name.replace("group_", "group:"): value for name, value in fields.items()}
        item = {"id": s(unit.counter), **{name: n(value) for name, value in names.items()}}
        services = self.farebox.services
        self.farebox.run(services.db.call("PutItem", {"TableName": services.tables.counters, "Item": item}))

    def counts(self) -> list[dict[str, int]]:
        """The key's and the address's counter, once all is settled."""
        services = self.farebox.services
        self.farebox.run(services.settlements.settled())
        return [self._counter(unit) for unit in self.units()]

    def _counter(self, unit: Unit) -> dict[str, int]:
        services = self.farebox.services
        request = {"TableName": services.tables.counters, "Key": {"id": s(unit.counter)}, "ConsistentRead": True}
        item = plain_item(self.farebox.run(services.db.call("GetItem", request)).get("Item", {}))
        return {name: value for name, value in item.items() if name not in ("id", TTL)}


@pytest.fixture
def free(farebox: RunningFarebox, upstream: ScriptedUpstream, address: str) -> Free:
    return Free(farebox, address)


def refused(answer: httpx.Response) -> bool:
    return answer.status_code == 429 and answer.json()["error"]["code"] == "daily_quota_exceeded"


# ── each limit at its edge ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_has_two_hundred_chat_requests_a_day(free: Free) -> None:
    free.raise_to("key", chat=199, **{"group_gpt-4o-mini": 20})

    assert free.chat().status_code == 200
    assert refused(free.chat())
    assert free.counts()[0] == {"chat": 200, "group:gpt-4o-mini": 21}


def test_embeddings_are_counted_apart_from_chat(free: Free, upstream: ScriptedUpstream) -> None:
    free.raise_to("key", chat=200, embedding=199, group_embedding=199)
    free.raise_to("address", chat=200, embedding=10)
    upstream.script = json_answer(EMBEDDING)

    assert free.embed().status_code == 200
    assert refused(free.embed())
    assert refused(free.chat())
    assert free.counts() == [
        {"chat": 200, "embedding": 200, "group:embedding": 200},
        {"chat": 200, "embedding": 11},
    ]


def test_gpt_4o_and_gpt_4_1_share_five_a_day_and_all_five_can_be_had(free: Free) -> None:
    models = ["gpt-4o", "gpt-4.1", "gpt-4o", "gpt-4.1", "gpt-4o"]

    assert [free.chat(model).status_code for model in models] == [200] * 5
    assert [free.chat(model).status_code for model in ("gpt-4o", "gpt-4.1")] == [429, 429]
    assert free.chat("gpt-4o-mini").status_code == 200
    assert free.counts()[0] == {"chat": 6, "group:gpt-4o": 5, "group:gpt-4o-mini": 1}


def test_deepseek_has_thirty_a_day_for_both_models_together(free: Free) -> None:
    free.raise_to("key", chat=29, group_deepseek=29)

    assert free.chat("deepseek-r1").status_code == 200
    assert [refused(free.chat(model)) for model in ("deepseek-r1", "deepseek-v3")] == [True, True]


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-3.5-turbo", "gpt-4.1-mini", "gpt-4.1-nano"])
def test_the_small_models_share_two_hundred_a_day(free: Free, model: str) -> None:
    free.raise_to("key", chat=199, **{"group_gpt-4o-mini": 199})

    assert free.chat(model).status_code == 200
    assert refused(free.chat("gpt-4o-mini"))


def test_all_keys_of_one_address_share_the_addresss_two_hundred(farebox: RunningFarebox, free: Free) -> None:
    free.raise_to("address", chat=199)
    other = Free(farebox, free.address)

    assert free.chat().status_code == 200
    assert [refused(each.chat()) for each in (free, other)] == [True, True]
    assert other.chat(address=next(addresses)).status_code == 200


def test_one_key_on_many_addresses_shares_its_own_two_hundred(free: Free) -> None:
    free.raise_to("key", chat=198, **{"group_gpt-4o-mini": 198})
    answers = [free.chat(address=next(addresses)) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]


@pytest.mark.parametrize(
    "model", ["o3", "gpt-4", "gpt-4o-2024-05-13", "claude-3-7-sonnet-20250219", "gemini-2.0-flash", "gpt-4o-ca"]
)
def test_other_models_are_not_free(free: Free, upstream: ScriptedUpstream, model: str) -> None:
    answer = free.chat(model)

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_allowed")
    assert free.counts() == [{}, {}]
    assert upstream.requests == []


def test_a_free_prompt_has_at_most_4096_tokens(free: Free) -> None:
    short, long = "word " * 4000, "word " * 4200

    assert free.chat(messages=[{"role": "user", "content": short}]).status_code == 200
    answer = free.chat(messages=[{"role": "user", "content": long}])
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "prompt_too_long")
    assert free.counts()[0]["chat"] == 1


def test_a_paid_key_counts_against_no_quota(farebox: RunningFarebox, free: Free) -> None:
    free.raise_to("address", chat=200)
    paid = Free(farebox, free.address, farebox.new_key())
    answer = paid.chat()

    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-ratelimit-")]
    assert paid.counts() == [{}, {"chat": 200}]


# ── refusals and failures count for nothing ─────────────────────────────────────────────────────────────────────────


def test_a_refusal_by_one_counter_takes_nothing_from_the_other(free: Free) -> None:
    free.raise_to("key", chat=50, **{"group_gpt-4o": 5, "group_gpt-4o-mini": 20})
    free.raise_to("address", chat=200)

    assert refused(free.chat("gpt-4o"))
    assert refused(free.chat("gpt-4o-mini"))
    assert free.counts() == [{"chat": 50, "group:gpt-4o": 5, "group:gpt-4o-mini": 20}, {"chat": 200}]


def test_a_refused_request_counts_for_nothing_and_never_goes_upstream(free: Free, upstream: ScriptedUpstream) -> None:
    answers = [
        free.chat(max_tokens=-1),
        free.chat(model="no-such-model"),
        free.chat(model="o3"),
        free.chat(messages=[]),
        free.chat(messages=[{"role": "user", "content": "word " * 5000}]),
    ]

    assert [answer.status_code for answer in answers] == [400, 404, 403, 400, 403]
    assert free.counts() == [{}, {}]
    assert upstream.requests == []


def failing(kind: str) -> tuple[list[Any], bool]:
    """A script that brings no content, and whether a stream was asked for."""
    return {
        "500": (json_answer({"error": {}}, 500), False),
        "429": (json_answer({"error": {}}, 429), False),
        "400": (json_answer({"error": {"param": "x"}}, 400), False),
        "reset": ([Reset()], False),
        "half an answer": ([Send(head(content_length="500") + b'{"choices":['), Reset()], False),
        "no json": ([Send(head() + b"<html>")], False),
        "an error with status 200": (json_answer({"error": {"message": "no"}}), False),
        "stream cut before content": ([Send(sse_head()), Reset()], True),
        "stream without content": (sse_answer(chat_stream(completion=0)), True),
        "plain answer without content": (json_answer(chat_completion("", completion=0)), False),
    }[kind]


FAILURES = (
    "500",
    "429",
    "400",
    "reset",
    "half an answer",
    "no json",
    "an error with status 200",
    "stream cut before content",
    "stream without content",
    "plain answer without content",
)


@pytest.mark.parametrize("kind", FAILURES)
def test_to_which_no_content_came_back_gives_its_units_back(free: Free, upstream: ScriptedUpstream, kind: str) -> None:
    free.raise_to("key", chat=199, **{"group_gpt-4o-mini": 199})
    free.raise_to("address", chat=199)
    upstream.script, stream = failing(kind)
    free.chat(stream=stream)
    assert free.counts() == [{"chat": 199, "group:gpt-4o-mini": 199}, {"chat": 199}]

    upstream.reset()
    assert free.chat().status_code == 200
    assert refused(free.chat())


def test_a_stream_that_is_cut_after_content_keeps_its_unit(free: Free, upstream: ScriptedUpstream) -> None:
    upstream.script = [Send(sse_head() + chunk("hello")), Reset()]
    answer = free.chat(stream=True)

    assert answer.content.startswith(chunk("hello"))
    assert b"[DONE]" not in answer.content
    assert free.counts() == [{"chat": 1, "group:gpt-4o-mini": 1}, {"chat": 1}]


def test_a_unit_goes_back_to_the_day_that_it_came_from(
    farebox: RunningFarebox, free: Free, upstream: ScriptedUpstream
) -> None:
    midnight_ms = day_at(NOON_MS, ZONE).ends_ms
    farebox.clock.fixed_ms = midnight_ms - 10
    wait = WaitFor()
    upstream.script = [wait, *json_answer({"error": {}}, 500)]
    asking = threading.Thread(target=free.chat)
    asking.start()
    until(lambda: upstream.requests)
    assert [count["chat"] for count in free.counts()] == [1, 1]
    farebox.clock.fixed_ms = midnight_ms + 10
    wait.event.set()
    asking.join(10)

    assert free.counts() == [{}, {}]
    farebox.clock.fixed_ms = midnight_ms - 10
    assert free.counts() == [{"chat": 0, "group:gpt-4o-mini": 0}, {"chat": 0}]


# ── the day ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_day_turns_at_midnight_in_shanghai_and_not_a_moment_before(farebox: RunningFarebox, free: Free) -> None:
    free.raise_to("key", chat=200, **{"group_gpt-4o": 5})
    midnight_ms = day_at(NOON_MS, ZONE).ends_ms
    assert midnight_ms == NOON_MS + 12 * 3_600_000

    farebox.clock.fixed_ms = midnight_ms - 1
    assert refused(free.chat("gpt-4o"))
    farebox.clock.fixed_ms = midnight_ms
    answers = [free.chat("gpt-4o") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert free.counts() == [{"chat": 5, "group:gpt-4o": 5}, {"chat": 5}]


def test_waiting_as_long_as_retry_after_says_is_enough(farebox: RunningFarebox, free: Free) -> None:
    free.raise_to("address", chat=200)
    farebox.clock.fixed_ms = NOON_MS + 12 * 3_600_000 - 1500
    answer = free.chat()
    assert refused(answer)
    assert answer.headers["retry-after"] == "2"

    farebox.clock.fixed_ms += int(answer.headers["retry-after"]) * 1000
    assert free.chat().status_code == 200


def test_a_full_day_is_told_with_its_reset_in_two_languages(free: Free) -> None:
    free.raise_to("key", chat=200)
    answer = free.chat()

    assert answer.status_code == 429
    assert answer.headers["retry-after"] == str(12 * 3600)
    assert answer.headers["x-should-retry"] == "false"
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("daily_quota_exceeded", "insufficient_quota")
    assert "每日限 200 次" in error["message"]
    assert "is 200 requests; it resets at 00:00 Asia/Shanghai" in error["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "key", "of_address", "limit", "remaining"),
    [
        ("gpt-4o-mini", {"chat": 10, "group_gpt-4o-mini": 4}, 20, 200, 179),
        ("gpt-4o-mini", {"chat": 40, "group_gpt-4o-mini": 4}, 20, 200, 159),
        ("gpt-4o", {"chat": 10, "group_gpt-4o": 2}, 20, 5, 2),
        ("deepseek-v3", {"chat": 175, "group_deepseek": 2}, 20, 200, 24),
        ("gpt-4o-mini", {"chat": 199, "group_gpt-4o-mini": 4}, 20, 200, 0),
    ],
)
def test_each_answer_says_what_is_left_of_the_tightest_limit(
    free: Free,
    upstream: ScriptedUpstream,
    model: str,
    key: dict[str, int],
    of_address: int,
    limit: int,
    remaining: int,
    stream: bool,
) -> None:
    free.raise_to("key", **key)
    free.raise_to("address", chat=of_address)
    upstream.script = sse_answer(chat_stream("hello")) if stream else upstream.script
    answer = free.chat(model, stream=stream)

    assert answer.status_code == 200
    assert answer.headers["x-ratelimit-limit-requests"] == str(limit)
    assert answer.headers["x-ratelimit-remaining-requests"] == str(remaining)
    assert answer.headers["x-ratelimit-reset-requests"].startswith("12h")


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_ipv6_caller_counts_by_his_64(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    free = Free(farebox, "2001:db8:77:1::1")
    free.raise_to("address", chat=199)

    assert free.chat(address="2001:db8:77:1:ffff:ffff:ffff:ffff").status_code == 200
    assert refused(free.chat(address="2001:db8:77:1::2"))
    assert refused(free.chat(address="2001:0DB8:0077:0001:0000:0000:0000:0003"))
    assert free.chat(address="2001:db8:77:2::1").status_code == 200


def test_a_mapped_address_counts_as_the_ipv4_address_that_it_is(free: Free) -> None:
    free.raise_to("address", chat=199)
    a, b, c, d = (int(part) for part in free.address.split("."))

    assert free.chat(address=f"::ffff:{free.address}").status_code == 200
    assert refused(free.chat(address=f"::ffff:{a:x}{b:02x}:{c:x}{d:02x}"))
    assert refused(free.chat())


def test_what_a_caller_writes_in_front_of_the_chain_does_not_help_him(free: Free) -> None:
    free.raise_to("address", chat=200)
    for forged in ("1.2.3.4", "10.0.0.1, 127.0.0.1", "unknown", "::1"):
        assert refused(free.chat(address=f"{forged}, {free.address}"))


def test_addresses_lie_in_the_store_only_as_keyed_hashes(farebox: RunningFarebox, free: Free) -> None:
    free.chat()
    services = farebox.services
    found: list[str] = []
    for table in (services.tables.counters, services.tables.accounts, services.tables.ledger):
        answer = farebox.run(services.db.call("Scan", {"TableName": table}))
        found.append(str(answer["Items"]))

    assert free.address not in "".join(found)


# ── many at once ────────────────────────────────────────────────────────────────────────────────────────────────────


def all_at_once(count: int, request: Callable[[int], dict[str, Any]], url: str) -> list[httpx.Response]:
    """`count` requests in flight at the same time, each on a connection of its own."""

    async def run() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=count, max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            return await asyncio.gather(*(client.post(url, **request(number)) for number in range(count)))

    return asyncio.run(run())


def until(true: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def statuses(answers: list[httpx.Response]) -> Counter[str]:
    return Counter("admitted" if answer.status_code == 200 else answer.json()["error"]["code"] for answer in answers)


CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10}


def test_a_hundred_requests_at_once_for_a_keys_last_unit_admit_one(
    farebox: RunningFarebox, free: Free, upstream: ScriptedUpstream
) -> None:
    free.raise_to("key", chat=199, **{"group_gpt-4o-mini": 199})
    answers = all_at_once(
        100,
        lambda _: {"json": CHAT, "headers": free.headers(next(addresses))},
        f"{farebox.base_url}/chat/completions",
    )

    assert statuses(answers) == {"admitted": 1, "daily_quota_exceeded": 99}
    assert len(upstream.requests) == 1
    assert free.counts()[0] == {"chat": 200, "group:gpt-4o-mini": 200}


def test_a_hundred_requests_at_once_for_a_groups_last_unit_admit_one(
    farebox: RunningFarebox, free: Free, upstream: ScriptedUpstream
) -> None:
    free.raise_to("key", chat=4, **{"group_gpt-4o": 4})
    answers = all_at_once(
        100,
        lambda _: {"json": {**CHAT, "model": "gpt-4o"}, "headers": free.headers()},
        f"{farebox.base_url}/chat/completions",
    )

    assert statuses(answers) == {"admitted": 1, "daily_quota_exceeded": 99}
    assert len(upstream.requests) == 1
    assert free.counts() == [{"chat": 5, "group:gpt-4o": 5}, {"chat": 1}]


def test_a_hundred_keys_at_once_for_an_addresss_last_unit_admit_one(
    farebox: RunningFarebox, free: Free, upstream: ScriptedUpstream
) -> None:
    free.raise_to("address", chat=199)
    keys = [Free(farebox, free.address) for _ in range(100)]
    answers = all_at_once(
        100,
        lambda number: {"json": CHAT, "headers": keys[number].headers()},
        f"{farebox.base_url}/chat/completions",
    )

    assert statuses(answers) == {"admitted": 1, "daily_quota_exceeded": 99}
    assert len(upstream.requests) == 1
    assert free.counts()[1] == {"chat": 200}
    assert sum(key.counts()[0].get("chat", 0) for key in keys) == 1  # the losers' own counters are untouched


def hold_of(farebox: RunningFarebox) -> int:
    """What one CHAT request holds."""
    probe = farebox.new_key(credit="1")
    http.post(f"{farebox.base_url}/chat/completions", json=CHAT, headers={"authorization": probe.text})
    return int(farebox.receipts(probe.account)[0]["hold_nano"])


def ca(nano: int) -> str:
    return f"{nano // 10**9}.{nano % 10**9:09d}"


def test_two_hundred_requests_at_once_on_a_balance_for_ten_admit_ten(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    hold_nano = hold_of(farebox)
    upstream.reset()
    key = farebox.new_key(credit=ca(10 * hold_nano))
    wait = WaitFor()
    upstream.script = [wait, *json_answer(chat_completion(prompt=10, completion=5))]
    done: list[httpx.Response] = []
    url, headers = f"{farebox.base_url}/chat/completions", {"authorization": key.text}
    asking = threading.Thread(
        target=lambda: done.extend(all_at_once(200, lambda _: {"json": CHAT, "headers": headers}, url))
    )
    asking.start()
    try:
        until(lambda: len(upstream.requests) == 10)
        running = farebox.run(farebox.services.accounts.get(key.account))
        assert (running.avail_nano, running.held_nano, len(running.holds)) == (0, 10 * hold_nano, 10)
        time.sleep(1)  # the other 190 are refused while these ten wait
        assert len(upstream.requests) == 10
    finally:
        wait.event.set()
        asking.join(60)

    assert statuses(done) == {"admitted": 10, "insufficient_balance": 190}
    assert len(upstream.requests) == 10
    account = farebox.account(key.account)
    assert account.spent_nano == 10 * (10 * 1050 + 5 * 4200)
    assert (account.avail_nano, account.held_nano, account.holds) == (10 * hold_nano - account.spent_nano, 0, {})


def test_many_requests_on_a_tight_balance_never_overdraw_it_and_every_nano_is_explained(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    hold_nano, cost_nano = hold_of(farebox), 10 * 1050 + 5 * 4200
    upstream.reset()
    credit_nano = 3 * hold_nano + hold_nano // 2
    key = farebox.new_key(credit=ca(credit_nano))
    url, headers = f"{farebox.base_url}/chat/completions", {"authorization": key.text}
    answers = all_at_once(60, lambda _: {"json": CHAT, "headers": headers}, url)
    found = statuses(answers)
    account = farebox.account(key.account)
    entries = dict(farebox.run(farebox.services.accounts.entries(key.account)))

    assert set(found) <= {"admitted", "insufficient_balance"}
    assert found["admitted"] >= 3
    assert found["admitted"] == len(upstream.requests) == len(entries) - 1
    assert account.spent_nano == found["admitted"] * cost_nano <= credit_nano
    assert account.avail_nano == credit_nano - account.spent_nano == sum(entries.values())
    assert (account.held_nano, account.holds) == (0, {})


def test_requests_of_two_keys_on_one_wallet_share_it(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    hold_nano = hold_of(farebox)
    upstream.reset()
    first = farebox.new_key(credit=ca(2 * hold_nano))
    created = http.post(
        f"{farebox.url}/admin/v1/keys",
        json={"kind": "paid", "account": first.account},
        headers={"authorization": f"Bearer {farebox.settings.admin_token}"},
    )
    texts = [first.text, created.json()["key"]]
    wait = WaitFor()
    upstream.script = [wait, *json_answer(chat_completion())]
    done: list[httpx.Response] = []
    asking = threading.Thread(
        target=lambda: done.extend(
            all_at_once(
                20,
                lambda number: {"json": CHAT, "headers": {"authorization": texts[number % 2]}},
                f"{farebox.base_url}/chat/completions",
            )
        )
    )
    asking.start()
    try:
        until(lambda: len(upstream.requests) == 2)
        time.sleep(0.3)
    finally:
        wait.event.set()
        asking.join(60)

    assert statuses(done) == {"admitted": 2, "insufficient_balance": 18}
