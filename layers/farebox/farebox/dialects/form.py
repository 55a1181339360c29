"""multipart/form-data, read beside the body: texts and where the files stand. The body itself passes as received.

The upstream reads the same bytes with a parser of its own, and what they say is the price: so whatever two parsers
may read differently (a name twice, a delimiter inside a value, an encoded value, an escape in a name) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from farebox.dialects.ask import refuse
from farebox.errors import InvalidRequest

PARTS_MAX = 64
HEADERS_MAX = 16
"""Headers of one part."""
HEADER_BYTES_MAX = 8 * 1024
"""All headers of one part."""
TEXT_BYTES_MAX = 1024 * 1024
"""All texts of a form."""
REPEATABLE = frozenset(
    {"image", "include", "timestamp_granularities", "known_speaker_names", "known_speaker_references"}
)
"""Names that may come more than once, besides those that end in []."""

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_NAME = re.compile(r"[\w.\-\[\]]{1,100}", re.ASCII)
_PARAMETER = re.compile(r';[ \t]*([^\s=;"]+)=("(?:[^"\\]|\\.)*"|[^\s";\\]+)[ \t]*')
_ENCODED = re.compile(r"(utf-8|iso-8859-1|us-ascii)'[^']*'(.*)", re.IGNORECASE)
_ESCAPED = re.compile(r'\\(["\\])')
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_PERCENT = {"%22": '"', "%0D": "\r", "%0A": "\n"}
"""How HTML's forms escape a file name."""
_PLAIN_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})
_TEXT_CHARSETS = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file of a form: its field's name, its file name ("" if none), its content type ("" if none), its bytes' span
    in the body, half-open.
    """

    field: str
    filename: str
    content_type: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Form:
    """A form, read. `texts`: a name in [] or in REPEATABLE has a list, even of one, any other name a string.

    `spans`: where a text's value stands in the body, half-open; a repeated one's first. Names are as sent, [] included.
    """

    texts: Mapping[str, str | list[str]]
    files: tuple[FilePart, ...]
    spans: Mapping[str, tuple[int, int]]


@dataclass(slots=True)
class _Part:
    """One part as the parser tells it: its headers, lower-case names, and its data's span."""

    headers: list[tuple[str, bytes]] = field(default_factory=list)
    header_bytes: int = 0
    start: int = -1
    end: int = -1


def read_form(body: bytes, content_type: str) -> Form:
    """Reads a whole form; `content_type` is the request's header. Time is linear in the body.

    Raises InvalidRequest: "body" for what is no form, the field's name for what is wrong with it.
    """
    texts: dict[str, str | list[str]] = {}
    files: list[FilePart] = []
    spans: dict[str, tuple[int, int]] = {}
    seen: set[str] = set()
    text_bytes = 0
    for part in _parts(body, boundary_of(content_type).encode("ascii")):
        headers = _headers(part)
        name, filename = _names(headers)
        repeatable = name.endswith("[]") or name in REPEATABLE
        if name in seen and not repeatable:
            raise refuse(name, zh="只能出现一次", en="it must come only once")
        seen.add(name)
        if filename is not None:
            kind = headers.get("content-type", b"").decode("ascii", "replace").strip()
            files.append(FilePart(name, filename, kind, part.start, part.end))
            continue
        text_bytes += part.end - part.start
        if text_bytes > TEXT_BYTES_MAX:
            raise refuse(name, zh="表单文本过长", en="the form's texts are too long")
        text = _text(body[part.start : part.end], headers, name)
        spans.setdefault(name, (part.start, part.end))
        if repeatable:
            earlier = texts.setdefault(name, [])
            assert isinstance(earlier, list)  # noqa: S101 - by the rule above
            earlier.append(text)
        else:
            texts[name] = text
    both = texts.keys() & {each.field for each in files}
    for name in sorted(both):
        raise refuse(name, zh="不能既是文本又是文件", en="it must not be both a text and a file")
    return Form(texts, tuple(files), spans)


