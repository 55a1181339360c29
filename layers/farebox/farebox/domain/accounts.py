"""Accounts and key records as they are looked at: plain facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ACTIVE = "active"
REVOKED = "revoked"
FROZEN = "frozen"
DEBT = "debt"
"""Why an account is frozen: it is active again once the debt is paid."""
NEVER_MS = 10**16
"""An expiry that no clock reaches."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as the store knows it, without its digest. `expires_ms` is NEVER_MS where it does not expire."""

    id: str
    account: str
    number: str
    kind: str
    last4: str
    status: str = ACTIVE
    name: str = ""
    models: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    expires_ms: int = NEVER_MS
    created_ms: int = 0
    digest: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class KeyChanges:
    """What to change of a key's record; None leaves a thing as it is."""

    name: str | None = None
    models: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None
    expires_ms: int | None = None


@dataclass(frozen=True, slots=True)
class OpenHold:
    """Money set aside for a running request, until `expires_ms`. `attempt`: which copy of the write placed it."""

    amount_nano: int
    expires_ms: int
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """An account as it stands. Amounts in nano-CA; `holds` by request id, `keys` by key number.

    `debt_nano`: what was paid back to the payer after it had been spent. Who owes is frozen.
    """

    id: str
    status: str
    avail_nano: int
    held_nano: int
    spent_nano: int
    credited_nano: int
    holds: Mapping[str, OpenHold] = field(default_factory=dict)
    keys: Mapping[str, KeyRecord] = field(default_factory=dict)
    debt_nano: int = 0

    @property
    def net_nano(self) -> int:
        """What the ledger explains."""
        return self.avail_nano + self.held_nano - self.debt_nano


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """A receipt as it was signed: the canonical document, the signature, the signing key's id."""

    document: bytes
    signature: bytes
    signer_key_id: str
    key_number: str
