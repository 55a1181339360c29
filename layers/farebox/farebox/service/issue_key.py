"""Makes keys: the only place that mints one and hands it to the store."""

from __future__ import annotations

from dataclasses import dataclass

from farebox.domain import keys
from farebox.domain.accounts import NEVER_MS, KeyRecord
from farebox.domain.keys import ApiKey
from farebox.ports import Accounts, Clock, Randomness


@dataclass(frozen=True, slots=True)
class KeyWish:
    """What a new key shall be. `account`: one that is there, None for a new one. `credit_nano`: 0 for none."""

    kind: str
    account: str | None = None
    credit_nano: int = 0
    name: str = ""
    models: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    expires_ms: int = NEVER_MS


@dataclass(frozen=True, slots=True)
class KeyIssuer:
    """Issues keys. What it returns holds the key's text, which nobody can see again."""

    accounts: Accounts
    clock: Clock
    random: Randomness
    pepper: bytes

    async def issue(self, wish: KeyWish) -> ApiKey:
        """A new key, on a new account or on one that is there. Raises NotFound."""
        key = keys.mint(wish.kind, wish.account or keys.mint_account(self.random.token), self.random.token)
        now_ms = self.clock.now_ms()
        record = KeyRecord(
            id=key.id,
            account=key.account,
            number=key.number,
            kind=key.kind,
            last4=key.last4,
            name=wish.name,
            models=wish.models,
            networks=wish.networks,
            expires_ms=wish.expires_ms,
            created_ms=now_ms,
        )
        digest = key.digest(self.pepper)
        if wish.account is None:
            await self.accounts.create(key, digest, record, credit_nano=wish.credit_nano, at_ms=now_ms)
            return key
        await self.accounts.add_key(key, digest, record)
        if wish.credit_nano:
            credit_id = f"crd_key_{key.number}"
            await self.accounts.credit(key.account, wish.credit_nano, reason="key", credit_id=credit_id, at_ms=now_ms)
        return key
