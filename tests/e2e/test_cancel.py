"""POST /v1/requests/{id}/cancel: the upstream is left at once where that ends its bill, and heard out where not."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from farebox.relay.running import POLL_S
from tests.fakes.caller import STREAM, RawCaller, headers_of, problem
from tests.fakes.process import http, wait_until
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import (
    DONE,
    ScriptedUpstream,
    Send,
    Step,
    WaitFor,
    WaitForLeave,
    chat_stream,
    chunk,
    sse_head,
    usage_chunk,
)

REQUEST_ID = re.compile(rb"x-request-id: (req_\w{26})")
OPEN: list[Step] = [Send(sse_head()), Send(chunk("he")), Send(chunk("llo")), WaitForLeave()]
AT_ONCE_S = 2.0


def cancel(farebox: RunningFarebox, key: Funded, request_id: str) -> httpx.Response:
    return http.post(f"{farebox.base_url}/requests/{request_id}/cancel", headers=headers_of(key), timeout=10)


def request_id_in(received: bytes) -> str:
    found = REQUEST_ID.search(received)
    assert found is not None
    return found[1].decode()


def hold_of(farebox: RunningFarebox, key: Funded) -> str:
    """The id of the one request that runs: for those whose answer has not begun."""
    wait_until(lambda: bool(holds(farebox, key)))
    (request_id,) = holds(farebox, key)
    return request_id


def holds(farebox: RunningFarebox, key: Funded) -> Any:
    return farebox.run(farebox.services.accounts.get(key.account)).holds


def ended(farebox: RunningFarebox, key: Funded) -> dict[str, Any]:
    """The receipt of the one request, once it is there."""
    wait_until(lambda: not holds(farebox, key))
    (receipt,) = farebox.receipts(key.account)
    account = farebox.account(key.account)
    assert account.held_nano == 0
    assert account.spent_nano == receipt["cost_nano"]
    return receipt


@pytest.fixture
def unstoppable(farebox: RunningFarebox) -> Iterator[None]:
    """The channel's vendor goes on billing when it is left."""
    channels = farebox.services.channels
    before = channels.all
    channels.all = tuple(replace(each, vendor=replace(each.vendor, cancel_stops_billing=False)) for each in before)
    yield
    channels.all = before


@pytest.mark.parametrize("kind", ["paid", "free"])
def test_a_stream_is_cancelled(farebox: RunningFarebox, upstream: ScriptedUpstream, kind: str) -> None:
    upstream.script = OPEN
    key = farebox.new_key(kind)
    with RawCaller(farebox) as caller:
        caller.post(key, STREAM)
        request_id = request_id_in(caller.read_until(b'"llo"'))
        begun = time.monotonic()
        answer = cancel(farebox, key, request_id)
        received = caller.read_until(b"\r\n0\r\n\r\n")
        assert time.monotonic() - begun < AT_ONCE_S

    assert answer.status_code == 200
    assert answer.json() == {"request_id": request_id, "status": "cancelling"}
    assert b'"code":"cancelled"' in received
    assert b"[DONE]" not in received
    wait_until(lambda: bool(upstream.left_at))
    assert upstream.left_at[0] - begun < AT_ONCE_S
    receipt = ended(farebox, key)
    assert receipt["outcome"] == "cancelled"
    assert receipt["usage"]["output_token"] == {"count": 1, "source": "counted"}
    assert (receipt["cost_nano"] > 0) == (kind == "paid")


