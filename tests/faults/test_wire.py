"""The whole service, through the real client, over a wire to the store that goes wrong."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import aiohttp
import httpx
import pytest

from farebox.adapters.telemetry import NoTelemetry
from farebox.relay.call import Limits
from farebox.service.audit import audit
from farebox.service.sweep import sweep
from farebox.settings import Settings
from tests.fakes.faulty_wire import FaultyWire, Trouble, always, first_call, now_and_then, odd_calls
from tests.fakes.process import StoreProcess, wait_until
from tests.fakes.service import ADMIN_TOKEN, Funded, RunningFarebox
from tests.fakes.upstream import ScriptedUpstream, Send, WaitFor, chat_stream, sse_head

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
COST_NANO = 10 * 1050 + 5 * 4200
SETTLE_S = 2.0
PAST_HOLDS_MS = 18 * 60_000
SLOW = (Trouble.HANG_BEFORE, Trouble.HANG_AFTER)
PATIENCE_S = 10.0
"""The client's four seconds of silence, and what a busy machine adds."""


@pytest.fixture(scope="module")
def _wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyWire]:
    with StoreProcess(tmp_path_factory.mktemp("wire") / "store.sqlite") as store:
        wait_until(lambda: _listens(store.endpoint))
        wire = FaultyWire(store.endpoint).start()
        yield wire
        wire.stop()


@pytest.fixture(scope="module")
def _behind(
    _wire: FaultyWire, _upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningFarebox]:
    service = RunningFarebox(
        tmp_path_factory.mktemp("behind"),
        _upstream.url,
        Settings(admin_token=ADMIN_TOKEN, trusted_proxies=("127.0.0.1",)),
        Limits(settle_s=SETTLE_S),
        _wire.url,
    ).start()
    yield service
    service.stop()


@pytest.fixture
def wire(_wire: FaultyWire) -> Iterator[FaultyWire]:
    _wire.reset()
    yield _wire
    _wire.reset()


@pytest.fixture
def service(_behind: RunningFarebox, wire: FaultyWire, upstream: ScriptedUpstream) -> Iterator[RunningFarebox]:
    """Farebox behind the wire. Afterwards its books are looked at, whatever the test was about."""
    yield _behind
    wire.reset()
    _behind.run(_behind.services.settlements.settled())
    _books_are_right(_behind)


def _ask(service: RunningFarebox, key: Funded, *, stream: bool = False, address: str = "203.0.113.1") -> httpx.Response:
    headers = {"authorization": f"Bearer {key.text}", "x-forwarded-for": address}
    return httpx.post(
        f"{service.base_url}/chat/completions", json={**CHAT, "stream": stream}, headers=headers, timeout=30
    )


def _books_are_right(service: RunningFarebox) -> None:
    """Past the life of every hold, after two sweeps, nothing is open and nothing is missing."""
    services = service.services
    service.clock.offset_ms += PAST_HOLDS_MS
    for _ in range(2):
        service.run(sweep(services.accounts, services.store, service.clock, NoTelemetry()))
    seen = service.run(audit(services.accounts, service.clock))
    assert seen.violations == []
    assert seen.document()["difference_nano"] == 0
    assert seen.open_holds == seen.stale_holds == 0


def _units_used(service: RunningFarebox, key: Funded) -> int:
    from farebox.domain.quota import day_at, key_counter
    from tests.faults.lab import ZONE

    day = day_at(service.clock.now_ms(), ZONE)
    request = {
        "TableName": "test-counters",
        "Key": {"id": {"S": key_counter(key.id, day.name)}},
        "ConsistentRead": True,
    }
    item = service.run(service.services.db.call("GetItem", request)).get("Item", {})
    return int(item.get("chat", {"N": "0"})["N"])


def _listens(endpoint: str) -> bool:
    try:
        httpx.get(endpoint, timeout=1)
    except httpx.ConnectError:
        return False
    except httpx.HTTPError:
        return True
    return True


# ── trouble that passes ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["paid", "free"])
@pytest.mark.parametrize("trouble", Trouble)
def test_a_store_that_fails_once_is_asked_again_and_nobody_notices(
    service: RunningFarebox, wire: FaultyWire, upstream: ScriptedUpstream, trouble: Trouble, kind: str
) -> None:
    key = service.new_key(kind, credit="1" if kind == "paid" else "0")
    wire.reset(first_call(trouble) if trouble in SLOW else odd_calls(trouble))

    answer = _ask(service, key)

    assert answer.status_code == 200
    assert len(upstream.requests) == 1
    assert trouble in wire.met
    account = service.account(key.account)
    assert account.spent_nano == (COST_NANO if kind == "paid" else 0)
    assert account.holds == {}
    assert len(service.receipts(key.account)) == 1
    wire.reset()
    assert kind == "paid" or _units_used(service, key) == 1


def test_a_slow_store_only_takes_longer(service: RunningFarebox, wire: FaultyWire) -> None:
    key = service.new_key(credit="1")
    wire.latency_s = 0.4

    assert [_ask(service, key).status_code for _ in range(2)] == [200, 200]
    assert service.account(key.account).spent_nano == 2 * COST_NANO


