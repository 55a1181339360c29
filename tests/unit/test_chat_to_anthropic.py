"""A chat's caller and a vendor of messages: what is said on one side is what is heard on the other, or is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming._deltas import accumulate_delta
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from farebox.dialects import sse
from farebox.dialects.bridge import Terms
from farebox.dialects.bridges.chat_to_anthropic import BRIDGE, EXPRESSED, HINTS, NO_OPS
from farebox.errors import InvalidRequest

TERMS = Terms(
    model="claude-x",
    upstream_model="claude-x-20260101",
    stream=False,
    output_tokens_max=8192,
    reasoning=True,
    limit_param="max_tokens",
    id="abc123",
    created_s=1_700_000_000,
)
HI = [{"role": "user", "content": "hi"}]
PNG = "data:image/png;base64,aGVsbG8="
SIGNATURE = 'EqQB/+==\u00e9\u4e2d\n"\\ \ud83d\ude00'.encode("utf-16", "surrogatepass").decode("utf-16")
FORMAT = "anthropic-claude-v1"
MARK = {"type": "ephemeral"}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}}
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)


def sent(terms: Terms = TERMS, **more: Any) -> dict[str, Any]:
    """The vendor's body for a chat of one greeting, or of `messages`."""
    body = {"model": "claude-x", "messages": HI, **more}
    made: dict[str, Any] = orjson.loads(BRIDGE.request(orjson.loads(orjson.dumps(body)), terms))
    return made


def turns(*messages: dict[str, Any], terms: Terms = TERMS) -> list[Any]:
    return [(turn["role"], turn["content"]) for turn in sent(terms, messages=list(messages))["messages"]]


def refused(**more: Any) -> str | None:
    """The parameter that the refusal names; its sentence stands in both languages."""
    with pytest.raises(InvalidRequest) as caught:
        BRIDGE.request({"model": "claude-x", "messages": HI, **more}, TERMS)
    error = caught.value
    assert error.param is not None
    assert error.param in error.zh
    assert error.param in error.en
    assert any("\u4e00" <= letter <= "\u9fff" for letter in error.zh)
    assert error.en.isascii()
    return error.param


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def call(call_id: str = "call_1", name: str = "weather", arguments: str = '{"city":"Rome"}') -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **more}


def result(call_id: str = "call_1", content: Any = "sunny", **more: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content, **more}


def detail(words: str = "hm", **more: Any) -> dict[str, Any]:
    return {"type": "reasoning.text", "text": words, "signature": SIGNATURE, "format": FORMAT, "index": 0, **more}


# ── the request: parameters ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_greeting_becomes_a_message_with_the_vendors_model_and_a_limit() -> None:
    assert sent() == {
        "model": "claude-x-20260101",
        "max_tokens": 8192,
        "messages": [{"role": "user", "content": [text("hi")]}],
        "stream": False,
    }


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_completion_tokens": 9}, {"max_tokens": 9}),
        ({"max_completion_tokens": 9, "max_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 100_000}, {"max_tokens": 8192}),
        ({"temperature": 0.25, "top_p": 1, "top_k": 5}, {"temperature": 0.25, "top_p": 1, "top_k": 5}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"stop": []}, {}),
        ({"stop": None, "temperature": None, "tools": None, "n": None, "whatever": None}, {}),
        ({"response_format": {"type": "text"}}, {}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}},
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"description": "d", "schema": {"a": 1}}}},
            {"output_config": {"format": {"type": "json_schema", "schema": {"description": "d", "a": 1}}}},
        ),
        ({"thinking": {"type": "adaptive", "new": 1}}, {"thinking": {"type": "adaptive", "new": 1}}),
        ({"tools": []}, {}),
        ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": False}, {}),
    ],
)
def test_a_parameter_becomes_the_vendors(given_: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sent(**given_) == {**sent(), **expected}


def test_the_stream_is_asked_for_as_the_relay_wishes() -> None:
    assert sent(replace(TERMS, stream=True))["stream"] is True


@pytest.mark.parametrize("name", NO_OPS)
def test_a_value_that_asks_for_nothing_is_left_out_and_another_is_refused(name: str) -> None:
    for value in NO_OPS[name]:
        assert sent(**{name: value}) == sent()
    assert refused(**{name: "else"}) == name


@pytest.mark.parametrize("name", sorted(HINTS))
def test_who_asks_and_hints_never_reach_the_vendor(name: str) -> None:
    made = BRIDGE.request({"messages": HI, name: "person-7@example.org"}, TERMS)

    assert orjson.loads(made) == sent()


@pytest.mark.parametrize(
    ("given_", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"presence_penalty": 0.1}, "presence_penalty"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"store": True}, "store"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"verbosity": "low"}, "verbosity"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"x_own": 1}, "x_own"),
        ({"not a name \u4e2d": 1}, "?"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": "5"}, "max_completion_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": float("nan")}, "top_p"),
        ({"stop": "\n"}, "stop"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"stop": 1}, "stop"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.schema"),
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"reasoning_effort": ["low"]}, "reasoning_effort"),
        ({"thinking": True}, "thinking"),
        ({"tools": {}}, "tools"),
        ({"tools": ["weather"]}, "tools[0]"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [WEATHER, {"type": "function"}]}, "tools[1].function"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "x", "description": 1}}]}, "tools[0].function.description"),
        ({"tools": [{"function": {"name": "x", "parameters": []}}]}, "tools[0].function.parameters"),
        ({"tools": [{"function": {"name": "x", "strict": 1}}]}, "tools[0].function.strict"),
        ({"tools": [{"function": {"name": "x", "grammar": 1}}]}, "tools[0].function.grammar"),
        ({"tools": [{**WEATHER, "defer": True}]}, "tools[0].defer"),
        ({"tools": [{**WEATHER, "cache_control": {"type": "for ever"}}]}, "tools[0].cache_control"),
        ({"tools": [WEATHER], "tool_choice": "must"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "custom", "custom": {}}}, "tool_choice.type"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tools": [WEATHER], "parallel_tool_calls": 0}, "parallel_tool_calls"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_what_cannot_be_said_to_the_vendor_is_refused_by_its_name(given_: dict[str, Any], param: str) -> None:
    assert refused(**given_) == param


