"""OpenAI's Responses: what is read of a request, what is kept out of the vendor's store, what is metered."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.ask import Ask, SentImage
from farebox.dialects.openai.counting import count_chat
from farebox.dialects.openai.responses import ITEM_TYPES, RESPONSES, error_event
from farebox.dialects.openai.responses_counting import count_response
from farebox.dialects.openai.responses_tap import ResponsesTap
from farebox.dialects.openai.waiting_text import TEXT_CHARS_MAX
from farebox.dialects.wire import Incoming
from farebox.errors import InvalidRequest

BODY: dict[str, Any] = {"model": "gpt-4o-mini", "input": "hi"}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5"
    "ErkJggg=="
)


def read(**more: Any) -> Ask:
    return RESPONSES.read(Incoming({**BODY, **more}))


def refused(**more: Any) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        read(**more)
    assert caught.value.param is not None
    assert caught.value.param in caught.value.en
    assert caught.value.en.isascii()
    return caught.value.param


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_money_needs_is_read() -> None:
    image = {"type": "input_image", "image_url": PIXEL, "detail": "low"}
    ask = read(input=[user(image, {"type": "input_text", "text": "x"})], stream=True, max_output_tokens=50)

    assert (ask.model, ask.stream, ask.choices, ask.strip_usage) == ("gpt-4o-mini", True, 1, False)
    assert ask.output_limits == {"max_output_tokens": 50}
    assert ask.images == (SentImage(1, 1, "low"),)
    assert (ask.needs, ask.bounds, ask.service_tier) == ({}, {}, None)


def test_images_that_a_tool_gave_back_are_sent_too() -> None:
    output = [{"type": "input_image", "image_url": "https://x/y.png"}]
    ask = read(input=[{"type": "function_call_output", "call_id": "c", "output": output}])

    assert ask.images == (SentImage(),)


@pytest.mark.parametrize(("store", "changes"), [(None, {"store": b"false"}), (False, {})])
def test_nothing_is_stored_at_the_vendor(store: Any, changes: dict[str, bytes]) -> None:
    assert read(store=store).changes == changes
    assert read().changes == {"store": b"false"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("store", True),
        ("background", True),
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("conversation", {"id": "conv_1"}),
        ("prompt", {"id": "pmpt_1"}),
        ("context_management", [{"type": "compaction"}]),
        ("service_tier", 5),
        ("input", None),
        ("input", ""),
        ("input", []),
        ("input", {"role": "user"}),
        ("input", 5),
        ("stream", "true"),
        ("max_output_tokens", 0),
        ("max_output_tokens", 1.5),
        ("tools", {}),
        ("model", None),
    ],
)
def test_what_is_stored_unpriced_or_no_such_value_is_refused_by_name(name: str, value: Any) -> None:
    assert refused(**{name: value}) == name


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ("hi", "input[0]"),
        ({"type": "item_reference", "id": "msg_1"}, "input[0]"),
        ({"id": "msg_1"}, "input[0]"),
        ({"type": "file_search_call"}, "input[0].type"),
        ({"type": "mcp_call"}, "input[0].type"),
        ({"type": "computer_call_output", "output": {}}, "input[0].type"),
        ({"type": "image_generation_call", "result": "x"}, "input[0].type"),
        ({"type": "additional_tools", "role": "developer", "tools": []}, "input[0].type"),
        ({"type": ["message"], "role": "user", "content": "x"}, "input[0].type"),
        ({"role": "user", "content": None}, "input[0].content"),
        ({"role": "user", "content": {"type": "input_text"}}, "input[0].content"),
        (user("x"), "input[0].content[0]"),
        (user({"type": "input_file", "file_data": "x"}), "input[0].content[0].type"),
        (user({"type": "input_image", "file_id": "file_1"}), "input[0].content[0].file_id"),
        (
            user({"type": "input_text", "text": "x", "prompt_cache_breakpoint": {"ttl": "12h"}}),
            "input[0].content[0].prompt_cache_breakpoint.ttl",
        ),
        (
            {"type": "function_call_output", "output": [{"type": "input_file", "file_id": "f"}]},
            "input[0].output[0].type",
        ),
        (
            {"type": "shell_call", "environment": {"type": "container_reference", "container_id": "c"}},
            "input[0].environment",
        ),
    ],
)
def test_an_item_that_cannot_be_sent_is_refused_by_its_place(item: Any, param: str) -> None:
    assert refused(input=[item]) == param


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ("x", "tools[0]"),
        ({}, "tools[0].type"),
        ({"type": "file_search", "vector_store_ids": ["vs_1"]}, "tools[0].type"),
        ({"type": "code_interpreter", "container": {"type": "auto"}}, "tools[0].type"),
        ({"type": "image_generation"}, "tools[0].type"),
        ({"type": "mcp", "server_url": "https://x"}, "tools[0].type"),
        ({"type": "computer_use_preview"}, "tools[0].type"),
        ({"type": "tool_search"}, "tools[0].type"),
        ({"type": "programmatic_tool_calling"}, "tools[0].type"),
        ({"type": "web_search_of_another_kind"}, "tools[0].type"),
        ({"type": "shell"}, "tools[0].environment"),
        ({"type": "shell", "environment": {"type": "container_auto"}}, "tools[0].environment"),
        ({"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]}, "tools[0].tools[0].type"),
        ({"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]}, "tools[0].tools[0].type"),
        ({"type": "namespace", "name": "n", "tools": [{"type": "namespace", "tools": []}]}, "tools[0].tools[0].type"),
        ({"type": "namespace", "name": "n", "tools": 5}, "tools[0].tools"),
    ],
)
def test_a_tool_that_the_vendor_runs_is_refused_by_its_place(tool: Any, param: str) -> None:
    assert refused(tools=[tool]) == param


@pytest.mark.parametrize(
    "kind", ["web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"]
)
def test_a_web_search_needs_its_price_and_a_bound(kind: str) -> None:
    ask = read(tools=[{"type": "function", "name": "f"}, {"type": kind}], max_tool_calls=3)

    assert (ask.needs, ask.bounds) == ({"tools[1].type": "web_search"}, {"web_search": 3})
    assert refused(tools=[{"type": kind}]) == "max_tool_calls"
    assert refused(tools=[{"type": kind}], max_tool_calls=0) == "max_tool_calls"


def test_sound_and_a_tier_need_their_prices() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 4000, "format": "wav"}}
    ask = read(input=[user(sound)], service_tier="priority")

    assert ask.needs == {
        "service_tier": "service_tier/priority",
        "input[0].content[0].type": "audio_input_token",
    }
    assert ask.bounds["audio_input_token"] >= 60
    assert ask.service_tier == "priority"


HISTORY: list[dict[str, Any]] = [
    {"role": "developer", "content": "be brief"},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]},
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "hm"}],
        "encrypted_content": "QUJD",
    },
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "42"},
    {"type": "custom_tool_call", "call_id": "d", "name": "g", "input": "x"},
    {"type": "custom_tool_call_output", "call_id": "d", "output": [{"type": "input_text", "text": "y"}]},
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
    {"type": "local_shell_call", "call_id": "e", "action": {"type": "exec", "command": ["ls"]}},
    {"type": "local_shell_call_output", "id": "e", "output": "z"},
    {"type": "shell_call", "call_id": "g", "action": {"commands": ["ls"]}, "environment": {"type": "local"}},
    {"type": "shell_call_output", "call_id": "g", "output": [{"stdout": "a", "stderr": ""}]},
    {"type": "apply_patch_call", "call_id": "h", "operation": {"type": "delete_file", "path": "p"}},
    {"type": "apply_patch_call_output", "call_id": "h", "status": "completed", "output": "ok"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi", "annotations": []}]},
    {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
]
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}},
    {"type": "custom", "name": "g", "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
    {"type": "local_shell"},
    {"type": "shell", "environment": {"type": "local"}},
    {"type": "apply_patch"},
    {"type": "namespace", "name": "crm", "description": "d", "tools": [{"type": "function", "name": "h"}]},
]


def test_a_callers_own_tools_and_the_whole_history_of_their_use_pass() -> None:
    ask = read(
        input=HISTORY,
        tools=TOOLS,
        instructions="x",
        metadata={"a": "b"},
        include=["reasoning.encrypted_content"],
        reasoning={"effort": "low", "summary": "auto"},
        truncation="auto",
        parallel_tool_calls=False,
        stream_options={"include_obfuscation": False},
        stream=True,
        prompt_cache_options={"mode": "implicit", "ttl": "30m"},
        background=False,
        conversation=None,
        context_management=[],
        service_tier="auto",
    )

    assert {item.get("type", "message") for item in HISTORY} == ITEM_TYPES
    assert (ask.needs, ask.bounds) == ({}, {})
    assert ask.count_input(len) > 0


def test_what_compares_with_another_answer_is_refused() -> None:
    assert refused(prompt_cache_options={"comparison_response_id": "resp_1"}) == (
        "prompt_cache_options.comparison_response_id"
    )
    assert refused(prompt_cache_options={"ttl": "12h"}) == "prompt_cache_options.ttl"


# ── counting ────────────────────────────────────────────────────────────────────────────────────────────────────────


def words(text: str) -> int:
    return len(text.split())


def test_a_text_counts_as_a_users_message_and_instructions_as_the_systems() -> None:
    chat = {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]}

    assert count_response({"input": "hi", "instructions": "be brief"}, words) == count_chat(chat, words)
    items = [
        {"role": "system", "content": "be brief"},
        {"type": "message", **user({"type": "input_text", "text": "hi"})},
    ]
    assert count_response({"input": items}, words) == count_chat(chat, words)


def test_tools_and_schemas_count_as_in_a_chat() -> None:
    function = {"name": "f", "description": "does f", "parameters": TOOLS[0]["parameters"]}
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    chat = {
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}},
    }
    body = {
        "input": "hi",
        "tools": [{"type": "function", **function}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "s", "schema": schema}},
    }

    assert count_response(body, len) == count_chat(chat, len)


def test_a_call_and_its_result_count_as_in_a_chat() -> None:
    items = [
        {"type": "function_call", "name": "f", "arguments": '{"a":1}'},
        {"type": "function_call_output", "output": "42"},
    ]
    chat = {
        "messages": [
            {"tool_calls": [{"function": {"name": "f", "arguments": '{"a":1}'}}]},
            {"role": "tool", "content": "42"},
        ]
    }

    assert count_response({"input": items}, len) == count_chat(chat, len)


def test_images_count_apart_and_sealed_thoughts_by_their_length() -> None:
    bare = count_response({"input": [user()]}, len)
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 10_000}
    assert count_response({"input": [user(image)]}, len) == bare

    thought = {"type": "reasoning", "summary": []}
    sealed = {**thought, "encrypted_content": "A" * 401}
    assert count_response({"input": [sealed]}, len) - count_response({"input": [thought]}, len) == 101


def test_every_item_and_tool_counts_something() -> None:
    for item in HISTORY:
        assert count_response({"input": [item]}, len) > count_response({"input": []}, len) + 3
    for tool in TOOLS:
        assert count_response({"input": "hi", "tools": [tool]}, len) > count_response({"input": "hi", "tools": []}, len)


# ── the tap ─────────────────────────────────────────────────────────────────────────────────────────────────────────

USAGE = {
    "input_tokens": 75,
    "input_tokens_details": {"cached_tokens": 50, "cache_write_tokens": 0},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 7},
    "total_tokens": 87,
}
COUNTS = {"input_token": 25, "cached_input_token": 50, "output_token": 5, "reasoning_token": 7}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [
        {
            "type": "output_text",
            "text": "Hello there",
            "annotations": [{"type": "url_citation", "url": "https://example.org", "title": "Example"}],
            "logprobs": [],
        }
    ],
}
REASONING = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "QUJDRA=="}


def response(status: str = "completed", output: Any = (), usage: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "status": status,
        "error": None,
        "model": "gpt-4o-mini-2024-07-18",
        "output": list(output),
        "service_tier": "default",
        "usage": usage,
        **more,
    }


def ended(status: str = "completed", **more: Any) -> dict[str, Any]:
    return {"type": f"response.{status}", "response": response(status, **more)}


TEXT_STREAM: list[dict[str, Any]] = [
    {"type": "response.created", "response": response("in_progress", service_tier="auto")},
    {"type": "response.in_progress", "response": response("in_progress", service_tier="auto")},
    {"type": "response.output_item.added", "output_index": 0, "item": {**REASONING, "encrypted_content": ""}},
    {"type": "response.output_item.done", "output_index": 0, "item": REASONING},
    {"type": "response.output_item.added", "output_index": 1, "item": {**MESSAGE, "content": []}},
    {"type": "response.content_part.added", "part": {"type": "output_text", "text": "", "annotations": []}},
    {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "Hello", "logprobs": [], "obfuscation": "aS3"},
    {"type": "response.output_text.delta", "item_id": "msg_1", "delta": " there", "logprobs": [], "obfuscation": "k"},
    {"type": "response.output_text.annotation.added", "annotation": {"type": "url_citation", "url": "https://x"}},
    {"type": "response.output_text.done", "item_id": "msg_1", "text": "Hello there"},
    {"type": "response.content_part.done", "part": MESSAGE["content"][0]},
    {"type": "response.output_item.done", "output_index": 1, "item": MESSAGE},
    ended(output=[REASONING, MESSAGE], usage=USAGE),
]
CALL = {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "weather", "arguments": '{"city":"Ulm"}'}
CALL_STREAM: list[dict[str, Any]] = [
    {"type": "response.output_item.added", "item": {**CALL, "arguments": ""}},
    {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": '{"city":'},
    {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": '"Ulm"}'},
    {"type": "response.function_call_arguments.done", "item_id": "fc_1", "arguments": '{"city":"Ulm"}'},
    {"type": "response.output_item.done", "item": CALL},
    ended(output=[CALL]),
]


class Tapped:
    """A tap whose tokens are characters, and the text that it had counted."""

    def __init__(self, *documents: Any, **options: Any) -> None:
        self.counted: list[str] = []
        self.tap = ResponsesTap(self._count, **options)
        for each in documents:
            data = each if isinstance(each, bytes) else json.dumps(each, ensure_ascii=False).encode()
            assert not self.tap.see(data)

    @property
    def text(self) -> str:
        assert self.tap.counted().output_tokens == sum(len(each) for each in self.counted)
        return "".join(self.counted)

    def _count(self, text: str) -> int:
        self.counted.append(text)
        return len(text)


def test_a_stream_of_text_is_metered_once() -> None:
    tapped = Tapped(*TEXT_STREAM)
    tap = tapped.tap

    assert (tap.content_seen, tap.done, tap.finished, tap.error_seen) == (True, True, True, False)
    assert tapped.text == "Hello there"
    assert dict(tap.reported().counts) == COUNTS
    assert tap.service_tier == "default"
    assert tap.sent() is None


def test_a_stream_that_breaks_off_is_not_finished_but_counted() -> None:
    tapped = Tapped(*TEXT_STREAM[:8])

    assert not tapped.tap.finished
    assert not tapped.tap.done
    assert tapped.tap.reported() is None
    assert tapped.tap.service_tier is None
    assert tapped.text == "Hello there"


def test_nothing_before_the_first_delta_is_content() -> None:
    assert not Tapped(*TEXT_STREAM[:6]).tap.content_seen
    assert Tapped(*TEXT_STREAM[:7]).tap.content_seen


def test_a_call_counts_by_its_name_and_arguments_once() -> None:
    assert Tapped(*CALL_STREAM).text == 'weather{"city":"Ulm"}'
    assert Tapped(CALL_STREAM[0]).tap.content_seen


@pytest.mark.parametrize(
    "kind",
    [
        "response.refusal.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
        "response.custom_tool_call_input.delta",
        "response.shell_call_command.delta",
        "response.audio.transcript.delta",
        "response.novelty.delta",
    ],
)
def test_every_delta_of_text_is_content(kind: str) -> None:
    tapped = Tapped({"type": kind, "delta": "abc"})

    assert tapped.tap.content_seen
    assert tapped.text == "abc"


def test_sound_counts_by_its_length() -> None:
    second = "A" * (48_000 * 4 // 3)

    assert dict(Tapped({"type": "response.audio.delta", "delta": second}).tap.counted().counts) == {
        "input_token": 0,
        "output_token": 0,
        "audio_output_token": 20,
    }


def test_an_answer_without_deltas_counts_by_its_items() -> None:
    shell = {"type": "local_shell_call", "id": "l", "status": "completed", "action": {"command": ["ls", "-l"]}}

    assert Tapped({"type": "response.output_item.done", "item": MESSAGE}, ended(output=[MESSAGE])).text == "Hello there"
    assert Tapped(ended(output=[MESSAGE])).text == "Hello there"
    assert Tapped(*TEXT_STREAM[:8], {"type": "response.output_item.done", "item": shell}).text == "Hello therels-l"


def test_an_incomplete_response_is_a_proper_end() -> None:
    tap = Tapped(TEXT_STREAM[6], ended("incomplete", usage=USAGE, incomplete_details={"reason": "x"})).tap

    assert tap.done
    assert tap.finished
    assert dict(tap.reported().counts) == COUNTS


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_failure_is_an_error_wherever_it_comes_for_its_words_are_the_vendors(status: str) -> None:
    failed = ended(status, error={"code": "server_error", "message": "x"}, usage=USAGE)
    before = Tapped(TEXT_STREAM[0], failed).tap
    after = Tapped(*TEXT_STREAM[:7], failed).tap

    assert (before.error_seen, before.finished, before.done) == (True, False, False)
    assert (after.error_seen, after.finished, after.done) == (True, False, False)
    assert dict(after.reported().counts) == COUNTS


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "code": "server_error", "message": "x", "param": None, "sequence_number": 3},
        {"error": {"message": "x"}},
        {"type": "response.output_text.done", "error": "x"},
    ],
)
def test_an_error_event_is_an_error(event: Any) -> None:
    tap = Tapped(*TEXT_STREAM[:7], event, TEXT_STREAM[-1]).tap

    assert tap.error_seen
    assert not tap.finished


def test_done_after_the_end_changes_nothing_and_alone_is_none() -> None:
    assert Tapped(*TEXT_STREAM, b"[DONE]").tap.finished
    assert not Tapped(*TEXT_STREAM[:8], b"[DONE]").tap.finished


def test_half_an_emoji_in_each_of_two_deltas_is_one_character() -> None:
    halves = [b'{"type":"response.output_text.delta","delta":"a\\ud83c"}', b'{"type":"x.delta","delta":"\\udf0d"}']

    assert Tapped(*halves).text == "a🌍"


def test_long_text_is_counted_on_the_way() -> None:
    tapped = Tapped({"type": "response.output_text.delta", "delta": "x" * (TEXT_CHARS_MAX + 1)})
    assert tapped.tap.heavy

    tapped.tap.count_waiting()
    assert not tapped.tap.heavy
    assert tapped.tap.counted().output_tokens == TEXT_CHARS_MAX + 1


@pytest.mark.parametrize("status", ["completed", "incomplete"])
def test_a_plain_answer_is_metered(status: str) -> None:
    tapped = Tapped(response(status, [REASONING, MESSAGE, CALL], USAGE, service_tier="flex"), stream=False)

    assert tapped.tap.finished
    assert tapped.tap.content_seen
    assert dict(tapped.tap.reported().counts) == COUNTS
    assert tapped.tap.service_tier == "flex"
    assert tapped.text == 'Hello thereweather{"city":"Ulm"}'


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (response("failed", error={"code": "x"}), True),
        (response("cancelled"), True),
        ({"error": {"message": "x"}}, True),
        (response("queued"), False),
        (response("in_progress"), False),
        ({}, False),
        ([], False),
        (b"<html>", False),
    ],
)
def test_a_plain_answer_that_is_none_is_not_finished(answer: Any, error: bool) -> None:
    tap = Tapped(answer, stream=False).tap

    assert not tap.finished
    assert tap.error_seen is error


def test_a_plain_answer_without_a_status_is_whole_if_it_has_output() -> None:
    assert Tapped({"output": [MESSAGE]}, stream=False).tap.finished


def search(name: str | None, kind: str | None = "search", status: str = "completed") -> dict[str, Any]:
    named = {} if name is None else {"id": name}
    return {"type": "web_search_call", "status": status, "action": {"type": kind}, **named}


def test_each_search_that_was_made_counts_once() -> None:
    output = [
        search("ws_1"),
        search("ws_2"),
        search("ws_3", "open_page"),
        search("ws_4", "find_in_page"),
        search("ws_5", status="failed"),
        search(None),
        search(None),
        MESSAGE,
    ]
    done = [{"type": "response.output_item.done", "output_index": i, "item": item} for i, item in enumerate(output)]

    for documents, stream in (
        ([*done, ended(output=output, usage=USAGE)], True),
        (done, True),
        ([response("completed", output, USAGE)], False),
    ):
        tap = Tapped(*documents, searches=True, stream=stream).tap
        assert tap.counted().of("web_search") == 4
        assert tap.reported() is None or tap.reported().of("web_search") == 4
    assert Tapped(*done).tap.counted().of("web_search") == 0


def test_the_wire_taps_what_was_asked() -> None:
    ask = read(tools=[{"type": "web_search"}], max_tool_calls=3)
    tap = RESPONSES.tap(len, ask)
    tap.see(orjson.dumps(response("completed", [search("ws_1"), MESSAGE], USAGE)))

    assert tap.finished
    assert tap.reported().of("web_search") == 1


# ── errors in the stream ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_error_in_a_stream_is_flat() -> None:
    envelope = {"error": {"message": "断开", "type": "upstream_error", "param": None, "code": "cut"}}
    name, _, data = error_event(orjson.dumps(envelope)).partition(b"\n")

    assert name == b"event: error"
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    assert orjson.loads(data[6:]) == {
        "type": "error",
        "code": "cut",
        "message": "断开",
        "param": None,
        "sequence_number": 0,
    }


@pytest.mark.parametrize("envelope", [b"", b"{}", b"[]", b'{"error":"x"}', b'{"error":null}'])
def test_an_envelope_that_is_none_is_passed_on(envelope: bytes) -> None:
    assert error_event(envelope) == b"data: " + envelope + b"\n\n"


# ── nothing raises ──────────────────────────────────────────────────────────────────────────────────────────────────

WORDS = st.sampled_from(
    [
        *("type", "role", "content", "output", "input", "tools", "name", "arguments", "summary", "encrypted_content"),
        *("environment", "text", "format", "schema", "input_audio", "data", "image_url", "detail", "ttl", "action"),
        *("message", "reasoning", "function_call", "function_call_output", "shell_call", "web_search_call", "function"),
        *("custom", "namespace", "shell", "web_search", "input_text", "input_image", "local", "user", "json_schema"),
        *("prompt_cache_breakpoint", "item", "delta", "response", "usage", "status", "completed", "error", "id"),
        *("response.completed", "response.failed", "response.output_item.done", "response.output_item.added"),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=5),
    max_leaves=25,
)
PARAMETERS = st.sampled_from(
    [
        *("input", "tools", "instructions", "text", "tool_choice", "store", "stream", "max_output_tokens", "model"),
        *("max_tool_calls", "service_tier", "prompt_cache_options", "background", "context_management"),
    ]
)


@given(st.dictionaries(PARAMETERS | st.text(max_size=5), JSON, max_size=4))
def test_no_json_makes_the_reader_raise_anything_but_a_refusal(more: dict[str, Any]) -> None:
    try:
        ask = read(**more)
    except InvalidRequest:
        return
    assert ask.count_input(len) >= 0


@given(st.lists(JSON, min_size=1, max_size=4), st.lists(JSON, max_size=3))
def test_no_items_or_tools_make_it_either(items: list[Any], tools: list[Any]) -> None:
    test_no_json_makes_the_reader_raise_anything_but_a_refusal.hypothesis.inner_test({"input": items, "tools": tools})
    assert count_response({"input": items, "tools": tools}, len) >= 0


@pytest.mark.parametrize("stream", [True, False])
@given(
    st.lists(st.binary(max_size=30) | JSON | st.dictionaries(WORDS, JSON, max_size=6), max_size=4),
)
def test_no_bytes_make_the_tap_raise(stream: bool, documents: list[Any]) -> None:
    tap = Tapped(*documents, stream=stream, searches=True).tap

    assert tap.counted().output_tokens >= 0
    assert tap.reported() is None or tap.reported().sources


@pytest.mark.parametrize("stream", [True, False])
def test_deep_nesting_is_no_answer(stream: bool) -> None:
    deep = b'{"type":"response.completed","response":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

    assert not Tapped(deep, b"[" * 1_000_000, stream=stream).tap.finished
