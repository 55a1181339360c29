"""Money from outside, by those who bring it: redeem codes, checkouts, and what payment providers tell us."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from farebox.domain import money
from farebox.http.address import AddressOf
from farebox.http.bodies import Closed, amount_of, json_body, raw_body
from farebox.http.guard import caller_key, json_response
from farebox.ports import Notice
from farebox.service.codes import CodeDesk
from farebox.service.topup import TopUpDesk

CODE_CHARS_MAX = 200
NOTICE_BYTES_MAX = 256 * 1024


class Checkout(Closed):
    amount: Annotated[str, Field(max_length=40)]
    provider: Annotated[str, Field(max_length=40)] | None = None


class Redeem(Closed):
    code: Annotated[str, Field(max_length=CODE_CHARS_MAX)]


def topup_routes(codes: CodeDesk, topups: TopUpDesk, address_of: AddressOf) -> APIRouter:
    """Routes with the caller's own key, and those of the providers, which have their own proofs."""
    router = APIRouter()
    _add_webhooks(router, topups)

    @router.post("/v1/redeem")
    async def redeem(request: Request) -> Response:
        key = caller_key(request)
        wanted = await json_body(request, Redeem)
        value_nano, account = await codes.redeem(key, address_of(request.scope), wanted.code)
        return json_response(
            {
                "account": account.id,
                "value": money.format_ca(value_nano),
                "balance": money.format_ca(account.avail_nano + account.held_nano),
                "available": money.format_ca(account.avail_nano),
            }
        )

    @router.post("/v1/topup/checkout")
    async def checkout(request: Request) -> Response:
        key = caller_key(request)
        wanted = await json_body(request, Checkout)
        amount_nano, origin = amount_of(wanted.amount, "amount"), str(request.base_url).rstrip("/")
        order, url = await topups.checkout(key, address_of(request.scope), amount_nano, wanted.provider, origin)
        return json_response(
            {
                "order": order.id,
                "provider": order.provider,
                "amount": money.format_ca(order.amount_nano),
                "price": {"amount_minor": order.minor, "currency": order.currency},
                "url": url,
            }
        )

    return router


def _add_webhooks(router: APIRouter, topups: TopUpDesk) -> None:
    async def told(provider: str, request: Request) -> Response:
        body = await raw_body(request, NOTICE_BYTES_MAX)
        query = request.scope["query_string"]
        notice = Notice(_headers(request), body, query if request.method == "GET" else body)
        content, media_type = await topups.notice(provider, notice)
        return Response(content, media_type=media_type)

    @router.post("/v1/webhooks/stripe")
    async def stripe(request: Request) -> Response:
        return await told("stripe", request)

    @router.api_route("/v1/webhooks/epay", methods=["GET", "POST"])
    async def epay(request: Request) -> Response:
        return await told("epay", request)


def _headers(request: Request) -> dict[str, str]:
    """Each header that came once: of two, neither is believed."""
    names = [name for name, _ in request.headers.items()]
    return {name: value for name, value in request.headers.items() if names.count(name) == 1}
