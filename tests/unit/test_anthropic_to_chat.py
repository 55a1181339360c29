"""An Anthropic caller and an OpenAI-speaking vendor: what crosses, what is left out, what is refused by its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects import sse
from farebox.dialects.bridge import Terms
from farebox.dialects.bridges.anthropic_to_chat import BRIDGE
from farebox.errors import InvalidRequest

TERMS = Terms(
    model="deepseek-reasoner",
    upstream_model="deepseek-v4-pro",
    stream=False,
    output_tokens_max=64_000,
    reasoning=False,
    limit_param="max_completion_tokens",
    id="01J9ZK4Q",
    created_s=1_790_000_000,
)
REASONING = replace(TERMS, reasoning=True)
HI = [{"role": "user", "content": "hi"}]
ASK: dict[str, Any] = {"model": "deepseek-reasoner", "max_tokens": 100, "messages": HI}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"name": "weather", "description": "The weather.", "input_schema": SCHEMA}
FUNCTION = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": SCHEMA}}
PIXEL = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PIXEL_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
CALL = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "北京"}}
CHAT_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"北京"}'},
}
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)


def sent(terms: Terms = TERMS, **more: Any) -> dict[str, Any]:
    """What the vendor gets."""
    body: dict[str, Any] = json.loads(BRIDGE.request({**ASK, **more}, terms))
    return body


def sent_messages(*messages: Any, terms: Terms = TERMS, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sent(terms, messages=list(messages), **more)["messages"]
    return found


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


def result(content: Any, call: str = "call_1", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call, "content": content, **more}


def refused(**more: Any) -> str | None:
    """The parameter that the refusal names; its sentence stands in both languages."""
    with pytest.raises(InvalidRequest) as caught:
        BRIDGE.request({**ASK, **more}, TERMS)
    error = caught.value
    assert error.param is not None
    assert error.param in error.zh
    assert error.param in error.en
    assert any("\u4e00" <= letter <= "\u9fff" for letter in error.zh)
    assert error.en.isascii()
    return error.param


# ── the request: parameters ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_plain_request_has_the_vendors_names_and_nothing_else() -> None:
    assert sent(system="Be brief.") == {
        "model": "deepseek-v4-pro",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "max_completion_tokens": 100,
    }


def test_a_stream_asks_for_its_usage() -> None:
    body = sent(replace(TERMS, stream=True), stream=True)

    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


EXPRESSED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"max_tokens": 128_000}, {"max_completion_tokens": 64_000}),
    ({"temperature": 0.25, "top_p": 1}, {"temperature": 0.25, "top_p": 1}),
    ({"stop_sequences": ["a", "b", "c", "d"]}, {"stop": ["a", "b", "c", "d"]}),
    ({"stop_sequences": []}, {}),
    ({"tools": []}, {}),
    ({"tools": [TOOL]}, {"tools": [FUNCTION]}),
    ({"tools": [{**TOOL, "type": "custom", "cache_control": {"type": "ephemeral"}}]}, {"tools": [FUNCTION]}),
    ({"tools": [{**TOOL, "eager_input_streaming": True, "defer_loading": True}]}, {"tools": [FUNCTION]}),
    ({"tools": [{**TOOL, "allowed_callers": ["direct"]}]}, {"tools": [FUNCTION]}),
    (
        {"tools": [{"name": "a", "input_schema": {"type": "object"}, "strict": True}]},
        {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "object"}, "strict": True}}]},
    ),
    (
        {"tools": [{"name": "a", "input_schema": {}, "input_examples": [{"city": "Rome"}]}]},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "a", "description": 'Examples of input: [{"city":"Rome"}]', "parameters": {}},
                }
            ]
        },
    ),
    ({"tools": [TOOL], "tool_choice": {"type": "auto"}}, {"tools": [FUNCTION], "tool_choice": "auto"}),
    ({"tools": [TOOL], "tool_choice": {"type": "any"}}, {"tools": [FUNCTION], "tool_choice": "required"}),
    ({"tools": [TOOL], "tool_choice": {"type": "none"}}, {"tools": [FUNCTION], "tool_choice": "none"}),
    (
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}},
        {
            "tools": [FUNCTION],
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
            "parallel_tool_calls": False,
        },
    ),
    ({"tool_choice": {"type": "none"}}, {}),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
            }
        },
    ),
    (
        {"output_format": {"type": "json_schema", "schema": SCHEMA}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
            }
        },
    ),
]


@pytest.mark.parametrize(("asked", "said"), EXPRESSED, ids=lambda each: str(each)[:60])
def test_what_openai_can_say_is_said(asked: dict[str, Any], said: dict[str, Any]) -> None:
    plain = sent()

    assert sent(**asked) == plain | said


LEFT_OUT: list[dict[str, Any]] = [
    {"metadata": {"user_id": "user_1_account_2_session_3"}},
    {"cache_control": {"type": "ephemeral"}},
    {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
    {"diagnostics": {"previous_message_id": "msg_1"}},
    {"service_tier": "auto"},
    {"service_tier": "standard_only"},
    {"speed": "standard"},
    {"inference_geo": "global"},
    {"mcp_servers": []},
    {"fallbacks": []},
    {"betas": ["context-management-2025-06-27"]},
    {"anthropic_version": "bedrock-2023-05-31"},
    {"top_k": None, "container": None, "thinking": None, "output_config": None, "tools": None, "system": None},
    {"output_config": {"effort": "high", "task_budget": {"type": "tokens", "total": 9}}},
    {"thinking": {"type": "enabled", "budget_tokens": 5000}},
    {"thinking": {"type": "adaptive", "display": "summarized"}},
    {"thinking": {"type": "disabled"}},
]


@pytest.mark.parametrize("asked", LEFT_OUT, ids=lambda each: str(each)[:60])
def test_hints_permissions_and_people_are_left_out(asked: dict[str, Any]) -> None:
    assert sent(**asked) == sent()


EFFORTS: list[tuple[dict[str, Any], str | None]] = [
    ({"output_config": {"effort": "low"}}, "low"),
    ({"output_config": {"effort": "max"}}, "high"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
    ({"thinking": {"type": "enabled", "budget_tokens": 10_000}}, "medium"),
    ({"thinking": {"type": "enabled", "budget_tokens": 31_999}}, "high"),
    ({"thinking": {"type": "enabled", "budget_tokens": 31_999}, "output_config": {"effort": "medium"}}, "medium"),
    ({"thinking": {"type": "adaptive", "budget_tokens": 0}, "output_config": {"effort": "xhigh"}}, "high"),
    ({"thinking": {"type": "adaptive"}}, None),
    ({"thinking": {"type": "between_tools"}}, None),
    ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, "low"),
    ({"output_config": {"effort": "high"}, "tools": [TOOL]}, None),
]


@pytest.mark.parametrize(("asked", "effort"), EFFORTS, ids=lambda each: str(each)[:60])
def test_a_model_that_reasons_is_told_how_hard_unless_there_are_tools(
    asked: dict[str, Any], effort: str | None
) -> None:
    assert sent(REASONING, **asked).get("reasoning_effort") == effort


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"top_k": 5}, "top_k"),
    ({"container": {"id": "c"}}, "container"),
    ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
    ({"inference_geo": "us"}, "inference_geo"),
    ({"speed": "fast"}, "speed"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"compaction": {}}, "compaction"),
    ({"never_heard_of": 1}, "never_heard_of"),
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 1.5}, "top_p"),
    ({"stop_sequences": ["a", "b", "c", "d", "e"]}, "stop_sequences"),
    ({"stop_sequences": "a"}, "stop_sequences"),
    ({"output_config": {"effort": "utmost"}}, "output_config.effort"),
    ({"output_config": {"colour": "red"}}, "output_config.colour"),
    ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
    ({"output_format": {"type": "json_schema"}}, "output_format.schema"),
    ({"thinking": {"type": "aloud"}}, "thinking.type"),
    ({"thinking": "yes"}, "thinking"),
    ({"tools": {}}, "tools"),
    ({"tools": [{"type": "web_search_20260318", "name": "web_search"}]}, "tools[0].type"),
    ({"tools": [TOOL, {"type": "bash_20250124", "name": "bash"}]}, "tools[1].type"),
    ({"tools": [{"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}]}, "tools[0].type"),
    ({"tools": [{"type": "memory_20250818", "name": "memory"}]}, "tools[0].type"),
    ({"tools": [{"type": "tool_search_tool_bm25_20251119", "name": "search"}]}, "tools[0].type"),
    ({"tools": [{**TOOL, "allowed_callers": ["code_execution_20260521"]}]}, "tools[0].allowed_callers"),
    ({"tools": [{**TOOL, "colour": "red"}]}, "tools[0].colour"),
    ({"tools": [{"name": "a"}]}, "tools[0].input_schema"),
    ({"tools": [{**TOOL, "strict": "very"}]}, "tools[0].strict"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "all"}}, "tool_choice.type"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({"system": 5}, "system"),
    ({"system": [{"type": "image", "source": PIXEL}]}, "system[0].type"),
    ({"messages": []}, "messages"),
    ({"messages": ["hi"]}, "messages[0]"),
    ({"messages": [{"role": "tool", "content": "hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
    ({"messages": [*HI, {"role": "assistant", "content": "{"}]}, "messages[1].role"),
    ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text"),
    ({"messages": [user({"type": "search_result"})]}, "messages[0].content[0].type"),
    ({"messages": [user({"type": "container_upload"})]}, "messages[0].content[0].type"),
    ({"messages": [user(CALL)]}, "messages[0].content[0].type"),
    ({"messages": [assistant(result("hi")), *HI]}, "messages[0].content[0].type"),
    ({"messages": [assistant({"type": "server_tool_use"}), *HI]}, "messages[0].content[0].type"),
    ({"messages": [assistant({**CALL, "input": "{}"}), *HI]}, "messages[0].content[0].input"),
    (
        {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
        "messages[0].content[0].source.type",
    ),
    (
        {"messages": [user({"type": "image", "source": {**PIXEL, "media_type": "image/tiff"}})]},
        "messages[0].content[0].source.media_type",
    ),
    (
        {"messages": [user({"type": "document", "source": {"type": "base64", "media_type": "application/pdf"}})]},
        "messages[0].content[0].source.type",
    ),
    (
        {"messages": [user({"type": "document", "source": {"type": "text"}, "citations": {"enabled": True}})]},
        "messages[0].content[0].citations.enabled",
    ),
    ({"messages": [user(result([{"type": "browser_state"}]))]}, "messages[0].content[0].content[0].type"),
    ({"messages": [user(result("no", is_error="yes"))]}, "messages[0].content[0].is_error"),
]


@pytest.mark.parametrize(("asked", "param"), REFUSED, ids=lambda each: str(each)[:60])
def test_what_openai_cannot_say_is_refused_by_the_callers_own_name(asked: dict[str, Any], param: str) -> None:
    assert refused(**asked) == param


def test_a_refusal_repeats_no_name_that_is_no_name() -> None:
    assert "secret" not in str(refused(**{"my secret: 5": 1}))


# ── the request: the conversation ───────────────────────────────────────────────────────────────────────────────────


def test_claude_codes_note_to_anthropic_does_not_spoil_the_vendors_cache() -> None:
    note = "x-anthropic-billing-header: cc_version=2.1.177.01c; cc_entrypoint=cli; cch=36ee5;"
    system = [text(note), text("You are Claude Code.", cache_control={"type": "ephemeral"}), text("Rules.")]

    assert sent(system=system)["messages"][0] == {"role": "system", "content": "You are Claude Code.\n\nRules."}
    assert sent(system=f"{note}\nRules.")["messages"][0] == {"role": "system", "content": "Rules."}
    assert sent(system=[text(note)])["messages"] == HI


def test_a_system_message_between_the_turns_stays_where_it_is() -> None:
    later = {"role": "system", "content": [text("Plan mode is on.")]}

    assert sent_messages(*HI, later, *HI) == [*HI, {"role": "system", "content": "Plan mode is on."}, *HI]


def test_text_alone_is_one_string_and_with_images_it_is_parts() -> None:
    link = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    words = user(text("one"), text("two", cache_control={"type": "ephemeral", "ttl": "1h"}))
    picture = user(text("look"), {"type": "image", "source": PIXEL}, link)

    assert sent_messages(words) == [{"role": "user", "content": "one\n\ntwo"}]
    assert sent_messages(picture) == [
        {
            "role": "user",
            "content": [
                text("look"),
                PIXEL_PART,
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
            ],
        }
    ]


def test_a_plain_text_document_is_text_under_its_title_and_context() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "All of it."}
    document = {"type": "document", "source": source, "title": "Report", "context": "2026", "citations": None}

    assert sent_messages(user(document)) == [{"role": "user", "content": "Report\n\n2026\n\nAll of it."}]


def test_a_tool_use_becomes_a_tool_call_and_its_result_a_tool_message() -> None:
    asked = assistant(text("Let me see."), {**CALL, "caller": {"type": "direct"}})
    answered = user(result([text("Sunny"), text("25 °C")]), text("Go on."))

    assert sent_messages(*HI, asked, answered, tools=[TOOL]) == [
        *HI,
        {"role": "assistant", "content": "Let me see.", "tool_calls": [CHAT_CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny\n\n25 °C"},
        {"role": "user", "content": "Go on."},
    ]


def test_an_assistant_that_only_calls_says_null() -> None:
    assert sent_messages(*HI, assistant(CALL), user(result("ok")))[1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [CHAT_CALL],
    }


def test_a_tools_images_follow_behind_all_results_under_their_results_names() -> None:
    first = result([text("A screenshot."), {"type": "image", "source": PIXEL}], "call_1")
    second = result("plain", "call_2")

    assert sent_messages(*HI, user(text("Well?"), first, second))[1:] == [
        {"role": "tool", "tool_call_id": "call_1", "content": "A screenshot.\n\n[image: see below]"},
        {"role": "tool", "tool_call_id": "call_2", "content": "plain"},
        {"role": "user", "content": [text("[image of tool result call_1]"), PIXEL_PART, text("Well?")]},
    ]


@pytest.mark.parametrize(
    ("block", "content"),
    [
        (result("no such file", is_error=True), "[tool error]\n\nno such file"),
        (result([], is_error=True), "[tool error]"),
        (result(None), ""),
        ({"type": "tool_result", "tool_use_id": "call_1"}, ""),
        (result("fine", is_error=False), "fine"),
        (result([{"type": "tool_reference", "tool_name": "mcp__x__y"}]), "[tool: mcp__x__y]"),
    ],
)
def test_a_result_says_in_its_text_what_openai_has_no_member_for(block: dict[str, Any], content: str) -> None:
    assert sent_messages(*HI, user(block))[1:] == [{"role": "tool", "tool_call_id": "call_1", "content": content}]


def test_thoughts_of_others_are_left_out_and_a_message_of_nothing_else_with_them() -> None:
    theirs = {"type": "thinking", "thinking": "Hm.", "signature": "EqQBCgIYAhIM"}
    hidden = {"type": "redacted_thinking", "data": "EmwKAhgB"}

    assert sent_messages(*HI, assistant(theirs, hidden, text("Yes.")), *HI)[1] == {
        "role": "assistant",
        "content": "Yes.",
    }
    assert sent_messages(*HI, assistant(theirs, hidden), *HI) == [*HI, *HI]


def back_and_forth(message: dict[str, Any], terms: Terms) -> dict[str, Any]:
    """An answer of the vendor's, as the caller sends it back in the history."""
    data = json.dumps({"choices": [{"message": message}]}).encode()
    content = json.loads(BRIDGE.answer(data, TERMS))["content"]
    return sent_messages(*HI, assistant(*content), user(result("ok")), terms=terms)[1]