def test_cancelled_before_content_it_costs_nothing(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = [WaitForLeave()]
    key = farebox.new_key()
    with RawCaller(farebox) as caller:
        caller.post(key, STREAM)
        request_id = hold_of(farebox, key)
        wait_until(lambda: bool(upstream.requests))
        assert cancel(farebox, key, request_id).status_code == 200
        received = caller.read_until(b"}}")

    assert received.startswith(b"HTTP/1.1 499")
    assert b'"code":"cancelled"' in received
    receipt = ended(farebox, key)
    assert (receipt["outcome"], receipt["cost_nano"]) == ("cancelled", 0)
    wait_until(lambda: len(upstream.left_at) == 1)


def test_a_free_unit_comes_back_if_nothing_had_come(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = [WaitForLeave()]
    key = farebox.new_key("free")
    with RawCaller(farebox) as caller:
        caller.post(key, STREAM)
        request_id = hold_of(farebox, key)
        wait_until(lambda: bool(upstream.requests))
        cancel(farebox, key, request_id)
        caller.read_until(b"}}")
    ended(farebox, key)

    upstream.reset()
    told = http.post(f"{farebox.base_url}/chat/completions", json={**STREAM, "stream": False}, headers=headers_of(key))
    assert told.headers["x-ratelimit-remaining-requests"] == "199"


def test_only_its_owner_cancels_it(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    gate = WaitFor()
    upstream.script = [Send(sse_head()), Send(chunk("he")), gate, *(Send(event) for event in chat_stream("llo"))]
    owner, stranger = farebox.new_key(), farebox.new_key()
    with RawCaller(farebox) as caller:
        caller.post(owner, STREAM)
        request_id = request_id_in(caller.read_until(b'"he"'))
        refused = cancel(farebox, stranger, request_id)
        gate.event.set()
        caller.read_until(b"[DONE]")

    assert refused.status_code == 404
    assert problem(refused)["code"] == "not_found"
    assert ended(farebox, owner)["outcome"] == "completed"


def test_another_key_of_the_account_may_cancel_it(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    """The account is the owner, not the key: a leaked key's streams can be stopped with another."""
    upstream.script = OPEN
    key = farebox.new_key()
    made = http.post(
        f"{farebox.url}/admin/v1/keys",
        json={"kind": "paid", "account": key.account},
        headers={"authorization": f"Bearer {farebox.settings.admin_token}"},
    ).json()
    with RawCaller(farebox) as caller:
        caller.post(key, STREAM)
        request_id = request_id_in(caller.read_until(b'"llo"'))
        assert cancel(farebox, Funded(made["key"], "", key.account), request_id).status_code == 200
        caller.read_until(b'"code":"cancelled"')
    assert ended(farebox, key)["outcome"] == "cancelled"


def test_unknown_finished_and_plain_requests_cannot_be_cancelled(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    key = farebox.new_key()
    assert cancel(farebox, key, "req_" + "0" * 26).status_code == 404
    assert cancel(farebox, key, "req_short").status_code == 404
    no_key = http.post(f"{farebox.base_url}/requests/req_{'0' * 26}/cancel")
    assert no_key.status_code == 401

    upstream.script = [Send(sse_head()), *(Send(event) for event in chat_stream("hello"))]
    finished = http.post(f"{farebox.base_url}/chat/completions", json=STREAM, headers=headers_of(key))
    assert cancel(farebox, key, finished.headers["x-request-id"]).status_code == 404

    gate = WaitFor()
    plain: list[Step] = [gate]
    upstream.script = plain
    with RawCaller(farebox) as caller:
        caller.post(key, {**STREAM, "stream": False})
        request_id = hold_of(farebox, key)
        assert cancel(farebox, key, request_id).status_code == 404
        gate.event.set()


def test_cancelling_twice_is_cancelling_once(
    farebox: RunningFarebox, upstream: ScriptedUpstream, unstoppable: None
) -> None:
    gate = WaitFor()
    events = [chunk("llo"), chunk(finish="stop"), usage_chunk(10, 2), DONE]
    upstream.script = [Send(sse_head()), Send(chunk("he")), gate, *(Send(event) for event in events)]
    key = farebox.new_key()
    with RawCaller(farebox) as caller:
        caller.post(key, STREAM)
        request_id = request_id_in(caller.read_until(b'"he"'))
        assert [cancel(farebox, key, request_id).status_code for _ in range(2)] == [200, 200]
        gate.event.set()
        caller.read_until(b"\r\n0\r\n\r\n")
    assert ended(farebox, key)["outcome"] == "cancelled"
    assert cancel(farebox, key, request_id).status_code == 404


@pytest.mark.parametrize("kind", ["paid", "free"])
def test_where_leaving_saves_nothing_the_upstream_is_heard_out(
    farebox: RunningFarebox, upstream: ScriptedUpstream, unstoppable: None, kind: str
) -> None:
    gate = WaitFor()
    events = [chunk("SECOND"), chunk(finish="stop"), usage_chunk(10, 40), DONE]
    upstream.script = [Send(sse_head()), Send(chunk("he")), gate, *(Send(event) for event in events)]
    key = farebox.new_key(kind)
    with RawCaller(farebox) as caller:
        caller.post(key, STREAM)
        request_id = request_id_in(caller.read_until(b'"he"'))
        assert cancel(farebox, key, request_id).status_code == 200
        gate.event.set()
        received = caller.read_until(b"\r\n0\r\n\r\n")

    assert b"SECOND" not in received
    assert b"[DONE]" not in received
    assert b'"code":"cancelled"' in received
    assert (upstream.sent_all, upstream.writes_failed) == (1, 0)
    receipt = ended(farebox, key)
    assert receipt["outcome"] == "cancelled"
    assert receipt["usage"]["output_token"] == {"count": 40, "source": "upstream"}
    assert receipt["cost_nano"] == (10 * 1050 + 40 * 4200 if kind == "paid" else 0)


def test_a_mark_from_elsewhere_takes_effect_within_seconds(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = OPEN
    key = farebox.new_key()
    with RawCaller(farebox) as caller:
        caller.post(key, STREAM)
        request_id = request_id_in(caller.read_until(b'"llo"'))
        farebox.run(farebox.services.store.mark_cancelled(key.account, request_id))
        begun = time.monotonic()
        caller.read_until(b'"code":"cancelled"')
        assert time.monotonic() - begun < 2 * POLL_S + AT_ONCE_S
    assert ended(farebox, key)["outcome"] == "cancelled"


def test_a_caller_who_does_not_read_is_cancelled_and_settled(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    """What stands in the way of the error event must not stand in the way of the bill."""

    def endless() -> Iterable[Step]:
        yield Send(sse_head())
        while True:
            yield Send(chunk("word " * 10_000))

    upstream.on_request = lambda _: endless()
    key = farebox.new_key()
    with RawCaller(farebox) as caller:
        caller.post(key, STREAM)
        request_id = request_id_in(caller.read_until(b"word"))
        wait_until(lambda: _stands_still(upstream), within_s=30)
        begun = time.monotonic()
        assert cancel(farebox, key, request_id).status_code == 200
        receipt = ended(farebox, key)
        assert time.monotonic() - begun < farebox.services.relay.limits.farewell_s + 2 * AT_ONCE_S
        assert receipt["outcome"] == "cancelled"
        assert receipt["cost_nano"] > 0
        received = caller.read_all()
    assert not received.endswith(b"0\r\n\r\n")  # what came does not look complete


def _stands_still(upstream: ScriptedUpstream) -> bool:
    """All buffers on the way are full; a moment's pause of a busy machine is not that."""
    before = upstream.bytes_sent
    time.sleep(1)
    return before > 2 * 1024 * 1024 and upstream.bytes_sent == before


def test_many_are_cancelled_at_once(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = OPEN
    key = farebox.new_key(credit="1000")
    callers = [RawCaller(farebox) for _ in range(20)]
    try:
        for caller in callers:
            caller.post(key, STREAM)
        ids = [request_id_in(caller.read_until(b'"llo"')) for caller in callers]
        threads = [threading.Thread(target=cancel, args=(farebox, key, request_id)) for request_id in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for caller in callers:
            caller.read_until(b'"code":"cancelled"')
    finally:
        for caller in callers:
            caller.reset()
    wait_until(lambda: not holds(farebox, key))
    receipts = farebox.receipts(key.account)
    assert [receipt["outcome"] for receipt in receipts] == ["cancelled"] * 20
    assert farebox.account(key.account).spent_nano == sum(receipt["cost_nano"] for receipt in receipts)
