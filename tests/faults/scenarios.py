"""What happens in a run before and while something goes wrong. Each scenario drives the real relay core.

A scenario returns, for the run in which nothing goes wrong, how each of its requests ends: name → receipt's outcome,
or the name of the error for a request that leaves no receipt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from farebox.domain import keys
from farebox.domain.accounts import KeyRecord
from farebox.domain.quota import FreeLimits
from farebox.errors import InvalidApiKey
from farebox.relay.upstream_errors import Cut
from tests.fakes.port_upstream import Script
from tests.fakes.upstream import chat_completion, chat_stream, chunk, usage_chunk
from tests.faults.lab import DEARER_MS, MINUTE_MS, NOON_MS
from tests.faults.world import LIFE_MS, Process, World

CA = 1_000_000_000
PROMPT, COMPLETION = 9, 7

Endings = dict[str, str]
Scenario = Callable[[World], Awaitable[Endings]]


def plain(completion: int = COMPLETION, *, prompt: int = PROMPT, content: str = "hello") -> Script:
    import json

    body = json.dumps(chat_completion(content, prompt=prompt, completion=completion)).encode()
    return Script([body], prompt=prompt, completion=completion, words=(content,))


def stream(*contents: str, completion: int = COMPLETION, prompt: int = PROMPT) -> Script:
    words = contents or ("one", " two", " three")
    chunks = chat_stream(*words, prompt=prompt, completion=completion)
    return Script(chunks, stream=True, prompt=prompt, completion=completion, words=words, tail=2)


async def paid_plain(w: World) -> Endings:
    await w.ask(w.process(), await w.key("paid", CA), plain())
    return {"it": "completed"}


async def paid_stream(w: World) -> Endings:
    await w.ask(w.process(), await w.key("paid", CA), stream())
    return {"it": "completed"}


async def free_plain(w: World) -> Endings:
    await w.ask(w.process(), await w.key("free"), plain())
    return {"it": "completed"}


async def free_stream(w: World) -> Endings:
    await w.ask(w.process(), await w.key("free"), stream())
    return {"it": "completed"}


async def upstream_refuses(w: World) -> Endings:
    p = w.process()
    await w.ask(p, await w.key("free"), Script([b"{}"], status=400), name="free")
    await w.ask(w.alive(p), await w.key("paid", CA), Script([b"{}"], status=400), name="paid")
    return {"free": "refused", "paid": "refused"}


async def fails_before_content(w: World) -> Endings:
    p = w.process()
    await w.ask(p, await w.key("free"), Script([chunk()], stream=True, breaks=Cut), name="free")
    await w.ask(w.alive(p), await w.key("paid", CA), Script([], status=503), name="paid")
    return {"free": "failed", "paid": "failed"}


async def fails_past_midnight(w: World) -> Endings:
    """The unit goes back to the day that it was taken from."""
    w.clock.fixed_ms = NOON_MS + 12 * 60 * MINUTE_MS - 30_000
    p, key = w.process(), await w.key("free")
    broken = Script([], status=503)

    async def midnight() -> None:
        w.clock.move(MINUTE_MS)

    passing = Script([chunk()], stream=True, breaks=Cut, hooks={0: midnight})
    await w.ask(p, key, passing, name="over midnight")
    await w.ask(w.alive(p), key, plain(), name="today")
    await w.ask(w.alive(p), key, broken, name="today, broken")
    return {"over midnight": "failed", "today": "completed", "today, broken": "failed"}


async def cut_after_content(w: World) -> Endings:
    p = w.process()
    broken = [chunk("some"), chunk(" words")]
    await w.ask(p, await w.key("paid", CA), Script(broken, stream=True, breaks=Cut, words=("some",)), name="paid")
    await w.ask(w.alive(p), await w.key("free"), Script(broken, stream=True, breaks=Cut, words=("some",)), name="free")
    return {"paid": "upstream_cut", "free": "upstream_cut"}


async def plain_answer_cut(w: World) -> Endings:
    await w.ask(w.process(), await w.key("free"), Script([b'{"choices":[{"mess'], breaks=Cut))
    return {"it": "failed"}


async def client_gone(w: World) -> Endings:
    p = w.process()
    await w.ask(p, await w.key("paid", CA), stream(), name="paid", gone_after=1)
    await w.ask(w.alive(p), await w.key("free"), stream(), name="free", gone_after=1)
    return {"paid": "client_gone", "free": "client_gone"}


async def empty_answer(w: World) -> Endings:
    empty = Script(
        [chunk(finish="stop"), usage_chunk(PROMPT, 0), b"data: [DONE]\n\n"], stream=True, prompt=PROMPT, tail=2
    )
    p = w.process()
    await w.ask(p, await w.key("free"), empty, name="free")
    await w.ask(w.alive(p), await w.key("paid", CA), empty, name="paid")
    return {"free": "completed", "paid": "completed"}


async def cancelled_stream(w: World) -> Endings:
    p = w.process()
    paid, free = await w.key("paid", CA), await w.key("free")
    for name, key, at in (("after content", paid, 2), ("before content", free, 0)):
        p = w.alive(p)
        script = stream()
        script.hooks[at] = _cancelling(w, p, name)
        await w.ask(p, key, script, name=name)
    return {"after content": "cancelled", "before content": "cancelled"}


async def idempotent_retry(w: World) -> Endings:
    """The caller tries again at once, and again when all has been swept."""
    p, key = w.process(), await w.key("paid", CA)
    await w.ask(p, key, plain(), name="once", idempotency_key="k1")
    await w.ask(w.alive(p), key, plain(), name="once", idempotency_key="k1")
    await w.ask(w.alive(p), key, Script([], status=503), name="broken", idempotency_key="k2")
    await w.ask(w.alive(p), key, stream(), name="broken", idempotency_key="k2")

    async def later() -> None:
        for name, tag in (("once", "k1"), ("broken", "k2")):
            await w.ask(w.process(), key, plain() if tag == "k1" else stream(), name=name, idempotency_key=tag)

    w.afterwards.append(later)
    return {}


async def idempotent_free_retry(w: World) -> Endings:
    p, key = w.process(), await w.key("free")
    await w.ask(p, key, stream(), name="it", idempotency_key="k1")
    await w.ask(w.alive(p), key, stream(), name="it", idempotency_key="k1")

    async def later() -> None:
        await w.ask(w.process(), key, stream(), name="it", idempotency_key="k1")

    w.afterwards.append(later)
    return {}


async def credit_with_retry(w: World) -> Endings:
    """An admin makes an account with money, and credits it, until each is acknowledged."""
    key, record = w.mint("paid")
    await _until_done(
        w, lambda p: p.accounts.create(key, key.digest(w.lab.pepper), record, credit_nano=CA, at_ms=w.clock.now_ms())
    )
    await _until_done(
        w, lambda p: p.accounts.credit(key.account, 5 * CA, reason="t", credit_id="crd_1", at_ms=w.clock.now_ms())
    )
    w.credited[key.account] = 6 * CA
    await w.ask(w.process(), key, plain())
    return {"it": "completed"}


async def wallet_lowers_the_limit(w: World) -> Endings:
    """The wallet covers a part of the output that the model could give; a second one finds it empty."""
    p, key = w.process(), await w.key("paid", 2_000_000)
    await w.ask(p, key, stream(), name="lowered", max_tokens=None)
    await w.ask(w.alive(p), await w.key("paid", 1000), stream(), name="too poor", max_tokens=None)
    return {"lowered": "completed", "too poor": "InsufficientBalance"}


async def two_at_once(w: World) -> Endings:
    p, key = w.process(), await w.key("paid", CA)
    await asyncio.gather(w.ask(p, key, stream(), name="one"), w.ask(p, key, plain(), name="two"))
    return {"one": "completed", "two": "completed"}


async def two_for_the_last_coin(w: World) -> Endings:
    """The wallet covers one of them and a bit; the second comes while the first runs."""
    p, key = w.process(), await w.key("paid", 320_000)
    first = stream()
    first.hooks[1] = lambda: _asking(w, w.alive(p), key)
    await w.ask(p, key, first, name="first")
    return {"first": "completed", "second": "InsufficientBalance"}


async def last_unit(w: World) -> Endings:
    """Three requests for two units, one of which comes back."""
    w.free_limits = FreeLimits(requests_per_key=2, requests_per_address=2)
    p, key = w.process(), await w.key("free")
    await w.ask(p, key, plain(), name="first")
    await w.ask(w.alive(p), key, Script([], status=500), name="given back")
    await w.ask(w.alive(p), key, plain(), name="second")
    await w.ask(w.alive(p), key, plain(), name="too many")
    return {"first": "completed", "given back": "failed", "second": "completed", "too many": "DailyQuotaExceeded"}


async def key_revoked_meanwhile(w: World) -> Endings:
    p, key = w.process(), await w.key("paid", CA)
    script, admin = stream(), w.process()

    async def revoke() -> None:
        await _until_done(w, lambda each: each.accounts.revoke(key.account, key.number), admin)

    script.hooks[1] = revoke
    await w.ask(p, key, script, name="running")
    if w.posts:  # it came so far that the key was revoked
        await _until_done(w, lambda each: each.accounts.revoke(key.account, key.number), admin)
        await w.ask(w.alive(p), key, plain(), name="next")
        return {"running": "completed", "next": "InvalidApiKey"}
    return {}


async def key_added_and_revoked(w: World) -> Endings:
    """What was revoked stays revoked, whatever arrives late."""
    key = await w.key("paid", CA)
    second = keys.mint("paid", key.account, w.lab.random.token)
    record = KeyRecord(second.id, second.account, second.number, "paid", second.last4)
    await _until_done(w, lambda p: p.accounts.add_key(second, second.digest(w.lab.pepper), record))
    await w.ask(w.process(), second, plain(), name="second key")
    await _until_done(w, lambda p: p.accounts.revoke(key.account, second.number))

    async def later() -> None:
        again = await w.ask(w.process(), second, plain(), name="revoked")
        if not isinstance(again.error, InvalidApiKey):
            w.wrong.append("F34 a revoked key is good again")

    w.afterwards.append(later)
    return {"second key": "completed", "revoked": "InvalidApiKey"}


async def price_changes_meanwhile(w: World) -> Endings:
    w.clock.fixed_ms = DEARER_MS - 60_000
    p, key = w.process(), await w.key("paid", CA)

    async def dearer() -> None:
        w.clock.move(2 * MINUTE_MS)

    script = stream()
    script.hooks[1] = dearer
    await w.ask(p, key, script, name="before")
    await w.ask(w.alive(p), key, stream(), name="after")
    return {"before": "completed", "after": "completed"}


async def sweep_during_a_stream(w: World) -> Endings:
    """The schedule comes by while a request lives: it must not touch it."""
    p, key = w.process(), await w.key("paid", CA)
    script, schedule = stream(), w.process()

    async def come_by() -> None:
        w.clock.move(14 * MINUTE_MS)
        await w.apart(schedule.sweep())

    script.hooks[1] = come_by
    await w.ask(p, key, script)
    return {"it": "completed"}


async def sweep_while_it_settles(w: World) -> Endings:
    """The request took longer than its hold lives, and the sweep runs beside its settlement: one of them is first."""
    p, key = w.process(), await w.key("free")
    script, schedule = stream(), w.process()
    running: list[asyncio.Task[bool]] = []

    async def begin() -> None:
        w.overslept = True
        w.clock.move(LIFE_MS + MINUTE_MS)
        running.append(asyncio.create_task(w.apart(schedule.sweep())))

    script.hooks[len(script.chunks)] = begin
    script.hooks[len(script.chunks) - 1] = begin
    await w.ask(p, key, script)
    await asyncio.gather(*running)
    return {"it": "completed|expired"}


async def lapsed_hold_ends_with_the_next(w: World) -> Endings:
    """A dead process left a hold; the account's next request ends it, without any schedule."""
    key = await w.key("paid", CA)
    await _dies(w, key)
    w.clock.move(LIFE_MS + MINUTE_MS)
    p = w.process()
    await w.ask(p, key, plain(), name="next")
    if not w.injector.hits and not w.upstream_hits and (await w.item(key.account))["holds"]:
        w.wrong.append("I8: the account's next request left a lapsed hold")
    return {"dies": "expired", "next": "completed"}


