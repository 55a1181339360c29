"""Count x price in integers, and the hold as a true upper bound of it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.adapters.catalog_files import load_catalog
from farebox.domain.catalog import UNITS, LengthTier, Price, ServiceTier
from farebox.domain.pricing import (
    COULD_BE,
    PRICED_AS,
    Line,
    Unpriced,
    lines_of,
    price_of,
    total_nano_ca,
    upper_bound_nano_ca,
)
from farebox.domain.usage import INPUT_TOKENS, OUTPUT_TOKENS, Usage, tokens

COUNT = st.integers(0, 2_000_000)
RATE = st.integers(1, 10_000_000)
BORDER = st.integers(1, 1_000)
CLASSES = (*INPUT_TOKENS, *OUTPUT_TOKENS)
FEES = ("web_search", "request", "image_when_streaming", "image/hd:1024x1792")
SERVED = st.sampled_from([None, "auto", "default", "standard", "flex", "priority", "fast", "no-such-tier"])

RATES = st.fixed_dictionaries(
    {"input_token": RATE, "output_token": RATE} | dict.fromkeys(FEES, RATE),
    optional={unit: RATE for unit in CLASSES if unit in PRICED_AS},
)
SOME_RATES = st.dictionaries(st.sampled_from(CLASSES), RATE, max_size=5)
TIERS = st.dictionaries(BORDER, SOME_RATES, max_size=3).map(
    lambda tiers: tuple(LengthTier(border, tiers[border]) for border in sorted(tiers))
)
SERVICE_TIERS = st.dictionaries(st.sampled_from(["flex", "priority"]), st.builds(ServiceTier, SOME_RATES, TIERS))
PRICES = st.builds(Price, st.just(0), st.just("m@2025-05-01"), RATES, TIERS, SERVICE_TIERS)
BOUNDED = (*COULD_BE, *FEES)
"""The units that holds are made of."""
BOUNDS = st.dictionaries(st.sampled_from(BOUNDED), st.integers(0, 1_000))


def test_each_class_that_was_used_is_one_line_of_the_arithmetic() -> None:
    usage = tokens(input_tokens=100, output_tokens=7, cached=60, source="upstream")
    lines = lines_of(usage, {"input_token": 1050, "cached_input_token": 525, "output_token": 4200})

    assert lines == (Line("input_token", 40, 1050), Line("cached_input_token", 60, 525), Line("output_token", 7, 4200))
    assert [line.cost_nano_ca for line in lines] == [42_000, 31_500, 29_400]
    assert total_nano_ca(lines) == 102_900


def test_a_class_without_a_price_of_its_own_is_charged_as_what_it_is_a_part_of() -> None:
    rates = {"input_token": 3, "output_token": 7}

    assert {unit: price_of(unit, rates) for unit in INPUT_TOKENS} == dict.fromkeys(INPUT_TOKENS, 3)
    assert {unit: price_of(unit, rates) for unit in OUTPUT_TOKENS} == dict.fromkeys(OUTPUT_TOKENS, 7)


def test_a_write_for_an_hour_is_charged_as_a_write_before_it_is_charged_as_input() -> None:
    assert price_of("cache_write_1h_token", {"input_token": 1, "cache_write_token": 2}) == 2
    assert price_of("cache_write_1h_token", {"input_token": 1, "cached_input_token": 2}) == 1


def test_every_class_of_tokens_has_a_way_to_be_priced_and_every_hold_covers_it() -> None:
    assert {*PRICED_AS, "input_token", "output_token"} == {*CLASSES}
    assert {name for names in COULD_BE.values() for name in names} == {*CLASSES}
    assert {*CLASSES} <= UNITS.keys()


@pytest.mark.parametrize(
    "unit", ["audio_ms", "character", "web_search", "request", "image/hd:1024x1792", "image_when_streaming", "x", ""]
)
def test_what_has_no_price_is_never_free(unit: str) -> None:
    rates = {"input_token": 1, "output_token": 1, "image/standard:1024x1792": 1}
    with pytest.raises(Unpriced):
        price_of(unit, rates)
    with pytest.raises(Unpriced):
        lines_of(Usage({unit: 1}, {unit: "upstream"}), rates)
    with pytest.raises(Unpriced):
        upper_bound_nano_ca(Price(0, "m@1", rates), {unit: 1})


def test_an_output_without_a_price_is_refused_when_the_hold_is_computed() -> None:
    price = Price(0, "m@1", {"input_token": 2})
    with pytest.raises(Unpriced):
        upper_bound_nano_ca(price, {"input_token": 1, "output_token": 1})
    assert upper_bound_nano_ca(price, {"input_token": 3, "output_token": 0}) == 6


def test_nothing_used_costs_nothing_and_holds_nothing() -> None:
    assert lines_of(tokens(input_tokens=0, output_tokens=0, source="upstream"), {"input_token": 1}) == ()
    assert total_nano_ca(()) == 0
    assert upper_bound_nano_ca(Price(0, "m@1", {"input_token": 1}), {}) == 0


def test_an_input_is_held_at_the_dearest_of_what_the_vendor_could_call_it() -> None:
    rates = {"input_token": 10, "cached_input_token": 1, "cache_write_token": 12, "cache_write_1h_token": 20}
    price = Price(0, "m@1", rates | {"audio_input_token": 15, "output_token": 30, "reasoning_token": 40})

    assert upper_bound_nano_ca(price, {"input_token": 5}) == 100
    assert upper_bound_nano_ca(price, {"audio_input_token": 5}) == 100
    assert upper_bound_nano_ca(price, {"output_token": 5}) == 200
    assert upper_bound_nano_ca(price, {"audio_output_token": 5}) == 200


def test_a_text_is_not_held_at_the_price_of_sound_or_images() -> None:
    price = Price(0, "m@1", {"input_token": 1, "audio_input_token": 50, "image_input_token": 60, "output_token": 2})

    assert upper_bound_nano_ca(price, {"input_token": 10, "image_input_token": 3}) == 10 + 180


def test_a_hold_covers_every_length_that_the_input_could_have() -> None:
    """Above 100 tokens this price is cheaper for input: 100 dear ones cost more than 140 cheap ones."""
    tier = LengthTier(100, {"input_token": 5})
    price = Price(0, "m@1", {"input_token": 10, "output_token": 1}, (tier,))

    assert upper_bound_nano_ca(price, {"input_token": 140}) == 100 * 10
    assert upper_bound_nano_ca(price, {"input_token": 300}) == 300 * 5
    assert upper_bound_nano_ca(price, {"input_token": 60, "image_input_token": 70}) == (60 + 70) * 10
    assert upper_bound_nano_ca(price, {"input_token": 100, "output_token": 7}) == 1007


def test_a_hold_covers_the_service_tier_that_was_asked_for_and_the_ordinary_one() -> None:
    served = {"priority": ServiceTier({"input_token": 20}), "flex": ServiceTier({"input_token": 5})}
    price = Price(0, "m@1", {"input_token": 10, "output_token": 1}, (), served)

    held = {name: upper_bound_nano_ca(price, {"input_token": 1}, service_tier=name) for name in (None, *served, "fast")}

    assert held == {None: 10, "priority": 20, "flex": 10, "fast": 20}


def used_within(draw: st.DrawFn, bounds: Mapping[str, int]) -> Usage:
    """What a vendor could report of a request with these bounds: each use in full or in part, under any name of it."""
    counts: dict[str, int] = {}
    for unit, most in bounds.items():
        for name in draw(st.permutations(COULD_BE.get(unit, (unit,)))):
            part = draw(st.integers(0, most))
            most -= part
            counts[name] = counts.get(name, 0) + part
    return Usage(counts, dict.fromkeys(counts, "upstream"))


@given(data=st.data(), price=PRICES, bounds=BOUNDS, asked=SERVED)
def test_no_usage_within_the_bounds_costs_more_than_the_hold(
    data: st.DataObject, price: Price, bounds: dict[str, int], asked: str | None
) -> None:
    usage = data.draw(st.composite(used_within)(bounds))
    hold = upper_bound_nano_ca(price, bounds, service_tier=asked)

    for answered in (asked, None, "default", "no-such-tier"):
        rated = price.rates_for(input_tokens=usage.input_tokens, service_tier=answered)
        assert 0 <= total_nano_ca(lines_of(usage, rated.rates)) <= hold


@given(price=PRICES, bounds=BOUNDS, asked=SERVED, unit=st.sampled_from(BOUNDED), more=st.integers(1, 1_000))
def test_a_hold_never_falls_when_a_bound_rises(
    price: Price, bounds: dict[str, int], asked: str | None, unit: str, more: int
) -> None:
    higher = {**bounds, unit: bounds.get(unit, 0) + more}

    assert upper_bound_nano_ca(price, bounds, service_tier=asked) <= upper_bound_nano_ca(
        price, higher, service_tier=asked
    )


@given(price=PRICES, bounds=BOUNDS, asked=SERVED, low=COUNT, step=COUNT)
def test_a_hold_is_convex_in_the_output(
    price: Price, bounds: dict[str, int], asked: str | None, low: int, step: int
) -> None:
    def held(output_tokens: int) -> int:
        return upper_bound_nano_ca(price, {**bounds, "output_token": output_tokens}, service_tier=asked)

    assert 2 * held(low + step) <= held(low) + held(low + 2 * step)


@given(price=PRICES, input_tokens=st.integers(0, 2_000), served=SERVED)
def test_one_version_names_one_table_of_rates(price: Price, input_tokens: int, served: str | None) -> None:
    named: dict[str, Mapping[str, int]] = {}
    for length in (input_tokens, *range(0, 1_100, 50)):
        for tier in (served, None, "flex", "priority"):
            rated = price.rates_for(input_tokens=length, service_tier=tier)
            assert named.setdefault(rated.version, rated.rates) == rated.rates
            assert rated.version.startswith("m@2025-05-01")


def test_every_price_of_the_catalog_can_be_held_and_charged_in_whole_nano() -> None:
    for model in load_catalog().by_kind("chat"):
        price = model.prices[-1]
        hold = upper_bound_nano_ca(
            price, {"input_token": model.context_tokens, "output_token": model.output_tokens_max}
        )
        assert type(hold) is int
        assert hold == (
            model.context_tokens * price.rates["input_token"] + model.output_tokens_max * price.rates["output_token"]
        )
