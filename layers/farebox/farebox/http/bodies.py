"""Bodies of callers who have proven nothing yet: bounded before they are read, closed to members without a name."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError

from farebox.dialects.ask import refuse
from farebox.domain import money
from farebox.http.asgi import read_body

SMALL_BYTES_MAX = 16 * 1024
Read = TypeVar("Read", bound=BaseModel)


class Closed(BaseModel):
    """A body that names nothing else: an unknown member is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)


async def raw_body(request: Request, limit_bytes: int) -> bytes:
    """The bytes as they came. Raises RequestTooLarge, CallerGone."""
    return await read_body(request.scope, request.receive, limit_bytes)


async def json_body(request: Request, model: type[Read]) -> Read:
    """A small JSON body. Raises RequestTooLarge, CallerGone; RequestValidationError, as FastAPI's own bodies do."""
    return validated(await raw_body(request, SMALL_BYTES_MAX), model)


def validated(body: bytes, model: type[Read]) -> Read:
    """Raises RequestValidationError, as FastAPI's own bodies do."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        problems: list[Any] = list(error.errors(include_input=False, include_context=False, include_url=False))
        raise RequestValidationError(problems) from None


def amount_of(text: str, param: str) -> int:
    """A positive amount of CA, as nano-CA. Raises InvalidRequest."""
    try:
        nano = money.parse_ca(text)
    except ValueError:
        nano = 0
    if nano <= 0:
        raise refuse(param, zh="必须是正的十进制金额，最多 9 位小数", en="it must be a positive decimal amount of CA")
    return nano
