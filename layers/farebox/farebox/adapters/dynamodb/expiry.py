"""The terminal word on a hold whose process died: nobody knows what was used, so the caller pays nothing.

The day's unit stays taken: a crash must not be a way to free requests. docs/decisions/0003 has the reasons.
"""

from __future__ import annotations

from farebox.adapters.dynamodb.settlement import ledger_row
from farebox.adapters.dynamodb.values import Item
from farebox.domain.keys import key_id
from farebox.domain.outcome import RULES, Ending
from farebox.domain.receipts import canonical, without_use
from farebox.ports import Settlement, Signer


def expired_row(account: str, request_id: str, hold: Item, now_ms: int, signer: Signer) -> Item:
    """The ledger row that ends a lapsed hold."""
    hold_nano, number = int(hold["a"]["N"]), hold["k"]["S"]
    receipt = without_use(
        request_id=request_id,
        at_ms=now_ms,
        account=account,
        key_id=key_id(account, number),
        model=hold["m"]["S"],
        hold_nano=hold_nano,
        outcome=RULES[Ending.EXPIRED].outcome,
    )
    document = canonical(receipt.document())
    return ledger_row(
        Settlement(
            request_id=request_id,
            account=account,
            key_number=number,
            hold_nano=hold_nano,
            cost_nano=0,
            units_back=(),
            receipt=document,
            signature=signer.sign(document),
            signer_key_id=signer.key_id,
            at_ms=now_ms,
            attempt=int(hold["n"]["N"]),
        )
    )
