"""易支付 (EPay): MD5-signed forms, believed only once the gateway itself has been asked about the order.

The notice is a signed GET or POST form; the server-side query api.php?act=order decides. There are no notices of
refunds: those are the operator's to book.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import aiohttp
import orjson

from farebox.adapters.http_session import Session
from farebox.domain.orders import LIVE, Fact, Order, Paid, is_order_id
from farebox.errors import InvalidRequest, PaymentUnavailable
from farebox.ports import Notice, Places
from farebox.settings import EpaySettings

CURRENCY = "cny"
TIMEOUT_S = 10
ANSWER_BYTES_MAX = 64 * 1024
UNSIGNED = frozenset({"sign", "sign_type"})
PRODUCT = "Farebox CA"
_MONEY = re.compile(r"(0|[1-9][0-9]{0,9})(?:\.([0-9]{1,2})0*)?")


class Epay:
    """See ports.PaymentProvider."""

    name = "epay"
    currency = CURRENCY
    mode = LIVE
    acknowledgement = (b"success", "text/plain; charset=utf-8")

    def __init__(self, settings: EpaySettings, session: Session) -> None:
        self._settings = settings
        self._session = session
        self.ca_per_unit_nano = settings.ca_per_unit_nano

    def ready(self) -> bool:
        return bool(self._settings.base_url and self._settings.pid and self._settings.key)

    async def checkout(self, order: Order, places: Places) -> tuple[str, str]:
        """A signed link; nobody is asked for it."""
        asked = {
            "pid": self._settings.pid,
            "type": self._settings.type,
            "out_trade_no": order.id,
            "notify_url": places.notify,
            "return_url": places.back,
            "name": PRODUCT,
            "money": f"{order.minor // 100}.{order.minor % 100:02}",
        }
        given = {name: value for name, value in asked.items() if value}
        query = urlencode({**given, "sign": self._signature(given), "sign_type": "MD5"})
        return "", f"{self._settings.base_url}/submit.php?{query}"

    async def read(self, notice: Notice) -> Fact | None:
        given = self._proven(notice)
        if given.get("trade_status") != "TRADE_SUCCESS":
            return None
        order, payment = given.get("out_trade_no", ""), given.get("trade_no", "")
        if not is_order_id(order) or not payment:
            raise _not_proven()
        paid = await self._asked(order)
        if paid is None:
            raise PaymentUnavailable(retry_after_s=5)  # the gateway does not say so itself: not yet, or not at all
        same = (str(paid.get("out_trade_no")), str(paid.get("trade_no")), _minor(paid.get("money")))
        if same != (order, payment, _minor(given.get("money"))):
            raise _not_proven()
        return Paid(self.name, order, LIVE, CURRENCY, same[2], payment=payment)

    def _proven(self, notice: Notice) -> dict[str, str]:
        """The form's fields, each once, if the key signed them. Raises InvalidRequest."""
        try:
            pairs = parse_qsl(notice.form.decode("utf-8"), keep_blank_values=True, max_num_fields=40)
        except ValueError:
            raise _not_proven() from None
        given = dict(pairs)
        sign = given.get("sign", "").lower().encode()
        if len(given) != len(pairs) or not hmac.compare_digest(sign, self._signature(given).encode()):
            raise _not_proven()
        if given.get("pid") != self._settings.pid:
            raise _not_proven()
        return given

    def _signature(self, given: Mapping[str, str]) -> str:
        """Everything with a value, sorted by name, and the key: the protocol's MD5."""
        signed = "&".join(f"{name}={given[name]}" for name in sorted(given) if given[name] and name not in UNSIGNED)
        return hashlib.md5((signed + self._settings.key).encode(), usedforsecurity=False).hexdigest()

    async def _asked(self, order: str) -> dict[str, Any] | None:
        """What the gateway says of a paid order, None if it is not. Raises PaymentUnavailable."""
        query = {"act": "order", "pid": self._settings.pid, "key": self._settings.key, "out_trade_no": order}
        try:
            async with self._session().get(
                f"{self._settings.base_url}/api.php",
                params=query,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            ) as response:
                answer = orjson.loads(await _whole(response))
                status = response.status
        except (aiohttp.ClientError, TimeoutError, ValueError):
            raise PaymentUnavailable(retry_after_s=5) from None
        if status != 200 or not isinstance(answer, dict):
            raise PaymentUnavailable(retry_after_s=5)
        return answer if str(answer.get("code")) == "1" and str(answer.get("status")) == "1" else None


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """The answer, at most ANSWER_BYTES_MAX of it. Raises ValueError for a longer one."""
    data = b""
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > ANSWER_BYTES_MAX:
            raise ValueError
    return data


def _minor(money: object) -> int:
    """Fen from "12.30". Raises InvalidRequest."""
    shape = _MONEY.fullmatch(money) if isinstance(money, str) else None
    if shape is None:
        raise _not_proven()
    return int(shape[1]) * 100 + int((shape[2] or "").ljust(2, "0"))


def _not_proven() -> InvalidRequest:
    return InvalidRequest(zh="通知未通过验证。", en="This notice is not proven.")