def test_a_refusal_never_repeats_what_the_user_wrote() -> None:
    with pytest.raises(InvalidRequest) as caught:
        BRIDGE.request({"messages": [{"role": "user", "content": "x", "secret words": 1}]}, TERMS)

    assert caught.value.param == "messages[0].?"


# ── the request: tools ──────────────────────────────────────────────────────────────────────────────────────────────


def test_tools_keep_name_description_schema_strictness_and_mark() -> None:
    schema = {"type": "object", "properties": {"b": {}, "a": {}}, "additionalProperties": False}
    strict = {"name": "s", "parameters": schema, "strict": True}
    made = sent(tools=[{"type": "function", "function": strict, "cache_control": MARK}, WEATHER])["tools"]

    assert made == [
        {"name": "s", "input_schema": schema, "strict": True, "cache_control": MARK},
        {"name": "weather", "description": "d", "input_schema": {"type": "object"}},
    ]


@pytest.mark.parametrize("parameters", [None, {}, {"properties": {}}])
def test_a_tool_without_a_type_of_input_takes_an_object(parameters: Any) -> None:
    made = sent(tools=[{"type": "function", "function": {"name": "f", "parameters": parameters, "strict": None}}])

    assert made["tools"][0]["input_schema"]["type"] == "object"


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("auto", None, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ({"type": "function", "function": {"name": "weather"}}, None, {"type": "tool", "name": "weather"}),
    ],
)
def test_the_choice_of_a_tool_becomes_the_vendors(choice: Any, parallel: Any, expected: Any) -> None:
    made = sent(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=parallel)

    assert made.get("tool_choice") == expected


# ── the request: thinking ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("effort", "limit", "expected"),
    [
        ("none", 8192, {"type": "disabled"}),
        ("minimal", 8192, {"type": "enabled", "budget_tokens": 1024}),
        ("low", 8192, {"type": "enabled", "budget_tokens": 1638}),
        ("medium", 8192, {"type": "enabled", "budget_tokens": 4096}),
        ("high", 8192, {"type": "enabled", "budget_tokens": 6553}),
        ("high", 2047, {"type": "disabled"}),
        ("low", 2048, {"type": "enabled", "budget_tokens": 1024}),
        ("max", 128_000, {"type": "enabled", "budget_tokens": 32_000}),
        (None, 8192, None),
    ],
)
def test_effort_becomes_a_budget_below_the_limit(effort: Any, limit: int, expected: Any) -> None:
    made = sent(replace(TERMS, output_tokens_max=200_000), reasoning_effort=effort, max_tokens=limit)

    assert made.get("thinking") == expected


@given(effort=st.sampled_from(["minimal", "low", "medium", "high", "xhigh", "max"]), limit=st.integers(1, 300_000))
def test_a_budget_is_never_out_of_the_vendors_bounds(effort: str, limit: int) -> None:
    made = sent(replace(TERMS, output_tokens_max=200_000), reasoning_effort=effort, max_tokens=limit)

    assert made["thinking"]["type"] == "disabled" or 1024 <= made["thinking"]["budget_tokens"] < made["max_tokens"]