@pytest.mark.parametrize("member", ["reasoning_content", "reasoning"])
def test_a_model_gets_its_own_thoughts_back_under_its_vendors_name_and_no_other_model_does(member: str) -> None:
    message = {"role": "assistant", "content": None, member: "I need the weather.", "tool_calls": [CHAT_CALL]}
    elsewhere = {name: value for name, value in message.items() if name != member}

    assert back_and_forth(message, TERMS) == message
    assert back_and_forth(message, replace(TERMS, model="gpt-4.1")) == elsewhere


def test_googles_signature_returns_to_the_call_that_it_seals() -> None:
    sealed = {**CHAT_CALL, "extra_content": {"google": {"thought_signature": "CiQB/+=="}}}
    second = {**CHAT_CALL, "id": "call_2"}
    message = {"role": "assistant", "content": None, "tool_calls": [sealed, second]}

    assert back_and_forth(message, TERMS) == message
    assert back_and_forth(message, replace(TERMS, model="o3"))["tool_calls"] == [CHAT_CALL, second]


def test_a_request_of_claude_code_passes() -> None:
    cached = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    bash = {"name": "Bash", "description": "Runs a command.", "input_schema": {**SCHEMA, "$schema": "x"}, **cached}
    body = {
        "model": "deepseek-reasoner",
        "max_tokens": 32_000,
        "stream": True,
        "temperature": 1,
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "metadata": {"user_id": '{"device_id":"b4","account_uuid":"","session_id":"fe79"}'},
        "system": [text("x-anthropic-billing-header: cc_version=2.1; cch=0aaa9;"), text("You are …", **cached)],
        "tools": [bash, {"type": "custom", "eager_input_streaming": True, **TOOL}],
        "messages": [
            user(text("<system-reminder>…</system-reminder>"), text("list files", **cached)),
            {"role": "system", "content": "Skills: none."},
            assistant(
                {"type": "thinking", "thinking": "ls.", "signature": "farebox:reasoning_content:deepseek-reasoner:"},
                {"type": "tool_use", "id": "call_1", "name": "Bash", "input": {"command": "ls"}},
            ),
            user({**result("a.txt", is_error=False), **cached}, text("<system-reminder>…</system-reminder>")),
        ],
    }

    crossed = json.loads(BRIDGE.request(body, replace(REASONING, stream=True)))

    assert crossed == {
        "model": "deepseek-v4-pro",
        "max_completion_tokens": 32_000,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 1,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "Bash",
                    "description": "Runs a command.",
                    "parameters": {**SCHEMA, "$schema": "x"},
                },
            },
            FUNCTION,
        ],
        "messages": [
            {"role": "system", "content": "You are …"},
            {"role": "user", "content": "<system-reminder>…</system-reminder>\n\nlist files"},
            {"role": "system", "content": "Skills: none."},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "ls.",
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "Bash", "arguments": '{"command":"ls"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "a.txt"},
            {"role": "user", "content": "<system-reminder>…</system-reminder>"},
        ],
    }
    assert "fe79" not in json.dumps(crossed)


