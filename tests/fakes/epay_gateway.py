"""A 易支付 gateway on a real socket: its order query, and notices signed as the protocol has it."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from aiohttp import web

from tests.fakes.socket_server import SocketServer

PID, KEY = "1001", "key-of-the-epay-tests-0123456789"


class FakeEpay(SocketServer):
    """`orders`: out_trade_no → what the query answers. `asked`: the queries. `status`: of the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.orders: dict[str, dict[str, Any]] = {}
        self.asked: list[dict[str, str]] = []
        self.status = 200
        self.body: bytes | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.asked.append(query)
        if self.body is not None or self.status != 200:
            return web.Response(status=self.status, body=self.body, headers={"location": "/elsewhere"})
        if request.path != "/pay/api.php" or (query.get("pid"), query.get("key"), query.get("act")) != (
            PID,
            KEY,
            "order",
        ):
            return web.json_response({"code": -3, "msg": "no"})
        return web.json_response(self.orders.get(query["out_trade_no"], {"code": -1, "msg": "no such order"}))

    def submitted(self, url: str, *, trade_no: str = "20260101", status: int = 1) -> dict[str, str]:
        """What the payer's browser brings there: checked, remembered, and the notice that follows, unsigned."""
        parts = urlsplit(url)
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.url}/pay/submit.php"
        asked = dict(parse_qsl(parts.query))
        assert asked.pop("sign_type") == "MD5"
        assert asked.pop("sign") == sign(asked)
        order = asked["out_trade_no"]
        same = {"out_trade_no": order, "trade_no": trade_no, "money": asked["money"], "pid": PID, "name": asked["name"]}
        self.orders[order] = {"code": 1, "msg": "ok", "status": status, "type": "alipay", **same}
        return {**same, "type": "alipay", "trade_status": "TRADE_SUCCESS", "param": ""}


def sign(given: dict[str, str], key: str = KEY) -> str:
    signed = "&".join(f"{name}={value}" for name, value in sorted(given.items()) if value)
    return hashlib.md5((signed + key).encode()).hexdigest()


def form(notice: dict[str, str], key: str = KEY) -> str:
    """The notice as it is sent, signed."""
    return urlencode({**notice, "sign": sign(notice, key), "sign_type": "MD5"})
