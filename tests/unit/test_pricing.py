"""Count x price in integers, and the hold as a true upper bound of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.adapters.catalog_files import load_catalog
from farebox.domain.pricing import Line, Unpriced, lines_of, price_of, total_nano_ca, upper_bound_nano_ca
from farebox.domain.usage import Usage, tokens

COUNT = st.integers(0, 2_000_000)
RATE = st.integers(1, 10_000_000)
CHAT_RATES = st.fixed_dictionaries(
    {"input_token": RATE, "output_token": RATE}, optional={"cached_input_token": RATE, "cache_write_token": RATE}
)


def test_each_class_that_was_used_is_one_line_of_the_arithmetic() -> None:
    usage = tokens(input_tokens=100, output_tokens=7, cached=60, source="upstream")
    lines = lines_of(usage, {"input_token": 1050, "cached_input_token": 525, "output_token": 4200})

    assert lines == (Line("input_token", 40, 1050), Line("cached_input_token", 60, 525), Line("output_token", 7, 4200))
    assert [line.cost_nano_ca for line in lines] == [42_000, 31_500, 29_400]
    assert total_nano_ca(lines) == 102_900


def test_cached_tokens_without_a_price_of_their_own_are_charged_as_input() -> None:
    rates = {"input_token": 1050, "output_token": 4200}

    assert price_of("cached_input_token", rates) == price_of("cache_write_token", rates) == 1050


@pytest.mark.parametrize("unit", ["image_output_token", "audio_ms", "input_tokens", ""])
def test_what_has_no_price_is_never_free(unit: str) -> None:
    with pytest.raises(Unpriced):
        price_of(unit, {"input_token": 1, "output_token": 1})
    with pytest.raises(Unpriced):
        lines_of(Usage({unit: 1}, {unit: "upstream"}), {"input_token": 1, "output_token": 1})


def test_an_output_without_a_price_is_refused_when_the_hold_is_computed() -> None:
    with pytest.raises(Unpriced):
        upper_bound_nano_ca(input_tokens=1, output_tokens=1, images=0, stream=False, rates={"input_token": 1})
    assert upper_bound_nano_ca(input_tokens=3, output_tokens=0, images=0, stream=False, rates={"input_token": 2}) == 6


def test_nothing_used_costs_nothing() -> None:
    assert lines_of(tokens(input_tokens=0, output_tokens=0, source="upstream"), {"input_token": 1}) == ()
    assert total_nano_ca(()) == 0


@given(rates=CHAT_RATES, fresh=COUNT, cached=COUNT, written=COUNT, output=COUNT, spare=COUNT, more=COUNT)
def test_no_usage_within_the_bounds_costs_more_than_the_hold(
    rates: dict[str, int], fresh: int, cached: int, written: int, output: int, spare: int, more: int
) -> None:
    sent = fresh + cached + written
    usage = tokens(input_tokens=sent, output_tokens=output, cached=cached, cache_write=written, source="upstream")
    hold = upper_bound_nano_ca(
        input_tokens=sent + spare, output_tokens=output + more, images=0, stream=True, rates=rates
    )

    assert 0 <= total_nano_ca(lines_of(usage, rates)) <= hold


def test_an_image_in_a_stream_is_held_at_its_own_price_and_only_there() -> None:
    rates = {"input_token": 10, "output_token": 20, "image_when_streaming": 1000}

    def held(*, stream: bool, images: int = 2) -> int:
        return upper_bound_nano_ca(input_tokens=5, output_tokens=3, images=images, stream=stream, rates=rates)

    assert held(stream=False) == 110
    assert held(stream=True) == 2110
    assert held(stream=True, images=0) == 110


def test_every_price_of_the_catalog_can_be_held_and_charged_in_whole_nano() -> None:
    for model in load_catalog().by_kind("chat"):
        rates = model.prices[-1].rates
        hold = upper_bound_nano_ca(
            input_tokens=model.context_tokens,
            output_tokens=model.output_tokens_max,
            images=0,
            stream=False,
            rates=rates,
        )
        assert type(hold) is int
        assert hold == model.context_tokens * rates["input_token"] + model.output_tokens_max * rates["output_token"]