BLOCKS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking", "tool_reference"]
        )
    },
    optional={
        **dict.fromkeys(("text", "source", "content", "input", "id", "name", "tool_use_id", "is_error"), JSON),
        **dict.fromkeys(("thinking", "signature", "citations", "title", "tool_name", "transformations"), JSON),
    },
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.lists(BLOCKS, max_size=4) | JSON}
    ),
    max_size=4,
)
TOOLS = st.lists(
    st.fixed_dictionaries(
        {"name": JSON, "input_schema": JSON}, optional={"type": JSON, "strict": JSON, "input_examples": JSON}
    )
)
MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("system", "temperature", "top_p", "stop_sequences", "output_format", "metadata"), JSON),
    "messages": MESSAGES | JSON,
    "tools": TOOLS | JSON,
    "max_tokens": st.just(5) | JSON,
    "tool_choice": st.fixed_dictionaries({"type": JSON | st.sampled_from(["any", "tool"])}, optional={"name": JSON}),
    "thinking": JSON | st.fixed_dictionaries({"type": JSON | st.just("enabled")}, optional={"budget_tokens": JSON}),
    "output_config": JSON | st.fixed_dictionaries({}, optional={"effort": JSON, "format": JSON}),
    "service_tier": JSON,
    "other": JSON,
}


