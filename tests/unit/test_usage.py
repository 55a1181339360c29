"""Usage in disjoint counters: what vendors report overlapping, once and for all taken apart."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.domain.usage import COUNT_MAX, AbsurdUsage, Usage, tokens

COUNT = st.integers(0, 1_000_000)


def test_cached_and_written_tokens_are_taken_out_of_the_input() -> None:
    usage = tokens(input_tokens=100, output_tokens=7, cached=60, cache_write=30, source="upstream")

    assert usage.counts == {
        "input_token": 10,
        "cached_input_token": 60,
        "cache_write_token": 30,
        "output_token": 7,
    }
    assert set(usage.sources.values()) == {"upstream"}
    assert usage.sources.keys() == usage.counts.keys()


def test_classes_that_were_not_used_are_left_out_but_input_and_output_always_stand() -> None:
    assert tokens(input_tokens=0, output_tokens=0, source="counted").counts == {"input_token": 0, "output_token": 0}


@given(COUNT, COUNT, COUNT, COUNT)
def test_the_counters_add_up_to_what_was_reported(fresh: int, cached: int, written: int, output: int) -> None:
    usage = tokens(
        input_tokens=fresh + cached + written,
        output_tokens=output,
        cached=cached,
        cache_write=written,
        source="upstream",
    )

    assert usage.input_tokens == fresh + cached + written
    assert usage.output_tokens == output
    assert sum(usage.counts.values()) == fresh + cached + written + output


@pytest.mark.parametrize("absurd", [-1, COUNT_MAX + 1, 1.0, "5", True, None, float("nan"), 10**400])
@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "cached", "cache_write"])
def test_a_figure_that_is_no_count_is_absurd(name: str, absurd: Any) -> None:
    figures: dict[str, Any] = {"input_tokens": 10, "output_tokens": 10, "cached": 0, "cache_write": 0, name: absurd}
    with pytest.raises(AbsurdUsage):
        tokens(**figures, source="upstream")


@pytest.mark.parametrize(("cached", "written"), [(11, 0), (0, 11), (6, 5)])
def test_more_cached_than_sent_is_a_contradiction_and_never_clamped(cached: int, written: int) -> None:
    with pytest.raises(AbsurdUsage):
        tokens(input_tokens=10, output_tokens=0, cached=cached, cache_write=written, source="upstream")


def test_the_largest_honest_figures_pass() -> None:
    assert tokens(input_tokens=COUNT_MAX, output_tokens=COUNT_MAX, cached=COUNT_MAX, source="upstream").counts == {
        "input_token": 0,
        "cached_input_token": COUNT_MAX,
        "output_token": COUNT_MAX,
    }


def test_no_usage_is_nought_of_everything() -> None:
    assert (Usage().input_tokens, Usage().output_tokens, Usage().of("image_output_token")) == (0, 0, 0)
