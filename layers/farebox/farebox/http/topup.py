"""Money from outside, by those who bring it: redeem codes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from farebox.domain import money
from farebox.http.address import AddressOf
from farebox.http.bodies import Closed, json_body
from farebox.http.guard import caller_key, json_response
from farebox.service.codes import CodeDesk

CODE_CHARS_MAX = 200


class Redeem(Closed):
    code: Annotated[str, Field(max_length=CODE_CHARS_MAX)]


def topup_routes(codes: CodeDesk, address_of: AddressOf) -> APIRouter:
    """Routes with the caller's own key."""
    router = APIRouter()

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

    return router