@given(st.fixed_dictionaries({}, optional=MEMBERS))
def test_whatever_is_asked_is_put_across_or_refused_by_a_name(body: dict[str, Any]) -> None:
    try:
        crossed = BRIDGE.request({**ASK, **body}, REASONING)
    except InvalidRequest as refusal:
        crossed = json.dumps({"refused": refusal.param}).encode()
    assert json.loads(crossed).get("refused", "put across")


def test_what_is_nested_beyond_reason_is_refused() -> None:
    deep: Any = {}
    for _ in range(20_000):
        deep = {"a": deep}

    assert refused(tools=[{"name": "a", "input_schema": deep}]) == "body"
    assert refused(messages=[assistant({**CALL, "input": deep}), *HI]) == "messages[0].content[0].input"


# ── the answer ──────────────────────────────────────────────────────────────────────────────────────────────────────


def answered(message: dict[str, Any], finish: Any = "stop", **more: Any) -> dict[str, Any]:
    chat = {"choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}
    found: dict[str, Any] = json.loads(BRIDGE.answer(json.dumps(chat).encode(), TERMS))
    return found


def test_a_plain_answer_is_a_message() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 30,
        "total_tokens": 130,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    message = {"role": "assistant", "content": "Hi!", "refusal": None}

    assert answered(message, id="chatcmpl-A.b/1", model="deepseek-v4", usage=usage) == {
        "id": "msg_chatcmpl-Ab1",
        "type": "message",
        "role": "assistant",
        "model": "deepseek-v4",
        "content": [{"type": "text", "text": "Hi!"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 30,
            "cache_creation_input_tokens": 10,
            "cache_read_input_tokens": 60,
            "output_tokens": 30,
            "output_tokens_details": {"thinking_tokens": 20},
        },
    }


def test_an_answer_without_id_model_and_usage_has_ours_and_noughts() -> None:
    message = answered({"content": "Hi!"})

    assert (message["id"], message["model"]) == ("msg_01J9ZK4Q", "deepseek-reasoner")
    assert message["usage"] == {
        "input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 0,
    }


@pytest.mark.parametrize(
    ("usage", "figures"),
    [
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4, "completion_tokens": 1}, (5, 0, 4, 1)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 30}, (9, 0, 0, 21)),  # thoughts in the total only
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 10}}, (9, 0, 0, 0)),
        ({"prompt_tokens": -1, "completion_tokens": 2.5, "prompt_tokens_details": 7}, (0, 0, 0, 0)),
        ("none", (0, 0, 0, 0)),
    ],
)
def test_usage_is_disjoint(usage: Any, figures: tuple[int, int, int, int]) -> None:
    told = answered({"content": "Hi!"}, usage=usage)["usage"]

    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    assert tuple(told[name] for name in names) == figures


