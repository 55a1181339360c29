"""Redeem codes: made by the admin, redeemed once by whoever holds one, guessed by nobody."""

from __future__ import annotations

from dataclasses import dataclass

from farebox.domain import codes
from farebox.domain.accounts import Account
from farebox.domain.codes import GUESSES_PER_ADDRESS, GUESSES_PER_KEY, Code
from farebox.domain.keys import ApiKey
from farebox.domain.tries import tries
from farebox.errors import InvalidCode
from farebox.ports import Accounts, Clock, Codes, Randomness, Tries
from farebox.service.authenticate import Authenticator


@dataclass(frozen=True, slots=True)
class CodeDesk:
    """Hands codes out and takes them in."""

    codes: Codes
    tries: Tries
    accounts: Accounts
    authenticator: Authenticator
    clock: Clock
    random: Randomness
    pepper: bytes

    async def make(self, count: int, value_nano: int, expires_ms: int) -> list[str]:
        """`count` codes' texts; nobody can see them again."""
        texts = [codes.mint(self.random.token) for _ in range(count)]
        made = [Code(self._id(text), value_nano, expires_ms) for text in texts]
        await self.codes.add(made, self.clock.now_ms())
        return texts

    async def redeem(self, key: ApiKey, address: str, text: str) -> tuple[int, Account]:
        """What the code was worth (nano-CA), and the account with it. Again by the same account: the same answer.

        A wrong guess is only told as such if a try was left for it. Raises InvalidApiKey, AddressNotAllowed,
        InvalidCode, TooMany, StoreUnavailable.
        """
        account, record = await self.authenticator.owner(key, address)
        now_ms = self.clock.now_ms()
        guesses = tries(
            "guess",
            key_id=record.id,
            address=address,
            per_key=GUESSES_PER_KEY,
            per_address=GUESSES_PER_ADDRESS,
            now_ms=now_ms,
            pepper=self.pepper,
        )
        await self.tries.check(guesses, now_ms)
        try:
            code_id = self._id(text)
            value_nano = await self.codes.redeem(code_id, account.id, now_ms)
        except InvalidCode:
            await self.tries.take(guesses, now_ms)
            raise
        return value_nano, await self.accounts.get(account.id)

    def _id(self, text: str) -> str:
        body = codes.parse(text)
        if body is None:
            raise InvalidCode
        return codes.code_id(body, self.pepper)