def test_a_model_that_does_not_reason_takes_any_effort() -> None:
    assert sent(replace(TERMS, reasoning=False), reasoning_effort="high", temperature=0.5).get("thinking") is None


@pytest.mark.parametrize(
    ("given_", "param"), [({"temperature": 0.5}, "temperature"), ({"top_p": 0.9}, "top_p"), ({"top_k": 5}, "top_k")]
)
def test_sampling_that_thinking_does_not_go_with_is_refused(given_: dict[str, Any], param: str) -> None:
    assert refused(**given_, reasoning_effort="low") == param
    assert sent(**given_, reasoning_effort="none")["thinking"] == {"type": "disabled"}


def test_thinking_goes_with_the_sampling_that_the_vendor_allows() -> None:
    assert sent(temperature=1, top_p=0.95, reasoning_effort="low")["thinking"]["type"] == "enabled"


def test_a_call_that_is_demanded_goes_before_the_permission_to_think() -> None:
    made = sent(tools=[WEATHER], tool_choice="required", reasoning_effort="high")

    assert made["thinking"] == {"type": "disabled"}
    assert made["tool_choice"] == {"type": "any"}


@pytest.mark.parametrize(("more", "kind"), [({}, "disabled"), ({"reasoning_details": [detail()]}, "enabled")])
def test_in_the_midst_of_calls_there_is_thinking_only_where_the_history_has_its_thoughts(more: Any, kind: str) -> None:
    made = sent(messages=[*HI, calling(call(), **more), result()], reasoning_effort="low")

    assert made["thinking"]["type"] == kind


def test_after_calls_are_done_with_the_next_question_is_thought_about() -> None:
    done = [*HI, calling(call()), result(), {"role": "assistant", "content": "sunny"}, *HI]

    assert sent(messages=done, reasoning_effort="low")["thinking"]["type"] == "enabled"


def test_the_callers_own_thinking_goes_before_effort() -> None:
    own = {"type": "enabled", "budget_tokens": 2000}

    assert sent(thinking=own, reasoning_effort="none", temperature=1)["thinking"] == own


# ── the request: the conversation ───────────────────────────────────────────────────────────────────────────────────


def test_every_system_message_becomes_system_in_order() -> None:
    made = sent(
        messages=[
            {"role": "system", "content": "a"},
            {"role": "developer", "content": [text("b", cache_control=MARK), text("")]},
            *HI,
            {"role": "system", "content": "c"},
            {"role": "user", "content": "there"},
        ]
    )

    assert made["system"] == [text("a"), text("b", cache_control=MARK), text("c")]
    assert made["messages"] == [{"role": "user", "content": [text("hi"), text("there")]}]


def test_pictures_go_as_base64_or_as_links() -> None:
    parts = user(
        text("see"),
        image(PNG, detail="auto"),
        image("data:image/JPG;charset=x;base64,eHg="),
        image("https://example.org/a.png"),
    )

    assert turns(parts) == [
        (
            "user",
            [
                text("see"),
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "eHg="}},
                {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
            ],
        )
    ]


def test_a_refusal_in_the_history_is_text() -> None:
    said = {"role": "assistant", "content": [text("a"), {"type": "refusal", "refusal": "no"}], "refusal": "never"}

    assert turns(*HI, said)[1] == ("assistant", [text("a"), text("no"), text("never")])


