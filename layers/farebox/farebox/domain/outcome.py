"""The one outcome table: how a relayed request can end, and what follows from it, for every endpoint and protocol.

`docs/billing.md` prints this table; a test holds the two against each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

NOTHING = "nothing"
REPORTED = "the upstream's usage if it is believable, else our count of what went and came"


class Ending(StrEnum):
    """How the conversation with the upstream ended."""

    COMPLETE = "complete"
    EMPTY = "empty answer"
    CLIENT_GONE = "client gone"
    CANCELLED = "cancelled after content"
    CANCELLED_EARLY = "cancelled before content"
    UPSTREAM_CUT = "cut or stalled after content"
    DEADLINE = "deadline near, after content"
    REFUSED = "refused by the upstream"
    FAILED = "failed before content"
    NEVER_SENT = "store unsure, never sent"
    EXPIRED = "process died"


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows from an ending.

    `outcome`: the receipt's word. `caller`: what the caller sees. `figure`: what is billed, from which figure.
    `billed`: is anything charged? `unit_back`: does the day's free unit come back?
    """

    outcome: str
    caller: str
    figure: str
    unit_back: bool

    @property
    def billed(self) -> bool:
        return self.figure != NOTHING


RULES: dict[Ending, Rule] = {
    Ending.COMPLETE: Rule("completed", "the whole answer", REPORTED, unit_back=False),
    Ending.EMPTY: Rule("completed", "the answer as it came, without content", NOTHING, unit_back=True),
    Ending.CLIENT_GONE: Rule("client_gone", "it had left; the upstream was heard out", REPORTED, unit_back=False),
    Ending.CANCELLED: Rule("cancelled", "what came, then an error event", REPORTED, unit_back=False),
    Ending.CANCELLED_EARLY: Rule("cancelled", "an error", NOTHING, unit_back=True),
    Ending.UPSTREAM_CUT: Rule("upstream_cut", "what came, then an error event", REPORTED, unit_back=False),
    Ending.DEADLINE: Rule("upstream_cut", "what came, then an error event", REPORTED, unit_back=False),
    Ending.REFUSED: Rule("refused", "400 with the parameter's name", NOTHING, unit_back=True),
    Ending.FAILED: Rule("failed", "502, 503 or 504", NOTHING, unit_back=True),
    Ending.NEVER_SENT: Rule("failed", "503 with Retry-After", NOTHING, unit_back=True),
    Ending.EXPIRED: Rule("expired", "a broken connection", NOTHING, unit_back=False),
}


def ending_of(
    *, refused: bool, cancelled: bool, late: bool, finished: bool, produced: bool, client_gone: bool
) -> Ending:
    """The ending of a relayed answer from what was seen of it.

    `refused`: the upstream said no. `cancelled`: its owner stopped it. `late`: our time was up. `finished`: it
    reached its proper end. `produced`: content came back, or the upstream says that it made some (a model may spend
    all it was given on thoughts that nobody sees).
    """
    if refused:
        return Ending.REFUSED
    if cancelled:
        return Ending.CANCELLED if produced else Ending.CANCELLED_EARLY
    if not finished:
        broken = Ending.DEADLINE if late else Ending.UPSTREAM_CUT
        return broken if produced else Ending.FAILED
    if not produced:
        return Ending.EMPTY
    return Ending.CLIENT_GONE if client_gone else Ending.COMPLETE


def markdown() -> str:
    """The table as docs/billing.md prints it."""
    head = "| ending | outcome | the caller sees | billed | free unit |\n|---|---|---|---|---|\n"
    return head + "".join(
        f"| {ending} | `{rule.outcome}` | {rule.caller} | {rule.figure} | {'back' if rule.unit_back else 'kept'} |\n"
        for ending, rule in RULES.items()
    )
