"""Who is asked first, who next, and which keys rest meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.wires import WIRES
from farebox.relay import setbacks
from farebox.relay.attempts import ATTEMPTS_MAX, Attempts, Try
from farebox.relay.channels import Channel, Channels
from farebox.relay.setbacks import BROKEN, STATUSES, Fault, Setback
from farebox.relay.upstream_errors import Empty, UpstreamFailure
from farebox.relay.ways import door_for, ways
from farebox.vendors import VENDORS

CHAT = WIRES["chat.completions"]
WEAK = Setback("weak", Fault.CHANNEL, STATUSES[503].error)
BAD_KEY = Setback("bad_key", Fault.KEY, STATUSES[401].error, rest_ms=1000)
NOT_THERE = Setback("not_there", Fault.MODEL, STATUSES[404].error)


class Lots:
    """Randomness from a seed."""

    def __init__(self, seed: int = 7) -> None:
        self._random = random.Random(seed)

    def below(self, limit: int) -> int:
        return self._random.randrange(limit)

    def token(self, length: int) -> bytes:
        return self._random.randbytes(length)


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at_ms = 1_000_000

    def now_ms(self) -> int:
        return self.at_ms


def channel(name: str, *, priority: int = 0, weight: int = 1, keys: int = 1, vendor: str = "openai") -> Channel:
    own = tuple(f"sk-{name}-{number}" for number in range(keys))
    return Channel(name, VENDORS[vendor], "http://up", own, ("gpt-4o",), priority=priority, weight=weight)


def channels(*all_: Channel, clock: Hands | None = None) -> Channels:
    return Channels(all_, Lots(), clock or Hands())


def names(found: list[Channel]) -> list[str]:
    return [each.name for each in found]


def test_a_higher_priority_comes_first_whatever_the_lot() -> None:
    routes = channels(channel("low"), channel("high", priority=2), channel("middle", priority=1))

    assert {tuple(names(routes.candidates("gpt-4o", "openai"))) for _ in range(50)} == {("high", "middle", "low")}


def test_among_equals_the_lot_falls_by_weight_and_everybody_is_on_the_list() -> None:
    routes = channels(channel("one", weight=1), channel("three", weight=3))
    drawn = [names(routes.candidates("gpt-4o", "openai")) for _ in range(4000)]
    first = Counter(each[0] for each in drawn)

    assert {frozenset(each) for each in drawn} == {frozenset({"one", "three"})}
    assert 2.6 < first["three"] / first["one"] < 3.5


def test_a_weight_of_nought_takes_a_channel_out_of_use() -> None:
    assert channels(channel("off", weight=0)).candidates("gpt-4o", "openai") == []


def test_a_channel_serves_what_it_lists_what_it_renames_and_all_of_its_vendors_models() -> None:
    everything = replace(channel("all"), models=("*",))
    azure = replace(channel("azure", vendor="azure"), models=("*",))
    renamed = replace(channel("renamed"), models=(), rename={"claude-3-5-haiku-20241022": "haiku"})

    assert everything.serves("o3", "openai")
    assert not everything.serves("grok-3", "xai")
    assert azure.serves("o3", "openai")
    assert renamed.serves("claude-3-5-haiku-20241022", "anthropic")
    assert not renamed.serves("o3", "openai")


def test_the_keys_of_a_channel_take_turns() -> None:
    only = channel("only", keys=3)
    routes = channels(only)

    assert [routes.keys_of(only)[0] for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_a_key_that_rests_comes_last_until_it_has_rested() -> None:
    clock, only = Hands(), channel("only", keys=3)
    routes = channels(only, clock=clock)
    routes.rest(only, 1, 5000)
    resting = [routes.keys_of(only) for _ in range(3)]
    clock.at_ms += 5000
    rested = [routes.keys_of(only)[0] for _ in range(3)]

    assert [keys[-1] for keys in resting] == [1, 1, 1]
    assert sorted(rested) == [0, 1, 2]


def test_a_channel_whose_keys_all_rest_comes_after_the_others_but_is_not_lost() -> None:
    first, second = channel("first", priority=9, keys=2), channel("second")
    routes = channels(first, second)
    routes.rest(first, 0, 5000)
    one_rests = names(routes.candidates("gpt-4o", "openai"))
    routes.rest(first, 1, 5000)

    assert (one_rests, names(routes.candidates("gpt-4o", "openai"))) == (["first", "second"], ["second", "first"])


# ── attempts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def tried(setback: Setback, *all_: Channel) -> list[tuple[str, int, bool]]:
    """Every try of a request that meets the same setback everywhere."""
    routes = channels(*all_)
    attempts = Attempts(ways(CHAT, list(all_)), routes)
    current: Try | None = attempts.first()
    seen = []
    while current is not None:
        seen.append((current.way.channel.name, current.key, current.again))
        current = attempts.after(current, setback)
    return seen


def test_a_weak_channel_alone_is_asked_twice() -> None:
    assert tried(WEAK, channel("a")) == [("a", 0, False), ("a", 0, True)]


def test_a_weak_channel_alone_is_asked_with_its_other_key_the_second_time() -> None:
    assert tried(WEAK, channel("a", keys=2)) == [("a", 0, False), ("a", 1, True)]


def test_where_there_are_others_each_weak_channel_is_asked_once() -> None:
    assert tried(WEAK, channel("a"), channel("b"), channel("c")) == [
        ("a", 0, False),
        ("b", 0, False),
        ("c", 0, False),
    ]


def test_after_an_empty_answer_there_is_one_more_opinion() -> None:
    empty = BROKEN[Empty]

    assert tried(empty, channel("a"), channel("b"), channel("c")) == [("a", 0, False), ("b", 0, False)]


def test_a_bad_key_is_followed_by_the_channels_others_and_then_by_other_channels() -> None:
    assert tried(BAD_KEY, channel("a", keys=2), channel("b")) == [("a", 0, False), ("a", 1, False), ("b", 0, False)]


def test_a_model_that_is_not_there_is_not_asked_for_again() -> None:
    assert tried(NOT_THERE, channel("a", keys=3)) == [("a", 0, False)]
    assert tried(NOT_THERE, channel("a", keys=3), channel("b")) == [("a", 0, False), ("b", 0, False)]


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
    st.lists(st.sampled_from([WEAK, BAD_KEY, NOT_THERE]), min_size=8, max_size=8),
)
def test_however_it_goes_no_key_is_tried_twice_but_for_one_more_try_and_never_more_than_four(
    keys: list[int], fate: list[Setback]
) -> None:
    all_ = [channel(f"c{number}", keys=count) for number, count in enumerate(keys)]
    attempts = Attempts(ways(CHAT, all_), channels(*all_))
    current: Try | None = attempts.first()
    seen: list[tuple[str, int]] = []
    for setback in fate:
        if current is None:
            break
        seen.append((current.way.channel.name, current.key))
        current = attempts.after(current, setback)

    assert current is None
    assert len(seen) <= ATTEMPTS_MAX
    assert len(seen) - len(set(seen)) <= 1


def test_every_failure_of_an_upstream_has_its_setback() -> None:
    assert set(BROKEN) == set(UpstreamFailure.__subclasses__())


@pytest.mark.parametrize(("said", "rest_ms"), [("7", 7000), ("600", 60_000), ("soon", 5000), ("", 5000), ("-1", 5000)])
def test_a_key_rests_as_long_as_the_vendor_says_up_to_a_minute(said: str, rest_ms: int) -> None:
    assert setbacks.of_status(429, {"retry-after": said}).rest_ms == rest_ms


# ── doors ───────────────────────────────────────────────────────────────────────────────────────────────────────────

DOORS = [
    ("chat.completions", "openai", "chat.completions", False),
    ("chat.completions", "azure", "chat.completions", False),
    ("chat.completions", "deepseek", "chat.completions", False),
    ("chat.completions", "xai", "chat.completions", False),
    ("chat.completions", "openai-compatible", "chat.completions", False),
    ("chat.completions", "anthropic", "messages", True),
    ("chat.completions", "google", "generateContent", True),
    ("messages", "anthropic", "messages", False),
    ("messages", "openai", "chat.completions", True),
    ("messages", "deepseek", "chat.completions", True),
    ("messages", "google", "chat.completions", True),
    ("generateContent", "google", "generateContent", False),
    ("generateContent", "openai", "chat.completions", True),
    ("generateContent", "anthropic", "messages", True),
    ("embedContent", "google", "embedContent", False),
    ("embedContent", "openai", "embeddings", True),
    ("embeddings", "google", "embeddings", False),
    ("responses", "openai", "responses", False),
]


@pytest.mark.parametrize(("caller", "vendor", "heard", "bridged"), DOORS)
def test_a_vendor_is_entered_by_its_first_door_that_serves(caller: str, vendor: str, heard: str, bridged: bool) -> None:
    found = door_for(WIRES[caller], VENDORS[vendor])

    assert found is not None
    door, wire, bridge = found
    assert (wire.name, bridge is not None) == (heard, bridged)
    assert wire.name in door.paths


@pytest.mark.parametrize(("caller", "vendor"), [("responses", "anthropic"), ("images.edits", "google")])
def test_what_no_door_serves_is_not_served(caller: str, vendor: str) -> None:
    assert door_for(WIRES[caller], VENDORS[vendor]) is None


def test_a_url_says_the_upstreams_own_name_and_nothing_can_break_out_of_it() -> None:
    azure = Channel(
        "az", VENDORS["azure"], "http://up", ("k",), ("gpt-4o",), rename={"gpt-4o": "a b/../c?d#e"}, api_version="v&1"
    )
    (way,) = ways(CHAT, [azure])

    assert way.url("gpt-4o", stream=True) == (
        "http://up/openai/deployments/a%20b%2F..%2Fc%3Fd%23e/chat/completions?api-version=v%261"
    )


def test_gemini_is_asked_for_events_whenever_a_stream_is_wanted() -> None:
    google = Channel("g", VENDORS["google"], "http://up", ("k",), ("gemini-2.0-flash",))
    (way,) = ways(CHAT, [google])

    assert way.url("gemini-2.0-flash", stream=True).endswith("/models/gemini-2.0-flash:streamGenerateContent?alt=sse")
    assert way.url("gemini-2.0-flash", stream=False).endswith("/models/gemini-2.0-flash:generateContent")


def test_only_the_vendors_own_headers_of_a_caller_who_speaks_its_dialect_go_up() -> None:
    passed = {"anthropic-version": "2026-10-21", "anthropic-beta": "x-1", "cookie": "secret"}
    anthropic = Channel("a", VENDORS["anthropic"], "http://up", ("k",), ("claude-3-5-haiku-20241022",))
    (same,) = ways(WIRES["messages"], [anthropic])
    (bridged,) = ways(CHAT, [anthropic])

    assert same.headers(0, "application/json", passed, stream=False) == {
        "anthropic-version": "2026-10-21",
        "anthropic-beta": "x-1",
        "x-api-key": "k",
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "farebox",
    }
    assert bridged.headers(0, "application/json", passed, stream=True)["anthropic-version"] == "2023-06-01"
    assert "anthropic-beta" not in bridged.headers(0, "application/json", passed, stream=True)