def test_calls_and_their_results_become_the_vendors_blocks_results_first() -> None:
    made = turns(
        *HI,
        calling(call("call_1"), call("call_2", arguments="")),
        result("call_1"),
        result("call_2", [text("a", cache_control=MARK), image(PNG)]),
        {"role": "user", "content": "and now?"},
        result("call_3", ""),
    )

    assert made[1] == (
        "assistant",
        [
            {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rome"}},
            {"type": "tool_use", "id": "call_2", "name": "weather", "input": {}},
        ],
    )
    assert [block["type"] for block in made[2][1]] == ["tool_result"] * 3 + ["text"]
    assert made[2][1][0] == {"type": "tool_result", "tool_use_id": "call_1", "content": [text("sunny")]}
    assert made[2][1][1]["cache_control"] == MARK
    assert [block["type"] for block in made[2][1][1]["content"]] == ["text", "image"]
    assert made[2][1][2] == {"type": "tool_result", "tool_use_id": "call_3"}


def test_arguments_reach_the_vendor_as_they_were_written() -> None:
    written = '{"b": 1.10, "a":  123456789012345678901234567890, "b\\u00e9": 1e5}'
    made = BRIDGE.request({"messages": [*HI, calling(call(arguments=f" {written}\n"))]}, TERMS)

    assert written.encode() in made


def test_ids_that_the_vendor_would_not_take_still_match() -> None:
    made = turns(*HI, calling(call("functions.f:0")), result("functions.f:0"), result("functions.f:1"))
    asked, first, second = made[1][1][0]["id"], *(block["tool_use_id"] for block in made[2][1])

    assert asked == first != second
    assert asked.replace("_", "").isalnum()


def test_a_mark_on_a_message_stands_on_its_last_block() -> None:
    made = turns({**user(text("a"), text("b")), "cache_control": {"type": "ephemeral", "ttl": "1h"}})

    assert made == [("user", [text("a"), text("b", cache_control={"type": "ephemeral", "ttl": "1h"})])]


@pytest.mark.parametrize(
    "thoughts",
    [
        {"reasoning_details": [detail(), {"type": "reasoning.encrypted", "data": "opaque", "index": 1}]},
        {
            "reasoning_details": [
                {"type": "reasoning.text", "text": "h", "format": FORMAT, "index": 0, "signature": None},
                {"type": "reasoning.text", "text": "m", "index": 0},
                {"type": "reasoning.text", "signature": SIGNATURE, "index": 0},
                {"type": "reasoning.encrypted", "data": "opaque", "format": FORMAT, "index": 1},
            ]
        },
        {
            "thinking_blocks": [
                {"type": "thinking", "thinking": "hm", "signature": SIGNATURE, "id": "x"},
                {"type": "redacted_thinking", "data": "opaque"},
            ],
            "reasoning_details": [detail(format="openai-responses-v1")],
        },
    ],
)
def test_thoughts_go_back_first_with_their_signature_byte_for_byte(thoughts: dict[str, Any]) -> None:
    assert turns(*HI, {"role": "assistant", "content": "so", **thoughts})[1][1] == [
        {"type": "thinking", "thinking": "hm", "signature": SIGNATURE},
        {"type": "redacted_thinking", "data": "opaque"},
        text("so"),
    ]


@pytest.mark.parametrize(
    "thoughts",
    [
        {"reasoning_content": "hm", "reasoning": "hm"},
        {"reasoning_details": [detail(signature=None)]},
        {"reasoning_details": [detail(format="google-gemini-v1")]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": ["thinking"]}, {}]},
        {"annotations": [], "audio": None, "function_call": None, "tool_calls": None, "refusal": None},
    ],
)
def test_thoughts_that_the_vendor_did_not_sign_stay_behind(thoughts: dict[str, Any]) -> None:
    assert turns(*HI, {"role": "assistant", "content": "so", **thoughts})[1][1] == [text("so")]


def test_a_model_that_does_not_reason_gets_no_thoughts() -> None:
    said = {"role": "assistant", "content": "so", "reasoning_details": [detail()]}

    assert turns(*HI, said, terms=replace(TERMS, reasoning=False))[1][1] == [text("so")]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ([{"role": "user", "content": ""}], "messages"),
        ([{"role": "system", "content": "alone"}], "messages"),
        (["hi"], "messages[0]"),
        ([{"role": "function", "name": "f", "content": "x"}], "messages[0].role"),
        ([{"role": ["user"], "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": "x", "name": "Ann"}], "messages[0].name"),
        ([user("hi")], "messages[0].content[0]"),  # type: ignore[arg-type]
        ([user({"type": "input_audio", "input_audio": {}})], "messages[0].content[0].type"),
        ([user(text("a"), {"type": "file", "file": {}})], "messages[0].content[1].type"),
        ([user({"type": "refusal", "refusal": "x"})], "messages[0].content[0].type"),
        ([user({"type": "text"})], "messages[0].content[0].text"),
        ([user(text("a", citations=[]))], "messages[0].content[0].citations"),
        ([user(text("a", cache_control={"type": "ephemeral", "ttl": "9h"}))], "messages[0].content[0].cache_control"),
        ([user(text("a", cache_control=True))], "messages[0].content[0].cache_control"),
        ([user(image("ftp://x/a.png"))], "messages[0].content[0].image_url.url"),
        ([user(image("data:image/svg+xml;base64,eHg="))], "messages[0].content[0].image_url.url"),
        ([user(image("data:image/png,raw"))], "messages[0].content[0].image_url.url"),
        ([user(image(PNG, detail="low"))], "messages[0].content[0].image_url.detail"),
        ([user({"type": "image_url", "image_url": PNG})], "messages[0].content[0].image_url"),
        ([{"role": "system", "content": [image(PNG)]}], "messages[0].content[0].type"),
        ([*HI, {"role": "assistant", "audio": {"id": "x"}}], "messages[1].audio"),
        ([*HI, {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}], "messages[1].function_call"),
        ([*HI, calling({"id": "c", "type": "custom", "custom": {}})], "messages[1].tool_calls[0].type"),
        ([*HI, calling(call(""))], "messages[1].tool_calls[0].id"),
        ([*HI, calling(call(name=""))], "messages[1].tool_calls[0].function.name"),
        ([*HI, calling(call(), call(arguments="{"))], "messages[1].tool_calls[1].function.arguments"),
        ([*HI, calling(call(arguments="[]"))], "messages[1].tool_calls[0].function.arguments"),
        ([*HI, calling(call(arguments={}))], "messages[1].tool_calls[0].function.arguments"),  # type: ignore[arg-type]
        ([*HI, {"role": "tool", "content": "x"}], "messages[1].tool_call_id"),
        ([*HI, {"role": "assistant", "reasoning_details": "x"}], "messages[1].reasoning_details"),
        ([*HI, {"role": "assistant", "reasoning_details": ["x"]}], "messages[1].reasoning_details[0]"),
        ([*HI, {"role": "assistant", "thinking_blocks": ["x"]}], "messages[1].thinking_blocks[0]"),
    ],
)
def test_a_message_that_cannot_be_carried_over_is_refused_by_its_place(messages: Any, param: str) -> None:
    assert refused(messages=messages) == param


