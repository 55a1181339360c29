"""A function's end draws near: the answer stops in time to be settled, and what is too late is not begun."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from farebox.bootstrap import relay_app
from farebox.relay.call import Limits
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import ScriptedUpstream, Send, Sleep, Step, WaitForLeave, chat_stream, chunk, sse_head

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
MARGIN_S = 10
LEFT_S = 0.7
"""How long a request has until the margin begins."""
SLACK_S = 2
"""What a busy machine may add."""


class Conversation:
    """One request to an ASGI application, with the time of each message."""

    def __init__(self, farebox: RunningFarebox, key: Funded, *, stream: bool) -> None:
        self._farebox, self._key = farebox, key
        self._body = json.dumps({**CHAT, "stream": stream}).encode()
        self.messages: list[tuple[float, dict[str, Any]]] = []

    async def _run(self, app: Any) -> None:
        waiting = [{"type": "http.request", "body": self._body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            import asyncio

            if waiting:
                return waiting.pop()
            await asyncio.Event().wait()  # the caller stays
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            self.messages.append((time.monotonic(), message))

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": [(b"authorization", f"Bearer {self._key.text}".encode())],
            "client": ("198.51.100.9", 1),
        }
        await app(scope, receive, send)

    def run(self, *, left_s: float, margin_s: float = MARGIN_S) -> Conversation:
        """`left_s`: until the margin begins. The function ends `margin_s` after that."""
        ends_ms = self._farebox.clock.now_ms() + int((left_s + margin_s) * 1000)
        self.begun = time.monotonic()
        self._farebox.run(self._run(relay_app(self._farebox.services, deadline_of=lambda _: ends_ms)))
        self.took_s = time.monotonic() - self.begun
        return self

    @property
    def status(self) -> int:
        return int(self.messages[0][1]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for _, message in self.messages[1:])


def test_a_stream_ends_before_the_margin_and_is_settled(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = [Send(sse_head()), Send(chunk("he")), WaitForLeave()]
    key = farebox.new_key()
    seen = Conversation(farebox, key, stream=True).run(left_s=LEFT_S)

    assert seen.status == 200
    last = json.loads(seen.body.split(b"\n\n")[-2].removeprefix(b"data: "))
    assert last["error"]["code"] == "upstream_timeout"
    assert b"[DONE]" not in seen.body
    at_s = next(at for at, message in seen.messages if b'"error"' in message.get("body", b"")) - seen.begun
    assert LEFT_S - 0.1 <= at_s < LEFT_S + SLACK_S  # all of the margin is left to settle in
    assert len(upstream.left_at) == 1
    (receipt,) = farebox.receipts(key.account)
    assert receipt["outcome"] == "upstream_cut"
    assert receipt["usage"]["output_token"] == {"count": 1, "source": "counted"}
    account = farebox.account(key.account)
    assert (account.held_nano, account.spent_nano) == (0, receipt["cost_nano"])
    assert receipt["cost_nano"] > 0


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_nothing_has_come_by_then(farebox: RunningFarebox, upstream: ScriptedUpstream, stream: bool) -> None:
    upstream.script = [WaitForLeave()]
    key = farebox.new_key()
    seen = Conversation(farebox, key, stream=stream).run(left_s=LEFT_S)

    assert seen.status == 504
    assert json.loads(seen.body)["error"]["code"] == "upstream_timeout"
    assert LEFT_S - 0.1 <= seen.took_s < LEFT_S + SLACK_S
    (receipt,) = farebox.receipts(key.account)
    assert (receipt["outcome"], receipt["cost_nano"]) == ("failed", 0)
    assert farebox.account(key.account).held_nano == 0


@pytest.mark.parametrize("kind", ["paid", "free"])
@pytest.mark.parametrize("left_s", [0, -1, -60])
def test_too_late_nothing_is_held_or_sent(
    farebox: RunningFarebox, upstream: ScriptedUpstream, left_s: float, kind: str
) -> None:
    key = farebox.new_key(kind)
    seen = Conversation(farebox, key, stream=True).run(left_s=left_s)

    assert seen.status == 504
    assert upstream.requests == []
    assert farebox.receipts(key.account) == []
    assert farebox.account(key.account).holds == {}


def test_what_ends_in_time_is_whole(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    steps: list[Step] = [Send(sse_head())]
    for event in chat_stream("he", "llo"):
        steps += [Send(event), Sleep(0.05)]
    upstream.script = steps
    key = farebox.new_key()
    seen = Conversation(farebox, key, stream=True).run(left_s=20)

    assert seen.body.endswith(b"data: [DONE]\n\n")
    assert [receipt["outcome"] for receipt in farebox.receipts(key.account)] == ["completed"]


def test_without_a_deadline_a_request_has_its_longest_time(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = [Send(sse_head()), Send(chunk("he")), WaitForLeave()]
    key = farebox.new_key()
    relay = farebox.services.relay
    short = replace(relay, limits=replace(Limits(), request_s=LEFT_S))
    app = relay_app(replace(farebox.services, relay=short))
    seen = Conversation(farebox, key, stream=True)
    seen.begun = time.monotonic()
    farebox.run(seen._run(app))

    assert LEFT_S - 0.1 <= time.monotonic() - seen.begun < LEFT_S + SLACK_S
    assert b'"code":"upstream_timeout"' in seen.body
    assert [receipt["outcome"] for receipt in farebox.receipts(key.account)] == ["upstream_cut"]
