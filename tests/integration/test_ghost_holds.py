"""A delayed copy of the admitting write lands after the settlement: the hold is back, as a ghost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from farebox.adapters.dynamodb.client import DynamoDB
from farebox.service.audit import audit
from tests.fakes.process import http
from tests.fakes.service import RunningFarebox
from tests.fakes.upstream import ScriptedUpstream

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
ADMITTING = ("UpdateItem", "TransactWriteItems")


@pytest.mark.parametrize("kind", ["paid", "free"])
def test_a_ghost_costs_nothing_and_gives_its_units_back(
    farebox: RunningFarebox, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:

    key = farebox.new_key(kind, credit="1")
    delayed: list[tuple[str, dict[str, Any]]] = []
    real = DynamoDB.call

    async def call(db: DynamoDB, operation: str, request: Any) -> dict[str, Any]:
        if not delayed and operation in ADMITTING and callable(request):
            delayed.append((operation, request()))  # the first copy is on its way, and will be for long
        return await real(db, operation, request)

    monkeypatch.setattr(DynamoDB, "call", call)
    headers = {"authorization": key.text, "x-forwarded-for": "203.0.113.77"}
    answer = http.post(f"{farebox.base_url}/chat/completions", json=CHAT, headers=headers)
    assert answer.status_code == 200
    settled = farebox.account(key.account)
    assert settled.held_nano == 0

    [(operation, request)] = delayed
    farebox.run(real(farebox.services.db, operation, request))
    haunted = farebox.account(key.account)
    assert len(haunted.holds) == 1
    assert farebox.run(_wrong(farebox, key.account)) == []

    farebox.clock.offset_ms = 3_600_000
    assert farebox.run(farebox.services.store.expire(key.account, farebox.clock.now_ms())) == 1
    assert farebox.account(key.account) == settled
    assert farebox.run(_wrong(farebox, key.account)) == []
    if kind == "free":
        [unit] = [each["Update"] for each in request["TransactItems"] if "Update" in each][1:2]
        read: Callable[..., Any] = farebox.services.db.call
        item = farebox.run(read("GetItem", {"TableName": unit["TableName"], "Key": unit["Key"]}))["Item"]
        assert item["chat"]["N"] == "1"


async def _wrong(farebox: RunningFarebox, account: str) -> list[str]:
    found = await audit(farebox.services.accounts, farebox.services.clock)
    return [sentence for sentence in found.violations if account in sentence]
