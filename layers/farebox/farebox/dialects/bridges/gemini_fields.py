"""Gemini's requests as they are written: proto3 JSON, whose names may be in camelCase or snake_case.

https://protobuf.dev/programming-guides/json/. A list with one item may stand as that item: Google's own examples do so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from farebox.dialects.ask import refuse
from farebox.dialects.bridges.crossing import nameable, objects

Json = dict[str, Any]

_SNAKE = re.compile(r"_([a-z0-9])")
DEPTH_MAX = 64

RENAMED: Mapping[str, str] = {"defs": "$defs", "ref": "$ref"}
SCHEMA_LEFT_OUT = frozenset({"propertyOrdering", "example", "nullable"})
NO_KEYWORDS = (("type", "type_unspecified"), ("format", "enum"))
COUNTS = frozenset({"maxItems", "minItems", "maxLength", "minLength", "maxProperties", "minProperties"})
"""64-bit numbers, which proto3 JSON writes as strings."""


def camel(fields: Mapping[str, Any], path: str = "") -> Json:
    """A message's members under their camelCase names, those of its own level only.

    Raises InvalidRequest for one that stands there in both spellings: two readers might not agree which one counts.
    """
    named: Json = {}
    for name, value in fields.items():
        spelt = _SNAKE.sub(lambda letter: letter[1].upper(), name) if "_" in name.strip("_") else name
        if spelt in named:
            raise refuse(path + nameable(spelt), zh="重复出现", en="it is given twice")
        named[spelt] = value
    return named


def member(fields: Mapping[str, Any], name: str, path: str = "") -> Json:
    """A member that is a message, under camelCase names; absent and null are empty. Raises InvalidRequest."""
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refuse(path + name, zh="必须是对象", en="it must be an object")
    return camel(value, f"{path}{name}.")


def repeated(fields: Mapping[str, Any], name: str, path: str = "") -> list[tuple[str, Json]]:
    """A repeated member: each item's path, with the dot for its members, and the item. Raises InvalidRequest."""
    value = fields.get(name)
    listed = objects([value] if isinstance(value, dict) else value, path + name)
    paths = [f"{path}{name}[{index}]." for index in range(len(listed))]
    return [(where, camel(each, where)) for where, each in zip(paths, listed, strict=True)]


def parts_of(content: Mapping[str, Any], path: str) -> list[tuple[str, Json]]:
    """A Content's parts: each one's path and members. Raises InvalidRequest."""
    return repeated(content, "parts", path)


def json_schema(schema: Any, param: str, depth: int = 0) -> Json:
    """Gemini's Schema (OpenAPI 3.0, types in capitals) as JSON schema. Raises InvalidRequest.

    `nullable` becomes a type of its own; `propertyOrdering` and `example` have no counterpart and change no verdict.
    """
    if not isinstance(schema, dict) or depth > DEPTH_MAX:
        raise refuse(param, zh="必须是嵌套不过深的 schema 对象", en="it must be a schema, not nested too deeply")
    given = camel(schema, param + ".")
    made: Json = {}
    for name, value in given.items():
        if name not in SCHEMA_LEFT_OUT and value is not None:
            made[RENAMED.get(name, name)] = _keyword(name, value, param, depth + 1)
    for name, value in NO_KEYWORDS:
        if made.get(name) == value:
            del made[name]
    if given.get("nullable") is True:
        _make_nullable(made)
    return made


def _keyword(name: str, value: Any, param: str, depth: int) -> Any:
    if name == "type" and isinstance(value, str):
        return value.lower()
    if name in COUNTS and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    if name in ("properties", "defs", "$defs") and isinstance(value, dict):
        return {key: json_schema(each, param, depth) for key, each in value.items()}
    if name == "anyOf" and isinstance(value, list):
        return [json_schema(each, param, depth) for each in value]
    if name == "items" or (name == "additionalProperties" and not isinstance(value, bool)):
        return json_schema(value, param, depth)
    return value


def _make_nullable(schema: Json) -> None:
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    elif isinstance(schema.get("anyOf"), list):
        schema["anyOf"].append({"type": "null"})
    if isinstance(schema.get("enum"), list):
        schema["enum"] = [*schema["enum"], None]
