"""Bugs to plant in the relay itself: several attempts, what is held back, and how answers end. See planted.py."""

from __future__ import annotations

from typing import Any

import pytest

from farebox.dialects.openai.tap import OpenAITap
from farebox.domain.outcome import REPORTED, Ending
from farebox.domain.usage import Usage
from farebox.errors import FareboxError
from farebox.relay import attempts, bill, delivery, forward, passage, relay_request, relayed
from tests.fakes.port_upstream import Trouble, UpstreamFault
from tests.faults.planted import Bug, rule

Patch = pytest.MonkeyPatch
PIECES = 3
"""Of the scenarios' Gemini stream, and of their speech."""


def _asks_whoever_is_left(patch: Patch) -> None:
    async def never(_: Any) -> bool:
        return False

    patch.setattr(forward, "_is_over", never)


def _second_on_top(patch: Patch) -> None:
    was = relay_request.Relay._judge

    async def twice(self: Any, admitted: Any, seen: Any, caller: Any) -> Any:
        ending, billed = await was(self, admitted, seen, caller)
        made = len(seen.attempts) + (seen.current is not None)
        counts = {unit: count * made for unit, count in billed.usage.counts.items()}
        return ending, bill.bill(admitted.plan, Usage(counts, billed.usage.sources), ending, None)

    patch.setattr(relay_request.Relay, "_judge", twice)


def _first_usage_stays(patch: Patch) -> None:
    """The first figures that any attempt reported."""
    figures: list[Any] = []
    was = OpenAITap._keep_usage

    def first(self: Any, value: Any) -> bool:
        figures.append(value)
        return was(self, figures[0])

    patch.setattr(OpenAITap, "_keep_usage", first)


def _ping_is_content(patch: Patch) -> None:
    was = delivery.Delivery._start

    async def start(self: Any, upstream_headers: Any) -> None:
        await was(self, upstream_headers)
        self.content = True

    patch.setattr(delivery.Delivery, "_start", start)


def _nothing_is_held_back(patch: Patch) -> None:
    was = passage.Passage._hold

    def seen(self: Any, frames: list[bytes]) -> None:
        was(self, frames)
        self.relayed.tap.content_seen = True

    patch.setattr(passage.Passage, "_hold", seen)


def _no_seal(patch: Patch) -> None:
    was = passage.Passage

    async def later() -> None:
        pass

    def made(answer: Any, plan: Any, way: Any, seen: Any, _: Any, bridge: Any, patience: Any) -> Any:
        return was(answer, plan, way, seen, later, bridge, patience)

    patch.setattr(forward, "Passage", made)


def _sound_at_once(patch: Patch) -> None:
    async def run(self: Any) -> None:
        async for chunk in self.answer.chunks():
            self.relayed.tap.see(chunk)
            await self.relayed.delivery.send([chunk], self.answer.headers)
        self.relayed.delivered = True

    patch.setattr(passage.BinaryPassage, "run", run)


def _errors_after_the_end(patch: Patch) -> None:
    def careless(self: Any, failure: FareboxError) -> None:
        self.late, self.failure = True, failure

    patch.setattr(relayed.Relayed, "break_off", careless)


def _always_a_clean_end(patch: Patch) -> None:
    was = relay_request.Relay._answer

    async def clean(self: Any, *given: Any) -> bool:
        await was(self, *given)
        return True

    patch.setattr(relay_request.Relay, "_answer", clean)


def _only_the_last_attempt_is_told(patch: Patch) -> None:
    was = relayed.Relayed.attempts_at
    patch.setattr(relayed.Relayed, "attempts_at", lambda self, now_ms: was(self, now_ms)[-1:])


def _tried_though_nobody_waits(patch: Patch) -> None:
    async def content_alone(seen: Any) -> bool:
        return bool(seen.delivery.content)

    patch.setattr(forward, "_is_over", content_alone)


BUGS: dict[str, Bug] = {
    "another upstream goes on after content": Bug(_asks_whoever_is_left, "no_failover_after_content"),
    "a caller who left is answered by the next": Bug(_tried_though_nobody_waits, "leaves_between"),
    "each attempt is billed": Bug(_second_on_top, "failover"),
    "the failed attempt's usage is billed": Bug(_first_usage_stays, "ping_then_failover"),
    "a ping counts as content": Bug(_ping_is_content, "ping_then_failover"),
    "what came before content is sent at once": Bug(_nothing_is_held_back, "empty_then_good"),
    "attempts have no end": Bug(lambda patch: patch.setattr(attempts, "ATTEMPTS_MAX", 100), "many_channels_fail"),
    "an empty answer is billed": Bug(rule(Ending.EMPTY, figure=REPORTED), "empty_everywhere"),
    "an empty answer keeps the unit": Bug(rule(Ending.EMPTY, unit_back=False), "empty_everywhere"),
    "a bridged end is sent before it is on record": Bug(
        _no_seal, "bridged_stream", (), UpstreamFault(Trouble.CRASH, 1, 7), journals=True
    ),
    "Gemini's last event is sent before it is on record": Bug(
        lambda patch: patch.setattr(passage.Passage, "_may_be_the_end", lambda self: False),
        "gemini_stream",
        (),
        UpstreamFault(Trouble.CRASH, 1, PIECES),
        journals=True,
    ),
    "the last of a sound is sent before it is on record": Bug(
        _sound_at_once, "speech", (), UpstreamFault(Trouble.CRASH, 1, PIECES), journals=True
    ),
    "an error follows the end": Bug(_errors_after_the_end, "cancelled_after_the_end"),
    "a cut sound ends cleanly": Bug(_always_a_clean_end, "speech", (), UpstreamFault(Trouble.CUT, 1, 2)),
    "the receipt forgets who failed": Bug(_only_the_last_attempt_is_told, "failover"),
}
