"""Scenarios with several upstreams, and with vendors and callers of every dialect. See scenarios.py for the form."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from farebox.relay.upstream_errors import Cut, Stalled, Unreachable
from tests.fakes.port_upstream import Hook, MemoryCaller, Script
from tests.fakes.upstream import chunk, usage_chunk
from tests.faults import operations
from tests.faults.operations import GEMINI, GEMINI_ARRAY, MESSAGES, SPEECH, anthropic, chat, gemini, sound, two
from tests.faults.world import Process, World

CA = 1_000_000_000
Endings = dict[str, str]
Scenario = Callable[[World], Awaitable[Endings]]

DOWN = Script([], status=503)
TOLD = b'data: {"error":{"message":"no"}}\n\n'
PING_S = 0.001


def good(*, stream: bool = True) -> Script:
    """What the second upstream says."""
    return chat("gamma", " delta", prompt=9, completion=7, stream=stream)


def cut_early() -> Script:
    """It breaks off before content, but has told its usage."""
    return Script([chunk(), usage_chunk(11, 13)], stream=True, breaks=Cut, prompt=11, completion=13)


def cut_late() -> Script:
    return Script([chunk("alpha"), chunk(" beta")], stream=True, breaks=Cut, words=("alpha", " beta"), tail=0)


def empty() -> Script:
    chunks = [chunk(""), chunk(finish="stop"), usage_chunk(11, 0), b"data: [DONE]\n\n"]
    return Script(chunks, stream=True, prompt=11, tail=2)


def content_and_error() -> Script:
    """Content and an error in one piece: none of it may be seen."""
    return Script([chunk("alpha") + TOLD], stream=True, words=("alpha",))


KINDS: dict[str, Callable[[], Script]] = {
    "503": lambda: DOWN,
    "500": lambda: Script([], status=500),
    "401": lambda: Script([], status=401),
    "404": lambda: Script([], status=404),
    "429": lambda: Script([], status=429),
    "cut before content": cut_early,
    "stalled": lambda: Script([chunk()], stream=True, breaks=Stalled),
    "unreachable": lambda: Script([], stream=True, breaks=Unreachable),
    "error event": lambda: Script([TOLD], stream=True),
    "content and an error": content_and_error,
    "empty": empty,
    "comments": lambda: Script([b": wait\n\n"] * 3, stream=True, breaks=Stalled),
}
"""All that can go wrong with a stream before content."""


async def failover_of_every_kind(w: World) -> Endings:
    w.channels = two()
    p, key = w.process(), await w.key("paid", CA)
    for name, script in KINDS.items():
        p = w.alive(p)
        await w.ask(p, key, script(), good(), name=name)
    return dict.fromkeys(KINDS, "completed")


async def failover_of_a_plain_answer(w: World) -> Endings:
    w.channels = two()
    half = Script([b'{"choices":[{"mess'], breaks=Cut)
    nothing = chat("", prompt=11, completion=0, stream=False)
    p, key = w.process(), await w.key("paid", CA)
    for name, script in (("down", DOWN), ("half", half), ("empty", replace(nothing, words=()))):
        p = w.alive(p)
        await w.ask(p, key, script, good(stream=False), name=name)
    return {"down": "completed", "half": "completed", "empty": "completed"}


async def failover(w: World) -> Endings:
    w.channels = two()
    await w.ask(w.process(), await w.key("paid", CA), DOWN, good())
    return {"it": "completed"}


async def failover_free(w: World) -> Endings:
    w.channels = two()
    await w.ask(w.process(), await w.key("free"), cut_early(), good())
    return {"it": "completed"}


async def no_failover_after_content(w: World) -> Endings:
    w.channels = two()
    await w.ask(w.process(), await w.key("paid", CA), cut_late(), good())
    return {"it": "upstream_cut"}


async def all_fail(w: World) -> Endings:
    w.channels = two()
    await w.ask(w.process(), await w.key("free"), DOWN, cut_early())
    return {"it": "failed"}


async def many_channels_fail(w: World) -> Endings:
    """More than may be asked."""
    w.channels = tuple(operations.channel(f"c{number}", priority=-number, keys=("a", "b")) for number in range(7))
    p = w.process()
    await w.ask(p, await w.key("paid", CA), DOWN, name="down")
    await w.ask(w.alive(p), await w.key("paid", CA), Script([], status=429), name="limited")
    return {"down": "failed", "limited": "failed"}


async def empty_then_good(w: World) -> Endings:
    w.channels = two()
    await w.ask(w.process(), await w.key("paid", CA), empty(), good())
    return {"it": "completed"}


async def empty_everywhere(w: World) -> Endings:
    w.channels = two()
    p = w.process()
    await w.ask(p, await w.key("free"), empty(), name="free")
    await w.ask(w.alive(p), await w.key("paid", CA), empty(), name="paid")
    return {"free": "completed", "paid": "completed"}


async def ping_then_failover(w: World) -> Endings:
    w.channels, w.limits = two(), replace(w.limits, ping_s=PING_S)
    slow = cut_early()
    slow.hooks[1] = _pause
    asked = await w.ask(w.process(), await w.key("paid", CA), slow, good())
    if not w.injector.hits and not w.upstream_hits and b": keep-alive" not in asked.caller.data:
        w.wrong.append("no ping came")
    return {"it": "completed"}


async def ping_then_all_fail(w: World) -> Endings:
    """The status is committed, nothing else: it costs nothing, and the stream says so."""
    w.channels, w.limits = two(), replace(w.limits, ping_s=PING_S)
    slow = cut_early()
    slow.hooks[1] = _pause
    asked = await w.ask(w.process(), await w.key("paid", CA), slow, DOWN)
    if not w.injector.hits and not w.upstream_hits and b'"error"' not in asked.caller.data:
        w.wrong.append("a stream that failed does not say so")
    return {"it": "failed"}


async def cancelled_in_the_second(w: World) -> Endings:
    w.channels = two()
    p = w.process()
    for name, at in (("before content", 0), ("after content", 1)):
        p = w.alive(p)
        second = good()
        second.hooks[at] = _cancelling(w, p, name)
        await w.ask(p, await w.key("paid", CA), DOWN, second, name=name)
    return {"before content": "cancelled", "after content": "cancelled"}


async def cancelled_after_the_end(w: World) -> Endings:
    """Too late: it has had its end, and nothing may follow that."""
    p = w.process()
    for name, operation, script in (
        ("chat", operations.CHAT, good()),
        ("messages", MESSAGES, good()),
    ):
        p = w.alive(p)
        script.hooks[len(script.chunks)] = _cancelling(w, p, name)
        await w.ask(p, await w.key("paid", CA), script, name=name, operation=operation)
    return {"chat": "completed", "messages": "completed"}


async def leaves_between(w: World) -> Endings:
    """Nobody waits for a second attempt."""
    w.channels = two()

    def leave(caller: MemoryCaller) -> None:
        caller.left = True

    asked = await w.ask(w.process(), await w.key("free"), DOWN, good(), on_asked=leave)
    if len([post for post in w.posts if post.request_id == asked.request_id]) > 1:
        w.wrong.append("asked for nobody")
    return {"it": "failed"}


async def deadline_in_the_second(w: World) -> Endings:
    w.channels = two()
    p = w.process()
    for name, at in (("before content", 0), ("after content", 1)):
        p = w.alive(p)
        second = good()
        second.hooks[at] = _time_is_up(w, p, name)
        await w.ask(p, await w.key("paid", CA), DOWN, second, name=name)
    return {"before content": "failed", "after content": "upstream_cut"}


async def dies_between(w: World) -> Endings:
    w.channels = two()
    p = w.process()

    def die(_: MemoryCaller) -> None:
        p.life.dead = True

    await w.ask(p, await w.key("paid", CA), DOWN, good(), on_asked=die)
    return {"it": "expired"}


async def bridged_stream(w: World) -> Endings:
    w.channels = two("anthropic")
    script = replace(anthropic("alpha", " beta", prompt=9, completion=7), tail=1)  # which says no more than [DONE]
    await w.ask(w.process(), await w.key("paid", CA), script)
    return {"it": "completed"}


async def bridged_plain(w: World) -> Endings:
    w.channels = two("anthropic")
    await w.ask(w.process(), await w.key("free"), anthropic("alpha", prompt=9, completion=7, stream=False))
    return {"it": "completed"}


async def bridged_to_gemini(w: World) -> Endings:
    w.channels = two("google")
    await w.ask(w.process(), await w.key("paid", CA), gemini("alpha", " beta", prompt=9, completion=7))
    return {"it": "completed"}


async def failover_across_dialects(w: World) -> Endings:
    """A caller of Anthropic's; Anthropic is down after a first event, OpenAI answers."""
    w.channels = two("anthropic", "openai")
    first = anthropic("alpha", prompt=11, completion=13)
    first = Script(first.chunks[:2], stream=True, breaks=Cut)
    await w.ask(w.process(), await w.key("paid", CA), first, good(), operation=MESSAGES)
    return {"it": "completed"}


