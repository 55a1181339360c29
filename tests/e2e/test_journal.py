"""What a caller has seen the end of is billed, whenever the process dies: by the journal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from farebox.adapters.journal import FileJournal
from farebox.domain.quota import Limit, Unit
from farebox.ports import Settlement
from tests.fakes.process import FareboxProcess, http
from tests.fakes.upstream import ScriptedUpstream, chat_completion, chat_stream, json_answer, sse_answer

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
SETTLEMENT = Settlement(
    request_id="req_1",
    account="acc_1",
    key_number="k",
    hold_nano=10,
    cost_nano=3,
    units_back=(Unit("key", "key#1#2026-11-24", (Limit("chat", 0), Limit("group:gpt-4o", 0)), ends_ms=5),),
    receipt=b'{"a":1}',
    signature=b"\x00\xff",
    signer_key_id="ed25519:x",
    at_ms=1,
    attempt=7,
)


def test_what_was_appended_is_there_for_the_next_process_until_it_is_forgotten(tmp_path: Path) -> None:
    first = FileJournal(tmp_path / "journal")
    assert first.open() == []
    first.append(SETTLEMENT)

    second = FileJournal(tmp_path / "journal")
    assert second.open() == [SETTLEMENT]
    third = FileJournal(tmp_path / "journal")
    assert third.open() == [SETTLEMENT], "opening alone forgets nothing"
    for journal in (first, second, third):
        journal.close()


def test_a_line_that_the_process_died_over_is_passed_over(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "journal")
    journal.open()
    journal.append(SETTLEMENT)
    journal.close()
    with (tmp_path / "journal").open("ab") as file:
        file.write(b'{"request_id":"req_2","acc')

    again = FileJournal(tmp_path / "journal")
    assert again.open() == [SETTLEMENT]
    again.close()


def test_the_file_does_not_grow_without_bound(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "journal")
    journal.open()
    journal.append(SETTLEMENT)
    for number in range(5_000):
        request_id = f"req_x{number}"
        journal.append(replace(SETTLEMENT, request_id=request_id))
        journal.forget(request_id)
    assert (tmp_path / "journal").stat().st_size < 400_000
    journal.close()

    again = FileJournal(tmp_path / "journal")
    assert SETTLEMENT in again.open(), "what waits survives every rewriting"
    again.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_kill_right_after_the_end_of_an_answer_loses_no_bill(
    upstream: ScriptedUpstream, tmp_path: Path, stream: bool
) -> None:
    upstream.script = (
        sse_answer(chat_stream("hi", prompt=10, completion=5)) if stream else json_answer(chat_completion())
    )
    config = f'[[channel]]\nname = "scripted"\nvendor = "openai"\nbase_url = "{upstream.url}"\nkeys = ["k"]\n'
    rounds = 6
    for _ in range(rounds):
        with FareboxProcess(tmp_path / "data", demo=True, config=config) as service:
            headers = {"authorization": service.paid_key}
            answer = http.post(f"{service.url}/v1/chat/completions", json={**CHAT, "stream": stream}, headers=headers)
            service.kill()
            assert answer.status_code == 200
    with FareboxProcess(tmp_path / "data", demo=True, config=config) as service:
        balance = http.post(f"{service.url}/v1/query/balance", headers=headers).json()
    assert balance["balanceUsed"] == pytest.approx(rounds * 0.0000315, abs=1e-12)
    assert balance["balanceHeld"] == 0
