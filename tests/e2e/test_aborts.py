"""A caller who leaves: whenever it is, one ledger entry, billed from what the upstream says it used."""

from __future__ import annotations

from dataclasses import replace

from tests.fakes import abort_doors, aborts
from tests.fakes.service import REPO, RunningFarebox
from tests.fakes.upstream import ScriptedUpstream

TABLE = REPO / "build" / "abort-table.md"


def test_whenever_a_caller_leaves_the_bill_is_the_same(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    wanted = aborts.cases()
    assert len(wanted) >= 42

    rows = aborts.run(farebox.base_url, upstream, farebox, wanted)
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(aborts.table(rows), "utf-8")

    assert [(row.case, row.wrong) for row in rows if row.wrong] == []


def test_who_leaves_after_the_end_has_a_complete_answer(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    wanted = [case for case in aborts.cases() if case.whole]
    rows = aborts.run(farebox.base_url, upstream, farebox, wanted)
    assert {receipt["outcome"] for row in rows for receipt in row.receipts} == {"completed"}


def test_it_is_the_same_at_every_door(vendors: RunningFarebox, upstream: ScriptedUpstream) -> None:
    """Anthropic's and Gemini's callers, natively and over a bridge: the same outcomes and figures."""
    gemini = vendors.services.catalog.models[abort_doors.GEMINI_MODEL].prices[-1].rates
    prices = {"in_nano": gemini["input_token"], "out_nano": gemini["output_token"]}
    wanted = [
        *aborts.cases(abort_doors.AT_ANTHROPIC, ("paid",)),
        *aborts.cases(abort_doors.MESSAGES_AT_OPENAI, ("paid", "free"), ("FIN",)),
        *aborts.cases(replace(abort_doors.AT_GEMINI, **prices), ("paid",)),
        *aborts.cases(abort_doors.GEMINI_AT_OPENAI, ("paid",), ("FIN",)),
    ]
    rows = aborts.run(vendors.base_url, upstream, vendors, wanted)

    assert [(row.case.door.name, row.case.left_after, row.case.then, row.wrong) for row in rows if row.wrong] == []
