"""What came in for one operation, and its first reading: JSON or a form in which nothing has two meanings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from farebox.dialects import json_splice
from farebox.dialects.ask import Fields
from farebox.dialects.form import boundary_of, read_form
from farebox.dialects.wire import Incoming, Wire
from farebox.errors import InvalidRequest

JSON = "application/json"
FORM = "multipart/form-data"
_TOKEN = re.compile(r"[0-9A-Za-z'+_.-]+")


@dataclass(frozen=True, slots=True)
class Request:
    """What came in for one operation: the body as received, and what path and headers say besides.

    `passed`: the caller's headers that a vendor of the same dialect may see. `json_array`: see Ask.
    """

    wire: Wire
    body: bytes
    content_type: str = JSON
    model: str | None = None
    stream: bool | None = None
    json_array: bool = False
    passed: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_form(self) -> bool:
        """Whether the body is read as a form; if not, it is JSON, whatever the caller calls it."""
        return self.wire.form and self.content_type.partition(";")[0].strip().lower() == FORM

    @property
    def read_as(self) -> str:
        """The content type for the upstream, which must not read the body in another way than it was priced.

        Of a caller's own only the boundary is left: anything else in it would be a word of the caller's. Raises
        InvalidRequest for a form without one.
        """
        if not self.is_form:
            return JSON
        boundary = boundary_of(self.content_type)
        return f"{FORM}; boundary={boundary}" if _TOKEN.fullmatch(boundary) else f'{FORM}; boundary="{boundary}"'


def read_body(request: Request) -> Incoming:
    """The body's JSON or form, checked as far as every operation wants it. Raises InvalidRequest."""
    if request.is_form:
        form = read_form(request.body, request.content_type)
        return Incoming(form.texts, request.body, form.files, form=form)
    fields = read_json(request.body)
    return Incoming(fields, request.body, model=request.model, stream=request.stream)


def read_json(body: bytes) -> Fields:
    """A JSON object whose members have one meaning. Raises InvalidRequest."""
    try:
        fields: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidRequest(zh="请求体不是有效的 JSON。", en="The body is not valid JSON.") from None
    if not isinstance(fields, dict):
        raise InvalidRequest(zh="请求体必须是 JSON 对象。", en="The body must be a JSON object.")
    if json_splice.has_duplicates(body, fields):
        raise InvalidRequest(zh="请求体含有重复的参数。", en="The body names a parameter twice.")
    return fields