def test_a_schema_nested_past_all_sense_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}

    assert refused(tools=[{"function": {"name": "f", "parameters": deep}}]) == "messages"


PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "refusal", "file"]) | JSON},
    optional={"text": JSON, "image_url": JSON | st.fixed_dictionaries({"url": JSON}), "cache_control": JSON},
)
CALLS = st.fixed_dictionaries(
    {}, optional={"id": JSON, "type": JSON, "function": JSON | st.fixed_dictionaries({"name": JSON, "arguments": JSON})}
)
DETAILS = st.fixed_dictionaries(
    {"type": st.sampled_from(["reasoning.text", "reasoning.encrypted", "thinking", "redacted_thinking"]) | JSON},
    optional={"text": JSON, "signature": JSON, "data": JSON, "index": JSON, "format": JSON, "thinking": JSON},
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]) | JSON},
    optional={
        "content": JSON | st.lists(PARTS, max_size=3),
        "tool_calls": JSON | st.lists(CALLS, max_size=2),
        "tool_call_id": JSON,
        "refusal": JSON,
        "cache_control": JSON,
        "reasoning_details": JSON | st.lists(DETAILS, max_size=3),
        "thinking_blocks": JSON | st.lists(DETAILS, max_size=3),
    },
)


def given_body_is_read_or_refused(body: dict[str, Any]) -> None:
    try:
        made = BRIDGE.request(body, TERMS)
    except InvalidRequest:
        return
    assert orjson.loads(made)["model"] == TERMS.upstream_model


@given(body=st.dictionaries(st.text(max_size=8) | st.sampled_from(sorted(EXPRESSED | {*NO_OPS})), JSON, max_size=4))
def test_no_json_makes_the_request_raise_anything_but_a_refusal(body: dict[str, Any]) -> None:
    given_body_is_read_or_refused(body)
    given_body_is_read_or_refused({"messages": HI, **body})


@given(messages=st.lists(MESSAGES, max_size=4), effort=st.none() | st.just("low"))
def test_no_conversation_does_either(messages: list[Any], effort: str | None) -> None:
    given_body_is_read_or_refused({"messages": messages, "reasoning_effort": effort})


# ── the answer ──────────────────────────────────────────────────────────────────────────────────────────────────────

USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 3,
    "output_tokens": 7,
    "output_tokens_details": {"thinking_tokens": 4},
}
OPENAI_USAGE = {
    "prompt_tokens": 18,
    "completion_tokens": 7,
    "total_tokens": 25,
    "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 4},
}
THINKING = {"type": "thinking", "thinking": "hm, so", "signature": SIGNATURE}
HIDDEN = {"type": "redacted_thinking", "data": "opaque=="}
USES = [
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "R\u00f3m", "n": 1}},
    {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
]


def message(*content: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x-20260101",
        "content": list(content),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": USAGE,
        **more,
    }


def answered(vendors: Any) -> dict[str, Any]:
    """Our plain answer; OpenAI's own types read it."""
    made = BRIDGE.answer(json.dumps(vendors).encode(), TERMS)
    ChatCompletion.model_validate_json(made)
    parsed: dict[str, Any] = json.loads(made)
    return parsed


def test_a_text_becomes_a_completion() -> None:
    assert answered(message(text("he"), text("llo"))) == {
        "id": "chatcmpl-msg_1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "claude-x",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": OPENAI_USAGE,
    }