CALLED = {"content": None, "tool_calls": [CHAT_CALL]}


@pytest.mark.parametrize(
    ("message", "finish", "reason"),
    [
        ({"content": "a"}, "stop", "end_turn"),
        ({"content": "a"}, "length", "max_tokens"),
        ({"content": "a"}, "content_filter", "refusal"),
        ({"content": "a"}, "eos", "end_turn"),
        ({"content": "a"}, None, "end_turn"),
        ({"content": "a"}, ["stop"], "end_turn"),
        ({"content": None, "refusal": "I cannot."}, "stop", "refusal"),
        (CALLED, "tool_calls", "tool_use"),
        (CALLED, "stop", "tool_use"),
        (CALLED, "length", "max_tokens"),
        ({"content": "a"}, "tool_calls", "end_turn"),
    ],
)
def test_why_it_stopped(message: dict[str, Any], finish: Any, reason: str) -> None:
    assert answered(message, finish)["stop_reason"] == reason


def test_thoughts_text_a_refusal_and_calls_are_blocks_in_this_order() -> None:
    message = {
        "reasoning_content": "Hm.",
        "reasoning": "Hm.",
        "content": [{"type": "text", "text": "So"}, {"type": "text", "text": ":"}],
        "refusal": " no.",
        "tool_calls": [CHAT_CALL, "what?"],
    }

    assert answered(message)["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "farebox:reasoning_content:deepseek-reasoner:"},
        {"type": "text", "text": "So: no."},
        CALL,
    ]


