"""Whose key is this? For everything but the relay's own requests, which are authenticated by the write that holds."""

from __future__ import annotations

import hmac

from farebox.domain.accounts import ACTIVE, Account, KeyRecord
from farebox.domain.keys import ApiKey
from farebox.domain.quota import address_allowed
from farebox.errors import AccountFrozen, AddressNotAllowed, InvalidApiKey, NotFound
from farebox.ports import Accounts, Clock
from farebox.relay.settlements import Settlements


class Authenticator:
    """Reads the account consistently, after this process's own settlements of it."""

    def __init__(self, accounts: Accounts, settlements: Settlements, clock: Clock, pepper: bytes) -> None:
        self._accounts = accounts
        self._settlements = settlements
        self._clock = clock
        self._pepper = pepper

    async def user(self, key: ApiKey, address: str) -> tuple[Account, KeyRecord]:
        """As `owner`, of an account that may use something. Raises AccountFrozen as well."""
        account, record = await self.owner(key, address)
        if account.status != ACTIVE:
            raise AccountFrozen
        return account, record

    async def owner(self, key: ApiKey, address: str) -> tuple[Account, KeyRecord]:
        """The account and the key's record. `address`: the caller's, believed.

        Raises InvalidApiKey for a key that is unknown, wrong, revoked or expired, AddressNotAllowed, StoreUnavailable.
        """
        await self._settlements.settled(key.account)
        try:
            account = await self._accounts.get(key.account)
        except NotFound:
            raise InvalidApiKey from None
        record = account.keys.get(key.number)
        if (
            record is None
            or not hmac.compare_digest(record.digest, key.digest(self._pepper))
            or record.kind != key.kind
            or record.status != ACTIVE
            or record.expires_ms <= self._clock.now_ms()
        ):
            raise InvalidApiKey
        if not address_allowed(address, record.networks):
            raise AddressNotAllowed
        return account, record
