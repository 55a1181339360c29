"""Memory stays bounded, whatever an upstream sends and however slowly a caller reads.

The service runs in a process of its own. What counts is the peak of its resident memory (VmHWM, set back before each
scene) above what it had before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.fakes.process import FareboxProcess, http, wait_until
from tests.fakes.upstream import (
    DONE,
    ScriptedUpstream,
    Send,
    Sleep,
    Step,
    chat_stream,
    chunk,
    head,
    sse_head,
)

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
STREAM = {**CHAT, "stream": True}
MIB = 1024 * 1024
SOAK = bool(os.environ.get("FAREBOX_SOAK"))
"""The same for longer."""
ADMIN_TOKEN = "admin-token-of-the-memory-tests"
pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux's /proc is needed"),
    *([pytest.mark.soak, pytest.mark.timeout(300)] if SOAK else []),
]


@pytest.fixture(scope="module")
def _service(_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FareboxProcess]:
    config = f"""
        [[channel]]
        name = "scripted"
        vendor = "openai"
        base_url = "{_upstream.url}"
        keys = ["sk-up"]
    """
    place = tmp_path_factory.mktemp("memory") / "data"
    with FareboxProcess(place, config=config, env={"FAREBOX_ADMIN_TOKEN": ADMIN_TOKEN}) as process:
        yield process


@pytest.fixture
def service(_service: FareboxProcess, upstream: ScriptedUpstream) -> Iterator[FareboxProcess]:
    """Warm: the first requests of each kind have been."""
    key = headers(_service)
    post(_service, CHAT, key)
    upstream.script = [Send(sse_head()), *(Send(event) for event in chat_stream("hello"))]
    post(_service, STREAM, key)
    upstream.reset()
    yield _service
    upstream.reset()


def headers(service: FareboxProcess) -> dict[str, str]:
    return {"authorization": f"Bearer {service.new_key(credit='100')['key']}"}


def post(service: FareboxProcess, body: object, key: dict[str, str]) -> httpx.Response:
    return http.post(f"{service.base_url}/chat/completions", json=body, headers=key, timeout=60)


def memory_kib(service: FareboxProcess, field: str) -> int:
    status = Path(f"/proc/{service.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))


class Peak:
    """How far the process's memory rose while the block ran, in MiB."""

    def __init__(self, service: FareboxProcess) -> None:
        self._service = service

    def __enter__(self) -> Peak:
        Path(f"/proc/{self._service.pid}/clear_refs").write_text("5")
        self._before = memory_kib(self._service, "VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.mib = (memory_kib(self._service, "VmHWM") - self._before) / 1024
        print(f"peak: {self.mib:.1f} MiB above {self._before / 1024:.0f}")


def endless(upstream: ScriptedUpstream, event: bytes, pause_s: float = 0) -> Callable[[object], Iterable[Step]]:
    """A stream that goes on until the upstream is told something else."""

    def steps(_: object) -> Iterable[Step]:
        yield Send(sse_head())
        while upstream.on_request is steps:
            yield Send(event)
            if pause_s:
                yield Sleep(pause_s)

    return steps


def read_for(service: FareboxProcess, key: dict[str, str], seconds: float) -> int:
    """Reads a stream for so long, then leaves; how many bytes came."""
    size, end = 0, time.monotonic() + seconds
    with (
        httpx.Client(timeout=30) as client,
        client.stream("POST", f"{service.base_url}/chat/completions", json=STREAM, headers=key) as answer,
    ):
        for piece in answer.iter_raw():
            size += len(piece)
            if time.monotonic() > end:
                break
    return size


def settled(service: FareboxProcess, key: dict[str, str]) -> bool:
    balance = http.post(f"{service.base_url}/query/balance", headers=key, timeout=30).json()
    return bool(balance["balanceHeld"] == 0)


def test_small_events_without_an_end(service: FareboxProcess, upstream: ScriptedUpstream) -> None:
    upstream.on_request = endless(upstream, chunk("word ") * 50)
    key = headers(service)
    with Peak(service) as peak:
        size = read_for(service, key, 60 if SOAK else 5)
        wait_until(lambda: settled(service, key), within_s=60)  # heard out up to the limit of a stream
    print(f"{size / MIB:.0f} MiB read, {upstream.bytes_sent / MIB:.0f} MiB sent")
    assert upstream.bytes_sent < 220 * MIB
    assert peak.mib < 32


def test_a_line_of_64_mib(service: FareboxProcess, upstream: ScriptedUpstream) -> None:
    def line(_: object) -> Iterable[Step]:
        yield Send(sse_head())
        yield Send(chunk("he"))
        yield Send(b'data: {"choices":[{"delta":{"content":"')
        for _ in range(64):
            yield Send(b"a" * MIB)
        yield Send(b'"}}]}\n\n' + DONE)

    upstream.on_request = line
    with Peak(service) as peak:
        answer = post(service, STREAM, headers(service))
    assert b'"code":"upstream_error"' in answer.content
    assert peak.mib < 64


def test_a_plain_answer_of_300_mb(service: FareboxProcess, upstream: ScriptedUpstream) -> None:
    def body(_: object) -> Iterable[Step]:
        yield Send(head(content_length="300000000"))
        for _ in range(300):
            yield Send(b"a" * 1_000_000)

    upstream.on_request = body
    with Peak(service) as peak:
        answer = post(service, CHAT, headers(service))
    assert answer.status_code == 502
    assert peak.mib < 96


def test_an_error_of_300_mb(service: FareboxProcess, upstream: ScriptedUpstream) -> None:
    def body(_: object) -> Iterable[Step]:
        yield Send(head(400, content_length="300000000"))
        for _ in range(300):
            yield Send(b"a" * 1_000_000)

    upstream.on_request = body
    with Peak(service) as peak:
        assert post(service, CHAT, headers(service)).status_code == 400  # its status says enough
    assert peak.mib < 16


def test_the_largest_plain_answer(service: FareboxProcess, upstream: ScriptedUpstream) -> None:
    """63 MiB of one text, which is counted because the upstream's usage is missing."""
    text = b"word " * (63 * MIB // 5)
    answer = b'{"choices":[{"message":{"content":"' + text + b'"},"finish_reason":"stop"}]}'
    upstream.script = [Send(head(content_length=str(len(answer)))), Send(answer)]
    with Peak(service) as peak:
        begun = time.monotonic()
        seen = post(service, CHAT, headers(service))
        print(f"{time.monotonic() - begun:.1f} s")
    assert seen.content == answer
    assert peak.mib < 256


def test_a_caller_who_never_reads_slows_the_upstream(service: FareboxProcess, upstream: ScriptedUpstream) -> None:
    upstream.on_request = endless(upstream, chunk("word " * 10_000))
    key = headers(service)
    with (
        httpx.Client(timeout=30) as client,
        Peak(service) as peak,
        client.stream("POST", f"{service.base_url}/chat/completions", json=STREAM, headers=key) as answer,
    ):
        assert answer.status_code == 200
        wait_until(lambda: stands_still(upstream), within_s=20)
        sent = upstream.bytes_sent
        time.sleep(10 if SOAK else 1)
        assert upstream.bytes_sent == sent  # its writer is blocked
        print(f"{sent / MIB:.1f} MiB sent")
    assert sent < 32 * MIB  # what the buffers of four sockets hold
    assert peak.mib < 16
    upstream.on_request = None
    wait_until(lambda: settled(service, key), within_s=60)


def stands_still(upstream: ScriptedUpstream) -> bool:
    before = upstream.bytes_sent
    time.sleep(0.4)
    return before > 0 and upstream.bytes_sent == before


def test_fifty_streams_at_once(service: FareboxProcess, upstream: ScriptedUpstream) -> None:
    count = 50
    upstream.on_request = endless(upstream, chunk("word " * 20), pause_s=0.02)
    keys = [headers(service) for _ in range(count)]
    with Peak(service) as peak, ThreadPoolExecutor(count) as pool:
        sizes = list(pool.map(lambda key: read_for(service, key, 20 if SOAK else 3), keys))
    assert min(sizes) > 1000
    assert peak.mib < count * 0.5


def test_what_was_taken_does_not_grow(service: FareboxProcess, upstream: ScriptedUpstream) -> None:
    """The same again and again: after the first rounds memory stays where it is."""
    upstream.script = [Send(sse_head()), *(Send(event) for event in chat_stream(*["word "] * 50))]
    key = headers(service)

    def round_of(requests: int) -> None:
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda _: post(service, STREAM, key), range(requests)))
        assert {answer.status_code for answer in answers} == {200}

    round_of(60)
    before = memory_kib(service, "VmRSS")
    round_of(1500 if SOAK else 100)
    growth = (memory_kib(service, "VmRSS") - before) / 1024
    print(f"growth: {growth:.1f} MiB")
    assert growth < 8
