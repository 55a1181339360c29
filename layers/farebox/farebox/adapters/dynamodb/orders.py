"""Orders in the registry table: `order#<id>`; and `payment#<provider>#<id>`, which names the one order it paid.

    TransactWriteItems(order at version n → n+1 · account · ledger row `top_<order>_<n+1>` · payment if newly paid)

The order's version decides. Whoever loses a race, or comes again after a lost acknowledgement, reads what stands there
and finds either that its fact is known or what is still to be booked.
"""

from __future__ import annotations

from typing import Any

from farebox.adapters.dynamodb.client import DynamoDB
from farebox.adapters.dynamodb.crediting import credit_row, credit_update
from farebox.adapters.dynamodb.debt import collect, owe_update, take_update
from farebox.adapters.dynamodb.errors import ConditionFailed, TransactionCanceled
from farebox.adapters.dynamodb.tables import Tables
from farebox.adapters.dynamodb.values import Item, m, n, plain_item, s
from farebox.domain.accounts import ACTIVE
from farebox.domain.orders import Fact, Mismatch, Order
from farebox.errors import StoreUnavailable

RACES_MAX = 12
TOPUP, REVERSAL = "topup", "reversal"
_ORDER, _ACCOUNT = 0, 1
"""Places in the transaction, and so in its cancellation reasons."""


class DynamoDBOrders:
    """See ports.Orders."""

    def __init__(self, db: DynamoDB, tables: Tables) -> None:
        self._db = db
        self._tables = tables

    async def open(self, order: Order) -> None:
        """Written before anybody is asked to pay. A late copy changes nothing."""
        put = {**self._put(order), "ConditionExpression": "attribute_not_exists(id)"}
        try:
            await self._db.call("PutItem", put)
        except ConditionFailed:
            return  # our own, whose acknowledgement was lost: an order's id is never given out twice

    async def opened(self, order_id: str, session: str) -> None:
        """Where the order is paid, as the provider names it."""
        update = {
            "TableName": self._tables.registry,
            "Key": {"id": s(_item_id(order_id))},
            "UpdateExpression": "SET sess = :session, v = v + :one",
            "ConditionExpression": "sess = :none",
            "ExpressionAttributeValues": {":session": s(session), ":none": s(""), ":one": n(1)},
        }
        try:
            await self._db.call("UpdateItem", update)
        except ConditionFailed:
            return

    async def get(self, order_id: str) -> Order | None:
        request = {
            "TableName": self._tables.registry,
            "Key": {"id": s(_item_id(order_id))},
            "ConsistentRead": True,
        }
        item = (await self._db.call("GetItem", request)).get("Item")
        return _order_of(item) if item else None

    async def book(self, fact: Fact, at_ms: int) -> Order:
        """Raises Mismatch, StoreUnavailable."""
        short: Item | None = None
        for _ in range(RACES_MAX):
            order = await self.get(fact.order)
            if order is None:
                raise Mismatch("order")
            known = fact.applied(order)
            if known == order:
                await collect(self._db, self._tables, order.account)
                return order
            booking = self._booking(order, known, at_ms, short)
            try:
                await self._db.call("TransactWriteItems", booking)
            except TransactionCanceled as cancelled:
                short = _short(cancelled, short, changes=known.worth_nano != order.booked_nano)
            else:
                await collect(self._db, self._tables, order.account)
                return known
        raise StoreUnavailable(retry_after_s=2)

    def _booking(self, order: Order, known: Order, at_ms: int, short: Item | None) -> dict[str, Any]:
        change_nano = known.worth_nano - order.booked_nano
        version = order.version + 1
        put = {
            **self._put(known, booked_nano=known.worth_nano, version=version),
            "ConditionExpression": "v = :version",
            "ExpressionAttributeValues": {":version": n(order.version)},
        }
        actions: list[dict[str, Any]] = [{"Put": put}]
        if change_nano:
            row = credit_row(
                order.account,
                f"top_{order.id}_{version}",
                change_nano,
                self._tables,
                reason=order.provider,
                at_ms=at_ms,
                kind=TOPUP if change_nano > 0 else REVERSAL,
            )
            actions += [{"Update": self._change(order.account, change_nano, short)}, {"Put": row}]
        if known.payment and not order.payment:
            actions.append({"Put": self._payment(known)})
        return {"TransactItems": actions}

    def _change(self, account: str, change_nano: int, short: Item | None) -> dict[str, Any]:
        if change_nano > 0:
            return credit_update(account, change_nano, self._tables)
        if short is None:
            return take_update(account, -change_nano, self._tables)
        return owe_update(account, -change_nano, self._tables, frozen_before=short["st"] != s(ACTIVE))

    def _payment(self, order: Order) -> dict[str, Any]:
        return {
            "TableName": self._tables.registry,
            "Item": {"id": s(f"payment#{order.provider}#{order.payment}"), "order": s(order.id)},
            "ConditionExpression": "attribute_not_exists(id)",
        }

    def _put(self, order: Order, *, booked_nano: int = 0, version: int = 0) -> dict[str, Any]:
        item = {
            "id": s(_item_id(order.id)),
            "acct": s(order.account),
            "provider": s(order.provider),
            "amount": n(order.amount_nano),
            "minor": n(order.minor),
            "cur": s(order.currency),
            "mode": s(order.mode),
            "at": n(order.created_ms),
            "sess": s(order.session),
            "pay": s(order.payment),
            "refunded": n(order.refunded),
            "disputes": m({name: n(minor) for name, minor in order.disputes.items()}),
            "booked": n(booked_nano),
            "v": n(version),
        }
        return {"TableName": self._tables.registry, "Item": item}


def _short(cancelled: TransactionCanceled, known: Item | None, *, changes: bool) -> Item | None:
    """The account that does not cover what would be taken, if that is why. Raises Mismatch where no try will help."""
    if cancelled.failed(_ORDER):
        return known  # somebody else was faster, or it was us
    if not changes or not cancelled.failed(_ACCOUNT):
        raise Mismatch("payment")  # it has paid another order
    if cancelled.reasons[_ACCOUNT].item is None:
        raise Mismatch("account")
    return cancelled.reasons[_ACCOUNT].item


def _item_id(order_id: str) -> str:
    return f"order#{order_id}"


def _order_of(item: Item) -> Order:
    plain = plain_item(item)
    return Order(
        id=plain["id"].removeprefix("order#"),
        account=plain["acct"],
        provider=plain["provider"],
        amount_nano=plain["amount"],
        minor=plain["minor"],
        currency=plain["cur"],
        mode=plain["mode"],
        created_ms=plain["at"],
        session=plain["sess"],
        payment=plain["pay"],
        refunded=plain["refunded"],
        disputes=plain["disputes"],
        booked_nano=plain["booked"],
        version=plain["v"],
    )
