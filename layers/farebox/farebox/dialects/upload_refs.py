"""References to uploaded files in a request, and the files put in their places; every other byte stays as it was.

In a form, a file whose whole content is a reference. In JSON, a string that is a reference and nothing else, as the
value of one of MEMBERS, at whatever depth. Anywhere else the same letters are text like any other.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import NamedTuple

from farebox.dialects.ask import refuse
from farebox.dialects.form import FilePart, read_form
from farebox.domain.uploads import Upload, expiry_s
from farebox.errors import InvalidRequest

PREFIX = b"farebox-upload:"
REFERENCES_MAX = 16
"""In one request."""
Render = Callable[[Upload, bytes], bytes]
Files = Mapping[str, tuple[Upload, bytes]]
"""Upload's id → the file."""

_REFERENCE = re.compile(rb"farebox-upload:(up_[0-9A-Za-z]{0,64})")
_REFERENCE_BYTES_MAX = 128
_SPACE = rb"[ \t\r\n]*+"
# Within a string of valid JSON these quotes would be escaped, so the first and the third could not both be bare.
_MEMBER = re.compile(
    rb'(?<!\\)"(url|image_url|data)"' + _SPACE + rb":" + _SPACE + rb'"(farebox-upload:up_[0-9A-Za-z]{0,64})"'
)


class Place(NamedTuple):
    """Where a reference stands: the half-open span that the file replaces, the upload's id, what to call it in an
    error, and how the file is written there.
    """

    start: int
    end: int
    upload_id: str
    param: str
    render: Render


def _data_url(upload: Upload, data: bytes) -> bytes:
    return b'"data:%s;base64,%s"' % (upload.content_type.encode("ascii"), binascii.b2a_base64(data, newline=False))


def _base64(_: Upload, data: bytes) -> bytes:
    return b'"%s"' % binascii.b2a_base64(data, newline=False)


MEMBERS: dict[str, Render] = {"url": _data_url, "image_url": _data_url, "data": _base64}
"""A JSON member's name → how a file stands there: OpenAI's links to images, everybody's inline data."""


def places_in_json(body: bytes) -> tuple[Place, ...]:
    """The references in a JSON body, in order. Time is linear in the body, whatever its depth. Raises InvalidRequest.

    A body that is no JSON may yield anything; it is refused afterwards, like any other.
    """
    found = []
    for match in islice(_MEMBER.finditer(body), REFERENCES_MAX + 1):
        param = match[1].decode()
        start = match.start(2) - 1
        found.append(Place(start, match.end(2) + 1, _id(match[2], param), param, MEMBERS[param]))
    return _not_too_many(found)


def places_in_form(body: bytes, content_type: str) -> tuple[Place, ...]:
    """The references in a form, in order; `content_type` is the request's header. Raises InvalidRequest."""
    found = []
    for part in read_form(body, content_type).files:
        if part.end - part.start > _REFERENCE_BYTES_MAX or not body.startswith(PREFIX, part.start):
            continue
        content = body[part.start : part.end]
        if _REFERENCE.fullmatch(content):
            found.append(_place_in_form(body, part, _id(content, part.field)))
    return _not_too_many(found)


def filled(body: bytes, places: tuple[Place, ...], files: Files) -> bytes:
    """`body` with each reference replaced by its file. Raises InvalidRequest for a file that would break a form."""
    pieces: list[bytes] = []
    position = 0
    for place in places:
        pieces += (body[position : place.start], place.render(*files[place.upload_id]))
        position = place.end
    pieces.append(body[position:])
    return b"".join(pieces)


def unknown(param: str) -> InvalidRequest:
    """The one answer to a reference that leads nowhere, so that none tells whose upload there is."""
    return refuse(
        param,
        zh="引用的上传文件不存在、未传完、已过期或已用过",
        en="the upload that it refers to is unknown, incomplete, expired or already used",
    )


def _id(reference: bytes, param: str) -> str:
    upload_id = reference.removeprefix(PREFIX).decode("ascii")
    if expiry_s(upload_id) is None:
        raise unknown(param)
    return upload_id


def _not_too_many(found: list[Place]) -> tuple[Place, ...]:
    if len(found) > REFERENCES_MAX:
        raise refuse(
            found[REFERENCES_MAX].param,
            zh=f"每次请求最多引用 {REFERENCES_MAX} 个上传文件",
            en=f"a request may refer to at most {REFERENCES_MAX} uploads",
        )
    return tuple(found)


def _place_in_form(body: bytes, part: FilePart, upload_id: str) -> Place:
    """A part that has a name with an ending keeps its headers; else (SDKs call bare bytes "upload") the upload's own
    name and type stand in, for vendors tell a file's format by its name.
    """
    delimiter = body[: body.index(b"\r\n")]
    named = "." in part.filename
    start = part.start if named else body.rindex(delimiter, 0, part.start) + len(delimiter) + 2

    def render(upload: Upload, data: bytes) -> bytes:
        if delimiter in data:
            raise refuse(part.field, zh="上传文件含有表单的分隔符", en="the upload contains the form's delimiter")
        return data if named else _part_headers(part.field, upload) + data

    return Place(start, part.end, upload_id, part.field, render)


def _part_headers(field: str, upload: Upload) -> bytes:
    # domain.uploads lets no name through that needs an escape; "%22" is one only to those who made it.
    filename = upload.filename.replace("%", "_")
    return (
        f'Content-Disposition: form-data; name="{field}"; filename="{filename}"\r\n'
        f"Content-Type: {upload.content_type}\r\n\r\n"
    ).encode()
