"""What DynamoDB can say no with, as exceptions of ours."""

from __future__ import annotations

from dataclasses import dataclass

from farebox.adapters.dynamodb.values import Item


class DynamoDBError(Exception):
    """The root. The message is DynamoDB's error type, never its text."""


class ConditionFailed(DynamoDBError):
    """A condition did not hold. `item` is what stands there, None if nothing does."""

    def __init__(self, item: Item | None) -> None:
        super().__init__("ConditionalCheckFailedException")
        self.item = item


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one action of a transaction was cancelled; `code` is "None" where it was not at fault."""

    code: str
    item: Item | None


class TransactionCanceled(DynamoDBError):
    """A transaction was cancelled by conditions. `reasons` stand in the order of its actions."""

    def __init__(self, reasons: tuple[Reason, ...]) -> None:
        super().__init__("TransactionCanceledException")
        self.reasons = reasons

    def failed(self, index: int) -> bool:
        return self.reasons[index].code == "ConditionalCheckFailed"


class TableMissing(DynamoDBError):
    """ResourceNotFoundException."""


class Rejected(DynamoDBError):
    """The request itself is wrong: a bug of ours, or a permission that is missing. Not retried."""
