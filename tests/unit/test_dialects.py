"""What is read of a request and of an answer: all that money depends on, and nothing that can raise."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.ask import Ask, SentImage
from farebox.dialects.openai import chat as chat_door
from farebox.dialects.openai import completions as completions_door
from farebox.dialects.openai import embeddings as embeddings_door
from farebox.dialects.openai.tap import OpenAITap
from farebox.dialects.openai.usage import read_io_usage, read_usage
from farebox.dialects.openai.waiting_text import TEXT_CHARS_MAX
from farebox.dialects.wire import Incoming
from farebox.errors import InvalidRequest

HI = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": HI}
COMPLETION: dict[str, Any] = {"model": "gpt-3.5-turbo-instruct", "prompt": "hi"}
EMBEDDING: dict[str, Any] = {"model": "text-embedding-3-small", "input": "hi"}
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
NO_WHOLE_NUMBER = [-1, 0, 1.0, 1.5, "5", True, [], {}, 10**18, 1e18, 2**63]
WIRES = {"chat": chat_door.CHAT, "completions": completions_door.COMPLETIONS, "embeddings": embeddings_door.EMBEDDINGS}
READERS = {"chat": chat_door.read, "completions": completions_door.read, "embeddings": embeddings_door.read}
GOOD = {"chat": CHAT, "completions": COMPLETION, "embeddings": EMBEDDING}


def chat(**more: Any) -> Ask:
    return chat_door.read({**CHAT, **more})


def completion(**more: Any) -> Ask:
    return completions_door.read({**COMPLETION, **more})


def embedding(**more: Any) -> Ask:
    return embeddings_door.read({**EMBEDDING, **more})


def refused(kind: str, **more: Any) -> str | None:
    """The parameter that the refusal names; its sentence stands in both languages."""
    with pytest.raises(InvalidRequest) as caught:
        READERS[kind]({**GOOD[kind], **more})
    error = caught.value
    assert error.param is not None
    assert error.param in error.zh
    assert error.param in error.en
    assert any("\u4e00" <= letter <= "\u9fff" for letter in error.zh)
    assert error.en.isascii()
    return error.param


@pytest.mark.parametrize("kind", WIRES)
def test_a_wire_reads_what_came_and_taps_what_comes_back(kind: str) -> None:
    wire = WIRES[kind]
    ask = wire.read(Incoming(GOOD[kind]))

    assert (wire.dialect, wire.form, ask.model) == ("openai", False, GOOD[kind]["model"])
    assert not wire.tap(len, ask).finished


# ── what every request has ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("model", [None, "", 1, True, ["gpt-4o"], {"id": "gpt-4o"}, "x" * 201])
def test_a_model_that_is_no_name_is_refused(kind: str, model: Any) -> None:
    assert refused(kind, model=model) == "model"


@pytest.mark.parametrize("kind", ["chat", "completions"])
@pytest.mark.parametrize("stream", [0, 1, "true", [], {}, 1.0])
def test_a_stream_flag_that_is_no_boolean_is_refused(kind: str, stream: Any) -> None:
    assert refused(kind, stream=stream) == "stream"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("chat", "max_tokens"),
        ("chat", "max_completion_tokens"),
        ("chat", "n"),
        ("completions", "max_tokens"),
        ("completions", "n"),
        ("completions", "best_of"),
        ("embeddings", "dimensions"),
    ],
)
@pytest.mark.parametrize("value", NO_WHOLE_NUMBER)
def test_a_number_that_is_none_or_is_absurd_is_refused_by_name(kind: str, name: str, value: Any) -> None:
    assert refused(kind, **{name: value}) == name


@pytest.mark.parametrize("kind", READERS)
@given(extra=st.dictionaries(st.text(max_size=16), JSON, max_size=4))
def test_no_json_makes_a_reader_raise_anything_but_a_refusal(kind: str, extra: dict[str, Any]) -> None:
    try:
        ask = READERS[kind]({**GOOD[kind], **extra})
    except InvalidRequest:
        return
    assert ask.count_input(len) >= 0


COMMON = [
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "best_of",
    "tools",
    "functions",
]
OTHERS = ["messages", "prompt", "input", "suffix", "tool_choice", "function_call", "response_format", "dimensions"]
KNOWN = st.sampled_from([*COMMON, *OTHERS, *chat_door.FREE_OF_CHARGE, "web_search_options", "encoding_format"])


@pytest.mark.parametrize("kind", READERS)
@given(odd=st.dictionaries(KNOWN, JSON, min_size=1, max_size=3))
def test_no_value_of_a_known_parameter_does_either(kind: str, odd: dict[str, Any]) -> None:
    test_no_json_makes_a_reader_raise_anything_but_a_refusal.hypothesis.inner_test(kind, odd)


# ── chat ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ("hi", "messages"),
        ([], "messages"),
        ({}, "messages"),
        ([{}] * 20_001, "messages"),
        (["hi"], "messages[0]"),
        ([None], "messages[0]"),
        ([{"content": "no role"}], "messages[0]"),
        ([{"role": 1, "content": "x"}], "messages[0]"),
        ([*HI, {"role": "user", "content": 5}], "messages[1].content"),
        ([{"role": "user", "content": {"text": "x"}}], "messages[0].content"),
        ([{"role": "user", "content": True}], "messages[0].content"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": ["text"]}]}], "messages[0].content[0]"),
    ],
)
def test_messages_that_are_none_are_refused(messages: Any, param: str) -> None:
    assert refused("chat", messages=messages) == param


@pytest.mark.parametrize("kind", ["file", "video_url", "document", "thinking", "image", "input_image", ""])
def test_a_content_part_without_a_price_is_refused_by_its_place(kind: str) -> None:
    parts = [{"type": "text", "text": "x"}, {"type": kind, kind: {}}]

    assert refused("chat", messages=[*HI, {"role": "user", "content": parts}]) == "messages[1].content[1].type"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("modalities", ["image"]),
        ("modalities", "text"),
        ("modalities", {}),
        ("service_tier", ["auto"]),
        ("service_tier", "Fast Lane"),
        ("prediction", {"type": "content", "content": "x"}),
        ("search_parameters", {"mode": "on"}),
        ("plugins", [{"id": "web"}]),
        ("enable_search", True),
        ("store", True),
        ("store", "true"),
    ],
)
def test_what_has_a_price_of_its_own_is_refused_by_name(name: str, value: Any) -> None:
    assert refused("chat", **{name: value}) == name


@pytest.mark.parametrize(
    "tool", ["web_search", "web_search_preview", "code_interpreter", "file_search", "mcp", 7, None, []]
)
def test_a_tool_of_an_unknown_kind_is_refused_by_its_place(tool: Any) -> None:
    function = {"type": "function", "function": {"name": "f"}}

    assert refused("chat", tools=[function, {"type": tool}]) == "tools[1].type"


@pytest.mark.parametrize(("tools", "param"), [({}, "tools"), ("x", "tools"), (["x"], "tools[0]"), ([None], "tools[0]")])
def test_tools_that_are_none_are_refused(tools: Any, param: str) -> None:
    assert refused("chat", tools=tools) == param


@pytest.mark.parametrize(
    ("more", "needs"),
    [
        ({"modalities": ["text", "audio"]}, {"modalities": "audio_output_token"}),
        ({"audio": {"voice": "alloy", "format": "wav"}}, {"audio": "audio_output_token"}),
        ({"service_tier": "flex"}, {"service_tier": "service_tier/flex"}),
        ({"service_tier": "priority"}, {"service_tier": "service_tier/priority"}),
        ({"web_search_options": {}}, {"web_search_options": "web_search"}),
        ({}, {}),
    ],
)
def test_what_has_a_price_of_its_own_needs_that_price(more: dict[str, Any], needs: dict[str, str]) -> None:
    assert chat(**more).needs == needs


def test_a_tier_is_read_and_the_ordinary_one_is_none() -> None:
    assert chat(service_tier="flex").service_tier == "flex"
    assert completion(service_tier="priority").needs == {"service_tier": "service_tier/priority"}
    assert [chat(service_tier=tier).service_tier for tier in (None, "auto", "default")] == [None, None, None]


def test_a_search_model_searches_once_whether_asked_to_or_not() -> None:
    for more in ({}, {"web_search_options": {}}):
        ask = chat(model="gpt-4o-search-preview", **more)

        assert (ask.needs, ask.bounds) == ({}, {"web_search": 1})
    assert chat(web_search_options={"search_context_size": "low"}).bounds == {"web_search": 1}


def test_a_search_is_charged_once_there_is_an_answer() -> None:
    tap = chat_door.CHAT.tap(len, chat(model="gpt-4o-search-preview"))
    tap.see(json.dumps({"choices": [], "usage": figures()}).encode())
    assert tap.reported().of("web_search") == 0

    tap.see(json.dumps(delta(content="x")).encode())
    assert tap.reported().of("web_search") == tap.counted().of("web_search") == 1


def test_sound_is_bounded_by_its_bytes_and_is_no_text() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 40_000, "format": "mp3"}}
    ask = chat(messages=[*HI, {"role": "user", "content": [sound, {"type": "text", "text": "x"}]}])

    assert ask.needs == {"messages[1].content[0].type": "audio_input_token"}
    # 30,000 bytes are at most 30 s at 8 kbit/s, 300 tokens, and as many again.
    assert 600 <= ask.bounds["audio_input_token"] <= 602
    assert ask.count_input(len) < 100


@pytest.mark.parametrize("sound", [None, {}, "x", {"data": 7}, {"data": None}])
def test_sound_of_no_shape_is_the_upstreams_to_judge(sound: Any) -> None:
    ask = chat(messages=[{"role": "user", "content": [{"type": "input_audio", "input_audio": sound}]}])

    assert ask.bounds == {"audio_input_token": 0}


def test_an_answer_that_the_upstream_keeps_cannot_be_sent_again() -> None:
    assert refused("chat", messages=[*HI, {"role": "assistant", "audio": {"id": "audio_1"}}]) == "messages[1].audio"


@pytest.mark.parametrize(
    "harmless",
    [
        {"modalities": ["text"], "audio": None, "service_tier": "auto", "prediction": None, "enable_search": False},
        {
            "service_tier": "default",
            "n": None,
            "max_tokens": None,
            "stream": None,
            "stream_options": None,
            "tools": None,
        },
        {"tools": [{"type": "function", "function": {}}, {"type": "custom"}, {"function": {}}], "tool_choice": "auto"},
        {"store": False, "audio": None},
        {"functions": [{"name": "f"}], "temperature": "hot", "logit_bias": 5, "anything": {"else": [1]}},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}, {"role": "tool", "content": ""}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "refusal", "refusal": "y"}]}
            ]
        },
    ],
)
def test_what_costs_nothing_extra_is_the_upstreams_to_judge(harmless: dict[str, Any]) -> None:
    assert chat(**harmless) is not None


def test_what_money_needs_is_read() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    small = {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}
    ask = chat(
        messages=[*HI, {"role": "user", "content": [image, {"type": "text", "text": "x"}, small]}],
        max_tokens=5,
        max_completion_tokens=7,
        n=3,
    )

    assert (ask.model, ask.stream, ask.choices) == ("gpt-4o-mini", False, 3)
    assert ask.images == (SentImage(), SentImage(detail="low"))
    assert ask.output_limits == {"max_tokens": 5, "max_completion_tokens": 7}
    assert (ask.strip_usage, ask.changes) == (False, {})
    assert ask.count_input(len) > 0


# ── completions, embeddings ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "bad", [None, 5, True, {}, [], [1, "x"], [True], [-1], [1.5], [[]], [[1], "x"], [["x"]], [None], ["x"] * 2049]
)
def test_a_prompt_or_an_input_that_is_none_is_refused(bad: Any) -> None:
    assert refused("completions", prompt=bad) == "prompt"
    assert refused("embeddings", input=bad) == "input"


@pytest.mark.parametrize(
    ("prompt", "prompts"), [("x", 1), (["x", "y"], 2), ([1, 2, 3], 1), ([[1], [2, 3]], 2), ("", 1)]
)
def test_every_prompt_is_answered_and_paid(prompt: Any, prompts: int) -> None:
    assert completion(prompt=prompt).choices == prompts
    assert completion(prompt=prompt, n=2, best_of=5).choices == 5 * prompts
    assert completion(prompt=prompt, n=3).choices == 3 * prompts


def test_the_best_of_fewer_than_are_wanted_is_refused() -> None:
    assert refused("completions", n=3, best_of=2) == "best_of"


def test_a_suffix_counts_as_input() -> None:
    assert completion(suffix="abc").count_input(len) == completion().count_input(len) + 3


@pytest.mark.parametrize("name", ["prediction", "plugins"])
def test_completions_refuse_what_has_a_price_of_its_own_too(name: str) -> None:
    assert refused("completions", **{name: "flex"}) == name


def test_an_embedding_has_no_output_and_never_streams() -> None:
    ask = embedding(stream=True, dimensions=256, encoding_format="base64")

    assert (ask.stream, ask.output_limits, ask.changes) == (False, {}, {})


@pytest.mark.parametrize("encoding", ["hex", 1, [], True])
def test_an_unknown_encoding_is_refused(encoding: Any) -> None:
    assert refused("embeddings", encoding_format=encoding) == "encoding_format"


def test_an_empty_input_is_refused() -> None:
    assert refused("embeddings", input="") == "input"


# ── stream_options ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (None, {"include_usage": True}),
        ({}, {"include_usage": True}),
        ({"include_usage": None}, {"include_usage": True}),
        ({"include_usage": False}, {"include_usage": True}),
        ({"include_obfuscation": False}, {"include_obfuscation": False, "include_usage": True}),
        ({"include_usage": False, "x": [1, {"y": "你"}]}, {"include_usage": True, "x": [1, {"y": "你"}]}),
        ({"continuous_usage_stats": True}, {"include_usage": True}),
        (
            {"continuous_usage_stats": True, "include_obfuscation": True},
            {"include_obfuscation": True, "include_usage": True},
        ),
    ],
)
@pytest.mark.parametrize("read", [chat, completion])
def test_usage_is_asked_for_and_the_other_options_stay(read: Any, options: Any, sent: dict[str, Any]) -> None:
    ask = read(stream=True, stream_options=options)

    assert ask.strip_usage
    assert {name: orjson.loads(value) for name, value in ask.changes.items()} == {"stream_options": sent}


def test_who_asks_for_usage_gets_it_and_nothing_is_changed() -> None:
    ask = chat(stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True})

    assert (ask.strip_usage, ask.changes) == (False, {})


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"stream": True, "stream_options": "x"}, "stream_options"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream": True, "stream_options": True}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stream": True, "stream_options": {"include_usage": "true"}}, "stream_options.include_usage"),
        ({"stream": False, "stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream_options": {}}, "stream_options"),
    ],
)
def test_stream_options_that_are_none_are_refused(more: dict[str, Any], param: str) -> None:
    assert refused("chat", **more) == param
    assert refused("completions", **more) == param


# ── usage, read with suspicion ──────────────────────────────────────────────────────────────────────────────────────


def used(raw: Any) -> dict[str, int] | None:
    usage = read_usage(raw)
    return None if usage is None else dict(usage.counts)


def figures(prompt: Any = 10, completion: Any = 5, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


def test_an_honest_usage_is_believed() -> None:
    assert used(figures()) == {"input_token": 10, "output_token": 5}
    assert used(figures(total_tokens=15)) == {"input_token": 10, "output_token": 5}
    assert used(figures(completion=1000)) == {"input_token": 10, "output_token": 1000}


def test_google_says_its_thoughts_in_nothing_but_the_total() -> None:
    assert used(figures(total_tokens=105)) == {"input_token": 10, "output_token": 5, "reasoning_token": 90}
    assert used(figures(total_tokens=105, completion_tokens_details={})) == used(figures(total_tokens=105))


@pytest.mark.parametrize("total", [3, 0, -1, 1e9, True, "105", None, [], 10**30])
def test_a_total_that_explains_nothing_is_ignored(total: Any) -> None:
    assert used(figures(total_tokens=total)) == {"input_token": 10, "output_token": 5}


def test_a_total_is_not_believed_against_details() -> None:
    raw = figures(total_tokens=105, completion_tokens_details={"reasoning_tokens": 2})

    assert used(raw) == {"input_token": 10, "output_token": 3, "reasoning_token": 2}
    assert used({"prompt_tokens": 10, "total_tokens": 105}) == {"input_token": 10, "output_token": 0}


def test_cached_and_written_input_are_told_apart() -> None:
    details = {"cached_tokens": 6, "cache_write_tokens": 3, "audio_tokens": 0}

    assert used(figures(prompt_tokens_details=details)) == {
        "input_token": 1,
        "cached_input_token": 6,
        "cache_write_token": 3,
        "output_token": 5,
    }


def test_deepseek_says_cached_in_its_own_words() -> None:
    raw = figures(prompt_cache_hit_tokens=4, prompt_cache_miss_tokens=6)

    assert used(raw) == {"input_token": 6, "cached_input_token": 4, "output_token": 5}
    assert used({**raw, "prompt_tokens_details": {"cached_tokens": 4}}) == used(raw)
    assert used({**raw, "prompt_tokens_details": {"cached_tokens": 0}}) == used(raw)


@pytest.mark.parametrize("lie", [-1, 1.0, float("nan"), float("inf"), 1e308, "10", True, [], {}, 10**30, "NaN"])
def test_a_figure_that_is_no_count_discredits_the_whole(lie: Any) -> None:
    assert used(figures(prompt=lie)) is None
    assert used(figures(prompt=100, prompt_tokens_details={"cached_tokens": lie})) is None or not lie
    assert used(figures(prompt=100, prompt_tokens_details={"cache_write_tokens": lie})) is None or not lie
    assert used(figures(prompt=100, prompt_cache_hit_tokens=lie)) is None or not lie
    assert used(figures(completion=lie)) is None


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        "10",
        7,
        {},
        {"completion_tokens": 5},
        figures(prompt=None),
        figures(prompt_tokens_details={"cached_tokens": 11}),
        figures(prompt_tokens_details={"cached_tokens": 6, "cache_write_tokens": 5}),
        figures(prompt_cache_hit_tokens=11),
        figures(prompt_tokens_details={"audio_tokens": 11}),
        figures(prompt_tokens_details={"image_tokens": 11}),
        figures(completion_tokens_details={"audio_tokens": 6}),
        figures(completion_tokens_details={"reasoning_tokens": -1}),
    ],
)
def test_what_contradicts_itself_is_no_usage(raw: Any) -> None:
    assert used(raw) is None


def test_an_explicit_nought_is_believed() -> None:
    assert used(figures(prompt=0, completion=0)) == {"input_token": 0, "output_token": 0}
    assert used({"prompt_tokens": 8, "total_tokens": 8}) == {"input_token": 8, "output_token": 0}
    assert used(figures(prompt=0)) == {"input_token": 0, "output_token": 5}


def test_thoughts_sound_and_images_are_classes_of_their_own() -> None:
    sent = {"audio_tokens": 30, "image_tokens": 20, "cached_tokens": 10}
    came = {"reasoning_tokens": 7, "audio_tokens": 2, "accepted_prediction_tokens": 0}

    assert used(figures(100, 10, prompt_tokens_details=sent, completion_tokens_details=came)) == {
        "input_token": 40,
        "cached_input_token": 10,
        "audio_input_token": 30,
        "image_input_token": 20,
        "output_token": 1,
        "reasoning_token": 7,
        "audio_output_token": 2,
    }


def test_what_is_cached_and_an_image_as_well_counts_as_cached() -> None:
    sent = {"cached_tokens": 90, "image_tokens": 85, "audio_tokens": 4}

    assert used(figures(100, 5, prompt_tokens_details=sent)) == {
        "cached_input_token": 90,
        "audio_input_token": 4,
        "image_input_token": 6,
        "input_token": 0,
        "output_token": 5,
    }


def test_xai_reports_thoughts_beside_its_output() -> None:
    thoughts = {"completion_tokens_details": {"reasoning_tokens": 300}}

    assert used(figures(10, 5, total_tokens=315, **thoughts)) == {
        "input_token": 10,
        "output_token": 5,
        "reasoning_token": 300,
    }
    assert used(figures(10, 305, total_tokens=315, **thoughts)) == used(figures(10, 5, total_tokens=315, **thoughts))


def test_more_thoughts_than_output_are_left_out() -> None:
    assert used(figures(10, 5, total_tokens=15, completion_tokens_details={"reasoning_tokens": 6})) == {
        "input_token": 10,
        "output_token": 5,
    }


def test_the_newer_operations_have_other_words_for_the_same() -> None:
    raw = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 40},
        "total_tokens": 150,
    }
    usage = read_io_usage(raw, web_searches=2)

    assert usage is not None
    assert dict(usage.counts) == {
        "input_token": 30,
        "cached_input_token": 60,
        "cache_write_token": 10,
        "output_token": 10,
        "reasoning_token": 40,
        "web_search": 2,
    }


@pytest.mark.parametrize("details", [None, [], "x", 5, {}, {"cached_tokens": None, "cache_write_tokens": None}])
def test_details_of_no_shape_are_no_details(details: Any) -> None:
    assert used(figures(prompt_tokens_details=details)) == {"input_token": 10, "output_token": 5}


@given(
    st.one_of(
        JSON,
        st.fixed_dictionaries({"prompt_tokens": JSON, "completion_tokens": JSON, "prompt_tokens_details": JSON}),
        st.fixed_dictionaries({"input_tokens": JSON, "output_tokens": JSON, "output_tokens_details": JSON}),
    )
)
def test_no_usage_raises_and_none_that_is_believed_is_negative(raw: Any) -> None:
    for usage in (read_usage(raw), read_io_usage(raw), read_io_usage(raw, made="image_tokens")):
        assert usage is None or all(count >= 0 for count in usage.counts.values())


# ── the tap ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Tapped:
    """A tap whose tokens are characters, and the text that it had counted."""

    def __init__(self, *documents: Any, **options: Any) -> None:
        self.counted: list[str] = []
        self.tap = OpenAITap(self._count, **options)
        self.only_usage = [self.see(each) for each in documents]

    def see(self, document: Any) -> bool:
        data = document if isinstance(document, bytes) else json.dumps(document, ensure_ascii=False).encode()
        return self.tap.see(data)

    @property
    def text(self) -> str:
        assert self.tap.counted().output_tokens == sum(len(each) for each in self.counted)
        return "".join(self.counted)

    def _count(self, text: str) -> int:
        self.counted.append(text)
        return len(text)


def delta(finish: str | None = None, index: int = 0, **members: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": members, "finish_reason": finish}]}


def call(**function: Any) -> dict[str, Any]:
    return {"index": 0, "type": "function", "id": "call_1", "function": function}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (delta(content="hi"), "hi"),
        (delta(refusal="no"), "no"),
        (delta(reasoning_content="hm"), "hm"),
        (delta(reasoning="hm"), "hm"),
        (delta(reasoning="hm", reasoning_content="hm"), "hm"),
        (delta(content="a", reasoning_content="b", refusal="c"), "acb"),
        (delta(tool_calls=[call(name="f", arguments='{"x":')]), 'f{"x":'),
        (delta(tool_calls=[call(arguments="1}")]), "1}"),
        (delta(tool_calls=[call(name="f"), call(name="g")]), "fg"),
        (delta(function_call={"name": "f", "arguments": "{}"}), "f{}"),
        ({"choices": [{"text": "plain", "index": 0}]}, "plain"),
        ({"choices": [{"message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}]}, "whole"),
        ({"choices": [{"message": {"content": None, "tool_calls": [call(name="f", arguments="{}")]}}]}, "f{}"),
    ],
)
def test_content_is_seen_in_every_shape(document: Any, text: str) -> None:
    tapped = Tapped(document)

    assert tapped.tap.content_seen
    assert tapped.text == text


def test_choices_that_come_interleaved_all_count() -> None:
    tapped = Tapped(*(delta(content=text, index=index) for text, index in [("a", 0), ("b", 1), ("c", 0), ("d", 1)]))

    assert tapped.text == "abcd"


@pytest.mark.parametrize(
    "document",
    [
        delta(role="assistant"),
        delta(role="assistant", content=""),
        delta(content=None, refusal=None, tool_calls=None),
        delta("stop"),
        {"choices": []},
        {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {"choices": None},
        {"choices": [{"index": 0, "text": ""}]},
        {"object": "chat.completion.chunk"},
        {},
    ],
)
def test_a_chunk_without_content_is_none(document: Any) -> None:
    tapped = Tapped(document)

    assert not tapped.tap.content_seen
    assert tapped.only_usage == [False]
    assert tapped.text == ""


def test_sound_counts_as_content() -> None:
    assert Tapped(delta(audio={"id": "a", "data": "UklGRg=="})).tap.content_seen


def test_sound_without_usage_counts_by_its_length() -> None:
    second = "A" * (48_000 * 4 // 3)
    tap = Tapped(delta(audio={"id": "a", "data": second}), delta(audio={"transcript": "hello"})).tap

    assert dict(tap.counted().counts) == {"input_token": 0, "output_token": 5, "audio_output_token": 20}


def test_an_embedding_is_content_and_complete() -> None:
    tap = Tapped({"data": [{"embedding": [0.5]}], "usage": figures(8, 0)}).tap

    assert tap.content_seen
    assert tap.finished
    assert dict(tap.reported().counts) == {"input_token": 8, "output_token": 0}


# where usage stands


USAGE = figures(10, 5)
COUNTS = {"input_token": 10, "output_token": 5}


@pytest.mark.parametrize(
    ("document", "only_usage"),
    [
        ({"choices": [], "usage": USAGE}, True),
        ({"usage": USAGE}, True),
        ({"choices": None, "usage": USAGE}, True),
        ({**delta("stop"), "usage": USAGE}, False),
        ({"choices": [{"delta": {}, "finish_reason": "stop", "usage": USAGE}]}, False),
        ({"choices": [{"delta": {"content": ["x"]}, "finish_reason": "stop", "usage": USAGE}]}, False),
        ({**delta("stop", content=["x"]), "usage": USAGE}, False),
    ],
)
def test_usage_is_found_wherever_it_stands(document: Any, only_usage: bool) -> None:
    tapped = Tapped(document)

    assert dict(tapped.tap.reported().counts) == COUNTS
    assert tapped.only_usage == [only_usage]


@pytest.mark.parametrize("usage", [None, [], "x", 5, False])
def test_usage_that_is_no_object_is_none_and_replaces_none(usage: Any) -> None:
    tapped = Tapped({"choices": [], "usage": USAGE}, {"choices": [], "usage": usage})

    assert dict(tapped.tap.reported().counts) == COUNTS
    assert tapped.only_usage == [True, False]


def test_the_last_of_two_usages_counts() -> None:
    first = {"choices": [{"delta": {}, "finish_reason": "stop", "usage": figures(10, 4)}]}

    second = [{**delta(content="x"), "usage": figures(1, 1)}, {**delta("stop"), "usage": USAGE}]
    for documents in ([first, {"choices": [], "usage": USAGE}], second):
        assert dict(Tapped(*documents).tap.reported().counts) == COUNTS


# how it ends


def test_done_or_a_finish_reason_is_an_end_and_nothing_else_is() -> None:
    assert not Tapped().tap.finished
    assert not Tapped(delta(content="x")).tap.finished
    assert not Tapped({"choices": [], "usage": USAGE}).tap.finished
    assert Tapped(b"[DONE]").tap.finished
    assert Tapped(delta("length")).tap.finished
    assert Tapped(delta("tool_calls", content=["odd"])).tap.finished


def test_a_stream_without_done_ends_when_each_choice_has_ended() -> None:
    assert not Tapped(delta("stop", 0), delta("stop", 0), choices=2).tap.finished
    assert Tapped(delta("stop", 0), delta("length", 1), choices=2).tap.finished
    assert Tapped(b"[DONE]", choices=2).tap.finished
    assert Tapped(delta("stop"), choices=2, stream=False).tap.finished


def test_the_tier_that_was_served_is_remembered() -> None:
    odd = {**delta(content=["x"]), "service_tier": "flex"}

    assert Tapped(delta("stop")).tap.service_tier is None
    assert Tapped(
        {**delta(), "service_tier": "priority"}, {**delta("stop"), "service_tier": None}
    ).tap.service_tier == ("priority")
    assert Tapped(odd, {**delta(), "service_tier": 5}).tap.service_tier == "flex"


@pytest.mark.parametrize("error", [{"message": "x"}, {"message": "x", "code": 500}, "text", ["x"]])
@pytest.mark.parametrize("rest", [{}, {"choices": []}, {"choices": "odd"}, {"choices": [{"finish_reason": "stop"}]}])
def test_an_error_is_no_end_however_it_goes_on(error: Any, rest: dict[str, Any]) -> None:
    tapped = Tapped({"error": error, **rest}, b"[DONE]")

    assert tapped.tap.error_seen
    assert not tapped.tap.finished


def test_an_error_that_is_null_is_none() -> None:
    assert Tapped({**delta("stop"), "error": None}).tap.finished


# odd shapes


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (delta(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab"),
        (delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]), "hm"),
        (delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": {"city": "Ulm"}}}]), "fUlm"),
        (delta(tool_calls={"function": {"name": "f"}}), "f"),
        (delta(content={"text": "x"}), "x"),
        ({"choices": {"0": {"delta": {"content": "x"}}}}, "x"),
        ({"choices": "x"}, "x"),
        ({"choices": ["x"]}, "x"),
        ({"choices": [{"text": ["x"]}]}, "x"),
    ],
)
def test_content_of_an_unexpected_shape_counts_by_its_text(document: Any, text: str) -> None:
    tapped = Tapped(document)

    assert tapped.tap.content_seen
    assert tapped.text == text


def test_half_an_emoji_in_each_of_two_events_is_one_character() -> None:
    halves = [b'{"choices":[{"delta":{"content":"a\\ud83c"}}]}', b'{"choices":[{"delta":{"content":"\\udf0d"}}]}']

    assert Tapped(*halves).text == "a🌍"
    assert Tapped(halves[0]).text == "a\ufffd"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"choices":[{"delta":{"content":"a\xff"},"finish_reason":"stop"}]}', "a\ufffd"),
        (
            b'{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}],"usage":{"x":"\xff","y":1e999,"z":"\\ud800"}}',
            "a",
        ),
        (b'{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":NaN}}', "a"),
        (b'{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}],"usage":{"n":' + b"9" * 400 + b"}}", "a"),
    ],
)
def test_what_strict_readers_refuse_is_metered_all_the_same(data: bytes, text: str) -> None:
    tapped = Tapped(data)

    assert tapped.tap.finished
    assert tapped.text == text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"<html>502</html>",
        b"{",
        b'{"choices":',
        b"\xff\xfe",
        b"\x00",
        b"null",
        b"[]",
        b"7",
        b'"[DONE]"',
        b" [DONE]",
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"error":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 1_000_000,
        b"9" * 100_000,
    ],
)
def test_what_is_no_chunk_changes_nothing(data: bytes) -> None:
    tapped = Tapped(data)

    assert tapped.only_usage == [False]
    assert not tapped.tap.finished
    assert not tapped.tap.content_seen
    assert tapped.tap.reported() is None


@given(st.one_of(st.binary(max_size=40), JSON.map(lambda value: json.dumps(value).encode())))
def test_no_bytes_make_the_tap_raise(data: bytes) -> None:
    assert Tapped(data).tap.counted().output_tokens >= 0


CHUNKS = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.one_of(
            JSON,
            st.lists(
                st.fixed_dictionaries(
                    {}, optional={"delta": JSON, "message": JSON, "text": JSON, "finish_reason": JSON, "usage": JSON}
                ),
                max_size=2,
            ),
        ),
        "usage": JSON,
        "error": JSON,
        "data": JSON,
    },
)


@given(CHUNKS)
def test_no_chunk_makes_the_tap_raise(chunk: dict[str, Any]) -> None:
    tapped = Tapped(chunk)

    assert tapped.tap.counted().output_tokens >= 0
    assert tapped.tap.reported() is None or tapped.tap.reported().sources


def test_long_text_is_counted_on_the_way_and_let_go() -> None:
    piece = "你" * 1000
    tapped = Tapped()
    for _ in range(200):
        tapped.tap.see(json.dumps(delta(content=piece)).encode())
        if tapped.tap.heavy:
            tapped.tap.count_waiting()

    assert len(tapped.counted) >= 2
    assert max(len(each) for each in tapped.counted) <= TEXT_CHARS_MAX + len(piece)
    assert tapped.tap.counted().output_tokens == 200_000
