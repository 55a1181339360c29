"""Prompt tokens of OpenAI requests: the API's own figures, and JSON of any shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.adapters.tokenizer_tiktoken import TiktokenTokenizer
from farebox.dialects.openai.counting import (
    DEPTH_MAX,
    count_chat,
    count_completion_prompt,
    count_embedding_input,
)

ROOT = Path(__file__).parents[2]
GROUPS = json.loads((ROOT / "tests/data/counting/vectors.json").read_text(encoding="utf-8"))
VECTORS = [
    pytest.param(encoding, vector["body"], tokens, id=f"{group['source'].split(',')[0]}-{number}-{encoding}")
    for group in GROUPS
    for number, vector in enumerate(group["vectors"])
    for encoding, tokens in vector["tokens"].items()
]
TOKENIZER = TiktokenTokenizer(ROOT / "layers/tiktoken/encodings")
o200k = partial(TOKENIZER.count, "o200k_base")

HELLO = {"role": "user", "content": "hello"}


def chat(*messages: Any, **members: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": list(messages), **members}


def test_all_measured_prompts_are_there() -> None:
    assert [len(group["vectors"]) for group in GROUPS] == [2, 36]
    assert sum("functions" in vector["body"] for vector in GROUPS[1]["vectors"]) == 20


@pytest.mark.parametrize(("encoding", "body", "tokens"), VECTORS)
def test_a_prompt_counts_what_the_api_reported(encoding: str, body: dict[str, Any], tokens: int) -> None:
    assert count_chat(body, partial(TOKENIZER.count, encoding)) == tokens


def test_tools_count_as_the_functions_that_they_wrap() -> None:
    for vector in GROUPS[1]["vectors"]:
        body = dict(vector["body"])
        functions = body.pop("functions", [])
        body["tools"] = [{"type": "function", "function": function} for function in functions]
        if isinstance(body.get("function_call"), dict):
            body["tool_choice"] = {"type": "function", "function": body.pop("function_call")}
        assert count_chat(body, partial(TOKENIZER.count, "cl100k_base")) == vector["tokens"]["cl100k_base"]


def test_parts_count_as_their_text() -> None:
    parts = [{"type": "text", "text": "hello"}, {"type": "input_text", "text": " world"}]
    whole = chat({"role": "user", "content": parts})
    assert count_chat(whole, o200k) == count_chat(chat({"role": "user", "content": "hello world"}), o200k)
    refused = chat({"role": "assistant", "content": [{"type": "refusal", "refusal": "no, never"}]})
    assert count_chat(refused, o200k) == count_chat(chat({"role": "assistant", "content": "no, never"}), o200k)
    refused = chat({"role": "assistant", "content": None, "refusal": "no, never"})
    assert count_chat(refused, o200k) == count_chat(chat({"role": "assistant", "content": "no, never"}), o200k)


def test_images_and_sound_are_counted_apart() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
    body = chat({"role": "user", "content": [{"type": "text", "text": "hello"}, image, image]}, HELLO)
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 10_000, "format": "wav"}}
    body["messages"][0]["content"].append(sound)
    assert count_chat(body, o200k) == count_chat(chat(HELLO, HELLO), o200k)


def test_a_part_of_unknown_type_counts_as_its_json() -> None:
    part = {"type": "novelty", "payload": "some text"}
    expected = count_chat(chat(HELLO), o200k) - o200k("hello") + o200k('{"type":"novelty","payload":"some text"}')
    assert count_chat(chat({"role": "user", "content": [part]}), o200k) == expected


def test_tool_calls_in_the_history_cost_three_and_their_text() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1,"b":2}'}}
    custom = {"id": "call_2", "type": "custom", "custom": {"name": "shell", "input": "ls -l"}}
    plain = chat({"role": "assistant", "content": None})
    calling = chat({"role": "assistant", "content": None, "tool_calls": [call, custom]})
    texts = sum(o200k(text) for text in ("add", '{"a":1,"b":2}', "shell", "ls -l"))
    assert count_chat(calling, o200k) == count_chat(plain, o200k) + 3 * 2 + texts


def test_a_tools_answer_costs_two_less_than_a_message() -> None:
    answer = chat({"role": "tool", "tool_call_id": "call_1", "content": "42"})
    assert count_chat(answer, o200k) == 3 + 3 - 2 + o200k("tool") + o200k("42")


def test_a_tool_choice_costs_as_a_function_call_does() -> None:
    tools = [{"type": "function", "function": {"name": "foo"}}]
    plain = count_chat(chat(HELLO, tools=tools), o200k)
    assert count_chat(chat(HELLO, tools=tools, tool_choice="auto"), o200k) == plain
    assert count_chat(chat(HELLO, tools=tools, tool_choice="none"), o200k) == plain + 1
    for named in ({"type": "function", "function": {"name": "foo"}}, {"type": "function", "name": "foo"}):
        assert count_chat(chat(HELLO, tools=tools, tool_choice=named), o200k) == plain + 4 + o200k("foo")


def test_a_response_schema_counts_minified_plus_ten() -> None:
    schema = {"type": "object", "properties": {"名": {"type": "string"}}}
    asked = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    expected = count_chat(chat(HELLO), o200k) + 10 + o200k('{"type":"object","properties":{"名":{"type":"string"}}}')
    assert count_chat(chat(HELLO, response_format=asked), o200k) == expected
    assert count_chat(chat(HELLO, response_format={"type": "json_object"}), o200k) == count_chat(chat(HELLO), o200k)


def seen_by_the_model(**parameters: Any) -> str:
    """The namespace that the model is shown for one function `f` with these parameters."""
    texts: list[str] = []

    def overhear(text: str) -> int:
        texts.append(text)
        return 0

    count_chat(chat(tools=[{"function": {"name": "f", "parameters": parameters}}]), overhear)
    return next(text for text in texts if text.startswith("namespace"))


@pytest.mark.parametrize(
    ("schema", "type_"),
    [
        ({"type": "integer"}, "number"),
        ({"type": ["string", "null", "string"]}, "string | null"),
        ({"enum": ["a", 1, None]}, '"a" | 1 | null'),
        ({"type": "array"}, "any[]"),
        ({"type": "array", "items": {"type": "boolean"}}, "boolean[]"),
        ({"oneOf": [{"type": "string"}, {"type": "number"}]}, "string | number"),
        ({"allOf": [{"type": "string"}, {"type": "number"}]}, "string & number"),
        ({"properties": {"b": {"type": "null"}}, "required": ["b"]}, "{\n  b: null,\n}"),
        ({"$ref": "#/$defs/x"}, '{"$ref":"#/$defs/x"}'),
        ({"type": ["string", "odd"]}, '{"type":["string","odd"]}'),
        (True, "true"),
    ],
)
def test_a_schema_is_shown_as_a_type(schema: Any, type_: str) -> None:
    assert f"type f = (_: {{\na?: {type_},\n}}) => any;\n" in seen_by_the_model(properties={"a": schema})


def test_definitions_that_are_referred_to_count_too() -> None:
    definitions = {"x": {"type": "string"}}
    shown = seen_by_the_model(properties={"a": {"$ref": "#/$defs/x"}}, **{"$defs": definitions})
    assert '\n{"x":{"type":"string"}}\n' in shown
    assert '{"anyOf":[{"type":"string"}]}' in seen_by_the_model(anyOf=[{"type": "string"}])


@pytest.mark.parametrize(
    ("given_", "tokens"),
    [
        ("hello world", 2),
        (["hello world", "hello"], 3),
        ([1, 2, 3], 3),
        ([[1, 2], [3]], 3),
        ([], 0),
        (None, 0),
        (["hello", [1, 2], 3], 4),
    ],
)
def test_prompts_and_inputs_have_four_forms(given_: Any, tokens: int) -> None:
    assert count_completion_prompt(given_, o200k) == tokens
    assert count_embedding_input(given_, o200k) == tokens


NAMES = st.sampled_from(
    [
        "role",
        "content",
        "name",
        "type",
        "text",
        "refusal",
        "tool_calls",
        "function",
        "custom",
        "function_call",
        "arguments",
        "input",
        "tools",
        "functions",
        "parameters",
        "properties",
        "items",
        "required",
        "enum",
        "anyOf",
        "allOf",
        "$ref",
        "$defs",
        "description",
        "format",
        "messages",
        "tool_choice",
        "response_format",
        "json_schema",
        "schema",
        "system",
        "user",
        "tool",
        "image_url",
        "object",
        "array",
        "string",
        "none",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | NAMES
    | st.text(st.characters(exclude_categories=()), max_size=8)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=6),
    max_leaves=30,
)


@given(body=st.dictionaries(NAMES, JSON, max_size=8))
def test_no_body_makes_counting_raise(body: dict[str, Any]) -> None:
    assert count_chat(body, len) >= 3


@given(messages=JSON, tools=JSON, parameters=JSON, members=st.dictionaries(NAMES, JSON, max_size=4))
def test_no_schema_makes_counting_raise(messages: Any, tools: Any, parameters: Any, members: dict[str, Any]) -> None:
    function = {"name": "f", "parameters": {"type": "object", "properties": {"a": parameters}, **members}}
    assert count_chat(chat(messages, tools=[tools, {"function": function}], functions=parameters), len) >= 3


@given(value=JSON)
def test_no_prompt_makes_counting_raise(value: Any) -> None:
    assert count_completion_prompt(value, len) >= 0


@given(value=JSON)
def test_text_of_unknown_shape_is_not_free(value: Any) -> None:
    part = {"type": "novelty", "value": value}
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert count_chat(chat({"role": "user", "content": [part]}), len) >= len(text)


def nested(depth: int, wrap: Callable[[Any], Any], core: Any = "bottom") -> Any:
    for _ in range(depth):
        core = wrap(core)
    return core


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: [inner],
        lambda inner: {"a": inner},
        lambda inner: {"type": "object", "properties": {"a": inner}},
        lambda inner: {"type": "array", "items": inner},
        lambda inner: {"anyOf": [inner]},
    ],
    ids=["lists", "objects", "object schemas", "array schemas", "unions"],
)
def test_deep_nesting_is_counted_not_followed(wrap: Callable[[Any], Any]) -> None:
    deep = nested(50_000, wrap)
    function = {"name": "f", "parameters": {"properties": {"a": deep}}}
    body = chat({"role": "user", "content": [deep], "name": deep, "tool_calls": deep}, deep, functions=[function, deep])
    body |= {"tool_choice": {"a": deep}, "response_format": {"type": "json_schema", "json_schema": deep}}
    assert count_chat(body, len) > 50_000
    assert count_completion_prompt(deep, len) > 50_000


def test_a_schema_is_never_rendered_much_longer_than_it_was_sent() -> None:
    """Types that repeat, or that are unknown, must not render the same members again at every depth."""
    repeated = ["object", "array"] * 8
    unknown = [*repeated, *map(str, range(50))]
    for kinds in (repeated, unknown):
        schema = nested(DEPTH_MAX * 2, partial(object_of, kinds))
        assert len(seen_by_the_model(properties={"a": schema})) < 3 * len(json.dumps(schema))


def object_of(kinds: list[str], inner: Any) -> dict[str, Any]:
    return {"type": kinds, "properties": {"a": inner}}
