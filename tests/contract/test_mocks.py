"""Mock vendors that others wrote: aimock (npm) and llmock (PyPI), by every door of theirs, and llmock's faults."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from farebox.local.child import die_with_parent
from farebox.local.store_process import free_port
from farebox.relay.channels import Channel
from farebox.vendors import VENDORS
from tests.contract.answers import Said, read, valid
from tests.contract.conftest import Lead
from tests.contract.exchange import cost_nano, receipt_of, send, usage_on
from tests.contract.recordings import Facts, Recording
from tests.contract.routes import OUTPUT_TOKENS, ROUTES, Route, ask
from tests.contract.test_breaking import is_told_in_the_stream, problem
from tests.fakes.process import http, wait_until
from tests.fakes.service import RunningFarebox

TEXT = "The lamp in bay 3 is lit. 灯亮着 💡"
CALL = ["lamp_state", {"bay": 3, "note": "二楼"}]
CHAT = ("chat.completions", "messages", "generateContent")


def route_of(operation: str, vendor: str) -> Route:
    return next(route for route in ROUTES if (route.caller.name, route.vendor) == (operation, vendor))


def wanted(route: Route, *, stream: bool, tools: bool) -> Recording:
    """A recording in name only: what is asked for."""
    facts = Facts(calls=[CALL] if tools else [])
    return Recording(route.vendor, f"{route.wire.name}.x.{'sse' if stream else 'json'}", route.wire.name, facts)


def exchanged(
    farebox: RunningFarebox, route: Route, *, stream: bool, tools: bool, model: str | None = None
) -> tuple[Said, dict[str, Any], httpx.Response]:
    """What the caller reads, and the receipt."""
    key = farebox.new_key(credit="20")
    asked = ask(route, wanted(route, stream=stream, tools=tools), model=model)
    answer = send(farebox, key, route.caller.dialect, asked)
    assert answer.status_code == 200, answer.text
    if route.bridge is not None:
        valid(route.caller.name, answer.content, stream=stream)
    return read(route.caller.name, answer.content, stream=stream), receipt_of(farebox, key), answer


def is_billed(farebox: RunningFarebox, route: Route, receipt: dict[str, Any]) -> None:
    """By the mock's own figures."""
    usage = usage_on(receipt)
    assert receipt["outcome"] == "completed"
    assert 0 < usage["output_token"] <= OUTPUT_TOKENS
    assert receipt["cost_nano"] == cost_nano(farebox, receipt["model"], usage) > 0


# ── aimock ──────────────────────────────────────────────────────────────────────────────────────────────────────────

AIMOCK = {"openai": "/v1", "azure": "", "anthropic": "/v1", "google": "/v1beta", "deepseek": "/v1", "xai": "/v1"}
"""Vendor → where its door stands. Google's OpenAI door is not among them."""
AIMOCK_ROUTES = [
    route
    for route in ROUTES
    if route.vendor in AIMOCK
    and route.caller.name in CHAT
    and (route.vendor, route.door.dialect) != ("google", "openai")
]


