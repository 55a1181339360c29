"""The hot path's store, as `ports.Store` has it: admit, settle, counts, expire."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson

from farebox.adapters.dynamodb import admission as admitting
from farebox.adapters.dynamodb import claim as claiming
from farebox.adapters.dynamodb import settlement as settling
from farebox.adapters.dynamodb.client import DynamoDB
from farebox.adapters.dynamodb.debt import collect, owes
from farebox.adapters.dynamodb.errors import ConditionFailed, TransactionCanceled
from farebox.adapters.dynamodb.expiry import expired_row
from farebox.adapters.dynamodb.key_networks import KeyNetworks
from farebox.adapters.dynamodb.tables import TTL, Tables
from farebox.adapters.dynamodb.values import Item, plain, plain_item, s
from farebox.domain.idempotency import Claim
from farebox.domain.quota import Unit
from farebox.errors import (
    AlreadyCompleted,
    AlreadyRunning,
    Conflict,
    DailyQuotaExceeded,
    InsufficientBalance,
    NotFound,
    StoreUnavailable,
    TooManyInFlight,
)
from farebox.ports import Admission, Grant, Settlement, Signer

RACES_MAX = 3
"""How often a condition may fail for a reason that has passed by the time we look."""


class DynamoDBStore:
    """See ports.Store. `reset_at` tells people when the day turns, e.g. "00:00 Asia/Shanghai"."""

    def __init__(self, db: DynamoDB, tables: Tables, *, signer: Signer, reset_at: str) -> None:
        self._db = db
        self._tables = tables
        self._signer = signer
        self._reset_at = reset_at
        self._networks = KeyNetworks()
        self._attempts = itertools.count()

    # ── in ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def admit(self, admission: Admission) -> Grant:
        admission = replace(admission, networks=self._networks.expected(admission))
        for _ in range(RACES_MAX):
            grant = await self._try_to_admit(admission)
            if grant is not None:
                return grant
            admission = replace(admission, networks=self._networks.of(admission))
        raise StoreUnavailable(retry_after_s=1)

    async def _try_to_admit(self, admission: Admission) -> Grant | None:
        """None where it is worth looking again."""
        if admission.units or admission.claim is not None:
            return await self._admit_in_transaction(admission)
        return await self._admit_paid(admission)

    async def _admit_paid(self, admission: Admission) -> Grant | None:
        def update() -> dict[str, Any]:
            attempt = next(self._attempts)
            return {**admitting.account_update(admission, attempt, self._tables), "ReturnValues": "ALL_NEW"}

        try:
            answer = await self._db.call("UpdateItem", update)
        except ConditionFailed as failed:
            return await self._resolve(admission, failed.item)
        return admitting.grant_of(admission, answer["Attributes"])

    async def _admit_in_transaction(self, admission: Admission) -> Grant | None:
        """The account first, then the units, then the claim: the order of the cancellation reasons."""
        attempt = 0
        others = [
            *({"Update": admitting.unit_update(unit, admission, self._tables)} for unit in admission.units),
            *(
                [{"Put": claiming.put_claim(admission.claim, admission.now_ms, self._tables)}]
                if admission.claim
                else []
            ),
        ]

        def transaction() -> dict[str, Any]:
            nonlocal attempt
            attempt = next(self._attempts)
            update = admitting.account_update(admission, attempt, self._tables)
            return {"TransactItems": [{"Update": update}, *others]}

        try:
            await self._db.call("TransactWriteItems", transaction)
        except TransactionCanceled as cancelled:
            claim = admission.claim if admission.claim is not None and cancelled.failed(len(others)) else None
            try:
                if cancelled.failed(0):
                    return await self._resolve(admission, cancelled.reasons[0].item)
                for index, unit in enumerate(admission.units, start=1):
                    if cancelled.failed(index):
                        raise self._used_up(unit, cancelled.reasons[index].item, admission.now_ms) from None
            except (InsufficientBalance, TooManyInFlight, DailyQuotaExceeded):
                if claim is not None:  # a repeat is told that it is one, also where its first run took the last
                    await self._replaceable(admission, claim, cancelled.reasons[-1].item)
                raise
            return await self._admit_instead(admission, claim, cancelled.reasons[-1].item) if claim else None
        return Grant(account=admission.key.account, key_id=admission.key.id, attempt=attempt)

    async def _admit_instead(self, admission: Admission, claim: Claim, item: Item | None) -> Grant | None:
        """Another request holds the claim. If that one brought nothing, this one takes its place."""
        replaces = await self._replaceable(admission, claim, item)
        if replaces is None:
            return None
        return await self._admit_in_transaction(replace(admission, claim=replace(claim, replaces=replaces)))

    async def _replaceable(self, admission: Admission, claim: Claim, item: Item | None) -> str | None:
        """The request that holds the claim and brought nothing; None where it is worth looking again.

        Raises Conflict, AlreadyRunning, AlreadyCompleted.
        """
        if item is None:
            return None  # it has just gone
        other = plain_item(item)
        if other["body"] != claim.body_digest:
            raise Conflict
        if claim.replaces == other["rid"]:
            return None
        row = await self._ledger_row(admission.key.account, other["rid"])
        if row is None:
            # It runs, or its process died: then a lapsed hold is all that is left of it, and no sweep is waited for.
            await self.expire(admission.key.account, admission.now_ms)
            row = await self._ledger_row(admission.key.account, other["rid"])
        if row is None:
            raise AlreadyRunning
        document = orjson.loads(plain(row["receipt"]))
        if document["cost_nano"] or document["outcome"] not in claiming.BROUGHT_NOTHING:
            raise AlreadyCompleted(claiming.told(document))
        return str(other["rid"])

    async def _resolve(self, admission: Admission, item: Item | None) -> Grant | None:
        """A failed condition on the account: our own lost acknowledgement, a refusal, or a race that has passed."""
        if item is not None and admitting.already_in(item, admission.request_id):
            return admitting.grant_of(admission, item)
        refusal = admitting.why_refused(item, admission)
        if isinstance(refusal, InsufficientBalance | TooManyInFlight) and admitting.lapsed_in(item, admission):
            # The dead hold what the living ask for: no sweep needs to come by first.
            await self.expire(admission.key.account, admission.now_ms)
            return None
        if refusal is not None:
            raise refusal
        if item is not None:
            self._networks.learn(admission, admitting.networks_in(item, admission))
        return None

    def _used_up(self, unit: Unit, item: Item | None, now_ms: int) -> DailyQuotaExceeded:
        counts = plain_item(item) if item else {}
        full = [limit.limit for limit in unit.limits if counts.get(limit.field, 0) >= limit.limit]
        limit = min(full, default=unit.limits[0].limit)
        return DailyQuotaExceeded(
            subject=unit.subject,
            limit=limit,
            retry_after_s=max(1, -((now_ms - unit.ends_ms) // 1000)),  # rounded up: not a second before the reset
            reset_at=self._reset_at,
        )

    # ── out ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def settle(self, settlement: Settlement) -> bool:
        row = settling.ledger_row(settlement)
        winner = await self._write_row(row)
        if winner is not row:
            await self._apply_found(winner)
            return False
        await self._apply(row, settlement.hold_nano, settlement.units_back)
        return True

    async def abandon(self, admission: Admission, settlement: Settlement) -> None:
        # A checksum proves nothing: without this look, anybody could write rows for accounts that are not there.
        item = await self._account(admission.key.account)
        if item is not None and admitting.is_the_key(item, admission):
            await self.settle(settlement)

    async def counts(self, units: tuple[Unit, ...]) -> list[Mapping[str, int]]:
        request = {"RequestItems": {self._tables.counters: {"Keys": [{"id": s(unit.counter)} for unit in units]}}}
        answer = await self._db.call("BatchGetItem", request)
        found = {item["id"]["S"]: item for item in answer["Responses"].get(self._tables.counters, [])}
        return [
            {name: value for name, value in plain_item(found.get(unit.counter, {})).items() if name not in ("id", TTL)}
            for unit in units
        ]

    async def expire(self, account: str, now_ms: int) -> int:
        item = await self._account(account)
        holds = item["holds"]["M"] if item else {}
        lapsed = {request_id: hold["M"] for request_id, hold in holds.items() if int(hold["M"]["x"]["N"]) < now_ms}
        for request_id, hold in lapsed.items():
            row = expired_row(account, request_id, hold, now_ms, self._signer)
            await self._apply_found(await self._write_row(row))
        if owes(item):
            await collect(self._db, self._tables, account)
        return len(lapsed)

    async def mark_cancelled(self, account: str, request_id: str) -> None:
        mark = {
            "TableName": self._tables.accounts,
            "Key": {"acct": s(account)},
            "UpdateExpression": "SET holds.#r.c = :yes",
            "ConditionExpression": "holds.#r.s = :yes",
            "ExpressionAttributeNames": {"#r": request_id},
            "ExpressionAttributeValues": {":yes": {"BOOL": True}},
        }
        try:
            await self._db.call("UpdateItem", mark)
        except ConditionFailed:
            raise NotFound from None

    async def cancelled(self, account: str) -> tuple[str, ...]:
        item = await self._account(account)
        holds = item["holds"]["M"] if item else {}
        return tuple(request_id for request_id, hold in holds.items() if "c" in hold["M"])

    async def _write_row(self, row: Item) -> Item:
        """Step 1. The row that stands: this one, or the one that was there before."""
        try:
            await self._db.call("PutItem", settling.put_row(row, self._tables))
        except ConditionFailed as failed:
            if failed.item is None:
                raise StoreUnavailable from None
            return row if failed.item["receipt"] == row["receipt"] else failed.item
        return row

    async def _apply_found(self, row: Item) -> None:
        """Step 2 by somebody who does not know the hold: it is read from the account."""
        item = await self._account(row["acct"]["S"])
        hold = item["holds"]["M"].get(row["id"]["S"]) if item else None
        if hold is None:
            return
        ghost = not settling.is_of(row, hold["M"])
        if ghost:
            row = settling.release_of(row, hold["M"])
        units = settling.units_of(hold["M"]) if ghost or row["back"]["BOOL"] else ()
        await self._apply(row, int(hold["M"]["a"]["N"]), units)

    async def _apply(self, row: Item, hold_nano: int, units: tuple[Unit, ...]) -> None:
        """Step 2. A hold that is no longer there was ended before, by a row that is the same."""
        update = settling.wallet_update(row, hold_nano, self._tables)
        backs = [settling.unit_back(unit, self._tables) for unit in units]
        try:
            if backs:
                await self._db.call(
                    "TransactWriteItems", {"TransactItems": [{"Update": each} for each in (update, *backs)]}
                )
                return
        except TransactionCanceled as cancelled:
            if cancelled.failed(0):
                return
            # A counter is gone or at nought: nothing can go back to it, and the hold must end all the same.
        with suppress(ConditionFailed):
            await self._db.call("UpdateItem", update)

    async def _ledger_row(self, account: str, row_id: str) -> Item | None:
        key = {"acct": s(account), "id": s(row_id)}
        request = {"TableName": self._tables.ledger, "Key": key, "ConsistentRead": True}
        return (await self._db.call("GetItem", request)).get("Item")

    async def _account(self, account: str) -> Item | None:
        request = {"TableName": self._tables.accounts, "Key": {"acct": s(account)}, "ConsistentRead": True}
        return (await self._db.call("GetItem", request)).get("Item")