def test_calls_and_thoughts_become_openais() -> None:
    said = answered(message(THINKING, HIDDEN, *USES, stop_reason="tool_use"))["choices"][0]

    assert said["finish_reason"] == "tool_calls"
    assert said["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "hm, so",
        "reasoning_details": [
            {"type": "reasoning.text", "format": FORMAT, "text": "hm, so", "signature": SIGNATURE, "index": 0},
            {"type": "reasoning.encrypted", "format": FORMAT, "data": "opaque==", "index": 1},
        ],
        "tool_calls": [
            call("toolu_1", arguments='{"city":"R\u00f3m","n":1}'),
            call("toolu_2", "now", "{}"),
        ],
    }


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("a new one", "stop"),
        (None, "stop"),
    ],
)
def test_the_reason_of_the_end_is_told_in_openais_words(reason: Any, expected: str) -> None:
    assert answered(message(text("x"), stop_reason=reason))["choices"][0]["finish_reason"] == expected
    streamed = chunks(stream_of(message(text("x"), stop_reason=reason)))
    assert [chunk["choices"][0]["finish_reason"] for chunk in streamed] == [None, None, expected]


def test_the_vendors_explanation_of_a_refusal_is_told() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "no such thing"}
    made = answered(message(stop_reason="refusal", stop_details=details))["choices"][0]

    assert made["message"]["refusal"] == "no such thing"


def test_an_id_that_is_missing_is_our_own() -> None:
    assert answered(message(text("x"), id=None))["id"] == "chatcmpl-abc123"


@pytest.mark.parametrize(
    "usage", [None, {}, {"input_tokens": 1}, {**USAGE, "output_tokens": -1}, {**USAGE, "input_tokens": True}, []]
)
def test_a_usage_that_cannot_be_is_left_out(usage: Any) -> None:
    assert "usage" not in answered(message(text("x"), usage=usage))


def test_half_an_emoji_does_not_cost_the_caller_the_answer() -> None:
    made = json.loads(BRIDGE.answer(json.dumps(message(text("\ud83d"))).encode(), TERMS))

    assert made["choices"][0]["message"]["content"] == "\ud83d"


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", b"null", b"[]", b"{}", b'{"type":"error","error":{}}', b'{"type":"message"}', b"[" * 100_000],
)
def test_what_is_no_message_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        BRIDGE.answer(data, TERMS)


@pytest.mark.parametrize("reasoning", [True, False])
def test_an_answer_can_be_sent_back_as_it_came(reasoning: bool) -> None:
    said = answered(message(THINKING, HIDDEN, text("so"), *USES, stop_reason="tool_use"))["choices"][0]["message"]
    made = turns(*HI, said, result("toolu_1"), result("toolu_2"), terms=replace(TERMS, reasoning=reasoning))

    assert made[1][1] == [*([THINKING, HIDDEN] if reasoning else []), text("so"), *USES]


@given(signature=st.text(min_size=1), thought=st.text())
def test_a_signature_survives_the_way_there_and_back(signature: str, thought: str) -> None:
    block = {"type": "thinking", "thinking": thought, "signature": signature}
    plain = answered(message(block, text("so")))["choices"][0]["message"]
    streamed = joined(chunks(stream_of(message(block, text("so")))))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(stream_of(message(block, text("so"))))]
    kept = {"role": "assistant", "content": "so"}
    kept["reasoning_details"] = [entry for delta in deltas for entry in delta.get("reasoning_details", [])]  # type: ignore[assignment]

    for said in (plain, streamed, kept):
        assert turns(*HI, said)[1][1] == [block, text("so")]


# ── the stream ──────────────────────────────────────────────────────────────────────────────────────────────────────


def events_of(vendors: dict[str, Any]) -> list[dict[str, Any]]:
    """The vendor's message as it would stream it, each text in pieces of three characters."""
    usage = {**vendors["usage"], "output_tokens": 1}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**vendors, "content": [], "stop_reason": None, "usage": usage}},
        {"type": "ping"},
    ]
    for index, block in enumerate(vendors["content"]):
        empty = {"text": "", "thinking": "", "signature": "", "input": {}}
        start = {**block, **{name: empty[name] for name in block if name in empty}}
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        for kind, name in (("text", "text"), ("thinking", "thinking")):
            pieces = [block.get(name, "")[at : at + 3] for at in range(0, len(block.get(name, "")), 3)]
            deltas = [{"type": f"{kind}_delta", name: piece} for piece in pieces]
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        if block.get("signature"):
            delta = {"type": "signature_delta", "signature": block["signature"]}
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        if block.get("input"):
            inputs = json.dumps(block["input"], ensure_ascii=False, separators=(",", ":"))
            for piece in ("", inputs[:4], inputs[4:]):
                delta = {"type": "input_json_delta", "partial_json": piece}
                events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    last = {name: vendors.get(name) for name in ("stop_reason", "stop_sequence", "stop_details")}
    figures = {"output_tokens": vendors["usage"]["output_tokens"], "input_tokens": None}
    figures["output_tokens_details"] = vendors["usage"].get("output_tokens_details")
    return [*events, {"type": "message_delta", "delta": last, "usage": figures}, {"type": "message_stop"}]


