"""Receipts: canonical bytes, and arithmetic that anybody can check."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.domain.pricing import Line
from farebox.domain.receipts import Receipt, arithmetic_errors, canonical

LINES = (Line("input_token", 40, 1050), Line("cached_input_token", 60, 525), Line("output_token", 7, 4200))
RECEIPT = Receipt(
    request_id="req_0",
    at_ms=1_800_000_000_000,
    account="acc_0",
    key_id="key_0",
    model="gpt-4o-mini",
    channel="openai-1",
    endpoint="chat.completions",
    stream=True,
    usage={line.unit: {"count": line.count, "source": "upstream"} for line in LINES},
    price_version="gpt-4o-mini@2025-05-01",
    lines=LINES,
    cost_nano=102_900,
    hold_nano=200_000,
    overrun_nano=0,
    outcome="completed",
    took_ms=12,
)
Change = Callable[[dict[str, Any]], None]


def test_a_sound_receipt_has_no_errors() -> None:
    assert arithmetic_errors(RECEIPT.document()) == []


def test_a_receipt_says_everything_that_the_contract_names() -> None:
    document = RECEIPT.document()

    assert document["arithmetic"][0] == {"unit": "input_token", "count": 40, "price_nano": 1050, "cost_nano": 42_000}
    assert document["usage"]["output_token"] == {"count": 7, "source": "upstream"}
    named = ("request_id", "time_ms", "key", "model", "channel", "endpoint", "price_version", "cost_nano", "outcome")
    assert [name for name in named if name not in document] == []


def test_what_the_house_bore_above_the_hold_is_taken_off() -> None:
    capped = replace(RECEIPT, cost_nano=100_000, hold_nano=100_000, overrun_nano=2_900)

    assert arithmetic_errors(capped.document()) == []
    assert arithmetic_errors(replace(capped, overrun_nano=0).document()) != []


def test_a_receipt_of_a_free_key_shows_usage_and_costs_nothing() -> None:
    assert arithmetic_errors(replace(RECEIPT, lines=(), cost_nano=0, hold_nano=0).document()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(cost_nano=102_899),
        lambda document: document.update(cost_nano=0),
        lambda document: document.update(overrun_nano=1),
        lambda document: document.update(hold_nano=102_899),
        lambda document: document["arithmetic"][0].update(count=41),
        lambda document: document["arithmetic"][1].update(price_nano=524),
        lambda document: document["arithmetic"][2].update(cost_nano=29_399),
        lambda document: document["arithmetic"].pop(),
        lambda document: document["arithmetic"].append(document["arithmetic"][0]),
        lambda document: document["usage"]["input_token"].update(count=39),
        lambda document: document["usage"].pop("output_token"),
    ],
)
def test_every_change_of_a_figure_is_found(change: Change) -> None:
    document = copy.deepcopy(RECEIPT.document())
    change(document)

    assert arithmetic_errors(document) != []


def test_canonical_json_is_sorted_without_spaces_and_in_utf8() -> None:
    assert canonical({"b": 1, "a": {"z": "中", "y": [True, None]}}) == '{"a":{"y":[true,null],"z":"中"},"b":1}'.encode()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_canonical_bytes_survive_parsing_and_the_order_of_members(document: dict[str, Any]) -> None:
    written = canonical(document)

    assert canonical(json.loads(written)) == written
    assert canonical(dict(reversed(document.items()))) == written


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_json_number_cannot_be_signed(value: float) -> None:
    with pytest.raises(ValueError):
        canonical({"cost": value})


def test_a_receipt_holds_no_float() -> None:
    def floats(value: Any) -> list[float]:
        if isinstance(value, dict):
            return [found for each in value.values() for found in floats(each)]
        if isinstance(value, list):
            return [found for each in value for found in floats(each)]
        return [value] if isinstance(value, float) else []

    assert floats(RECEIPT.document()) == []