def boundary_of(content_type: str) -> str:
    """The boundary in a request's content type: ASCII without quotes. Raises InvalidRequest."""
    kind, parameters = _parameters(content_type)
    boundary = parameters.get("boundary", "")
    if kind != "multipart/form-data" or not _BOUNDARY.fullmatch(boundary):
        raise _malformed("Content-Type 缺少有效的 boundary", "the Content-Type has no valid boundary")
    return boundary


def replace_text(body: bytes, form: Form, name: str, value: bytes) -> bytes:
    """`body` with the text's (first) value replaced, every other byte as received.

    Raises KeyError if the form has no such text, ValueError for a value that could pass for a delimiter.
    """
    start, end = form.spans[name]
    if b"\r" in value or b"\n" in value or value.startswith(b"--"):
        raise ValueError("a form's value must hold no line break and not begin with two hyphens")
    return b"".join((body[:start], value, body[end:]))


def _malformed(zh: str, en: str) -> InvalidRequest:
    return refuse("body", zh=f"表单格式错误，{zh}", en=f"malformed multipart form: {en}")


def _parts(body: bytes, boundary: bytes) -> list[_Part]:
    """The parts of the body. Raises InvalidRequest unless every occurrence of the delimiter is one, and nothing stands
    before the first or after the last.
    """
    delimiter = b"--" + boundary
    # Counted first: each false delimiter would cost the parser a turn of its Python loop.
    delimiters = body.count(delimiter)
    if delimiters > PARTS_MAX + 1:
        raise _malformed(f"最多 {PARTS_MAX} 个字段", f"it must have {PARTS_MAX} parts at most")
    tail = body[body.rfind(delimiter) + len(delimiter) :] if delimiters > 1 else b""
    if tail not in (b"--", b"--\r\n") or not body.startswith(delimiter + b"\r\n"):
        raise _malformed("分隔符缺失或不完整", "a delimiter is missing or incomplete")
    parts = _parsed(body, boundary)
    for part in parts:
        # Held against the body itself, whatever the parser told.
        framed = body[part.start - 4 : part.start] == b"\r\n\r\n" and body.startswith(b"\r\n" + delimiter, part.end)
        if not framed or not 4 <= part.start <= part.end:
            raise _malformed("字段不完整", "a part is incomplete")
    if len(parts) != delimiters - 1:
        raise _malformed("内容中含有分隔符", "a part contains the delimiter")
    return parts


def _parsed(body: bytes, boundary: bytes) -> list[_Part]:
    """What python-multipart makes of the body, given whole, so that its callbacks' positions are the body's own."""
    # Imported here: it costs 15 ms, which a cold start that reads no form should not pay.
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    parts: list[_Part] = []
    name = value = b""
    header_end = 0

    def part_begin() -> None:
        parts.append(_Part())

    def header_field(data: bytes, start: int, end: int) -> None:
        nonlocal name
        name = data[start:end]

    def header_value(data: bytes, start: int, end: int) -> None:
        nonlocal value, header_end
        value, header_end = data[start:end], end

    def header_done() -> None:
        nonlocal name, value
        parts[-1].headers.append((name.decode("ascii", "replace").lower(), value))
        parts[-1].header_bytes += len(name) + len(value) + 4
        name = value = b""

    def headers_finished() -> None:
        # An empty part has no data to tell of: it stands behind the last header's end and an empty line.
        parts[-1].start = parts[-1].end = header_end + 4

    def part_data(_: bytes, start: int, end: int) -> None:
        parts[-1].start, parts[-1].end = start, end

    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": part_begin,
            "on_header_field": header_field,
            "on_header_value": header_value,
            "on_header_end": header_done,
            "on_headers_finished": headers_finished,
            "on_part_data": part_data,
        },
        max_header_count=HEADERS_MAX,
        max_header_size=HEADER_BYTES_MAX,
    )
    parser.logger.disabled = True  # it would write of a caller's bytes to the log
    try:
        parser.write(body)
    except FormParserError:
        raise _malformed("字段头部无效", "a part's headers are invalid") from None
    return parts


