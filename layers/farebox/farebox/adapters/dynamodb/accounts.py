"""Accounts and their keys off the hot path: make, look at, change, revoke, credit."""

from __future__ import annotations

from typing import Any

from farebox.adapters.dynamodb.client import DynamoDB
from farebox.adapters.dynamodb.crediting import credit_row, credit_update
from farebox.adapters.dynamodb.debt import collect
from farebox.adapters.dynamodb.errors import ConditionFailed, TransactionCanceled
from farebox.adapters.dynamodb.tables import Tables
from farebox.adapters.dynamodb.values import Attribute, Item, b, m, n, plain_item, s, strings
from farebox.domain.accounts import ACTIVE, REVOKED, Account, KeyChanges, KeyRecord, OpenHold, StoredReceipt
from farebox.domain.keys import ApiKey, key_id
from farebox.errors import Conflict, NotFound


class DynamoDBAccounts:
    """See ports.Accounts. Every write is conditional and idempotent."""

    def __init__(self, db: DynamoDB, tables: Tables) -> None:
        self._db = db
        self._tables = tables

    async def get(self, account: str) -> Account:
        """Raises NotFound."""
        request = {"TableName": self._tables.accounts, "Key": {"acct": s(account)}, "ConsistentRead": True}
        item = (await self._db.call("GetItem", request)).get("Item")
        if item is None:
            raise NotFound
        return _account_of(item)

    async def create(self, key: ApiKey, digest: bytes, record: KeyRecord, *, credit_nano: int, at_ms: int) -> None:
        """A new account with its first key and, if there is any, its first credit, in one transaction."""
        item: Item = {
            "acct": s(key.account),
            "v": n(1),
            "st": s(ACTIVE),
            "avail": n(credit_nano),
            "held": n(0),
            "spent": n(0),
            "credited": n(credit_nano),
            "holds": m({}),
            "ks": m({key.number: _key_value(record, digest)}),
            "at": n(at_ms),
        }
        put = {"TableName": self._tables.accounts, "Item": item, "ConditionExpression": "attribute_not_exists(acct)"}
        actions: list[dict[str, Any]] = [{"Put": put}]
        if credit_nano:
            actions.append(
                {"Put": self._credit_row(key.account, f"crd_first_{key.number}", credit_nano, "first", at_ms)}
            )
        try:
            await self._db.call("TransactWriteItems", {"TransactItems": actions})
        except TransactionCanceled:
            if (await self.get(key.account)).keys.get(key.number) is None:
                raise Conflict from None  # an id taken twice: as likely as guessing a key

    async def add_key(self, key: ApiKey, digest: bytes, record: KeyRecord) -> None:
        """One more key on an account that is there. Raises NotFound.

        A record that stands is never written over: a copy of this write that comes late must not undo a revocation.
        """
        try:
            await self._update(
                key.account,
                "SET ks.#k = :record",
                "attribute_exists(acct) AND attribute_not_exists(ks.#k)",
                {"#k": key.number},
                {":record": _key_value(record, digest)},
            )
        except ConditionFailed:
            if (await self.key(key.account, key.number)).digest != digest:
                raise NotFound from None

    async def key(self, account: str, number: str) -> KeyRecord:
        """Raises NotFound."""
        record = (await self.get(account)).keys.get(number)
        if record is None:
            raise NotFound
        return record

    async def change_key(self, account: str, number: str, wanted: KeyChanges) -> KeyRecord:
        """A revoked key stays as it is. Raises NotFound."""
        changes = _changed(wanted)
        sets = ", ".join(f"ks.#k.#c{index} = :c{index}" for index in range(len(changes)))
        names = {f"#c{index}": name for index, name in enumerate(changes)}
        values = {f":c{index}": value for index, value in enumerate(changes.values())}
        try:
            await self._update(
                account,
                f"SET {sets}",
                "attribute_exists(ks.#k) AND ks.#k.st = :active",
                {"#k": number, **names},
                {":active": s(ACTIVE), **values},
            )
        except ConditionFailed:
            raise NotFound from None
        return await self.key(account, number)

    async def revoke(self, account: str, number: str) -> None:
        """In force with the next request: the relay asks the store each time. Raises NotFound; twice is once."""
        try:
            await self._update(
                account, "SET ks.#k.st = :revoked", "attribute_exists(ks.#k)", {"#k": number}, {":revoked": s(REVOKED)}
            )
        except ConditionFailed:
            raise NotFound from None

    async def credit(self, account: str, amount_nano: int, *, reason: str, credit_id: str, at_ms: int) -> bool:
        """Adds money once per `credit_id`; a debt is paid from it. False if it was added before.

        Raises NotFound, Conflict.
        """
        update = credit_update(account, amount_nano, self._tables)
        row = self._credit_row(account, credit_id, amount_nano, reason, at_ms)
        try:
            await self._db.call("TransactWriteItems", {"TransactItems": [{"Put": row}, {"Update": update}]})
        except TransactionCanceled as cancelled:
            if cancelled.failed(1):
                raise NotFound from None
            before = cancelled.reasons[0].item
            if before is None or int(before["amount"]["N"]) != amount_nano:
                raise Conflict from None
            await collect(self._db, self._tables, account)
            return False
        await collect(self._db, self._tables, account)
        return True

    async def receipt(self, account: str, request_id: str) -> StoredReceipt:
        """The receipt of one of the account's requests. Raises NotFound."""
        item = await self._ledger_row(account, request_id)
        if item is None or "receipt" not in item:
            raise NotFound
        row = plain_item(item)
        return StoredReceipt(row["receipt"], row["sig"], row["by"], row["key"])

    async def entries(self, account: str) -> list[tuple[str, int]]:
        """Every ledger row of the account: (id, amount in nano-CA)."""
        found: list[tuple[str, int]] = []
        start: Item | None = None
        while True:
            request: dict[str, Any] = {
                "TableName": self._tables.ledger,
                "KeyConditionExpression": "acct = :a",
                "ExpressionAttributeValues": {":a": s(account)},
                "ExpressionAttributeNames": {"#id": "id"},
                "ProjectionExpression": "#id, amount",
                "ConsistentRead": True,
            }
            if start:
                request["ExclusiveStartKey"] = start
            answer = await self._db.call("Query", request)
            found += [(row["id"]["S"], int(row["amount"]["N"])) for row in answer["Items"]]
            start = answer.get("LastEvaluatedKey")
            if not start:
                return found

    async def awaits_its_row(self, account: str, request_id: str, attempt: int | None) -> bool:
        """Whether the hold of `attempt` is yet to be ended by the row that is written; a ghost is not."""
        row = await self._ledger_row(account, request_id)
        return row is not None and ("n" not in row or int(row["n"]["N"]) == attempt)

    async def ids(self) -> list[str]:
        """Every account's id: a scan, for the sweep and the audit only."""
        found: list[str] = []
        start: Item | None = None
        while True:
            request: dict[str, Any] = {"TableName": self._tables.accounts, "ProjectionExpression": "acct"}
            if start:
                request["ExclusiveStartKey"] = start
            answer = await self._db.call("Scan", request)
            found += [item["acct"]["S"] for item in answer["Items"]]
            start = answer.get("LastEvaluatedKey")
            if not start:
                return found

    async def ready(self) -> None:
        """Touches the store. Raises StoreUnavailable."""
        await self._db.call("GetItem", {"TableName": self._tables.accounts, "Key": {"acct": s("acc_ready")}})

    async def _ledger_row(self, account: str, row_id: str) -> Item | None:
        key = {"acct": s(account), "id": s(row_id)}
        request = {"TableName": self._tables.ledger, "Key": key, "ConsistentRead": True}
        return (await self._db.call("GetItem", request)).get("Item")

    def _credit_row(self, account: str, credit_id: str, amount_nano: int, reason: str, at_ms: int) -> dict[str, Any]:
        return credit_row(account, credit_id, amount_nano, self._tables, reason=reason, at_ms=at_ms)

    async def _update(
        self, account: str, update: str, condition: str, names: dict[str, str], values: dict[str, Attribute]
    ) -> None:
        await self._db.call(
            "UpdateItem",
            {
                "TableName": self._tables.accounts,
                "Key": {"acct": s(account)},
                "UpdateExpression": update,
                "ConditionExpression": condition,
                "ExpressionAttributeNames": names,
                "ExpressionAttributeValues": values,
            },
        )