def frames_of(events: list[Any], terms: Terms = TERMS) -> list[bytes]:
    bridge = BRIDGE.stream(terms)
    frames = [frame for event in events for frame in bridge.feed(json.dumps(event).encode())]
    return [*frames, *bridge.end()]


def stream_of(vendors: dict[str, Any], terms: Terms = TERMS) -> list[bytes]:
    return frames_of(events_of(vendors), terms)


def chunks(frames: list[bytes]) -> list[dict[str, Any]]:
    """The chunks of a whole stream; OpenAI's own types read each."""
    assert frames[-1] == b"data: [DONE]\n\n"
    framer = sse.Framer()
    assert framer.feed(b"".join(frames)) == frames
    datas = [sse.data_of(frame) or b"" for frame in frames[:-1]]
    for data in datas:
        ChatCompletionChunk.model_validate_json(data)
    return [json.loads(data) for data in datas]


def joined(streamed: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that OpenAI's SDK makes of the deltas."""
    said: dict[Any, Any] = {}
    for chunk in streamed:
        for choice in chunk["choices"]:
            said = accumulate_delta(said, choice["delta"])
    for made in said.get("tool_calls", []):
        del made["index"]
    return said


@pytest.mark.parametrize(
    "vendors",
    [
        message(text("hello there")),
        message(text("hello "), text("there"), stop_reason="max_tokens"),
        message(THINKING, text("so")),
        message(HIDDEN, THINKING, HIDDEN, {**THINKING, "thinking": ""}, text("so"), *USES, stop_reason="tool_use"),
        message(*USES, stop_reason="tool_use"),
        message(*reversed(USES), stop_reason="tool_use"),
        message(stop_reason="refusal", stop_details={"type": "refusal", "explanation": "no"}),
        message(text("x"), {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": 1}}, text("y")),
    ],
)
def test_the_joined_deltas_are_the_plain_answer(vendors: dict[str, Any]) -> None:
    terms = replace(TERMS, include_usage=True)
    streamed, plain = chunks(stream_of(vendors, terms)), answered(vendors)
    said = joined(streamed)

    assert {**said, "content": said["content"] or None} == {
        name: value for name, value in {**plain["choices"][0]["message"]}.items() if name != "refusal" or value
    } | {"content": plain["choices"][0]["message"]["content"] or None}
    assert streamed[-2]["choices"][0]["finish_reason"] == plain["choices"][0]["finish_reason"]
    assert streamed[-1]["usage"] == plain["usage"]
    assert {chunk["id"] for chunk in streamed} == {plain["id"]}
    assert {(chunk["model"], chunk["created"]) for chunk in streamed} == {("claude-x", 1_700_000_000)}


def test_a_text_streams_as_openai_would() -> None:
    deltas = [chunk["choices"][0] for chunk in chunks(stream_of(message(text("abcd"))))]

    assert [(choice["delta"], choice["finish_reason"]) for choice in deltas] == [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "abc"}, None),
        ({"content": "d"}, None),
        ({}, "stop"),
    ]


def test_calls_are_numbered_on_their_own_and_named_once() -> None:
    streamed = chunks(stream_of(message(text("x"), *USES, stop_reason="tool_use")))
    deltas = [entry for chunk in streamed for entry in chunk["choices"][0]["delta"].get("tool_calls", [])]

    assert deltas == [
        {"index": 0, **call("toolu_1", arguments="")},
        {"index": 0, "function": {"arguments": '{"ci'}},
        {"index": 0, "function": {"arguments": 'ty":"R\u00f3m","n":1}'}},
        {"index": 1, **call("toolu_2", "now", "")},
        {"index": 1, "function": {"arguments": "{}"}},
    ]


def test_usage_comes_last_and_is_null_before_only_where_it_is_wanted() -> None:
    wanted = chunks(stream_of(message(text("x")), replace(TERMS, include_usage=True)))
    unwanted = chunks(stream_of(message(text("x"))))

    assert [chunk["usage"] for chunk in wanted] == [None, None, None, OPENAI_USAGE]
    assert wanted[-1]["choices"] == []
    assert all("usage" not in chunk for chunk in unwanted)
    assert all(chunk["choices"] for chunk in unwanted)


def test_an_end_without_a_reason_still_finishes_and_comes_once() -> None:
    bridge = BRIDGE.stream(TERMS)
    events = events_of(message(*USES, stop_reason="tool_use"))
    frames = [frame for event in events[:4] for frame in bridge.feed(json.dumps(event).encode())]
    frames += bridge.end()

    assert chunks(frames)[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert joined(chunks(frames))["tool_calls"] == [call("toolu_1", arguments="{}")]
    assert bridge.end() == []
    assert bridge.feed(json.dumps(events[0]).encode()) == []


def test_a_stream_that_begins_in_the_middle_is_opened_all_the_same() -> None:
    streamed = chunks(frames_of(events_of(message(text("abc")))[2:]))

    assert streamed[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {chunk["id"] for chunk in streamed} == {"chatcmpl-abc123"}


def test_a_block_that_begins_with_something_in_it_loses_nothing() -> None:
    starts = [
        {"type": "content_block_start", "index": at, "content_block": block}
        for at, block in enumerate([THINKING, text("so"), USES[0]])
    ]
    said = joined(chunks(frames_of(starts)))

    assert said["reasoning_content"] == "hm, so"
    assert said["reasoning_details"][0]["signature"] == SIGNATURE
    assert said["content"] == "so"
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == USES[0]["input"]


def test_nothing_at_all_is_just_the_end() -> None:
    assert BRIDGE.stream(TERMS).end() == [b"data: [DONE]\n\n"]


def test_half_an_emoji_in_each_of_two_events_is_a_whole_one_again() -> None:
    events = events_of(message(text("ab")))
    halves = [{**events[3], "delta": {"type": "text_delta", "text": half}} for half in ("\ud83d", "\ude00")]
    frames = frames_of([events[0], *halves])
    pieces = [json.loads(sse.data_of(frame) or b"")["choices"][0]["delta"].get("content", "") for frame in frames[:-1]]

    assert "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16") == "\U0001f600"


BLOCKS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                "text",
                "thinking",
                "redacted_thinking",
                "tool_use",
                "text_delta",
                "thinking_delta",
                "signature_delta",
                "input_json_delta",
            ]
        )
        | JSON
    },
    optional=dict.fromkeys(
        [
            "text",
            "thinking",
            "signature",
            "data",
            "id",
            "name",
            "input",
            "partial_json",
            "index",
        ],
        JSON,
    ),
)
EVENTS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop",
            ]
        )
        | JSON
    },
    optional={
        "index": st.integers(0, 2) | JSON,
        "message": JSON | st.fixed_dictionaries({"id": JSON, "usage": JSON}),
        "content_block": BLOCKS | JSON,
        "delta": BLOCKS | JSON | st.fixed_dictionaries({"stop_reason": JSON, "stop_details": JSON}),
        "usage": JSON | st.fixed_dictionaries({"input_tokens": JSON, "output_tokens": JSON}),
    },
)


