"""Bills of every kind of request against whatever a vendor may report: never above the hold, and the rest told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from farebox.adapters.audio_meter import AudioMeter
from farebox.adapters.catalog_files import load_catalog
from farebox.adapters.system import SystemRandomness
from farebox.dialects.wires import WIRES
from farebox.domain.outcome import RULES, Ending
from farebox.domain.usage import INPUT_TOKENS, OUTPUT_TOKENS, Usage
from farebox.relay.bill import bill, usage_of
from farebox.relay.channels import Channel, Channels
from farebox.relay.plan import Plan, Planner
from farebox.relay.request import Request
from farebox.vendors import VENDORS
from tests.fakes.service import SetClock

CATALOG = load_catalog()
NOW_MS = 1_795_492_800_000
HI = [{"role": "user", "content": "how are you"}]
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
SHOWN = [{"role": "user", "content": [{"type": "text", "text": "what is this"}, PICTURE]}]
TEXT = {"model": "gpt-4o", "messages": HI, "max_tokens": 50}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("chat.completions", TEXT),
    "chat without a limit": ("chat.completions", {"model": "gpt-4o-mini", "messages": HI}),
    "three choices": ("chat.completions", {**TEXT, "n": 3}),
    "a picture": ("chat.completions", {**TEXT, "messages": SHOWN}),
    "a picture in a stream": ("chat.completions", {**TEXT, "messages": SHOWN, "stream": True}),
    "reasoning": ("chat.completions", {"model": "o4-mini", "messages": HI, "max_completion_tokens": 99}),
    "messages": ("messages", {"model": "claude-3-7-sonnet-20250219", "messages": HI, "max_tokens": 50}),
    "responses": ("responses", {"model": "gpt-4o", "input": "how are you", "max_output_tokens": 50}),
    "contents": ("generateContent", {"model": "gemini-2.0-flash", "contents": [{"parts": [{"text": "how are you"}]}]}),
    "completion": ("completions", {"model": "gpt-3.5-turbo-instruct", "prompt": ["a", "b"], "best_of": 2, "n": 1}),
    "embedding": ("embeddings", {"model": "text-embedding-3-small", "input": ["one", "two"]}),
    "picture by tokens": ("images.generations", {"model": "gpt-image-1", "prompt": "a lamp", "n": 2}),
    "picture by the piece": ("images.generations", {"model": "dall-e-3", "prompt": "a lamp", "quality": "hd"}),
    "speech by the character": ("audio.speech", {"model": "tts-1", "input": "hello there", "voice": "alloy"}),
    "speech by the minute": ("audio.speech", {"model": "gpt-4o-mini-tts", "input": "hello there", "voice": "alloy"}),
    "moderation": ("moderations", {"model": "omni-moderation-latest", "input": "hi"}),
}
FIGURE = st.one_of(st.integers(0, 200), st.integers(0, 10**12))
SUM_UNITS = (*INPUT_TOKENS, *OUTPUT_TOKENS, "web_search", "image", "character")


@st.composite
def usages(draw: st.DrawFn, source: str = "upstream") -> Usage:
    counts = draw(st.dictionaries(st.sampled_from(SUM_UNITS), FIGURE, max_size=6))
    return Usage(counts, dict.fromkeys(counts, source))  # type: ignore[arg-type]


@dataclass
class Liar:
    """A tap that says what it is told to. See wire.Tap."""

    says: Usage | None
    counts: Usage = field(default_factory=Usage)
    given: Usage | None = None
    content_seen: bool = True
    service_tier: str | None = None
    heard: bytes = b"\x00" * 500

    def reported(self) -> Usage | None:
        return self.says

    def counted(self) -> Usage:
        return self.counts

    def sent(self) -> Usage | None:
        return self.given

    def audio(self) -> tuple[bytes, str, str]:
        return self.heard, "", "audio/mpeg"


@cache
def plan_of(case: str) -> Plan:
    name, body = REQUESTS[case]
    clock = SetClock()
    clock.fixed_ms = NOW_MS
    everywhere = Channel("c", VENDORS["openai"], "http://up", ("sk",), demo=True)
    anthropic = Channel("a", VENDORS["anthropic"], "http://up", ("sk",), demo=True)
    channels = Channels((everywhere, anthropic), SystemRandomness(), clock)

    class Words:
        def count(self, _: str, text: str) -> int:
            return len(text.split())

    planner = Planner(CATALOG, channels, Words(), AudioMeter(), 10_000)
    request = Request(WIRES[name], json.dumps(body).encode())
    return asyncio.run(planner.plan(request, free=False, now_ms=NOW_MS, unique_id="u"))


def billed(plan: Plan, tap: Any, ending: Ending, heard_ms: int | None) -> Any:
    usage = usage_of(plan, tap, lambda *_: heard_ms)
    return usage, bill(plan, usage, ending, tap.service_tier)


@pytest.mark.parametrize("case", REQUESTS)
@given(
    says=st.none() | usages(),
    counts=usages("counted"),
    given_=st.none() | usages(),
    content=st.booleans(),
    tier=st.sampled_from((None, "priority", "flex", "default", "fast")),
    ending=st.sampled_from(Ending),
    heard_ms=st.none() | st.integers(0, 10**9),
)
@settings(max_examples=60)
def test_whatever_a_vendor_says_the_cost_is_never_above_the_hold(
    case: str,
    says: Usage | None,
    counts: Usage,
    given_: Usage | None,
    content: bool,
    tier: str | None,
    ending: Ending,
    heard_ms: int | None,
) -> None:
    plan = plan_of(case)
    _, found = billed(plan, Liar(says, counts, given_, content, tier), ending, heard_ms)

    assert 0 <= found.cost_nano <= plan.hold_nano
    assert found.overrun_nano == 0 or found.cost_nano == plan.hold_nano
    if RULES[ending].billed:
        assert sum(line.cost_nano_ca for line in found.lines) == found.cost_nano + found.overrun_nano
    else:
        assert (found.cost_nano, found.overrun_nano, found.lines) == (0, 0, ())


@pytest.mark.parametrize("case", REQUESTS)
@given(data=st.data(), tier=st.sampled_from((None, "priority", "flex", "default")))
@settings(max_examples=60)
def test_what_stays_within_what_was_asked_is_covered_whatever_it_is_called(
    case: str, data: st.DataObject, tier: str | None
) -> None:
    """Overrun is for vendors that give more than they were asked for: cached, written, thought or not."""
    plan = plan_of(case)
    usage = Usage(within := _within(data, plan.bounds), dict.fromkeys(within, "upstream"))
    found = bill(plan, usage, Ending.COMPLETE, tier)

    assert found.overrun_nano == 0


@pytest.mark.parametrize("case", REQUESTS)
def test_our_own_count_of_what_was_sent_is_always_covered(case: str) -> None:
    """A vendor that reports nothing and says nothing countable costs what our count says, within the hold."""
    plan = plan_of(case)
    for silent in (Liar(None, Usage({"image": 1}, {"image": "counted"})), Liar(Usage({"output_token": 10**9}, {}))):
        usage, found = billed(plan, silent, Ending.UPSTREAM_CUT, 1)
        assert found.overrun_nano == 0
        assert usage.input_tokens <= plan.input_tokens_max


def _within(data: st.DataObject, bounds: Mapping[str, int]) -> dict[str, int]:
    """A use of each bounded unit, split at random among the classes that it can be reported as."""
    split = {
        "input_token": ("input_token", "cached_input_token", "cache_write_token", "cache_write_1h_token"),
        "image_input_token": ("image_input_token", "input_token", "cached_input_token"),
        "output_token": ("output_token", "reasoning_token"),
    }
    used: dict[str, int] = {}
    for unit, most in bounds.items():
        left = data.draw(st.integers(0, most))
        for name in split.get(unit, (unit,)):
            part = left if name == split.get(unit, (unit,))[-1] else data.draw(st.integers(0, left))
            used[name] = used.get(name, 0) + part
            left -= part
    return used