# ── trouble that stays ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (Trouble.CONFLICT, "paid"),
        (Trouble.CONFLICT, "free"),
        (Trouble.THROUGHPUT, "free"),
        (Trouble.THROTTLED, "paid"),
        (Trouble.ERROR_BEFORE, "paid"),
        (Trouble.ERROR_AFTER, "paid"),
        (Trouble.ERROR_AFTER, "free"),
        (Trouble.HANG_AFTER, "free"),
        (Trouble.RESET_AFTER, "paid"),
        (Trouble.RESET_AFTER, "free"),
        (Trouble.NONSENSE, "paid"),
    ],
)
def test_a_store_that_keeps_failing_is_a_503_without_an_upstream_call_and_without_a_hold(
    service: RunningFarebox, wire: FaultyWire, upstream: ScriptedUpstream, trouble: Trouble, kind: str
) -> None:
    key = service.new_key(kind, credit="1" if kind == "paid" else "0")
    wire.reset(always(trouble))

    began = time.monotonic()
    answer = _ask(service, key)

    assert time.monotonic() - began < PATIENCE_S
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "store_unavailable"
    assert int(answer.headers["retry-after"]) >= 1
    assert upstream.requests == []

    wire.reset()  # the request is ended as never sent, without any sweep
    account = service.account(key.account)
    assert account.holds == {}
    assert account.avail_nano == (1_000_000_000 if kind == "paid" else 0)
    assert account.spent_nano == 0
    assert _units_used(service, key) == 0


def test_an_hour_without_a_store(service: RunningFarebox, wire: FaultyWire, upstream: ScriptedUpstream) -> None:
    paid, free = service.new_key(credit="1"), service.new_key("free", credit="0")
    wire.down()
    try:
        for key in (paid, free, paid):
            began = time.monotonic()
            answer = _ask(service, key)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
            assert "retry-after" in answer.headers
            assert time.monotonic() - began < PATIENCE_S
            service.clock.offset_ms += 20 * 60_000
    finally:
        wire.up()
    assert upstream.requests == []

    assert _ask(service, paid).status_code == 200
    assert _ask(service, free).status_code == 200
    assert service.account(paid.account).spent_nano == COST_NANO


# ── a store that goes away under a running request ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [True, False])
def test_a_settlement_insists_until_the_store_is_back(
    service: RunningFarebox, wire: FaultyWire, upstream: ScriptedUpstream, stream: bool
) -> None:
    answer, account = _while_the_store_is_away(service, wire, upstream, stream=stream, away_s=0.8)

    assert answer.status_code == 200
    assert account.spent_nano > 0
    assert account.holds == {}


def test_what_the_store_never_hears_of_is_left_to_the_sweep(
    service: RunningFarebox, wire: FaultyWire, upstream: ScriptedUpstream
) -> None:
    answer, account = _while_the_store_is_away(service, wire, upstream, stream=False, away_s=SETTLE_S + 3.5)

    assert answer.status_code == 200
    assert account.spent_nano == 0
    assert len(account.holds) == 1
    _books_are_right(service)
    account = service.account(account.id)
    assert (account.holds, account.avail_nano) == ({}, 1_000_000_000)
    assert [each["outcome"] for each in service.receipts(account.id)] == ["expired"]


def _while_the_store_is_away(service, wire, upstream, *, stream, away_s):  # type: ignore[no-untyped-def]
    """A request whose store goes away once it is admitted: its answer, and the account when the store is back."""
    key, gate = service.new_key(credit="1"), WaitFor()
    if stream:
        upstream.script = [Send(sse_head()), gate, *(Send(event) for event in chat_stream("a", "b"))]
    else:
        upstream.script = [gate, *upstream.script]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(_ask, service, key, stream=stream)
        wait_until(lambda: len(upstream.requests) == 1)
        wire.down()
        gate.event.set()
        time.sleep(away_s)
        wire.up()
        answer = asked.result(30)
    return answer, service.account(key.account)


# ── a crowd ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 12))])
def test_three_hundred_at_once_on_one_account_with_conflicts_and_throttles(
    service: RunningFarebox, wire: FaultyWire, seed: int
) -> None:
    key = service.new_key(credit="100")
    wire.reset(now_and_then(0.05, (Trouble.CONFLICT, Trouble.THROUGHPUT, Trouble.THROTTLED), seed))

    # The crowd is a process of its own: four actors under one lock would wait for each other, not for the store.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        statuses = pool.submit(crowd, service.base_url, key.text, 300).result(90)

    assert len(wire.met) > 20
    assert not [status for status in statuses if status >= 500 or status == 402], statuses
    assert statuses[200] >= 297, statuses
    account = service.account(key.account)
    assert account.spent_nano == statuses[200] * COST_NANO
    assert account.holds == {}


def crowd(base_url: str, key: str, size: int) -> Counter[int]:
    """How `size` requests at once are answered."""
    return asyncio.run(_crowd(base_url, key, size))


async def _crowd(base_url: str, key: str, size: int) -> Counter[int]:
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one() -> int:
            async with session.post(f"{base_url}/chat/completions", json=CHAT, headers=headers) as answer:
                await answer.read()
                return answer.status

        return Counter(await asyncio.gather(*(one() for _ in range(size))))