async def gemini_stream(w: World) -> Endings:
    w.channels = two("google")
    script = gemini("alpha", " beta", " gamma", prompt=9, completion=7)
    await w.ask(w.process(), await w.key("paid", CA), script, operation=GEMINI)
    return {"it": "completed"}


async def gemini_array(w: World) -> Endings:
    w.channels = two("google", "openai")
    p = w.process()
    script = gemini("alpha", " beta", prompt=9, completion=7)
    await w.ask(p, await w.key("paid", CA), script, name="native", operation=GEMINI_ARRAY)
    await w.ask(w.alive(p), await w.key("paid", CA), DOWN, good(), name="bridged", operation=GEMINI_ARRAY)
    return {"native": "completed", "bridged": "completed"}


async def speech(w: World) -> Endings:
    w.channels = two()
    script = sound(b"ID3" + b"\x01" * 80, b"\x02" * 80, b"\x03" * 80)
    await w.ask(w.process(), await w.key("paid", CA), script, operation=SPEECH)
    return {"it": "completed"}


async def callers_leave(w: World) -> Endings:
    """After the first piece: they are heard out, and pay."""
    p = w.process()
    cases: dict[str, tuple[operations.Operation, str, Script]] = {
        "bridged": (operations.CHAT, "anthropic", replace(anthropic("alpha", prompt=9, completion=7), tail=1)),
        "array": (GEMINI_ARRAY, "google", gemini("alpha", " beta", prompt=9, completion=7)),
        "speech": (SPEECH, "openai", sound(b"ID3" + b"\x01" * 80, b"\x02" * 80)),
    }
    for name, (operation, vendor, script) in cases.items():
        w.channels = two(vendor)
        p = w.process()
        await w.ask(p, await w.key("paid", CA), script, name=name, operation=operation, gone_after=1)
    return dict.fromkeys(cases, "client_gone")


