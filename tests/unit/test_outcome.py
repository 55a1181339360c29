"""The one outcome table: complete, the same in docs and in code, and decided for every way to end."""

from __future__ import annotations

import inspect
from itertools import product
from pathlib import Path

import pytest

from farebox.domain import outcome
from farebox.domain.outcome import RULES, Ending, ending_of

CONTRACT = {"completed", "client_gone", "upstream_cut", "cancelled", "refused", "failed", "expired"}
FACTS = tuple(inspect.signature(ending_of).parameters)
BILLING = Path(__file__).parents[2] / "docs" / "billing.md"


def end(facts: str) -> Ending:
    """The ending of an answer of which just these facts are true."""
    true = facts.split()
    assert set(true) <= set(FACTS)
    return ending_of(**{name: name in true for name in FACTS})


def test_every_ending_has_a_rule() -> None:
    assert set(RULES) == set(Ending)


def test_the_table_in_the_docs_is_the_table_in_the_code() -> None:
    assert outcome.markdown() in BILLING.read_text("utf-8")


def test_every_outcome_is_a_word_of_the_contract_and_every_word_occurs() -> None:
    assert {rule.outcome for rule in RULES.values()} == CONTRACT


def test_whatever_is_billed_keeps_the_unit() -> None:
    assert [ending for ending, rule in RULES.items() if rule.billed and rule.unit_back] == []


def test_nothing_billed_gives_the_unit_back_save_for_a_crash_that_nobody_saw() -> None:
    assert [ending for ending, rule in RULES.items() if not rule.billed and not rule.unit_back] == [Ending.EXPIRED]


@pytest.mark.parametrize("flags", list(product([True, False], repeat=len(FACTS))))
def test_no_content_means_no_bill_and_the_unit_back_and_content_the_reverse(flags: tuple[bool, ...]) -> None:
    facts = dict(zip(FACTS, flags, strict=True))
    rule = RULES[ending_of(**facts)]

    assert rule.billed is (facts["produced"] and not facts["refused"])
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
        ("produced late", Ending.DEADLINE),
        ("late", Ending.FAILED),
        ("finished produced late", Ending.COMPLETE),
        ("cancelled produced", Ending.CANCELLED),
        ("cancelled", Ending.CANCELLED_EARLY),
        ("", Ending.FAILED),
        ("client_gone", Ending.FAILED),
        ("refused", Ending.REFUSED),
        ("refused produced", Ending.REFUSED),
    ],
)
def test_each_way_to_end_has_its_name(facts: str, ending: Ending) -> None:
    assert end(facts) is ending
