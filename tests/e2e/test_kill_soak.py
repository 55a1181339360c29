"""kill -9 of the server and of the store at random moments under a mixed load, again and again; and processes that
sleep through a sweep.

After each kill: restart, the clock past every hold's life, sweep, `farebox audit` exits with 0, nothing is held, and
every answer that somebody has seen the end of is billed. SEED=… repeats a run's dice.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.process import FAREBOX, FareboxProcess, StoreProcess, is_running, wait_until
from tests.fakes.service import REPO
from tests.fakes.upstream import (
    Request,
    ScriptedUpstream,
    Send,
    Sleep,
    Step,
    WaitFor,
    chat_completion,
    chat_stream,
    json_answer,
    sse_head,
)

REPORT = REPO / "build" / "kill-table.md"
SEED = int(os.environ.get("SEED") or time.time_ns() % 1_000_000)
ROUNDS = int(os.environ.get("FAREBOX_KILL_ROUNDS") or 60)
ADMIN_TOKEN = "admin-token-of-the-kill-tests"
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
WORKERS = 12
HOLD_LIFE_S = 1020
BODY_END = json.dumps(chat_completion()).encode()[-12:]
WORDS = 6
COST_NANO = {True: 10 * 1050 + WORDS * 4200, False: 10 * 1050 + 5 * 4200}


@dataclass
class Asked:
    """One request as its caller saw it. `whole`: it saw all of the answer."""

    key: str
    stream: bool
    free: bool
    request_id: str = ""
    whole: bool = False
    status: int = 0


@dataclass
class Tally:
    """What the rounds add up to."""

    counts: Counter[str] = field(default_factory=Counter)
    rows: list[str] = field(default_factory=list)

    def write(self, title: str) -> None:
        REPORT.parent.mkdir(exist_ok=True)
        total = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        head = "| round | killed | after, s | requests | whole answers | holds expired |\n|---|---|---|---|---|---|\n"
        REPORT.write_text(f"# {title}\n\nSEED={SEED}. {total}.\n\n{head}" + "".join(self.rows), "utf-8")


class Rig:
    """One data directory over many lives of its service."""

    def __init__(self, place: Path, upstream: ScriptedUpstream, dice: random.Random, *, name: str = "data") -> None:
        self.dice, self.upstream = dice, upstream
        self.clock = place / f"{name}.clock"
        self._place, self._name = place, name
        self._ahead_s = 0
        self.paid: list[dict[str, Any]] = []
        self.free: list[dict[str, Any]] = []
        self.asked: list[Asked] = []

    def service(self, store: StoreProcess | None = None) -> FareboxProcess:
        config = f"""
            [[channel]]
            name = "scripted"
            vendor = "openai"
            base_url = "{self.upstream.url}"
            keys = ["sk-up"]
            [free]
            requests_per_key = 100000
            requests_per_address = 100000
            [free.groups]
            gpt-4o-mini = 100000
        """
        if store is not None:
            config += f'\n[store]\nendpoint = "{store.endpoint}"\n'
        env = {"FAREBOX_ADMIN_TOKEN": ADMIN_TOKEN, "FAREBOX_CLOCK_FILE": str(self.clock), "FAREBOX_LOG": "1"}
        return FareboxProcess(self._place / self._name, config=config, env=env)

    def make_keys(self, service: FareboxProcess) -> None:
        self.paid = [service.new_key(credit="1000") for _ in range(3)]
        self.free = [service.new_key(kind="free", credit=None) for _ in range(2)]

    def let_holds_lapse(self) -> None:
        self._ahead_s += HOLD_LIFE_S + 60
        self.clock.write_text(str(self._ahead_s))

    # ── load ────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def load(self, service: FareboxProcess) -> Iterator[None]:
        """Keeps asking until the block ends, or the server does."""
        over = threading.Event()
        dice = [random.Random(self.dice.random()) for _ in range(WORKERS)]
        with ThreadPoolExecutor(WORKERS) as pool:
            working = [pool.submit(self._work, service, over, each) for each in dice]
            try:
                yield
            finally:
                over.set()
            for each in working:
                each.result()

    def _work(self, service: FareboxProcess, over: threading.Event, dice: random.Random) -> None:
        with httpx.Client(timeout=30) as client:
            while not over.is_set():
                free = dice.random() < 0.3
                asked = Asked(dice.choice(self.free if free else self.paid)["key"], dice.random() < 0.7, free)
                self.asked.append(asked)
                try:
                    self._ask(client, service, asked, leave=dice.random() < 0.1)
                except httpx.TransportError:
                    if not service.running:
                        return

    @staticmethod
    def _ask(client: httpx.Client, service: FareboxProcess, asked: Asked, *, leave: bool) -> None:
        headers = {"authorization": f"Bearer {asked.key}"}
        url, body = f"{service.base_url}/chat/completions", {**CHAT, "stream": asked.stream}
        with client.stream("POST", url, json=body, headers=headers) as answer:
            asked.status, asked.request_id = answer.status_code, answer.headers["x-request-id"]
            if leave:
                return
            text = b""
            for piece in answer.iter_raw():
                text += piece
                # Seen is seen, also if the server dies before the connection ends.
                asked.whole = asked.status == 200 and text.endswith(b"data: [DONE]\n\n" if asked.stream else BODY_END)

    # ── what must hold ──────────────────────────────────────────────────────────────────────────────────────────

    def check(self, service: FareboxProcess, asked: Iterable[Asked]) -> Counter[str]:
        """The audit, and the receipts of what was acknowledged."""
        audit = subprocess.run(
            [FAREBOX, "audit", "--url", service.url, "--token", ADMIN_TOKEN],
            capture_output=True,
            text=True,
            check=False,
        )
        assert audit.returncode == 0, audit.stdout + audit.stderr
        found = service.admin("GET", "/audit").json()
        assert (found["violations"], found["difference_nano"], found["open_holds"]) == ([], 0, 0), found
        counts: Counter[str] = Counter()
        with httpx.Client(timeout=30) as client:
            for each in asked:
                counts["requests"] += 1
                assert each.status in (0, 200, 502, 503), each
                if not each.request_id:
                    continue
                answer = client.get(
                    f"{service.base_url}/receipts/{each.request_id}", headers={"authorization": each.key}
                )
                receipt = answer.json().get("receipt", {"outcome": "none", "cost_nano": 0})
                counts[receipt["outcome"]] += 1
                assert (receipt["cost_nano"] > 0) == (
                    not each.free and receipt["outcome"] in ("completed", "client_gone", "upstream_cut")
                ), receipt
                if each.whole:
                    counts["whole"] += 1
                    assert receipt["outcome"] == "completed", (each, receipt)
                    assert receipt["cost_nano"] == (0 if each.free else COST_NANO[each.stream])
        return counts


@pytest.fixture
def busy(upstream: ScriptedUpstream) -> ScriptedUpstream:
    """An upstream that takes its time."""
    dice = random.Random(SEED)

    def answer(request: Request) -> list[Step]:
        if not request.json.get("stream"):
            return [Sleep(dice.uniform(0, 0.1)), *json_answer(chat_completion())]
        steps: list[Step] = [Send(sse_head())]
        for event in chat_stream(*["word "] * WORDS, prompt=10):
            steps += [Send(event), Sleep(dice.uniform(0, 0.03))]
        return steps

    upstream.on_request = answer
    return upstream


def kill_rounds(rounds: int, rig: Rig, tally: Tally) -> None:
    with rig.service() as service:
        rig.make_keys(service)
        service.kill()
    for number in range(1, rounds + 1):
        victim = rig.dice.choice(("server", "server", "store", "both"))
        wait_s = rig.dice.uniform(0.05, 1.2)
        first = len(rig.asked)
        with rig.service() as service:
            with rig.load(service):
                time.sleep(wait_s)
                children = service.children()
                store = service.child("dynoxide")
                died = False
                if victim in ("store", "both"):
                    os.kill(store, signal.SIGKILL)
                    tally.counts["kills of the store"] += 1
                if victim == "both":
                    time.sleep(rig.dice.uniform(0, 0.3))  # while it starts again, or has
                if victim in ("server", "both"):
                    died = True
                    service.kill()
                    tally.counts["kills of the server"] += 1
                else:
                    time.sleep(1)
            if not died:
                _sweep_and_check(rig, service, number, victim, wait_s, first, tally, died=False)
        if died:
            wait_until(lambda gone=tuple(children): not any(is_running(pid) for pid in gone))
            with rig.service() as service:
                _sweep_and_check(rig, service, number, victim, wait_s, first, tally, died=died)


def _sweep_and_check(
    rig: Rig,
    service: FareboxProcess,
    number: int,
    victim: str,
    wait_s: float,
    first: int,
    tally: Tally,
    *,
    died: bool,
) -> None:
    if not died:  # nobody's process died: all settle by themselves
        wait_until(lambda: service.admin("GET", "/audit").json()["open_holds"] == 0, within_s=20)
    rig.let_holds_lapse()
    expired = service.admin("POST", "/schedule/sweep").json()
    assert expired["failed"] == 0
    if not died:
        assert expired["expired"] == 0
    counts = rig.check(service, rig.asked[first:])
    for name, count in counts.items():
        tally.counts[name] += count
    tally.rows.append(
        f"| {number} | {victim} | {wait_s:.2f} | {counts['requests']} | {counts['whole']} | {expired['expired']} |\n"
    )


@pytest.mark.timeout(110)
def test_a_few_kills_at_random(busy: ScriptedUpstream, tmp_path: Path) -> None:
    tally = Tally()
    kill_rounds(3, Rig(tmp_path, busy, random.Random(SEED)), tally)
    assert tally.counts["whole"] > 0, tally.counts


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_kills_by_the_dozen(busy: ScriptedUpstream, tmp_path: Path) -> None:
    tally = Tally()
    begun = time.monotonic()
    try:
        kill_rounds(ROUNDS, Rig(tmp_path, busy, random.Random(SEED)), tally)
    finally:
        tally.write(f"{len(tally.rows)} rounds of kill -9 in {time.monotonic() - begun:.0f} s")
        print(f"SEED={SEED}", dict(tally.counts))
    assert tally.counts["whole"] > ROUNDS


# ── asleep through a sweep ──────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def two_services(place: Path, upstream: ScriptedUpstream) -> Iterator[tuple[Rig, FareboxProcess, Rig, FareboxProcess]]:
    """Two servers on one store, each with a clock of its own."""
    with ExitStack() as stack:
        store = stack.enter_context(StoreProcess(place / "shared.sqlite"))
        dice = random.Random(SEED)
        sleeper, sweeper = (Rig(place, upstream, dice, name=name) for name in ("sleeper", "sweeper"))
        asleep = stack.enter_context(sleeper.service(store))
        awake = stack.enter_context(sweeper.service(store))
        sleeper.make_keys(asleep)
        yield sleeper, asleep, sweeper, awake


@contextmanager
def stopped(service: FareboxProcess) -> Iterator[None]:
    os.kill(service.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(service.pid, signal.SIGCONT)


@pytest.mark.parametrize("kind", ["paid", "free"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_who_sleeps_through_the_sweep_settles_nothing(
    upstream: ScriptedUpstream, tmp_path: Path, stream: bool, kind: str
) -> None:
    gate = WaitFor()
    events = chat_stream("a", "b", prompt=10)
    late: list[Step] = [Send(b"".join(events[1:]))] if stream else json_answer(chat_completion())
    upstream.script = [Send(sse_head() + events[0]), gate, *late] if stream else [gate, *late]
    with two_services(tmp_path, upstream) as (sleeper, asleep, sweeper, awake):
        key = (sleeper.paid if kind == "paid" else sleeper.free)[0]
        asked = Asked(key["key"], stream, kind == "free")
        with ThreadPoolExecutor(1) as pool, httpx.Client(timeout=30) as client:
            asking = pool.submit(sleeper._ask, client, asleep, asked, leave=False)
            wait_until(lambda: len(upstream.requests) == 1)
            with stopped(asleep):
                sweeper.let_holds_lapse()
                assert awake.admin("POST", "/schedule/sweep").json()["expired"] == 1
                gate.event.set()
            asking.result()
        assert asked.whole  # its caller knows nothing of all this
        wait_until(lambda: "settled_by_another" in asleep.output + asleep.errors)

        receipt = httpx.get(
            f"{asleep.base_url}/receipts/{asked.request_id}", headers={"authorization": asked.key}
        ).json()["receipt"]
        assert (receipt["outcome"], receipt["cost_nano"]) == ("expired", 0)
        account = asleep.account(key["account"])
        assert (account["held"], account["spent"]) == ("0", "0")
        for service in (asleep, awake):
            found = service.admin("GET", "/audit").json()
            assert (found["violations"], found["difference_nano"], found["open_holds"]) == ([], 0, 0)

        upstream.script = json_answer(chat_completion())  # and it is as good as new
        again = httpx.post(f"{asleep.base_url}/chat/completions", json=CHAT, headers={"authorization": asked.key})
        assert again.status_code == 200


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_asleep_at_random_moments(busy: ScriptedUpstream, tmp_path: Path) -> None:
    rounds, slept = ROUNDS // 4, Counter[str]()
    with two_services(tmp_path, busy) as (sleeper, asleep, sweeper, awake):
        for _ in range(rounds):
            with sleeper.load(asleep):
                time.sleep(sleeper.dice.uniform(0.05, 0.8))
                with stopped(asleep):
                    time.sleep(sleeper.dice.uniform(0, 0.3))
                    sweeper.let_holds_lapse()
                    slept["expired"] += awake.admin("POST", "/schedule/sweep").json()["expired"]
                time.sleep(0.5)
            wait_until(lambda: awake.admin("GET", "/audit").json()["open_holds"] == 0, within_s=20)
            for service in (asleep, awake):
                found = service.admin("GET", "/audit").json()
                assert (found["violations"], found["difference_nano"], found["open_holds"]) == ([], 0, 0)
            sleeper.clock.write_text(sweeper.clock.read_text())
        slept["requests"] = len(sleeper.asked)
        slept["settled by another"] = (asleep.output + asleep.errors).count("settled_by_another")
    with REPORT.open("a", encoding="utf-8") as report:
        report.write(f"\nStopped through a sweep in {rounds} rounds: {dict(slept)}\n")
    assert slept["expired"] > 0