FAILOVER: dict[str, Scenario] = {
    each.__name__: each
    for each in (
        failover,
        failover_free,
        no_failover_after_content,
        all_fail,
        empty_then_good,
        ping_then_failover,
        leaves_between,
        dies_between,
        bridged_stream,
        bridged_plain,
        gemini_stream,
        speech,
    )
}
"""Every store call of these goes wrong in every way."""
MORE: dict[str, Scenario] = {
    each.__name__: each
    for each in (
        failover_of_every_kind,
        failover_of_a_plain_answer,
        many_channels_fail,
        empty_everywhere,
        ping_then_all_fail,
        cancelled_in_the_second,
        cancelled_after_the_end,
        deadline_in_the_second,
        bridged_to_gemini,
        failover_across_dialects,
        gemini_array,
        callers_leave,
    )
}
"""Every upstream call of these goes wrong in every way; their store calls only in `make soak`."""
LONG = frozenset({"failover_of_every_kind", "many_channels_fail"})
"""Whose upstream calls go wrong only in `make soak` too."""


async def _pause() -> None:
    await asyncio.sleep(PING_S * 3)


def _of_name(w: World, name: str) -> str:
    return next(each.request_id for each in w.asked.values() if each.name == name)


def _cancelling(w: World, p: Process, name: str) -> Hook:
    async def cancel() -> None:
        request_id = _of_name(w, name)
        await w.apart(p.relay.streams.cancel(w.asked[request_id].key.account, request_id))

    return cancel


def _time_is_up(w: World, p: Process, name: str) -> Hook:
    async def now() -> None:
        running = p.relay.streams._running[_of_name(w, name)]
        running.limit.reschedule(asyncio.get_running_loop().time())

    return now