async def lapsed_hold_blocks_the_wallet(w: World) -> Endings:
    """All the money is in the hold of a dead process; the next request takes it back before it is refused."""
    key = await w.key("paid", 320_000)
    await _dies(w, key)
    w.clock.move(LIFE_MS + MINUTE_MS)
    await w.ask(w.process(), key, plain(), name="next")
    return {"dies": "expired", "next": "completed"}


async def lapsed_claim(w: World) -> Endings:
    """A process died under an idempotency key. Past the hold's life the caller's retry runs, without any schedule."""
    key = await w.key("paid", CA)
    await _dies(w, key, idempotency_key="k1")
    w.clock.move(LIFE_MS + MINUTE_MS)
    p = w.process()
    again = await w.ask(p, key, stream(), name="dies", idempotency_key="k1")
    if not w.injector.hits and not w.upstream_fault and not again.caller.saw_an_end:
        w.wrong.append(f"I8: the retry was answered {type(again.error).__name__}")
    return {}


async def usage_above_the_hold(w: World) -> Endings:
    """An upstream that reports more than the request can have cost: the house bears the rest."""
    await w.ask(w.process(), await w.key("paid", CA), stream(prompt=100_000))
    return {"it": "completed"}


async def settled_after_a_top_up(w: World) -> Endings:
    """Money comes in while a request holds."""
    p, key = w.process(), await w.key("paid", CA)
    script = stream()

    async def top_up() -> None:
        await _until_done(
            w, lambda each: each.accounts.credit(key.account, CA, reason="t", credit_id="crd_2", at_ms=w.clock.now_ms())
        )
        w.credited[key.account] = 2 * CA

    script.hooks[1] = top_up
    await w.ask(p, key, script)
    return {"it": "completed"}