@pytest.fixture(scope="module")
def aimock() -> Iterator[str]:
    script = Path(__file__).with_name("aimock.mjs")
    with subprocess.Popen(["node", str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().decode().strip()
        process.stdin.close()
        process.wait(10)


@pytest.mark.parametrize("tools", [False, True], ids=["text", "tools"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("route", AIMOCK_ROUTES, ids=str)
def test_aimock_is_heard_in_every_dialect(
    route: Route, stream: bool, tools: bool, farebox: RunningFarebox, aimock: str, lead: Lead
) -> None:
    base_url = aimock + AIMOCK[route.vendor]
    lead(Channel("aimock", VENDORS[route.vendor], base_url, ("sk-mock",), models=(route.model(),)))
    said, receipt, _ = exchanged(farebox, route, stream=stream, tools=tools)

    assert [[name, json.loads(given) if isinstance(given, str) else given] for name, given in said.calls] == (
        [CALL] if tools else []
    )
    assert said.text == ("" if tools else TEXT)
    assert said.finish == ("tool_calls" if tools else "stop")
    assert said.ended
    is_billed(farebox, route, receipt)


# ── llmock ──────────────────────────────────────────────────────────────────────────────────────────────────────────

LLMOCK = {
    "openai": ("openai", "/v1"),
    "anthropic": ("anthropic", "/anthropic/v1"),
    "google": ("gemini", "/gemini/v1beta"),
    "xai": ("xai", "/xai/v1"),
    "openai-compatible": ("groq", "/groq/openai/v1"),
}
"""Vendor → llmock's name for it, and where its door stands."""
LLMOCK_ROUTES = [
    route
    for route in ROUTES
    if route.vendor in LLMOCK
    and route.caller.name in CHAT
    and (route.vendor, route.door.dialect) != ("google", "openai")
]


@pytest.fixture(scope="module")
def _llmock() -> Iterator[str]:
    port = free_port()
    command = [str(Path(sys.executable).with_name("llmock")), "serve", "-h", "127.0.0.1", "-p", str(port)]
    url = f"http://127.0.0.1:{port}"
    child = subprocess.Popen(
        [*command, "--log-level", "error"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    with child:
        try:
            wait_until(lambda: _answers(url), within_s=30)
            yield url
        finally:
            child.kill()


def _answers(url: str) -> bool:
    try:
        return http.get(f"{url}/_llmock/scenario").status_code == 200
    except httpx.TransportError:
        return False


class Llmock:
    """`will(...)`: what the next requests to a vendor's door meet."""

    def __init__(self, url: str) -> None:
        self.url = url

    def will(self, *behaviors: dict[str, Any]) -> None:
        assert http.post(f"{self.url}/_llmock/scenario", json={"behaviors": list(behaviors)}).status_code == 201

    def channel(self, vendor: str, model: str, *, priority: int = 0) -> Channel:
        return Channel(
            name=f"mock-{vendor}",
            vendor=VENDORS[vendor],
            base_url=self.url + LLMOCK[vendor][1],
            keys=("sk-mock",),
            models=(model,),
            priority=priority,
            first_content_s=1 if priority else None,
        )


@pytest.fixture
def llmock(_llmock: str) -> Llmock:
    http.post(f"{_llmock}/_llmock/reset")
    return Llmock(_llmock)


def only(vendor: str) -> dict[str, Any]:
    return {"provider": LLMOCK[vendor][0]}


@pytest.mark.parametrize("tools", [False, True], ids=["text", "tools"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("route", LLMOCK_ROUTES, ids=str)
def test_llmock_is_heard_in_every_dialect(
    route: Route, stream: bool, tools: bool, farebox: RunningFarebox, llmock: Llmock, lead: Lead
) -> None:
    reply = {"tool_calls": [{"name": CALL[0], "arguments": CALL[1]}]} if tools else {"text": TEXT}
    llmock.will({"type": "reply", **reply})
    lead(llmock.channel(route.vendor, route.model()))
    said, receipt, _ = exchanged(farebox, route, stream=stream, tools=tools)

    assert [[name, json.loads(given) if isinstance(given, str) else given] for name, given in said.calls] == (
        [CALL] if tools else []
    )
    assert said.text == ("" if tools else TEXT)
    assert said.ended
    is_billed(farebox, route, receipt)


FAULTS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "500": ([{"type": "fail", "status": 500}], "status_5xx"),
    "503, three times": ([{"type": "fail", "status": 503, "times": 3}], "status_503"),
    "a rate limit": ([{"type": "fail", "status": 429, "retry_after": 30}], "status_429"),
    "401": ([{"type": "fail", "status": 401}], "status_401"),
    "too late": ([{"type": "delay", "seconds": 2}], "stalled"),
}
STREAM_FAULTS: dict[str, tuple[list[dict[str, Any]], str]] = {
    **FAULTS,
    "a slow first token": ([{"type": "slow_first_token", "seconds": 2}], "stalled"),
    **{
        f"{kind} at once": ([{"type": "stream_fault", "kind": kind, "after_chunks": 0, "stall_seconds": 2}], word)
        for kind, word in (("disconnect", "cut"), ("truncate", "cut"), ("stall", "stalled"))
    },
}
WAYS = [
    ("chat.completions", "openai", "anthropic"),
    ("messages", "anthropic", "openai"),
    ("generateContent", "google", "xai"),
]


CASES = [(fault, False, *behaviors) for fault, behaviors in FAULTS.items()]
CASES += [(fault, True, *behaviors) for fault, behaviors in STREAM_FAULTS.items()]
MET = [
    (*case, *way)
    for number, case in enumerate(CASES)
    for place, way in enumerate(WAYS)
    if case[3] != "stalled" or place == number % len(WAYS)  # each of these takes a second
]


@pytest.mark.parametrize(("fault", "stream", "behaviors", "word", "operation", "first", "second"), MET)
def test_of_a_fault_before_content_the_caller_sees_nothing(
    fault: str,
    stream: bool,
    behaviors: list[dict[str, Any]],
    word: str,
    operation: str,
    first: str,
    second: str,
    farebox: RunningFarebox,
    llmock: Llmock,
    lead: Lead,
) -> None:
    """The second vendor speaks another dialect."""
    llmock.will(*({**each, "match": only(first)} for each in behaviors))
    llmock.will({"type": "reply", "text": TEXT, "match": only(second)})
    lead(llmock.channel(first, "gpt-4o", priority=1), llmock.channel(second, "gpt-4o"))
    route = route_of(operation, second)
    said, receipt, answer = exchanged(farebox, route, stream=stream, tools=False, model="gpt-4o")

    assert (said.text, said.finish, said.ended) == (TEXT, "stop", True)
    assert b"llmock" not in answer.content.lower()
    assert [(each["channel"], each["result"]) for each in receipt["attempts"]] == [
        (f"mock-{first}", word),
        (f"mock-{second}", "answered"),
    ]
    is_billed(farebox, route, receipt)


@pytest.mark.parametrize("kind", ["disconnect", "truncate"])
@pytest.mark.parametrize(("operation", "vendor"), [(each, vendor) for each, *vendors in WAYS for vendor in vendors])
def test_of_a_fault_after_content_the_caller_hears_in_its_own_words(
    operation: str, vendor: str, kind: str, farebox: RunningFarebox, llmock: Llmock, lead: Lead
) -> None:
    """A truncated stream, with a clean end of the connection, is the one that many take for an answer."""
    fault = {"type": "stream_fault", "kind": kind, "after_chunks": 6, "match": only(vendor)}
    llmock.will({"type": "reply", "text": "One two three four five six seven eight nine ten eleven."}, fault)
    route = route_of(operation, vendor)
    lead(llmock.channel(vendor, "gpt-4o"))
    key = farebox.new_key(credit="5")
    asked = ask(route, wanted(route, stream=True, tools=False), model="gpt-4o")
    answer = send(farebox, key, route.caller.dialect, asked)
    receipt = receipt_of(farebox, key)

    assert answer.status_code == 200
    assert is_told_in_the_stream(route, answer.content) == "upstream_error"
    assert b"eleven" not in answer.content
    assert receipt["outcome"] == "upstream_cut"
    assert 0 < receipt["cost_nano"] <= cost_nano(farebox, "gpt-4o", {"input_token": 100, "output_token": 20})


@pytest.mark.parametrize(
    ("operation", "vendor"), [("messages", "openai"), ("generateContent", "openai"), ("chat.completions", "anthropic")]
)
def test_a_malformed_event_never_crosses_a_bridge(
    operation: str, vendor: str, farebox: RunningFarebox, llmock: Llmock, lead: Lead
) -> None:
    """Half an event is left out; what the caller gets is of its own types from the first byte to the end."""
    fault = {"type": "stream_fault", "kind": "malformed", "after_chunks": 1, "match": only(vendor)}
    llmock.will({"type": "reply", "text": TEXT}, fault)
    lead(llmock.channel(vendor, "gpt-4o"))
    route = route_of(operation, vendor)
    said, receipt, _ = exchanged(farebox, route, stream=True, tools=False, model="gpt-4o")

    assert said.ended
    is_billed(farebox, route, receipt)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("operation", "vendor"), [("messages", "openai"), ("generateContent", "openai"), ("chat.completions", "anthropic")]
)
def test_a_call_with_broken_arguments_crosses_without_harm(
    operation: str, vendor: str, stream: bool, farebox: RunningFarebox, llmock: Llmock, lead: Lead
) -> None:
    llmock.will({"type": "tool_fault", "kind": "malformed_arguments"})
    route = route_of(operation, vendor)
    lead(llmock.channel(vendor, "gpt-4o"))
    _, receipt, _ = exchanged(farebox, route, stream=stream, tools=True, model="gpt-4o")

    is_billed(farebox, route, receipt)


@pytest.mark.parametrize("operation", CHAT)
def test_where_all_fail_the_caller_hears_it_in_its_own_dialect(
    operation: str, farebox: RunningFarebox, llmock: Llmock, lead: Lead
) -> None:
    llmock.will({"type": "fail", "status": 503, "retry_after": 7, "times": 9})
    vendors = next([first, second] for each, first, second in WAYS if each == operation)
    lead(*(llmock.channel(vendor, "gpt-4o") for vendor in vendors))
    route = route_of(operation, vendors[0])
    key = farebox.new_key(credit="5")
    answer = send(
        farebox, key, route.caller.dialect, ask(route, wanted(route, stream=False, tools=False), model="gpt-4o")
    )

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert problem(route.caller.dialect, answer.json())[1] == "upstream_unavailable"
    assert receipt_of(farebox, key)["cost_nano"] == 0
