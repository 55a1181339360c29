"""kill -9 of the server under live streams, and of its store under load: what was acknowledged stays, to the nano."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.fakes.process import FareboxProcess, http, is_running, wait_until
from tests.fakes.upstream import (
    Request,
    ScriptedUpstream,
    Send,
    Step,
    WaitFor,
    chat_completion,
    chunk,
    json_answer,
    sse_head,
)

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
COST_NANO = 31_500  # of the scripted upstream's plain answer: 10 tokens at 1,050 and 5 at 4,200
CREDIT_NANO = 10 * 10**9
STREAMS = 4
HOLD_LIFE_S = 2 * 3600
"""Longer than any hold lives."""
ENV = {"FAREBOX_ADMIN_TOKEN": "admin-token-of-the-tests"}


def nano(decimal: object) -> int:
    whole, _, rest = str(decimal).partition(".")
    return int(whole) * 10**9 + int(rest.ljust(9, "0"))


class Ledgered:
    """One account, and what its owner has been told about it."""

    def __init__(self, service: FareboxProcess) -> None:
        made = service.new_key(credit="10")
        self.key, self.account = made["key"], made["account"]
        self.acknowledged: list[str] = []

    def ask(self, service: FareboxProcess) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.key}"}
        answer = http.post(f"{service.base_url}/chat/completions", json=CHAT, headers=headers)
        if answer.status_code == 200:
            assert nano(answer.headers["x-farebox-cost"]) == COST_NANO
            self.acknowledged.append(answer.headers["x-request-id"])
        return answer

    def seen(self, service: FareboxProcess) -> dict[str, object]:
        """The account, which must add up whatever has happened to it."""
        seen = service.account(self.account)
        assert nano(seen["available"]) + nano(seen["held"]) == CREDIT_NANO - nano(seen["spent"])
        return seen

    def receipt(self, service: FareboxProcess, request_id: str) -> dict[str, object]:
        answer = http.get(f"{service.base_url}/receipts/{request_id}", headers={"authorization": self.key})
        assert answer.status_code == 200, answer.text
        document: dict[str, object] = answer.json()["receipt"]
        return document


class LiveStream:
    """A stream that has begun and does not end. A socket of its own, so that nothing hides what comes."""

    def __init__(self, service: FareboxProcess, key: str) -> None:
        parts = urlsplit(service.url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=20)
        body = json.dumps({**CHAT, "stream": True}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: farebox\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)
        self.received = b""
        while b'"content":"begun"' not in self.received:
            self.received += self._socket.recv(65536)
        self.request_id = self.received.partition(b"x-request-id: ")[2].partition(b"\r\n")[0].decode()

    def rest(self) -> bytes:
        """What comes until the connection ends."""
        pieces = []
        try:
            while piece := self._socket.recv(65536):
                pieces.append(piece)
        except ConnectionError:
            pass
        return b"".join(pieces)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def live_streams(service: FareboxProcess, keys: list[str]) -> Iterator[list[LiveStream]]:
    streams = [LiveStream(service, key) for key in keys]
    try:
        yield streams
    finally:
        for stream in streams:
            stream.close()


@pytest.fixture
def endless(upstream: ScriptedUpstream) -> Iterator[ScriptedUpstream]:
    """Plain requests are answered, streams begin and do not end."""
    wait = WaitFor()

    def answer(request: Request) -> list[Step]:
        if request.json.get("stream"):
            return [Send(sse_head()), Send(chunk("begun")), wait]
        return json_answer(chat_completion())

    upstream.on_request = answer
    yield upstream
    wait.event.set()


def config(upstream: ScriptedUpstream) -> str:
    return (
        f'[[channel]]\nname = "scripted"\nvendor = "openai"\nbase_url = "{upstream.url}"\nkeys = ["sk-up"]\n'
        "[free.groups]\ngpt-4o-mini = 3\n"
    )


# ── the server ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_after_a_kill_under_live_streams_money_is_held_then_comes_back_and_what_was_paid_stays_paid(
    endless: ScriptedUpstream, tmp_path: Path
) -> None:
    clock = tmp_path / "clock"
    env = {**ENV, "FAREBOX_CLOCK_FILE": str(clock)}

    def start() -> FareboxProcess:
        return FareboxProcess(tmp_path / "data", config=config(endless), env=env)

    with start() as service:
        busy, idle = Ledgered(service), Ledgered(service)
        for one in (busy, idle, busy):
            assert one.ask(service).status_code == 200
        assert nano(busy.seen(service)["spent"]) == 2 * COST_NANO  # which waits until they are settled
        assert nano(idle.seen(service)["spent"]) == COST_NANO
        with live_streams(service, [busy.key] * STREAMS + [idle.key] * STREAMS) as streams:
            children = service.children()
            service.kill()
            rests = [stream.rest() for stream in streams]
        wait_until(lambda: not any(is_running(pid) for pid in children))
    assert all(b"[DONE]" not in rest and not rest.endswith(b"0\r\n\r\n") for rest in rests)  # no clean end
    ids = [stream.request_id for stream in streams]

    with start() as service:  # its first sweep finds nothing lapsed
        held = {one.account: nano(one.seen(service)["held"]) for one in (busy, idle)}
        for one in (busy, idle):
            seen = one.seen(service)
            assert len(seen["holds"]) == STREAMS  # type: ignore[arg-type]
            assert held[one.account] > 0
            assert nano(seen["spent"]) == len(one.acknowledged) * COST_NANO

        clock.write_text(str(HOLD_LIFE_S))
        assert busy.ask(service).status_code == 200  # the account's next request ends what lapsed
        wait_until(lambda: busy.seen(service)["held"] == "0")
        assert nano(busy.seen(service)["spent"]) == 3 * COST_NANO
        assert nano(idle.seen(service)["held"]) == held[idle.account]  # nobody has looked at that one yet
        service.kill()

    with start() as service:  # its first sweep does
        wait_until(lambda: idle.seen(service)["held"] == "0")
        assert nano(idle.seen(service)["spent"]) == COST_NANO
        for one, own in ((busy, ids[:STREAMS]), (idle, ids[STREAMS:])):
            for request_id in own:
                receipt = one.receipt(service, request_id)
                assert (receipt["outcome"], receipt["cost_nano"]) == ("expired", 0)
            for request_id in one.acknowledged:
                receipt = one.receipt(service, request_id)
                assert (receipt["outcome"], receipt["cost_nano"]) == ("completed", COST_NANO)
        assert service.admin("POST", "/schedule/sweep").json()["expired"] == 0
        audit = service.admin("GET", "/audit").json()
        assert (audit["difference_nano"], audit["open_holds"], audit["violations"]) == (0, 0, [])


def test_a_kill_gives_no_free_request_back_and_takes_none_away(endless: ScriptedUpstream, tmp_path: Path) -> None:
    settings = config(endless)
    with FareboxProcess(tmp_path / "data", config=settings, env=ENV) as service:
        free = service.new_key(kind="free", credit=None)["key"]
        headers = {"authorization": free}
        first = http.post(f"{service.base_url}/chat/completions", json=CHAT, headers=headers)
        assert first.headers["x-ratelimit-remaining-requests"] == "2"
        with live_streams(service, [free]):
            service.kill()
    with FareboxProcess(tmp_path / "data", config=settings, env=ENV) as service:
        answers = [http.post(f"{service.base_url}/chat/completions", json=CHAT, headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "0"


def test_a_kill_under_a_rush_of_plain_requests_bills_none_twice_and_none_that_was_not_made(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """An answer goes out a moment before it is settled: a kill in that moment is the house's loss, not the caller's."""
    settings = config(upstream)
    with FareboxProcess(tmp_path / "data", config=settings, env=ENV) as service:
        one = Ledgered(service)
        assert one.ask(service).status_code == 200

        def rush() -> None:
            try:
                while True:
                    one.ask(service)
            except httpx.TransportError:
                return

        with ThreadPoolExecutor(8) as pool:
            rushing = [pool.submit(rush) for _ in range(8)]
            wait_until(lambda: len(one.acknowledged) > 50, within_s=30)
            service.kill()
        for each in rushing:
            each.result()
        made = len(upstream.requests)

    with FareboxProcess(tmp_path / "data", config=settings, env=ENV) as service:
        seen = one.seen(service)
        spent, holds = nano(seen["spent"]), len(seen["holds"])  # type: ignore[arg-type]
        assert spent % COST_NANO == 0
        billed = spent // COST_NANO
        # At most the requests that were under way when the end came are not billed, and each of them is still held.
        assert len(one.acknowledged) - 8 <= billed <= made
        assert billed + holds <= made + 8
        assert billed + holds >= len(one.acknowledged)
        assert service.admin("GET", "/audit").json()["violations"] == []


# ── the store ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_kills_of_the_store_under_load_lose_nothing_that_was_acknowledged(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    with FareboxProcess(tmp_path / "data", config=config(upstream), env=ENV) as service:
        accounts = [Ledgered(service) for _ in range(2)]
        over, results = threading.Event(), []

        def load(one: Ledgered) -> None:
            while not over.is_set():
                answer = one.ask(service)
                code = answer.json()["error"]["code"] if answer.status_code != 200 else "ok"
                results.append((answer.status_code, code))

        with ThreadPoolExecutor(8) as pool:
            loading = [pool.submit(load, accounts[number % 2]) for number in range(8)]
            try:
                for _ in range(3):
                    time.sleep(0.7)
                    before = service.child("dynoxide")
                    os.kill(before, signal.SIGKILL)
                    wait_until(lambda gone=before: not is_running(gone))
                    wait_until(lambda: any("dynoxide" in line for line in service.children().values()))
                settled_at = len(results)
                wait_until(lambda: len(results) > settled_at + 100, within_s=20)
            finally:
                over.set()
            for each in loading:
                each.result()

        counted = Counter(results)
        assert set(counted) <= {(200, "ok"), (503, "store_unavailable")}, counted
        assert counted[200, "ok"] > 100
        for one in accounts:
            wait_until(lambda one=one: one.seen(service)["held"] == "0", within_s=20)
            assert nano(one.seen(service)["spent"]) == len(one.acknowledged) * COST_NANO
        for request_id in accounts[0].acknowledged:
            assert accounts[0].receipt(service, request_id)["outcome"] == "completed"
        audit = service.admin("GET", "/audit").json()
        assert (audit["difference_nano"], audit["open_holds"], audit["violations"]) == (0, 0, [])
        assert service.stop() == 0


def test_a_store_that_dies_again_while_it_starts_is_started_again(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    with FareboxProcess(tmp_path / "data", config=config(upstream), env=ENV) as service:
        one = Ledgered(service)
        for _ in range(4):
            wait_until(lambda: any("dynoxide" in line for line in service.children().values()))
            store = service.child("dynoxide")
            os.kill(store, signal.SIGKILL)  # most likely before it listens
            wait_until(lambda gone=store: not is_running(gone))
        wait_until(lambda: one.ask(service).status_code == 200, within_s=30)

        assert nano(one.seen(service)["spent"]) == COST_NANO


def test_a_stream_whose_store_dies_in_the_middle_ends_well_and_is_billed(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    wait = WaitFor()
    upstream.script = [Send(sse_head()), Send(chunk("begun")), wait, Send(chunk(" ended", finish="stop"))]
    upstream.script += [Send(b"data: [DONE]\n\n")]
    with FareboxProcess(tmp_path / "data", config=config(upstream), env=ENV) as service:
        one = Ledgered(service)
        with live_streams(service, [one.key]) as (stream,):
            before = service.child("dynoxide")
            os.kill(before, signal.SIGKILL)
            wait.event.set()
            while b"[DONE]" not in stream.received:
                stream.received += stream._socket.recv(65536)
        wait_until(lambda: one.seen(service)["held"] == "0")

        assert nano(one.seen(service)["spent"]) > 0
        assert one.receipt(service, stream.request_id)["outcome"] == "completed"
        assert service.child("dynoxide") != before


def test_while_the_store_is_away_requests_get_503_and_reach_no_upstream(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    with FareboxProcess(tmp_path / "data", config=config(upstream), env=ENV) as service:
        one = Ledgered(service)
        free = service.new_key(kind="free", credit=None)["key"]
        store = service.child("dynoxide")
        os.kill(store, signal.SIGSTOP)  # away without a word: connections stand, nothing answers
        try:
            headers = [{"authorization": one.key}, {"authorization": free}]
            with ThreadPoolExecutor(4) as pool:
                asked = [
                    pool.submit(http.post, f"{service.base_url}/chat/completions", json=CHAT, headers=each)
                    for each in headers
                ]
                ready = pool.submit(http.get, f"{service.url}/readyz")
                assert http.get(f"{service.url}/healthz").status_code == 200
                answers = [each.result() for each in (*asked, ready)]
        finally:
            os.kill(store, signal.SIGCONT)

        for answer in answers:
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert upstream.requests == []
        wait_until(lambda: one.seen(service)["held"] == "0", within_s=20)  # also if a write got through after all
        assert one.ask(service).status_code == 200
        assert nano(one.seen(service)["spent"]) == COST_NANO
        left = http.post(f"{service.base_url}/chat/completions", json=CHAT, headers={"authorization": free})
        assert left.headers["x-ratelimit-remaining-requests"] == "2"
