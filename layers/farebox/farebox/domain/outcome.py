"""The one outcome table: how a relayed request can end, and what follows from it.

| ending            | outcome      | billed                                      | free unit |
|-------------------|--------------|---------------------------------------------|-----------|
| complete          | completed    | the upstream's usage, else our count        | kept      |
| empty             | completed    | nothing: no content came                    | back      |
| client gone       | client_gone  | drained to its end: the same                | kept      |
| upstream cut      | upstream_cut | the upstream's usage, else our count so far | kept      |
| refused           | refused      | nothing                                     | back      |
| failed            | failed       | nothing                                     | back      |
| expired           | expired      | nothing; the loss is the house's            | kept      |

"Cut" is a failure after content, "failed" one before it: no content, no cost. `docs/billing.md` says it in prose.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Ending(StrEnum):
    """How the conversation with the upstream ended."""

    COMPLETE = "complete"
    EMPTY = "empty"
    CLIENT_GONE = "client_gone"
    UPSTREAM_CUT = "upstream_cut"
    REFUSED = "refused"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Rule:
    """`outcome`: the receipt's word. `billed`: is usage charged? `unit_back`: does the day's unit return?"""

    outcome: str
    billed: bool
    unit_back: bool


RULES = {
    Ending.COMPLETE: Rule("completed", billed=True, unit_back=False),
    Ending.EMPTY: Rule("completed", billed=False, unit_back=True),
    Ending.CLIENT_GONE: Rule("client_gone", billed=True, unit_back=False),
    Ending.UPSTREAM_CUT: Rule("upstream_cut", billed=True, unit_back=False),
    Ending.REFUSED: Rule("refused", billed=False, unit_back=True),
    Ending.FAILED: Rule("failed", billed=False, unit_back=True),
    Ending.EXPIRED: Rule("expired", billed=False, unit_back=False),
}


def ending_of(*, refused: bool, finished: bool, produced: bool, client_gone: bool) -> Ending:
    """The ending of a relayed answer from what was seen of it.

    `refused`: the upstream said no. `finished`: the answer reached its proper end. `produced`: content came back, or
    the upstream says that it made some (a model may spend all it was given on thoughts that nobody sees).
    """
    if refused:
        return Ending.REFUSED
    if not finished:
        return Ending.UPSTREAM_CUT if produced else Ending.FAILED
    if not produced:
        return Ending.EMPTY
    return Ending.CLIENT_GONE if client_gone else Ending.COMPLETE