@pytest.mark.parametrize(
    ("arguments", "parsed"),
    [
        ('{"a": [1, 2.5]}', {"a": [1, 2.5]}),
        ({"a": 1}, {"a": 1}),
        ("", {}),
        ("null", {}),
        (None, {}),
        ('{"a": ', {"raw_arguments": '{"a": '}),
        ("[1]", {"raw_arguments": "[1]"}),
    ],
)
def test_arguments_are_an_object_or_stand_as_they_came(arguments: Any, parsed: dict[str, Any]) -> None:
    call = {"id": "call_1", "function": {"name": "a", "arguments": arguments}}

    assert answered({"tool_calls": [call]})["content"][0]["input"] == parsed


def test_ids_of_calls_are_unique_and_of_the_allowed_letters() -> None:
    calls = [{"id": name, "function": {"name": "a"}} for name in ("a_1", "a_1", "", None, "b:2")]

    ids = [block["id"] for block in answered({"tool_calls": calls})["content"]]

    assert ids == ["a_1", "toolu_01J9ZK4Q_1", "toolu_01J9ZK4Q_2", "toolu_01J9ZK4Q_3", "toolu_01J9ZK4Q_4"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"null",
        b"{}",
        b'{"error":{}}',
        b'{"choices":[]}',
        b'{"choices":[{"message":"hi"}]}',
        b"[" * 9999,
    ],
)
def test_what_is_no_answer_raises_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"no chat\.completion"):
        BRIDGE.answer(data, TERMS)


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def delta(finish: str | None = None, **members: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": members, "finish_reason": finish}]}


def call(index: int | None = 0, arguments: Any = None, **members: Any) -> dict[str, Any]:
    """A piece of a tool call."""
    name = {"name": members.pop("name")} if "name" in members else {}
    function = {**name, "arguments": arguments} if arguments is not None else name
    return {**({} if index is None else {"index": index}), **members, "function": function}


def frames_of(*chunks: Any) -> list[bytes]:
    stream = BRIDGE.stream(TERMS)
    frames = [frame for chunk in chunks for frame in stream.feed(json.dumps(chunk).encode())]
    return frames + stream.feed(b"[DONE]") + stream.end()


def events_of(frames: list[bytes]) -> list[dict[str, Any]]:
    """The events, each checked to be one that Anthropic's SDKs do not skip."""
    events = []
    for frame in frames:
        event = json.loads(sse.data_of(frame) or b"")
        assert frame.startswith(f"event: {event['type']}\ndata: ".encode())
        assert frame.endswith(b"\n\n")
        events.append(event)
    return events


def message_of(frames: list[bytes]) -> dict[str, Any]:
    """The message as a client builds it, with all that is certain of every stream asserted on the way."""
    first, *middle, last_delta, stop = events_of(frames)
    assert (first["type"], last_delta["type"], stop) == ("message_start", "message_delta", {"type": "message_stop"})
    message: dict[str, Any] = first["message"]
    texts: dict[str, str] = {}
    is_open = False
    for event in middle:
        blocks = message["content"]
        if event["type"] == "content_block_start":
            assert not is_open
            assert event["index"] == len(blocks)
            blocks.append(event["content_block"])
            is_open, texts = True, {"partial_json": ""}
            continue
        assert is_open
        assert event["index"] == len(blocks) - 1
        if event["type"] == "content_block_delta":
            ((_, kind), (name, piece)) = event["delta"].items()
            assert kind.removesuffix("_delta") == {"partial_json": "input_json"}.get(name, name)
            if name == "partial_json":
                texts[name] += piece
            else:
                blocks[-1][name] += piece
        else:
            assert event["type"] == "content_block_stop"
            if texts["partial_json"]:
                blocks[-1]["input"] = json.loads(texts["partial_json"])
            is_open = False
    assert not is_open
    return message | last_delta["delta"] | {"usage": last_delta["usage"]}


def test_a_stream_of_text_in_full() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    chunks = [
        {"id": "chatcmpl-1", "model": "m", **delta(role="assistant", content="")},
        delta(content="Hel"),
        delta(content="lo"),
        delta("stop"),
        {"choices": [], "usage": usage},
    ]
    nothing = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}

    assert events_of(frames_of(*chunks)) == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_chatcmpl-1",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 0, "output_tokens": 0, **nothing},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"input_tokens": 5, "output_tokens": 2, **nothing},
        },
        {"type": "message_stop"},
    ]


