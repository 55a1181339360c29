"""The one outcome table: complete, the same in words and in code, and decided for every way to end."""

from __future__ import annotations

from itertools import product

import pytest

from farebox.domain import outcome
from farebox.domain.outcome import RULES, Ending, ending_of

CONTRACT = {"completed", "client_gone", "upstream_cut", "cancelled", "refused", "failed", "expired"}


def documented() -> dict[str, tuple[str, bool, bool]]:
    """The docstring's table: ending → (outcome, billed, unit back)."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (outcome.__doc__ or "").splitlines()
        if line.startswith("|")
    ]
    assert rows[0] == ["ending", "outcome", "billed", "free unit"]
    return {
        ending.replace(" ", "_"): (word, not billed.startswith("nothing"), {"kept": False, "back": True}[unit])
        for ending, word, billed, unit in rows[2:]
    }


def test_every_ending_has_a_rule() -> None:
    assert set(RULES) == set(Ending)


def test_the_table_in_words_is_the_table_in_code() -> None:
    assert documented() == {ending.value: (rule.outcome, rule.billed, rule.unit_back) for ending, rule in RULES.items()}


def test_every_outcome_is_a_word_of_the_contract() -> None:
    assert {rule.outcome for rule in RULES.values()} <= CONTRACT


def test_whatever_is_billed_keeps_the_unit() -> None:
    assert [ending for ending, rule in RULES.items() if rule.billed and rule.unit_back] == []


@pytest.mark.parametrize(
    ("refused", "finished", "produced", "client_gone"),
    list(product([True, False], repeat=4)),
)
def test_no_content_means_no_bill_and_the_unit_back_and_content_the_reverse(
    refused: bool, finished: bool, produced: bool, client_gone: bool
) -> None:
    rule = RULES[ending_of(refused=refused, finished=finished, produced=produced, client_gone=client_gone)]

    assert rule.billed is (produced and not refused)
    assert rule.unit_back is not rule.billed


@pytest.mark.parametrize(
    ("facts", "ending"),
    [
        ("finished produced", Ending.COMPLETE),
        ("finished produced client_gone", Ending.CLIENT_GONE),
        ("finished", Ending.EMPTY),
        ("finished client_gone", Ending.EMPTY),
        ("produced", Ending.UPSTREAM_CUT),
        ("produced client_gone", Ending.UPSTREAM_CUT),
        ("", Ending.FAILED),
        ("client_gone", Ending.FAILED),
        ("refused", Ending.REFUSED),
        ("refused produced", Ending.REFUSED),
    ],
)
def test_each_way_to_end_has_its_name(facts: str, ending: Ending) -> None:
    names = ("refused", "finished", "produced", "client_gone")

    assert ending_of(**{name: name in facts.split() for name in names}) is ending
