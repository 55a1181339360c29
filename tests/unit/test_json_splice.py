"""Changes to a JSON object's members: the named ones and nothing else, to the byte."""

from __future__ import annotations

import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from farebox.dialects.json_splice import has_duplicates, members, splice

NAMES = st.one_of(st.sampled_from(["model", "stream", "stream_options", "max_tokens", "n"]), st.text(max_size=6))
TEXTS = st.one_of(
    st.text(max_size=12), st.sampled_from(['"', "\\", '\\"', '{"a":1}', "},{", '","model":"x"', "你🌍", "\u2028"])
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=6)
SPACES = st.text(" \t\r\n", max_size=3)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """An object, and one of the many ways to write it."""
    document = draw(OBJECTS)
    comma, colon, around = (draw(SPACES) + mark + draw(SPACES) for mark in (",", ":", ""))
    body = json.dumps(
        document,
        ensure_ascii=draw(st.booleans()),
        separators=(comma, colon),
        indent=draw(st.sampled_from([None, 0, 2, "\t"])),
    )
    return document, (around + body + draw(SPACES)).encode("utf-8", "surrogatepass")


def loads(body: bytes) -> Any:
    return json.loads(body.decode("utf-8", "surrogatepass"))


@given(bodies(), OBJECTS)
def test_a_spliced_body_parses_to_the_changed_object(
    body: tuple[dict[str, Any], bytes], changes: dict[str, Any]
) -> None:
    assume(all(name.isascii() and json.dumps(name) == f'"{name}"' for name in changes))
    document, written = body
    spliced = splice(written, {name: json.dumps(value).encode() for name, value in changes.items()})

    assert loads(spliced) == {**document, **changes}
    assert not has_duplicates(spliced, loads(spliced))


@given(bodies())
def test_every_byte_outside_the_named_values_stays(body: tuple[dict[str, Any], bytes]) -> None:
    document, written = body
    for member in members(written):
        spliced = splice(written, {member.name: b"<new>"})

        assert spliced == written[: member.start] + b"<new>" + written[member.end :]
    assert [member.name for member in members(written)] == list(document)


@given(bodies())
def test_each_member_stands_where_it_is_said_to(body: tuple[dict[str, Any], bytes]) -> None:
    document, written = body

    assert {member.name: loads(written[member.start : member.end]) for member in members(written)} == document


@given(bodies())
def test_a_new_member_stands_first_and_moves_nothing_else(body: tuple[dict[str, Any], bytes]) -> None:
    document, written = body
    assume("absent" not in document)
    spliced = splice(written, {"absent": b"1"})
    brace = written.index(b"{") + 1
    comma = b"," if document else b""

    assert spliced == written[:brace] + b'"absent":1' + comma + written[brace:]


@given(bodies())
def test_no_change_is_the_very_same_bytes(body: tuple[dict[str, Any], bytes]) -> None:
    assert splice(body[1], {}) is body[1]


@given(bodies())
def test_an_object_that_json_wrote_has_no_duplicates(body: tuple[dict[str, Any], bytes]) -> None:
    document, written = body
    assert not has_duplicates(written, document)