def test_text_goes_on_at_once() -> None:
    stream = BRIDGE.stream(TERMS)

    for piece in ("a", "b"):
        assert piece in b"".join(stream.feed(json.dumps(delta(content=piece)).encode())).decode()


def test_thoughts_are_signed_before_their_block_ends() -> None:
    events = events_of(frames_of(delta(reasoning_content="Hm."), delta(content="Yes."), delta("stop")))

    assert [event.get("delta") for event in events[2:4]] == [
        {"type": "thinking_delta", "thinking": "Hm."},
        {"type": "signature_delta", "signature": "farebox:reasoning_content:deepseek-reasoner:"},
    ]
    assert [event["type"] for event in events[4:6]] == ["content_block_stop", "content_block_start"]


@pytest.mark.parametrize(
    "place",
    [
        lambda usage: [delta("stop"), {"choices": [], "usage": usage}],
        lambda usage: [{**delta("stop"), "usage": usage}],
        lambda usage: [{"choices": [{"delta": {}, "finish_reason": "stop", "usage": usage}]}],
        lambda usage: [{"choices": [], "usage": {"prompt_tokens": 1}}, delta("stop"), {"choices": [], "usage": usage}],
    ],
)
def test_the_last_usage_counts_wherever_it_stands(place: Callable[[Any], list[Any]]) -> None:
    message = message_of(frames_of(delta(content="Hi"), *place({"prompt_tokens": 7, "completion_tokens": 3})))

    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (7, 3)


def test_without_usage_the_figures_are_nought() -> None:
    assert message_of(frames_of(delta(content="Hi"), delta("length")))["usage"]["output_tokens"] == 0


def test_calls_one_after_the_other_go_on_as_they_come() -> None:
    stream = BRIDGE.stream(TERMS)
    pieces = [
        call(id="a", name="weather", arguments=""),
        call(arguments='{"city":'),
        call(arguments='"Rome"}'),
        call(1, id="b", name="time", arguments=""),
        call(1, arguments="{}"),
    ]

    types = [
        [event["type"].removeprefix("content_block_") for event in events_of(stream.feed(json.dumps(chunk).encode()))]
        for chunk in (delta(tool_calls=[piece]) for piece in pieces)
    ]

    assert types == [["message_start", "start"], ["delta"], ["delta"], ["stop", "start"], ["delta"]]


def test_calls_that_are_mixed_come_out_one_after_the_other() -> None:
    chunks = [
        delta(content="Both:"),
        delta(tool_calls=[call(0, "", id="a", name="weather"), call(1, "", id="b", name="time")]),
        delta(tool_calls=[call(0, '{"city":')]),
        delta(tool_calls=[call(1, '{"zone":'), call(0, '"Rome"}')]),
        delta(content="late"),
        delta(tool_calls=[call(1, "1}")]),
        delta("tool_calls"),
    ]

    assert message_of(frames_of(*chunks))["content"] == [
        {"type": "text", "text": "Both:"},
        {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Rome"}},
        {"type": "tool_use", "id": "b", "name": "time", "input": {"zone": 1}},
        {"type": "text", "text": "late"},
    ]


def test_another_id_is_another_call_though_google_numbers_all_of_them_nought() -> None:
    sealed = {"extra_content": {"google": {"thought_signature": "Ci=="}}}
    chunks = [
        delta(tool_calls=[call(id="a", name="weather", arguments="{}", **sealed)]),
        delta(tool_calls=[call(id="b", name="time", arguments="{}")]),
        delta("stop"),
    ]

    message = message_of(frames_of(*chunks))

    assert message["content"] == [
        {"type": "thinking", "thinking": "", "signature": "farebox:thought_signature:deepseek-reasoner:Ci=="},
        {"type": "tool_use", "id": "a", "name": "weather", "input": {}},
        {"type": "tool_use", "id": "b", "name": "time", "input": {}},
    ]
    assert message["stop_reason"] == "tool_use"


def test_a_call_waits_for_its_name() -> None:
    chunks = [delta(tool_calls=[call(0, '{"a"', id="a")]), delta(tool_calls=[call(0, ":1}", name="late")])]

    assert message_of(frames_of(*chunks))["content"] == [
        {"type": "tool_use", "id": "a", "name": "late", "input": {"a": 1}}
    ]


def test_a_stream_that_said_nothing_is_still_a_message() -> None:
    message = message_of(frames_of())

    assert (message["content"], message["id"], message["stop_reason"]) == ([], "msg_01J9ZK4Q", "end_turn")


def test_the_end_comes_once() -> None:
    stream = BRIDGE.stream(TERMS)

    assert stream.end()
    assert stream.end() == []


def test_half_a_character_waits_for_no_one() -> None:
    stream = BRIDGE.stream(TERMS)
    frames = stream.feed(b'{"choices":[{"delta":{"content":"\\ud83d"}}]}')
    frames += stream.feed(b'{"choices":[{"delta":{"content":"\\ude00"}}]}')

    halves = [event["delta"]["text"] for event in events_of(frames) if event["type"] == "content_block_delta"]

    assert "".join(halves).encode("utf-16", "surrogatepass").decode("utf-16") == "😀"


CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(["a", "b", "c", "", "x y"]),
            "name": st.sampled_from(["weather", "time"]),
            "arguments": st.dictionaries(
                st.text(max_size=3), st.integers(-(2**63), 2**63) | st.text(max_size=9), max_size=3
            ),
        }
    ),
    max_size=3,
)


