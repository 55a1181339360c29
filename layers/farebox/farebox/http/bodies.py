"""Bodies of callers who have proven nothing yet: bounded before they are read, closed to members without a name."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError

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