@given(events=st.lists(st.one_of(EVENTS.map(lambda event: json.dumps(event).encode()), st.binary(max_size=8))))
def test_no_stream_makes_the_bridge_raise_or_say_what_openais_types_refuse(events: list[bytes]) -> None:
    bridge = BRIDGE.stream(replace(TERMS, include_usage=True))
    frames = [frame for event in events for frame in bridge.feed(event)]

    chunks([*frames, *bridge.end()])


@given(
    vendors=st.one_of(
        JSON,
        st.fixed_dictionaries(
            {"type": st.just("message"), "content": st.lists(BLOCKS | JSON)},
            optional={"id": JSON, "usage": JSON, "stop_reason": JSON, "stop_details": JSON},
        ),
    )
)
def test_no_json_makes_the_answer_raise_anything_but_a_value_error(vendors: Any) -> None:
    if isinstance(vendors, dict) and vendors.get("type") == "message" and isinstance(vendors.get("content"), list):
        assert answered(vendors)["model"] == "claude-x"
    else:
        with pytest.raises(ValueError):
            answered(vendors)


@given(data=st.binary(max_size=16))
def test_no_bytes_do_either(data: bytes) -> None:
    with pytest.raises(ValueError):
        BRIDGE.answer(data, TERMS)
    assert BRIDGE.stream(TERMS).feed(data) == []


def test_an_event_nested_past_all_sense_is_skipped() -> None:
    start = b'{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"b","input":'

    assert BRIDGE.stream(TERMS).feed(start + b'{"a":' * 100_000) == []
    assert BRIDGE.stream(TERMS).feed(b"[" * 100_000) == []