@given(st.text(max_size=9), st.text(max_size=9), CALLS, st.integers(1, 5), st.booleans())
def test_a_streams_pieces_joined_are_the_plain_answer(
    thought: str, said: str, calls: list[dict[str, Any]], size: int, mixed: bool
) -> None:
    whole = [
        {"id": each["id"], "function": {"name": each["name"], "arguments": json.dumps(each["arguments"])}}
        for each in calls
    ]
    message = {"reasoning_content": thought, "content": said, "tool_calls": whole}
    chunks = [delta(reasoning_content=thought[at : at + size]) for at in range(0, len(thought), size)]
    chunks += [delta(content=said[at : at + size]) for at in range(0, len(said), size)]
    heads = [
        (0 if mixed else index, 0, call(index, "", id=each["id"], name=each["function"]["name"]))
        for index, each in enumerate(whole)
    ]
    tails = [
        (at + 1 if mixed else index, at + 1, call(index, each["function"]["arguments"][at : at + size]))
        for index, each in enumerate(whole)
        for at in range(0, len(each["function"]["arguments"]), size)
    ]
    pieces = sorted(heads + tails, key=lambda piece: piece[:2])
    chunks += [delta(tool_calls=[piece]) for _, _, piece in pieces]

    assert message_of(frames_of(*chunks, delta("stop"))) == answered(message)


CHUNKS = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "model": JSON,
        "usage": JSON | st.dictionaries(st.sampled_from(["prompt_tokens", "total_tokens"]), JSON),
        "choices": JSON
        | st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "finish_reason": JSON,
                    **dict.fromkeys(
                        ("delta", "message"),
                        JSON
                        | st.fixed_dictionaries(
                            {},
                            optional={
                                **dict.fromkeys(("content", "refusal", "reasoning_content", "reasoning"), JSON),
                                "tool_calls": JSON
                                | st.lists(
                                    st.fixed_dictionaries(
                                        {},
                                        optional={
                                            "index": st.integers(0, 2) | JSON,
                                            "id": JSON,
                                            "function": st.fixed_dictionaries(
                                                {}, optional={"name": JSON, "arguments": JSON | st.just("{}")}
                                            )
                                            | JSON,
                                            "extra_content": JSON,
                                        },
                                    ),
                                    max_size=3,
                                ),
                            },
                        ),
                    ),
                },
            ),
            max_size=2,
        ),
    },
)


@given(st.lists(st.binary(max_size=20) | (JSON | CHUNKS).map(lambda value: json.dumps(value).encode()), max_size=6))
def test_whatever_a_vendor_sends_the_caller_gets_a_well_formed_stream(chunks: list[bytes]) -> None:
    stream = BRIDGE.stream(TERMS)
    frames = [frame for chunk in chunks for frame in stream.feed(chunk)] + stream.end()
    events = events_of(frames)

    places = [(event["type"], event["index"]) for event in events if "index" in event]
    starts = [index for kind, index in places if kind == "content_block_start"]
    stops = [index for kind, index in places if kind == "content_block_stop"]
    assert starts == stops == list(range(len(starts)))
    assert [index for _, index in places] == sorted(index for _, index in places)
    assert [event["type"] for event in events if "index" not in event] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]


@given(st.binary(max_size=40) | (JSON | CHUNKS).map(lambda value: json.dumps(value).encode()))
def test_an_answer_is_a_message_or_a_value_error(data: bytes) -> None:
    try:
        message = BRIDGE.answer(data, TERMS)
    except ValueError:
        return
    assert json.loads(message)["type"] == "message"
