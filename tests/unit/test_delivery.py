"""What a caller has had of its answer, when time runs out at an awkward moment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from farebox.http.asgi import AsgiCaller, Message
from farebox.relay.delivery import Delivery, RawHeaders
from tests.fakes.faulty_db import Life
from tests.fakes.port_upstream import MemoryCaller

PING = b": keep-alive\n\n"
FRAME = b"data: hello\n\n"


async def at_once(_: Mapping[str, str]) -> RawHeaders:
    return []


async def never(_: Mapping[str, str]) -> RawHeaders:
    await asyncio.sleep(60)
    return []


class Broken(MemoryCaller):
    """Nothing can be written to it."""

    async def send(self, data: bytes) -> None:
        raise ConnectionResetError


def test_content_that_waited_for_its_status_has_not_been_had() -> None:
    async def play() -> Delivery:
        delivery = Delivery(MemoryCaller(Life()), never)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await delivery.send([FRAME], {})
        return delivery

    delivery = asyncio.run(play())
    assert (delivery.started, delivery.content) == (False, False)


def test_a_ping_that_waits_for_its_status_does_not_hold_up_the_end() -> None:
    async def play() -> Delivery:
        delivery = Delivery(MemoryCaller(Life()), never)
        async with asyncio.timeout(5), delivery.kept_alive(PING, 0.001):
            await asyncio.sleep(0.02)
        return delivery

    assert not asyncio.run(play()).started


def test_pings_stop_with_the_first_content() -> None:
    async def play() -> bytes:
        caller = MemoryCaller(Life())
        delivery = Delivery(caller, at_once)
        async with delivery.kept_alive(PING, 0.002):
            await asyncio.sleep(0.02)
            await delivery.send([FRAME], {})
            await asyncio.sleep(0.02)
        return caller.data

    pings, frame, after = asyncio.run(play()).partition(FRAME)
    assert (pings.replace(PING, b""), frame, after) == (b"", FRAME, b"")
    assert pings


def test_a_ping_that_fails_says_nothing_of_what_the_upstream_did() -> None:
    async def play() -> str:
        async with Delivery(Broken(Life()), at_once).kept_alive(PING, 0.001):
            await asyncio.sleep(0.02)
        return "went on"

    assert asyncio.run(play()) == "went on"


def test_a_cancellation_while_a_ping_is_ended_is_not_lost() -> None:
    class Slow(MemoryCaller):
        async def send(self, data: bytes) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.05)  # as a transport that is being closed

    async def play() -> None:
        async def kept() -> None:
            async with Delivery(Slow(Life()), at_once).kept_alive(PING, 0.001):
                await asyncio.sleep(0.02)

        task = asyncio.create_task(kept())
        await asyncio.sleep(0.04)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(play())


def test_a_cancellation_while_a_caller_is_looked_after_is_not_lost() -> None:
    async def play() -> None:
        async def receive() -> Message:
            try:
                await asyncio.sleep(60)
            finally:
                task.cancel()  # it comes just when the question is taken back
            raise AssertionError

        async def send(_: Message) -> None:
            raise AssertionError

        async def look() -> bool:
            return await AsgiCaller(receive, send, []).is_gone()

        task = asyncio.create_task(look())
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(play())