@given(bodies(), st.data())
def test_a_name_that_is_written_again_is_found_at_any_depth(body: tuple[dict[str, Any], bytes], data: Any) -> None:
    document, written = body
    assume(document)
    name = data.draw(st.sampled_from(sorted(document)))
    holder = written.rstrip(b" \t\r\n")[:-1] + b"," + json.dumps(name).encode() + b":1}"
    nested = b'{"tools":[{"x":' * 3 + holder + b"}]}" * 3

    assert has_duplicates(nested, loads(nested))


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","x":{"y":[1,2]},"model":"a"}',
        b'{ "n" : 1 ,\n"n" : 1 }',
        b'{"mod\\u0065l":"a","model":"b"}',
        b'{"model":"a","\\u006d\\u006f\\u0064\\u0065\\u006c":"b"}',
        b'{"a\\/b":1,"a/b":2}',
        b'{"\\u4f60":1,"\xe4\xbd\xa0":2}',
        b'{"\\ud83c\\udf0d":1,"\xf0\x9f\x8c\x8d":2}',
        b'{"":1,"":2}',
        b'{"a":"\\"","a":1}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"a\\"b":1,"a\\u0022b":2}',
        b'{"tab\\t":1,"tab\\u0009":2}',
        b'{"model":"a","x":{"model":"b","y":1,"y":2}}',
        b'{"tools":[{"type":"custom","type":"code_execution"}]}',
        b'{"a":[[[{"b":[{"c":1 , "c" :2}]}]]]}',
    ],
)
def test_a_name_that_stands_twice_is_found_in_every_spelling(body: bytes) -> None:
    assert has_duplicates(body, json.loads(body))


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b" {\n} ",
        b'{"model":"a","x":{"model":"b","y":1,"z":2}}',
        b'{"a":[{"k":1},{"k":1}],"b":[{"k":1}]}',
        b'{"a":1.50,"b":1E5,"c":[123456789012345678901234567890],"d":"\\/"}',
        b'{"a":"a","b":"a\\",\\"a\\":\\""}',
        b'{"model":"a","Model":"b","model ":"c"}',
        b'{"\\u5907\\u6ce8":"x","model":"a"}',
        b'{"a":"\\\\","b":"{","c":"}","d":"[","e":"]","f":",","g":":"}',
    ],
)
def test_names_of_other_objects_and_mere_text_are_no_duplicates(body: bytes) -> None:
    assert not has_duplicates(body, json.loads(body))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", b'{"n":7}'),
        (b"{ }", b'{"n":7 }'),
        (b" {\r\n} ", b' {"n":7\r\n} '),
        (b'{"a":1}', b'{"n":7,"a":1}'),
        (b'{"n":1}', b'{"n":7}'),
        (b'{"n" :\t1\r\n}', b'{"n" :\t7\r\n}'),
        (b'{"a":{"n":1},"n":{"n":[1,{"n":2}]},"b":[{"n":1}]}', b'{"a":{"n":1},"n":7,"b":[{"n":1}]}'),
        (b'{"a":"\\"n\\":1,","n":"}"}', b'{"a":"\\"n\\":1,","n":7}'),
        (b'{"a":"\\\\","n":"\\\\\\""}', b'{"a":"\\\\","n":7}'),
        (b'{"\\u006e":1}', b'{"\\u006e":7}'),
        (b'{"a":1.0,"b":1e-05,"c":-0.0,"d":0.10,"n":null}', b'{"a":1.0,"b":1e-05,"c":-0.0,"d":0.10,"n":7}'),
    ],
)
def test_splicing_by_example(body: bytes, expected: bytes) -> None:
    assert splice(body, {"n": b"7"}) == expected


def test_deep_nesting_is_walked_without_recursion() -> None:
    deep = b'{"model":"a","x":' + b'[{"model":' * 50_000 + b"1" + b"}]" * 50_000 + b',"n":1}'

    assert splice(deep, {"n": b"2"}) == deep[:-2] + b"2}"
    assert [member.name for member in members(deep)] == ["model", "x", "n"]


def test_names_in_deep_nesting_are_found_without_recursion() -> None:
    deep = b'{"x":' + b'[{"model":' * 400 + b"1" + b"}]" * 400 + b"}"
    twice = deep.replace(b'"model":1', b'"model":1,"model":1')

    assert not has_duplicates(deep, orjson.loads(deep))
    assert has_duplicates(twice, orjson.loads(twice))


def test_a_long_string_full_of_escapes_is_read_in_one_pass() -> None:
    body = b'{"a":"' + b'\\"\\\\' * 500_000 + b'","n":1}'

    assert splice(body, {"n": b"2"}) == body[:-2] + b"2}"


def test_half_a_million_names_are_told_apart_in_a_second() -> None:
    body = b"{%s}" % b",".join(b'"a%x":1' % number for number in range(500_000))
    document = json.loads(body)
    spaced = body.replace(b",", b", ")
    before = time.process_time()

    assert not has_duplicates(body, document)
    assert not has_duplicates(spaced, document)
    assert has_duplicates(spaced[:-1] + b',"a0":1}', document)
    assert time.process_time() - before < 3  # one look at the body for each name would be minutes