def _changed(changes: KeyChanges) -> dict[str, Attribute]:
    """The attributes of a key's record that change."""
    attributes: dict[str, Attribute] = {}
    if changes.name is not None:
        attributes["name"] = s(changes.name)
    if changes.models is not None:
        attributes["models"] = strings(changes.models)
    if changes.networks is not None:
        attributes["ips"] = strings(changes.networks)
    if changes.expires_ms is not None:
        attributes["x"] = n(changes.expires_ms)
    return attributes


def _key_value(record: KeyRecord, digest: bytes) -> Attribute:
    return m(
        {
            "d": b(digest),
            "kind": s(record.kind),
            "st": s(record.status),
            "l4": s(record.last4),
            "at": n(record.created_ms),
            **_changed(KeyChanges(record.name, record.models, record.networks, record.expires_ms)),
        }
    )


def _account_of(item: Item) -> Account:
    plain = plain_item(item)
    account = plain["acct"]
    return Account(
        id=account,
        status=plain["st"],
        avail_nano=plain["avail"],
        held_nano=plain["held"],
        spent_nano=plain["spent"],
        credited_nano=plain["credited"],
        holds={request_id: OpenHold(hold["a"], hold["x"], hold["n"]) for request_id, hold in plain["holds"].items()},
        keys={number: _record_of(account, number, value) for number, value in plain["ks"].items()},
        debt_nano=plain.get("debt", 0),
    )


def _record_of(account: str, number: str, value: dict[str, Any]) -> KeyRecord:
    return KeyRecord(
        id=key_id(account, number),
        account=account,
        number=number,
        kind=value["kind"],
        last4=value["l4"],
        status=value["st"],
        name=value["name"],
        models=tuple(value["models"]),
        networks=tuple(value["ips"]),
        expires_ms=value["x"],
        created_ms=value["at"],
        digest=value["d"],
    )
