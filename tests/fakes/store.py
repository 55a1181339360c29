"""The real store adapter with tables of its own, and short words for what tests do with it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from farebox.adapters.dynamodb.accounts import DynamoDBAccounts
from farebox.adapters.dynamodb.orders import DynamoDBOrders
from farebox.adapters.dynamodb.store import DynamoDBStore
from farebox.adapters.dynamodb.tables import TTL, Tables, ensure
from farebox.adapters.dynamodb.values import n, plain_item, s
from farebox.domain import ids, keys
from farebox.domain.accounts import Account, KeyRecord
from farebox.domain.keys import ApiKey
from farebox.domain.quota import Day, Unit
from farebox.ports import Admission, Grant, Settlement
from tests.fakes.service import RunningFarebox

MINUTE_MS = 60_000
NOON_MS = 1_795_492_800_000
"""2026-11-24T12:00 in Shanghai."""
DAY = Day("2026-11-24", NOON_MS + 12 * 60 * MINUTE_MS)


class CountingDB:
    """A DynamoDB client that counts its calls."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self.calls: list[str] = []

    async def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(operation)
        return await self._db.call(operation, request)


@dataclass
class StoreDesk:
    """`open()` makes the tables. All verbs block; every store call goes through `db`, which counts."""

    farebox: RunningFarebox
    prefix: str
    now_ms: int = NOON_MS
    db: CountingDB = field(init=False)
    store: DynamoDBStore = field(init=False)
    accounts: DynamoDBAccounts = field(init=False)
    orders: DynamoDBOrders = field(init=False)
    tables: Tables = field(init=False)

    def open(self) -> StoreDesk:
        services = self.farebox.services
        self.db, self.tables = CountingDB(services.db), Tables.under(self.prefix)
        self.store = DynamoDBStore(self.db, self.tables, signer=services.signer, reset_at="00:00 Asia/Shanghai")  # type: ignore[arg-type]
        self.accounts = DynamoDBAccounts(self.db, self.tables)  # type: ignore[arg-type]
        self.orders = DynamoDBOrders(self.db, self.tables)  # type: ignore[arg-type]
        self.farebox.run(ensure(services.db, self.tables))
        return self

    # ── accounts ────────────────────────────────────────────────────────────────────────────────────────────────

    def account(self, kind: str = "paid", credit_nano: int = 1_000_000, **record: Any) -> ApiKey:
        """A new account with one key."""
        return self.key(kind, None, credit_nano, **record)

    def key(self, kind: str, account: str | None, credit_nano: int = 0, **record: Any) -> ApiKey:
        """One more key of `account`, or the first of a new one."""
        random = self.farebox.services.random.token
        key = keys.mint(kind, account or keys.mint_account(random), random)
        facts = {"kind": kind, "created_ms": self.now_ms, **record}
        made = KeyRecord(id=key.id, account=key.account, number=key.number, last4=key.last4, **facts)
        if account is None:
            self.run(self.accounts.create(key, self.digest(key), made, credit_nano=credit_nano, at_ms=self.now_ms))
        else:
            self.run(self.accounts.add_key(key, self.digest(key), made))
        return key

    def digest(self, key: ApiKey) -> bytes:
        return key.digest(self.farebox.services.secrets.pepper)

    def wallet(self, key: ApiKey) -> Account:
        return self.run(self.accounts.get(key.account))

    def entries(self, key: ApiKey) -> dict[str, int]:
        found = self.run(self.accounts.entries(key.account))
        assert len(dict(found)) == len(found)
        return dict(found)

    def item(self, table: str, **key: str) -> dict[str, Any] | None:
        """An item as it lies in the store."""
        request = {"TableName": table, "Key": {name: s(value) for name, value in key.items()}, "ConsistentRead": True}
        return self.run(self.farebox.services.db.call("GetItem", request)).get("Item")

    def counter(self, unit: Unit) -> dict[str, int]:
        """A counter's fields, without its key and its end of life."""
        found = plain_item(self.item(self.tables.counters, id=unit.counter) or {})
        return {name: value for name, value in found.items() if name not in ("id", TTL)}

    def set_counter(self, unit: Unit, **fields: int) -> None:
        item = {"id": s(unit.counter), **{name.replace("__", ":"): n(value) for name, value in fields.items()}}
        self.run(self.farebox.services.db.call("PutItem", {"TableName": self.tables.counters, "Item": item}))

    # ── requests ────────────────────────────────────────────────────────────────────────────────────────────────

    def new_id(self) -> str:
        return ids.request_id(self.now_ms, self.farebox.services.random.token)

    def admission(self, key: ApiKey, hold_nano: int = 1000, **more: Any) -> Admission:
        facts: dict[str, Any] = {
            "request_id": self.new_id(),
            "digest": self.digest(key),
            "model": "gpt-4o-mini",
            "units": (),
            "now_ms": self.now_ms,
            "expires_ms": self.now_ms + 17 * MINUTE_MS,
            "in_flight_max": 500,
            "address": "203.0.113.7",
        }
        return Admission(key=key, hold_nano=hold_nano, **{**facts, **more})

    def admit(self, admission: Admission) -> Grant:
        return self.run(self.store.admit(admission))

    def settlement(
        self, admission: Admission, cost_nano: int = 0, *, unit_back: bool = False, mark: str = ""
    ) -> Settlement:
        """The terminal word; another `mark` makes it another process's, with a receipt of its own."""
        told = {"request_id": admission.request_id, "cost_nano": cost_nano, "unit_back": unit_back, "mark": mark}
        document = json.dumps(told).encode()
        signer = self.farebox.services.signer
        return Settlement(
            request_id=admission.request_id,
            account=admission.key.account,
            key_number=admission.key.number,
            hold_nano=admission.hold_nano,
            cost_nano=cost_nano,
            units_back=admission.units if unit_back else (),
            receipt=document,
            signature=signer.sign(document),
            signer_key_id=signer.key_id,
            at_ms=self.now_ms,
        )

    def settle(self, settlement: Settlement) -> bool:
        return self.run(self.store.settle(settlement))

    def expire(self, key: ApiKey) -> int:
        return self.run(self.store.expire(key.account, self.now_ms))

    def run(self, coroutine: Any) -> Any:
        return self.farebox.run(coroutine)