def _headers(part: _Part) -> dict[str, bytes]:
    headers = dict(part.headers)
    if len(headers) != len(part.headers) or part.header_bytes > HEADER_BYTES_MAX:
        raise _malformed("字段头部重复或过长", "a part's headers are repeated or too long")
    # Folded lines, and bare line feeds that some parsers take for the end of a line.
    if any(_CONTROL.search(value) for value in headers.values()):
        raise _malformed("字段头部含控制字符", "a part's headers contain control characters")
    if headers.get("content-transfer-encoding", b"").strip().lower().decode("latin-1") not in _PLAIN_ENCODINGS:
        raise _malformed("不支持 Content-Transfer-Encoding", "Content-Transfer-Encoding is not supported")
    return headers


def _names(headers: Mapping[str, bytes]) -> tuple[str, str | None]:
    """A part's field name, and its file name, None for a text."""
    # Some clients write file names in their system's own encoding; nothing rests on those letters.
    kind, parameters = _parameters(headers.get("content-disposition", b"").decode("utf-8", "replace"))
    name = parameters.get("name", "")
    if kind != "form-data" or not _NAME.fullmatch(name) or name == "_charset_":
        raise _malformed("字段缺少有效的名称", "a part has no valid name")
    if parameters.keys() - {"name", "filename", "filename*"}:
        raise refuse(name, zh="Content-Disposition 含不支持的参数", en="its Content-Disposition is not supported")
    filename = parameters.get("filename")
    if filename is not None:
        filename = _ESCAPED.sub(r"\1", filename)
        for escape, letter in _PERCENT.items():
            filename = filename.replace(escape, letter)
    encoded = parameters.get("filename*")
    if encoded is not None:
        filename = _decoded(encoded, name)
    # Some parsers take an empty file name for none, and the part for a text.
    if filename == "":
        raise refuse(name, zh="文件名为空", en="its file name is empty")
    return name, filename


def _decoded(encoded: str, name: str) -> str:
    """An RFC 5987 value, as UTF-8''%e4%bd%a0.mp3."""
    match = _ENCODED.fullmatch(encoded)
    try:
        if match:
            return unquote_to_bytes(match[2]).decode(match[1])
    except UnicodeDecodeError:
        pass
    raise refuse(name, zh="文件名编码无效", en="its file name is not properly encoded")


def _parameters(header: str) -> tuple[str, dict[str, str]]:
    """A header's value and its parameters, lower-case names, quotes taken off; ("", {}) for a malformed header."""
    kind, semicolon, rest = header.partition(";")
    rest = semicolon + rest
    parameters: dict[str, str] = {}
    position = 0
    while position < len(rest):
        match = _PARAMETER.match(rest, position)
        if not match or match[1].lower() in parameters:
            return "", {}
        value = match[2]
        parameters[match[1].lower()] = value[1:-1] if value.startswith('"') else value
        position = match.end()
    return kind.strip().lower(), parameters


def _text(value: bytes, headers: Mapping[str, bytes], name: str) -> str:
    """A text's value. Raises InvalidRequest for what is not plain text in UTF-8."""
    declared = headers.get("content-type", b"").decode("latin-1")
    kind, parameters = _parameters(declared)
    plain = kind == "application/json" or kind.startswith("text/") or not declared
    if not plain:
        raise refuse(name, zh="不是文本，也没有文件名", en="it is no text and has no file name")
    try:
        if parameters.get("charset", "").lower() in _TEXT_CHARSETS:
            return value.decode("utf-8")
    except UnicodeDecodeError:
        pass
    raise refuse(name, zh="必须是 UTF-8 文本", en="it must be text in UTF-8")
