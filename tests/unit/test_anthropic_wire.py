"""Anthropic's messages: what is refused for want of a price, what is metered of an answer, what a prompt counts."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects import json_splice
from farebox.dialects.anthropic.counting import TOOLS_TOKENS, count_messages
from farebox.dialects.anthropic.messages import FREE_OF_CHARGE, MESSAGES, OPERATORS_OWN
from farebox.dialects.anthropic.tap import AnthropicTap
from farebox.dialects.ask import Ask, SentImage
from farebox.dialects.openai.waiting_text import TEXT_CHARS_MAX
from farebox.dialects.sse import Framer, data_of
from farebox.dialects.wire import Incoming, Tap
from farebox.errors import InvalidRequest

HI = {"role": "user", "content": "hi"}
GOOD: dict[str, Any] = {"model": "claude-sonnet-4-5", "max_tokens": 100, "messages": [HI]}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 640, 480) + b"\x08\x02\0\0\0" * 9).decode()
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
LINK = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)


def ask(**more: Any) -> Ask:
    return MESSAGES.read(Incoming({**GOOD, **more}))


def said(*blocks: Any) -> dict[str, Any]:
    """A body whose second message has these blocks."""
    return {"messages": [HI, {"role": "user", "content": list(blocks)}]}


def refused(**more: Any) -> str:
    """The parameter that the refusal names; its sentence stands in both languages."""
    with pytest.raises(InvalidRequest) as caught:
        ask(**more)
    error = caught.value
    assert error.param is not None
    assert error.param in error.zh
    assert error.param in error.en
    assert any("\u4e00" <= letter <= "\u9fff" for letter in error.zh)
    assert error.en.isascii()
    return error.param


# ── what is read ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_plain_request_is_read() -> None:
    found = ask(stream=True, system="Be brief.", temperature=0.5, thinking={"type": "adaptive"}, unknown_field=[1])

    assert (found.model, found.stream, found.choices) == ("claude-sonnet-4-5", True, 1)
    assert found.output_limits == {"max_tokens": 100}
    assert (found.needs, found.bounds, found.changes, found.images) == ({}, {}, {}, ())
    assert found.count_input(len) > len("Be brief.hi")


@pytest.mark.parametrize("value", [None, -1, 0, 1.0, 1.5, "5", True, [], {}, 10**18])
def test_an_output_limit_is_required_and_a_whole_number(value: Any) -> None:
    assert refused(max_tokens=value) == "max_tokens"


@pytest.mark.parametrize("model", [None, "", 1, ["claude"], "x" * 201])
def test_a_model_that_is_no_name_is_refused(model: Any) -> None:
    assert refused(model=model) == "model"


@pytest.mark.parametrize("stream", [0, 1, "true", [], 1.0])
def test_a_stream_flag_that_is_no_boolean_is_refused(stream: Any) -> None:
    assert refused(stream=stream) == "stream"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ("hi", "messages"),
        ([], "messages"),
        (["hi"], "messages[0]"),
        ([{"role": "tool", "content": "x"}], "messages[0]"),
        ([{"role": ["user"], "content": "x"}], "messages[0]"),
        ([HI, {"role": "assistant"}], "messages[1].content"),
        ([{"role": "user", "content": {"text": "x"}}], "messages[0].content"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": 5}]}], "messages[0].content[0]"),
        (said({"type": "image"})["messages"], "messages[1].content[0].source"),
        (said({"type": "document", "source": "x"})["messages"], "messages[1].content[0].source"),
    ],
)
def test_messages_that_are_none_are_refused(messages: Any, param: str) -> None:
    assert refused(messages=messages) == param


def test_instructions_may_stand_between_messages() -> None:
    assert ask(messages=[HI, {"role": "system", "content": [{"type": "text", "text": "x"}]}, HI]).model


@pytest.mark.parametrize(
    "kind",
    [
        "container_upload",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "mcp_tool_use",
        "tool_addition",
        "video",
        "",
    ],
)
def test_a_block_without_a_price_is_refused_by_its_place(kind: str) -> None:
    assert refused(**said({"type": "text", "text": "x"}, {"type": kind})) == "messages[1].content[1].type"
    assert refused(system=[{"type": kind}]) == "system[0].type"


def test_what_models_and_tools_said_may_be_sent_back() -> None:
    history = said(
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "c2ln"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result"}]},
        {"type": "tool_result", "tool_use_id": "t", "content": "done"},
        {"type": "search_result", "source": "a", "title": "b", "content": [{"type": "text", "text": "c"}]},
    )

    assert ask(**history).needs == {}


# ── images and documents ────────────────────────────────────────────────────────────────────────────────────────────


def test_images_are_found_with_their_sizes_wherever_they_stand() -> None:
    document = {"type": "document", "source": {"type": "content", "content": [IMAGE]}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "x"}, IMAGE, document]}

    found = ask(**said(IMAGE, LINK, result))

    assert found.images == (SentImage(640, 480), SentImage(), SentImage(640, 480), SentImage(640, 480))


@pytest.mark.parametrize("data", [None, 5, "", "no base64 at all!", "é", "QUJD", "A"])
def test_an_image_that_cannot_be_read_has_no_size(data: Any) -> None:
    assert ask(**said({"type": "image", "source": {"type": "base64", "data": data}})).images == (SentImage(),)


@pytest.mark.parametrize("kind", ["image", "document"])
def test_a_file_of_the_operators_is_refused(kind: str) -> None:
    block = {"type": kind, "source": {"type": "file", "file_id": "file_1"}}

    assert refused(**said(block)) == "messages[1].content[0].source.file_id"


def test_an_image_of_unknown_origin_is_refused() -> None:
    assert refused(**said({"type": "image", "source": {"type": "news"}})) == "messages[1].content[0].source.type"


@pytest.mark.parametrize("source", ["base64", "url", "other"])
def test_a_pdf_has_no_bound_and_so_no_price(source: str) -> None:
    block = {"type": "document", "source": {"type": source, "media_type": "application/pdf", "data": "JVBE"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [block]}

    assert refused(**said(block)) == "messages[1].content[0].source.type"
    assert refused(**said(result)) == "messages[1].content[0].content[0].source.type"


def test_a_document_of_text_is_sent_and_counted() -> None:
    block = {
        "type": "document",
        "title": "T",
        "source": {"type": "text", "media_type": "text/plain", "data": "x" * 500},
    }

    assert ask(**said(block)).count_input(len) > 500


# ── what has a price of its own ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("speed", "fast"),
        ("inference_geo", "us"),
        ("mcp_servers", [{"type": "url", "url": "https://example.com"}]),
        ("container", "container_1"),
        ("container", {"skills": []}),
        ("compaction", {}),
        ("fallbacks", [{"model": "claude-opus-4-5"}]),
        ("billing_policy", {}),
        *((name, "x") for name in OPERATORS_OWN),
    ],
)
def test_what_costs_more_or_belongs_to_the_operator_is_refused_by_name(name: str, value: Any) -> None:
    assert refused(**{name: value}) == name


@pytest.mark.parametrize(("name", "values"), FREE_OF_CHARGE.items())
def test_what_costs_nothing_passes(name: str, values: tuple[Any, ...]) -> None:
    for value in (None, *values):
        assert ask(**{name: value}).needs == {}


def test_a_context_may_be_trimmed_but_not_summed_up() -> None:
    trimmed = {"edits": [{"type": "clear_tool_uses_20250919"}, {"type": "clear_thinking_20251015"}]}
    summed_up = {"edits": [*trimmed["edits"], {"type": "compact_20260112"}]}

    assert ask(context_management=trimmed).needs == {}
    assert refused(context_management=summed_up) == "context_management.edits[2].type"


@pytest.mark.parametrize(
    ("management", "param"),
    [
        ("x", "context_management"),
        ({"edits": {}}, "context_management.edits"),
        ({"edits": ["x"]}, "context_management.edits[0].type"),
    ],
)
def test_edits_that_are_none_are_refused(management: Any, param: str) -> None:
    assert refused(context_management=management) == param
    assert ask(context_management={"edits": None}).needs == {}


@pytest.mark.parametrize("tier", [None, "auto", "standard_only"])
def test_the_ordinary_tiers_are_no_tier_to_ask_for(tier: Any) -> None:
    assert ask(service_tier=tier).service_tier is None


def test_another_tier_needs_a_price() -> None:
    found = ask(service_tier="priority")

    assert found.service_tier == "priority"
    assert found.needs == {"service_tier": "service_tier/priority"}
    assert refused(service_tier="Drop Table") == "service_tier"
    assert refused(service_tier=["auto"]) == "service_tier"


def test_what_stays_an_hour_in_the_cache_needs_a_price_wherever_it_is_marked() -> None:
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    five = {"cache_control": {"type": "ephemeral", "ttl": "5m"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "x", **hour}]}

    found = ask(
        **said({"type": "text", "text": "x", **five}, result),
        **hour,
        system=[{"type": "text", "text": "x", **hour}],
        tools=[{"name": "f", "input_schema": {}, **hour}, {"name": "g", "input_schema": hour}],
    )

    assert found.needs == dict.fromkeys(
        (
            "cache_control.ttl",
            "system[0].cache_control.ttl",
            "tools[0].cache_control.ttl",
            "messages[1].content[1].content[0].cache_control.ttl",
        ),
        "cache_write_1h_token",
    )


@pytest.mark.parametrize(("control", "param"), [({"ttl": "1d"}, "cache_control.ttl"), ("1h", "cache_control")])
def test_a_cache_of_another_age_is_refused(control: Any, param: str) -> None:
    assert refused(cache_control=control) == param


def test_who_the_callers_users_are_never_leaves_the_house() -> None:
    body = json.dumps({**GOOD, "metadata": {"user_id": "alice@example.com"}}).encode()

    sent = json_splice.splice(body, ask(metadata={"user_id": "alice@example.com"}).changes)

    assert json.loads(sent) == {**GOOD, "metadata": {}}


# ── tools ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "custom",
        "bash_20250124",
        "text_editor_20250728",
        "memory_20250818",
        "computer_20251124",
        "computer_toolset_20260801",
        "tool_search_tool_regex_20251119",
    ],
)
def test_a_tool_that_the_caller_runs_is_free(kind: str | None) -> None:
    assert ask(tools=[{"type": kind, "name": "f"}]).needs == {}


@pytest.mark.parametrize(
    "kind", ["web_fetch_20250910", "code_execution_20250825", "mcp_toolset", "advisor_20260301", "x", 5, [], ""]
)
def test_a_tool_that_nobody_has_priced_is_refused_by_its_place(kind: Any) -> None:
    assert refused(tools=[{"name": "f", "input_schema": {}}, {"type": kind}]) == "tools[1].type"


@pytest.mark.parametrize(("tools", "param"), [({}, "tools"), ("x", "tools"), ([None], "tools[0]")])
def test_tools_that_are_none_are_refused(tools: Any, param: str) -> None:
    assert refused(tools=tools) == param


def test_a_search_needs_a_price_and_a_limit() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}

    found = ask(tools=[{**search, "max_uses": 3}, {**search, "max_uses": 2}])

    assert found.needs == {"tools[0].type": "web_search", "tools[1].type": "web_search"}
    assert found.bounds["web_search"] == 5
    for uses in (None, 0, -1, "3", 1.5, True, 10**9):
        assert refused(tools=[{**search, "max_uses": uses}]) == "tools[0].max_uses"


def test_each_search_reads_the_prompt_and_the_results_once_more() -> None:
    def extra(uses: int, text: str) -> int:
        tool = {"type": "web_search_20250305", "name": "web_search", "max_uses": uses}
        return ask(tools=[tool], messages=[{"role": "user", "content": text}]).bounds["input_token"]

    assert extra(1, "x" * 3000) - extra(1, "") == pytest.approx(1000, abs=2)
    assert extra(4, "x") >= 4 * extra(1, "x")


# ── counting ────────────────────────────────────────────────────────────────────────────────────────────────────────

WORD = "unmistakable"


@pytest.mark.parametrize(
    "body",
    [
        {"system": WORD},
        {"system": [{"type": "text", "text": WORD}]},
        {"messages": [{"role": "user", "content": WORD}]},
        {"messages": [WORD]},
        {"messages": WORD},
        said({"type": "text", "text": WORD}),
        said({"type": "thinking", "thinking": WORD}),
        said({"type": "tool_use", "name": WORD, "input": {}}),
        said({"type": "tool_use", "name": "f", "input": {WORD: 1}}),
        said({"type": "tool_result", "content": WORD}),
        said({"type": "tool_result", "content": [{"type": "text", "text": WORD}]}),
        said({"type": "document", "title": WORD, "source": {"type": "text", "data": ""}}),
        said({"type": "document", "source": {"type": "text", "data": WORD}}),
        said({"type": "document", "source": {"type": "content", "content": WORD}}),
        said({"type": "document", "source": WORD}),
        said({"type": "search_result", "title": WORD, "content": []}),
        said({"type": "search_result", "content": [{"type": "text", "text": WORD}]}),
        said({"type": "web_search_tool_result", "content": [{"title": WORD}]}),
        said({"type": "web_search_tool_result", "content": WORD}),
        said({"type": "no such thing", "what": [{"deep": WORD}]}),
        said(WORD),
        {"tools": [{"name": "f", "description": WORD}]},
        {"tools": [{"name": "f", "input_schema": {"properties": {WORD: {}}}}]},
        {"tools": [WORD]},
        {"tool_choice": {"type": "tool", "name": WORD}},
        {"output_config": {"format": {"schema": {"title": WORD}}}},
        {"output_config": WORD},
    ],
)
def test_no_text_goes_uncounted(body: dict[str, Any]) -> None:
    seen: list[str] = []

    count_messages(body, lambda text: seen.append(text) or len(text))

    assert sum(WORD in text for text in seen) == 1


def test_images_and_marks_for_the_cache_count_nothing() -> None:
    bare = count_messages(said({"type": "text", "text": "x"}), len)

    marked = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}

    assert count_messages(said(marked, IMAGE), len) == bare


def test_sealed_thoughts_count_by_their_length() -> None:
    empty = count_messages(said({"type": "redacted_thinking", "data": ""}), len)

    assert count_messages(said({"type": "redacted_thinking", "data": "x" * 5000}), len) == empty + 1000
    assert count_messages(said({"type": "thinking", "thinking": "", "signature": "x" * 5000}), len) == empty + 1000


def test_a_tool_that_the_vendor_defines_counts_what_is_not_seen() -> None:
    bare = count_messages(GOOD, len)

    assert (
        count_messages({**GOOD, "tools": [{"type": "bash_20250124", "name": "bash"}]}, len) > bare + TOOLS_TOKENS + 1000
    )


# ── the tap ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def tapped(*events: Any) -> AnthropicTap:
    tap = AnthropicTap(len)
    for event in events:
        tap.see(event if isinstance(event, bytes) else json.dumps(event).encode())
    return tap


def started(**usage: Any) -> dict[str, Any]:
    return {"type": "message_start", "message": {"type": "message", "content": [], "usage": usage}}


def delta(**more: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": more}


def ended(reason: str = "end_turn", **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


STOP = {"type": "message_stop"}
STREAM = [
    started(input_tokens=25, cache_creation_input_tokens=0, cache_read_input_tokens=0, output_tokens=1),
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    delta(type="text_delta", text="Hello"),
    delta(type="text_delta", text=", 世界"),
    {"type": "content_block_stop", "index": 0},
    ended(output_tokens=15),
    STOP,
]


def facts(tap: Tap) -> tuple[Any, ...]:
    reported, sent = tap.reported(), tap.sent()
    return (
        tap.finished,
        tap.done,
        tap.content_seen,
        tap.error_seen,
        reported and dict(reported.counts),
        dict(tap.counted().counts),
        sent and dict(sent.counts),
        tap.service_tier,
    )


def test_a_stream_is_metered_to_its_end() -> None:
    tap = tapped(*STREAM)

    assert (tap.finished, tap.done, tap.content_seen, tap.error_seen) == (True, True, True, False)
    usage = tap.reported()
    assert usage is not None
    assert usage.counts == {"input_token": 25, "output_token": 15}
    assert set(usage.sources.values()) == {"upstream"}
    assert tap.counted().counts["output_token"] == len("Hello, 世界")
    assert tap.counted().sources["output_token"] == "counted"


@given(st.data())
def test_however_a_stream_is_cut_the_facts_are_the_same(data: st.DataObject) -> None:
    newline = data.draw(st.sampled_from([b"\n", b"\r\n"]))
    raw = b"".join(
        b"event: " + event["type"].encode() + newline + b"data: " + json.dumps(event).encode() + newline * 2
        for event in STREAM
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    framer, tap = Framer(), AnthropicTap(len)
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        for frame in framer.feed(raw[start:end]):
            if (event := data_of(frame)) is not None:
                tap.see(event)

    assert facts(tap) == facts(tapped(*STREAM))


def test_a_stream_that_dies_has_no_output_figure_but_exact_input() -> None:
    tap = tapped(started(input_tokens=25, cache_read_input_tokens=100, output_tokens=1), delta(text="Hel"))

    assert not tap.finished
    assert tap.reported() is None
    assert tap.counted().of("output_token") == 3
    sent = tap.sent()
    assert sent is not None
    assert sent.counts == {"input_token": 25, "cached_input_token": 100}


def test_later_figures_replace_earlier_ones_unless_they_say_nothing() -> None:
    tap = tapped(
        started(input_tokens=10, cache_read_input_tokens=5, output_tokens=1),
        ended(input_tokens=500, cache_read_input_tokens=None, output_tokens=7),
        ended(input_tokens=0, output_tokens=9),
        STOP,
    )

    usage = tap.reported()
    assert usage is not None
    assert usage.counts == {"input_token": 500, "cached_input_token": 5, "output_token": 9}


def test_every_class_has_a_counter_of_its_own() -> None:
    tap = tapped(
        started(
            input_tokens=1,
            cache_creation_input_tokens=110,
            cache_read_input_tokens=1000,
            cache_creation={"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 100},
            service_tier="priority",
        ),
        ended(
            output_tokens=50, output_tokens_details={"thinking_tokens": 40}, server_tool_use={"web_search_requests": 2}
        ),
        STOP,
    )

    usage = tap.reported()
    assert usage is not None
    assert usage.counts == {
        "input_token": 1,
        "cached_input_token": 1000,
        "cache_write_token": 10,
        "cache_write_1h_token": 100,
        "output_token": 10,
        "reasoning_token": 40,
        "web_search": 2,
    }
    assert tap.service_tier == "priority"


def test_a_cache_write_of_no_known_age_is_the_cheaper_one() -> None:
    usage = tapped(started(input_tokens=1, cache_creation_input_tokens=10), ended(output_tokens=1)).reported()

    assert usage is not None
    assert usage.counts == {"input_token": 1, "cache_write_token": 10, "output_token": 1}


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"input_tokens": 5},
        {"output_tokens": 5},
        {"input_tokens": -1, "output_tokens": 5},
        {"input_tokens": 5, "output_tokens": -1},
        {"input_tokens": 5, "output_tokens": "5"},
        {"input_tokens": True, "output_tokens": 5},
        {"input_tokens": 5, "output_tokens": 10**13},
        {"input_tokens": 5, "output_tokens": 5, "cache_read_input_tokens": 1.5},
        {
            "input_tokens": 5,
            "output_tokens": 5,
            "cache_creation_input_tokens": 1,
            "cache_creation": {"ephemeral_1h_input_tokens": 2},
        },
    ],
)
def test_absurd_or_half_usage_is_none(usage: dict[str, Any]) -> None:
    assert tapped({"type": "message", "content": [], "stop_reason": "end_turn", "usage": usage}).reported() is None


def test_more_thoughts_than_output_spoil_nothing_else() -> None:
    usage = {"input_tokens": 5, "output_tokens": 6, "output_tokens_details": {"thinking_tokens": 7}}

    reported = tapped({"type": "message", "stop_reason": "end_turn", "usage": usage}).reported()

    assert reported is not None
    assert reported.counts == {"input_token": 5, "output_token": 6}


def test_a_plain_answer_is_metered() -> None:
    answer = {
        "type": "message",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "x"},
            {"type": "text", "text": "Hi."},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 4, "service_tier": "standard"},
    }

    tap = tapped(answer)

    assert (tap.finished, tap.done, tap.content_seen, tap.service_tier) == (True, False, True, "standard")
    assert tap.reported() is not None
    assert tap.counted().of("output_token") == len('hmHi.f{"a":1}')
    assert not tapped({**answer, "stop_reason": None}).finished


def test_searches_that_were_begun_are_counted_and_what_they_found_is_no_output() -> None:
    call = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    found = {
        "type": "web_search_tool_result",
        "content": [{"type": "web_search_result", "encrypted_content": "x" * 99}],
    }

    tap = tapped(
        {"type": "content_block_start", "content_block": call},
        delta(type="input_json_delta", partial_json='{"query":'),
        {"type": "content_block_start", "content_block": found},
    )

    assert tap.counted().counts == {"input_token": 0, "output_token": len('web_search{"query":'), "web_search": 1}


@pytest.mark.parametrize(
    "event",
    [
        delta(type="text_delta", text="x"),
        delta(type="thinking_delta", thinking="x"),
        delta(type="input_json_delta", partial_json="{"),
        delta(type="signature_delta", signature="x"),
        {"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f", "input": {}}},
        {"type": "content_block_start", "content_block": {"type": "redacted_thinking", "data": "x"}},
        {"type": "content_block_start", "content_block": {"type": "news", "value": "x"}},
        b'{"type":"content_block_delta","delta":{"text":"\\ud83d"}}',
        b'{"type":"content_block_delta","delta":{"text":{"odd":1}}}',
    ],
)
def test_content_is_seen(event: Any) -> None:
    assert tapped(event).content_seen


@pytest.mark.parametrize(
    "event",
    [
        started(input_tokens=1),
        {"type": "ping"},
        {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_start", "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
        delta(type="text_delta", text=""),
        {"type": "content_block_stop"},
        ended(output_tokens=1),
        {"type": "news", "text": "x"},
        b"[DONE]",
        b"<html>",
        b"",
    ],
)
def test_what_is_no_content_is_not_taken_for_it(event: Any) -> None:
    tap = tapped(event)

    assert not tap.content_seen
    assert not tap.finished
    assert not tap.error_seen


@pytest.mark.parametrize(
    "error", [{"type": "error", "error": {"type": "overloaded_error"}}, {"error": "x"}, {"type": "error"}]
)
def test_an_error_is_seen_in_a_stream_or_in_place_of_an_answer(error: Any) -> None:
    tap = tapped(*STREAM[:4], error, STOP)

    assert tap.error_seen
    assert not tap.finished


def test_much_text_is_counted_piece_by_piece() -> None:
    tap = tapped(delta(text="x" * (TEXT_CHARS_MAX + 1)))

    assert tap.heavy
    tap.count_waiting()
    assert not tap.heavy
    assert tap.counted().of("output_token") == TEXT_CHARS_MAX + 1


def test_two_halves_of_an_emoji_are_one_character() -> None:
    tap = tapped(
        b'{"type":"content_block_delta","delta":{"text":"\\ud83d"}}',
        b'{"type":"content_block_delta","delta":{"text":"\\ude00"}}',
    )

    assert tap.counted().of("output_token") == 1


def test_a_plain_answer_in_the_first_event_is_metered_too() -> None:
    """Some gateways put what there is into message_start."""
    message = {"type": "message", "content": [{"type": "text", "text": "Hi."}, "there"], "usage": None}

    tap = MESSAGES.tap(len, ask())
    tap.see(json.dumps({"type": "message_start", "message": message}).encode())

    assert tap.content_seen
    assert tap.counted().of("output_token") == len("Hi.there")


def test_errors_and_pings_are_as_the_sdk_reads_them() -> None:
    assert MESSAGES.error_event(b'{"type":"error"}') == b'event: error\ndata: {"type":"error"}\n\n'
    assert MESSAGES.ping == b'event: ping\ndata: {"type": "ping"}\n\n'
    assert not tapped(data_of(MESSAGES.ping)).content_seen


# ── whatever comes ──────────────────────────────────────────────────────────────────────────────────────────────────

TYPES = st.sampled_from(
    [*AnthropicTap._SEE, "error", "ping", "text", "tool_use", "server_tool_use", "image", "document"]
)
FIGURES = ["input_tokens", "output_tokens", "cache_creation", "server_tool_use", "stop_reason"]
MEMBERS = ["text", "thinking", "input", "name", "source", "data", "signature", "content", "content_block"]
NAMES = st.sampled_from(["type", "delta", "message", "usage", "error", *MEMBERS, *FIGURES])
LEAVES = st.one_of(TYPES, st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4))
ODD = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=12,
)


@given(st.lists(st.one_of(st.binary(max_size=40), ODD.map(lambda value: json.dumps(value).encode())), max_size=5))
def test_nothing_that_comes_back_makes_the_tap_raise(events: list[bytes]) -> None:
    tap = AnthropicTap(len)
    for event in events:
        assert tap.see(event) is False

    assert facts(tap)
    assert tap.counted().output_tokens >= 0


@pytest.mark.parametrize("depth", [100, 5_000, 200_000])
def test_nor_does_what_is_nested_deeply(depth: int) -> None:
    assert facts(tapped(b'{"type":"message","content":' + b"[" * depth + b"]" * depth + b"}"))
    assert facts(tapped(b'{"type":"content_block_delta","delta":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"))


OTHERS = "system tools tool_choice stream metadata service_tier cache_control context_management output_config thinking"
PARAMETERS = st.sampled_from([*GOOD, *FREE_OF_CHARGE, *OPERATORS_OWN, *OTHERS.split()])
BLOCK = st.dictionaries(
    st.sampled_from(
        ["type", "text", "source", "content", "cache_control", "input", "name", "thinking", "signature", "data"]
    ),
    st.one_of(TYPES, ODD, JSON),
    max_size=5,
)


@given(
    body=st.dictionaries(st.one_of(PARAMETERS, st.text(max_size=8)), st.one_of(ODD, JSON, st.lists(BLOCK)), max_size=4)
)
def test_no_json_makes_the_reader_raise_anything_but_a_refusal(body: dict[str, Any]) -> None:
    assert count_messages(body, len) >= 0
    for whole in (body, {**GOOD, **body}):
        try:
            found = MESSAGES.read(Incoming(whole))
        except InvalidRequest:
            continue
        assert found.count_input(len) >= 0


@given(blocks=st.lists(st.one_of(BLOCK, JSON), max_size=4))
def test_nor_does_any_content(blocks: list[Any]) -> None:
    test_no_json_makes_the_reader_raise_anything_but_a_refusal.hypothesis.inner_test(said(*blocks))


def test_blocks_nested_without_end_are_refused_and_counted() -> None:
    block: dict[str, Any] = {"type": "text", "text": WORD}
    for _ in range(500):
        block = {"type": "tool_result", "content": [block]}

    assert refused(**said(block)).endswith(".type")
    assert count_messages(said(block), len) > len(WORD)