SCENARIOS: dict[str, Scenario] = {
    each.__name__: each
    for each in (
        paid_plain,
        paid_stream,
        free_plain,
        free_stream,
        upstream_refuses,
        fails_before_content,
        fails_past_midnight,
        cut_after_content,
        plain_answer_cut,
        client_gone,
        empty_answer,
        cancelled_stream,
        idempotent_retry,
        idempotent_free_retry,
        credit_with_retry,
        wallet_lowers_the_limit,
        two_at_once,
        two_for_the_last_coin,
        last_unit,
        key_revoked_meanwhile,
        key_added_and_revoked,
        price_changes_meanwhile,
        sweep_during_a_stream,
        sweep_while_it_settles,
        lapsed_hold_ends_with_the_next,
        lapsed_hold_blocks_the_wallet,
        lapsed_claim,
        usage_above_the_hold,
        settled_after_a_top_up,
    )
}


def _cancelling(w: World, p: Process, name: str) -> Callable[[], Awaitable[None]]:
    async def cancel() -> None:
        asked = next(each for each in w.asked.values() if each.name == name)
        await w.apart(p.relay.streams.cancel(asked.key.account, asked.request_id))

    return cancel


async def _asking(w: World, p: Process, key: object) -> None:
    await w.ask(p, key, plain(), name="second")  # type: ignore[arg-type]


async def _until_done(w: World, work: Callable[[Process], Awaitable[object]], process: Process | None = None) -> None:
    """An admin does not give up, but for a store that stays away."""
    p = process or w.process()
    for _ in range(4):
        p = w.alive(p)
        if await w.apart(work(p)):
            return
    w.injector.away = w.injector.armed = False
    assert await w.apart(work(w.process()))


async def _dies(w: World, key: object, **more: object) -> None:
    """A request whose process dies in the middle, without a fault of the run's own."""
    p = w.process()
    script = stream()

    async def die() -> None:
        p.life.end()

    script.hooks[1] = die
    w.injector.armed, was = False, w.injector.armed
    await w.ask(p, key, script, name="dies", **more)  # type: ignore[arg-type]
    w.injector.armed = was
