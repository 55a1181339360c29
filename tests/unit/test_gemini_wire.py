"""Gemini's operations: what is refused for want of a price, what is metered of an answer, what a prompt counts."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.ask import Ask, SentImage
from farebox.dialects.gemini.counting import count_contents, count_embedding
from farebox.dialects.gemini.embed_content import BATCH_EMBED_CONTENTS, EMBED_CONTENT, EmbeddingTap
from farebox.dialects.gemini.generate_content import GENERATE_CONTENT
from farebox.dialects.gemini.parts import UNPRICED as UNPRICED_PARTS
from farebox.dialects.gemini.spelling import member, snake
from farebox.dialects.gemini.tap import GeminiTap
from farebox.dialects.gemini.tools import UNPRICED as UNPRICED_TOOLS
from farebox.dialects.openai.waiting_text import TEXT_CHARS_MAX
from farebox.dialects.sse import Framer, data_of
from farebox.dialects.wire import Incoming, Tap
from farebox.errors import InvalidRequest

MODEL = "gemini-2.5-flash"
HI = {"role": "user", "parts": [{"text": "hi"}]}
GOOD: dict[str, Any] = {"contents": [HI]}
PNG = base64.urlsafe_b64encode(
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 640, 480) + b"\x08\x02\xff\xfb\xef" * 9
).decode()
IMAGE = {"inlineData": {"mimeType": "image/png", "data": PNG}}
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)


def ask(*, stream: bool = False, **more: Any) -> Ask:
    return GENERATE_CONTENT.read(Incoming({**GOOD, **more}, model=MODEL, stream=stream))


def said(*parts: Any) -> dict[str, Any]:
    """A body whose second content has these parts."""
    return {"contents": [HI, {"role": "user", "parts": list(parts)}]}


def refused(**more: Any) -> str:
    """The parameter that the refusal names; its sentence stands in both languages."""
    with pytest.raises(InvalidRequest) as caught:
        ask(**more)
    return named(caught.value)


def named(error: InvalidRequest) -> str:
    assert error.param is not None
    assert error.param in error.zh
    assert error.param in error.en
    assert any("\u4e00" <= letter <= "\u9fff" for letter in error.zh)
    assert error.en.isascii()
    return error.param


# ── what is read ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_path_says_which_model_and_whether_it_streams() -> None:
    found = ask(stream=True)

    assert (found.model, found.stream, found.choices) == (MODEL, True, 1)
    assert (found.needs, found.bounds, found.output_limits, found.images, found.changes) == ({}, {}, {}, (), {})
    assert not ask().stream


@pytest.mark.parametrize("name", [MODEL, f"models/{MODEL}"])
def test_a_body_may_name_the_same_model_again(name: str) -> None:
    assert ask(model=name).model == MODEL
    assert GENERATE_CONTENT.read(Incoming({**GOOD, "model": name})).model == MODEL


@pytest.mark.parametrize("name", ["gemini-2.5-pro", "", 5, ["x"]])
def test_but_not_another(name: Any) -> None:
    assert refused(model=name) == "model"


@pytest.mark.parametrize("model", ["", "x" * 201])
def test_a_path_without_a_model_is_refused(model: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        GENERATE_CONTENT.read(Incoming(GOOD, model=model))
    assert named(caught.value) == "model"


def test_limits_are_named_as_the_caller_spells_them() -> None:
    camel = ask(generationConfig={"maxOutputTokens": 100, "candidateCount": 3})
    other = ask(generation_config={"max_output_tokens": 100, "candidate_count": 3})

    assert camel.output_limits == {"generationConfig.maxOutputTokens": 100}
    assert other.output_limits == {"generation_config.max_output_tokens": 100}
    assert camel.choices == other.choices == 3


@pytest.mark.parametrize("value", [-1, 0, 1.0, 1.5, "5", True, [], {}, 10**18])
@pytest.mark.parametrize("name", ["maxOutputTokens", "candidateCount", "max_output_tokens", "candidate_count"])
def test_a_limit_that_is_no_whole_number_is_refused(name: str, value: Any) -> None:
    assert refused(generationConfig={name: value}) == f"generationConfig.{name}"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"generationConfig": {}, "generation_config": {"maxOutputTokens": 9}}, "generation_config"),
        ({"generationConfig": {"maxOutputTokens": 1, "max_output_tokens": 9}}, "generationConfig.max_output_tokens"),
        ({"systemInstruction": HI, "system_instruction": HI}, "system_instruction"),
        ({"serviceTier": "standard", "service_tier": "flex"}, "service_tier"),
        (said({"inlineData": IMAGE["inlineData"], "inline_data": {}}), "contents[1].parts[0].inline_data"),
    ],
)
def test_what_is_said_in_both_spellings_is_refused(more: dict[str, Any], param: str) -> None:
    assert refused(**more) == param


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"contents": None}, "contents"),
        ({"contents": []}, "contents"),
        ({"contents": ["hi"]}, "contents[0]"),
        ({"contents": "hi"}, "contents[0]"),
        ({"contents": [HI, {"parts": ["hi"]}]}, "contents[1].parts[0]"),
        ({"systemInstruction": "Be brief."}, "systemInstruction"),
        ({"system_instruction": ["x"]}, "system_instruction"),
        ({"generationConfig": [1]}, "generationConfig"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"tools": [{"googleSearch": True}]}, "tools[0].googleSearch"),
        (said({"inlineData": "x"}), "contents[1].parts[0].inlineData"),
        (said({"inlineData": {"data": "x"}}), "contents[1].parts[0].inlineData.mimeType"),
        (said({"functionResponse": []}), "contents[1].parts[0].functionResponse"),
    ],
)
def test_what_has_the_wrong_shape_is_refused(more: dict[str, Any], param: str) -> None:
    assert refused(**more) == param


def test_a_list_of_one_may_be_the_one() -> None:
    """The vendor's own examples write {"parts": {"text": …}}."""
    found = ask(contents={"parts": {"text": "hello"}}, system_instruction={"parts": {"text": "You are a cat."}})

    assert found.count_input(len) > len("helloYou are a cat.")


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_models_and_functions_said_may_be_sent_back() -> None:
    history = said(
        {"text": "hm", "thought": True, "thoughtSignature": "c2ln"},
        {"functionCall": {"name": "f", "args": {}}, "thought_signature": "c2ln"},
        {"function_response": {"name": "f", "response": {"a": 1}}},
        {"executableCode": {"code": "1+1"}},
        {"codeExecutionResult": {"output": "2"}},
        {"text": "x", "fileData": None},
    )

    assert ask(**history).needs == {}


def test_images_are_found_with_their_sizes_wherever_they_stand() -> None:
    other = {"inline_data": {"mime_type": "IMAGE/PNG", "data": PNG}}
    response = {"functionResponse": {"name": "f", "response": {}, "parts": [IMAGE]}}
    unreadable = {"inlineData": {"mimeType": "image/heic", "data": 5}}

    found = ask(**said(IMAGE, other, response, unreadable), systemInstruction={"parts": [IMAGE]})

    assert found.images == (*[SentImage(640, 480)] * 3, SentImage(), SentImage(640, 480))


@pytest.mark.parametrize("kind", ["audio/wav", "video/mp4", "application/pdf", "", "Audio/MP3"])
def test_data_whose_tokens_nobody_can_bound_is_refused(kind: str) -> None:
    part = {"inlineData": {"mimeType": kind, "data": "AAAA"}}
    response = {"functionResponse": {"name": "f", "parts": [part]}}

    assert refused(**said(part)) == "contents[1].parts[0].inlineData.mimeType"
    assert refused(**said(response)) == "contents[1].parts[0].functionResponse.parts[0].inlineData.mimeType"
    assert refused(**said({"inline_data": {"mime_type": kind}})) == "contents[1].parts[0].inline_data.mime_type"


@pytest.mark.parametrize("name", UNPRICED_PARTS)
def test_a_part_without_a_price_is_refused_by_name(name: str) -> None:
    assert refused(**said({"text": "x"}, {name: {"fileUri": "x"}})) == f"contents[1].parts[1].{name}"


def test_a_part_of_an_unknown_kind_is_refused_without_repeating_it() -> None:
    assert refused(**said({"secret": "x"})) == "contents[1].parts[0]"


# ── what has a price of its own ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["googleSearch", "google_search", "googleSearchRetrieval", "google_search_retrieval"])
def test_a_search_needs_a_price(name: str) -> None:
    found = ask(tools=[{"functionDeclarations": []}, {name: {}}])

    assert found.needs == {f"tools[1].{name}": "web_search"}
    assert found.bounds == {"web_search": 1}


def test_a_search_for_images_is_refused() -> None:
    assert ask(tools=[{"googleSearch": {"searchTypes": {"webSearch": {}}}}]).bounds == {"web_search": 1}
    assert (
        refused(tools=[{"googleSearch": {"searchTypes": {"imageSearch": {}}}}]) == "tools[0].googleSearch.searchTypes"
    )


@pytest.mark.parametrize("name", UNPRICED_TOOLS)
def test_a_tool_without_a_price_is_refused_by_name(name: str) -> None:
    assert refused(tools=[{name: {}}]) == f"tools[0].{name}"
    assert ask(tools=[{name: None}]).needs == {}


def test_a_tool_of_an_unknown_kind_is_refused_without_repeating_it() -> None:
    assert refused(tools=[{"functionDeclarations": []}, {"secret": {}}]) == "tools[1]"


@pytest.mark.parametrize("name", ["cachedContent", "cached_content", "continuationToken", "store"])
def test_what_is_kept_under_the_operators_account_is_refused(name: str) -> None:
    assert refused(**{name: "cachedContents/1"}) == name


def test_other_modalities_need_their_prices() -> None:
    found = ask(generationConfig={"responseModalities": ["TEXT", "IMAGE", "audio"]})

    assert found.needs == {
        "generationConfig.responseModalities[1]": "image_output_token",
        "generationConfig.responseModalities[2]": "audio_output_token",
    }
    assert ask(generation_config={"response_modalities": ["TEXT"]}).needs == {}


@pytest.mark.parametrize("modality", ["VIDEO", 2, None, [], {}, "", "MODALITY_UNSPECIFIED"])
def test_a_modality_of_an_unknown_kind_is_refused(modality: Any) -> None:
    config = {"responseModalities": ["TEXT", modality]}

    assert refused(generationConfig=config) == "generationConfig.responseModalities[1]"


def test_another_tier_needs_a_price() -> None:
    found = ask(service_tier="FLEX")

    assert found.service_tier == "flex"
    assert found.needs == {"service_tier": "service_tier/flex"}
    for ordinary in (None, "standard", "unspecified"):
        assert ask(serviceTier=ordinary).service_tier is None
    assert refused(serviceTier="a b") == "serviceTier"
    assert refused(serviceTier=3) == "serviceTier"


# ── counting ────────────────────────────────────────────────────────────────────────────────────────────────────────

WORD = "unmistakable"


@pytest.mark.parametrize(
    "body",
    [
        {"systemInstruction": {"parts": [{"text": WORD}]}},
        {"system_instruction": {"parts": {"text": WORD}}},
        {"system_instruction": WORD},
        {"contents": WORD},
        {"contents": {"parts": WORD}},
        said(WORD),
        said({"text": WORD}),
        said({"text": WORD, "thought": True}),
        said({"functionCall": {"name": WORD}}),
        said({"function_call": {"name": "f", "args": {WORD: 1}}}),
        said({"functionResponse": {"name": "f", "response": {"a": [WORD]}}}),
        said({"functionResponse": {"name": "f", "parts": [{"text": WORD}]}}),
        said({"executableCode": {"code": WORD}}),
        said({"codeExecutionResult": {"output": WORD}}),
        said({"no such thing": {"deep": WORD}}),
        said({"inlineData": {"mimeType": "text/plain", "data": base64.b64encode(WORD.encode()).decode()}}),
        said({"inlineData": {"mimeType": "text/plain", "data": {WORD: 1}}}),
        said({"inlineData": {"mimeType": "text/plain", "data": f"é{WORD}"}}),
        {"generateContentRequest": {"contents": [{"parts": [{"text": WORD}]}]}},
        {"tools": [{"functionDeclarations": [{"name": "f", "description": WORD}]}]},
        {"tools": {"function_declarations": [{"name": WORD}]}},
        {"generationConfig": {"responseSchema": {"title": WORD}}},
        {"generation_config": {"response_json_schema": {"title": WORD}}},
    ],
)
def test_no_text_goes_uncounted(body: dict[str, Any]) -> None:
    seen: list[str] = []

    count_contents(body, lambda text: seen.append(text) or len(text))

    assert sum(WORD in text for text in seen) == 1


def test_images_count_nothing_and_signatures_by_their_length() -> None:
    bare = count_contents(said({"text": "x"}), len)

    assert count_contents(said({"text": "x"}, IMAGE), len) == bare
    assert count_contents(said({"text": "x", "thoughtSignature": "x" * 5000}), len) == bare + 1000


# ── the tap ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def tapped(*events: Any, **options: Any) -> GeminiTap:
    tap = GeminiTap(len, **options)
    for event in events:
        tap.see(event if isinstance(event, bytes) else json.dumps(event).encode())
    return tap


def came(*parts: Any, index: int | None = None, finish: str | None = None, **usage: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}}
    candidate |= {"finishReason": finish} if finish else {}
    candidate |= {"index": index} if index is not None else {}
    return {"candidates": [candidate]} | ({"usageMetadata": usage} if usage else {})


STREAM = [
    came({"text": "Let me see. ", "thought": True}, promptTokenCount=8, totalTokenCount=8),
    came({"text": "Hello"}, promptTokenCount=8, candidatesTokenCount=1, thoughtsTokenCount=20, totalTokenCount=29),
    came({"text": ", 世界"}, finish="STOP", promptTokenCount=8, candidatesTokenCount=4, thoughtsTokenCount=20),
]


def facts(tap: Tap) -> tuple[Any, ...]:
    reported, sent = tap.reported(), tap.sent()
    return (
        tap.finished,
        tap.done,
        tap.content_seen,
        tap.error_seen,
        tap.heavy,
        reported and dict(reported.counts),
        dict(tap.counted().counts),
        sent and dict(sent.counts),
        tap.service_tier,
    )


def test_a_stream_is_metered_by_its_last_figures() -> None:
    tap = tapped(*STREAM)

    assert (tap.finished, tap.done, tap.content_seen, tap.error_seen) == (True, False, True, False)
    usage = tap.reported()
    assert usage is not None
    assert usage.counts == {"input_token": 8, "output_token": 4, "reasoning_token": 20}
    assert set(usage.sources.values()) == {"upstream"}
    assert tap.counted().counts["output_token"] == len("Let me see. Hello, 世界")
    assert tap.counted().sources["output_token"] == "counted"


@given(st.data())
def test_however_a_stream_is_cut_the_facts_are_the_same(data: st.DataObject) -> None:
    newline = data.draw(st.sampled_from([b"\n", b"\r\n"]))
    raw = b"".join(b"data: " + json.dumps(event).encode() + newline * 2 for event in STREAM)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    framer, tap = Framer(), GeminiTap(len)
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        for frame in framer.feed(raw[start:end]):
            if (event := data_of(frame)) is not None:
                tap.see(event)

    assert facts(tap) == facts(tapped(*STREAM))


def test_a_list_of_responses_says_the_same_as_a_stream() -> None:
    assert facts(tapped(json.dumps(STREAM).encode())) == facts(tapped(*STREAM))


def test_a_stream_that_dies_is_not_finished_and_keeps_what_was_reported() -> None:
    tap = tapped(*STREAM[:2])

    assert not tap.finished
    assert tap.reported() is not None
    sent = tap.sent()
    assert sent is not None
    assert sent.counts == {"input_token": 8}


def test_each_candidate_must_end() -> None:
    first, second = came({"text": "a"}, index=0, finish="STOP"), came({"text": "b"}, index=1, finish="MAX_TOKENS")

    assert not tapped(first, choices=2).finished
    assert not tapped(first, first, choices=2).finished
    assert tapped(first, second, choices=2).finished
    assert tapped(first, choices=2, stream=False).finished
    assert not tapped(came({"text": "a"}, finish="FINISH_REASON_UNSPECIFIED")).finished


def test_a_blocked_prompt_is_an_end_without_content() -> None:
    tap = tapped(
        {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}}
    )

    assert tap.finished
    assert not tap.content_seen
    usage = tap.reported()
    assert usage is not None
    assert usage.counts == {"input_token": 3, "output_token": 0}


def test_the_tap_knows_what_was_asked() -> None:
    plain = GENERATE_CONTENT.tap(len, ask(generationConfig={"candidateCount": 2}))
    stream = GENERATE_CONTENT.tap(len, ask(stream=True, generationConfig={"candidateCount": 2}))
    for tap in (plain, stream):
        tap.see(json.dumps(came({"text": "a"}, finish="STOP")).encode())

    assert plain.finished
    assert not stream.finished


USAGES: list[tuple[dict[str, Any], dict[str, int] | None]] = [
    (
        {"promptTokenCount": 10, "toolUsePromptTokenCount": 5, "candidatesTokenCount": 3},
        {"input_token": 15, "output_token": 3},
    ),
    (
        {"promptTokenCount": 10, "cachedContentTokenCount": 4, "candidatesTokenCount": 3},
        {"input_token": 6, "cached_input_token": 4, "output_token": 3},
    ),
    # cut while it thought
    (
        {"promptTokenCount": 10, "thoughtsTokenCount": 90, "totalTokenCount": 100},
        {"input_token": 10, "output_token": 0, "reasoning_token": 90},
    ),
    (
        {"promptTokenCount": 10, "toolUsePromptTokenCount": 5, "totalTokenCount": 100},
        {"input_token": 15, "output_token": 85},
    ),
    ({"promptTokenCount": 10, "thoughtsTokenCount": 7}, {"input_token": 10, "output_token": 0, "reasoning_token": 7}),
    # modalities
    (
        {
            "promptTokenCount": 300,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 10},
                {"modality": "IMAGE", "tokenCount": 258},
                {"modality": "AUDIO", "tokenCount": 32},
            ],
            "candidatesTokenCount": 1300,
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}, {"modality": "TEXT"}],
        },
        {
            "input_token": 10,
            "image_input_token": 258,
            "audio_input_token": 32,
            "output_token": 10,
            "image_output_token": 1290,
        },
    ),
    # cached images are cached
    (
        {
            "promptTokenCount": 600,
            "promptTokensDetails": [{"modality": "IMAGE", "tokenCount": 516}],
            "cachedContentTokenCount": 300,
            "cacheTokensDetails": [{"modality": "IMAGE", "tokenCount": 258}],
            "candidatesTokenCount": 1,
        },
        {"input_token": 42, "cached_input_token": 300, "image_input_token": 258, "output_token": 1},
    ),
    # not said what was cached
    (
        {
            "promptTokenCount": 600,
            "promptTokensDetails": [{"modality": "IMAGE", "tokenCount": 516}],
            "cachedContentTokenCount": 300,
            "candidatesTokenCount": 1,
        },
        {"input_token": 300, "cached_input_token": 300, "output_token": 1},
    ),
    ({}, None),
    ({"promptTokenCount": 10}, None),
    ({"candidatesTokenCount": 10}, None),
    ({"promptTokenCount": -1, "candidatesTokenCount": 10}, None),
    ({"promptTokenCount": 1.5, "candidatesTokenCount": 10}, None),
    ({"promptTokenCount": 10, "candidatesTokenCount": 10**13}, None),
    ({"promptTokenCount": 10, "totalTokenCount": 9}, None),
    ({"promptTokenCount": 10, "candidatesTokenCount": 1, "cachedContentTokenCount": 11}, None),
    (
        {
            "promptTokenCount": 10,
            "candidatesTokenCount": 1,
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 2}],
        },
        None,
    ),
]


@pytest.mark.parametrize(("usage", "counts"), USAGES)
def test_usage_is_made_disjoint_or_is_none(usage: dict[str, Any], counts: dict[str, int] | None) -> None:
    reported = tapped({**came({"text": "x"}), "usageMetadata": usage}).reported()

    assert (reported and dict(reported.counts)) == counts


def test_input_figures_alone_are_figures_of_what_was_sent() -> None:
    tap = tapped(came({"text": "x"}, promptTokenCount=10, cachedContentTokenCount=4))

    assert tap.reported() is None
    sent = tap.sent()
    assert sent is not None
    assert sent.counts == {"input_token": 6, "cached_input_token": 4}


def test_a_search_is_charged_once_and_only_if_there_was_one() -> None:
    grounded = came({"text": "x"}, promptTokenCount=1, candidatesTokenCount=1)
    grounded["candidates"][0]["groundingMetadata"] = {"webSearchQueries": ["a", "b"]}
    idle = came({"text": "x"}, promptTokenCount=1, candidatesTokenCount=1)
    idle["candidates"][0]["groundingMetadata"] = {"groundingChunks": []}

    for answer, searches in ((grounded, 1), (idle, 0)):
        tap = tapped(answer, answer, web_searches=1)
        reported = tap.reported()
        assert reported is not None
        assert reported.of("web_search") == tap.counted().of("web_search") == searches
    assert tapped(grounded).counted().of("web_search") == 0


@pytest.mark.parametrize(
    "part",
    [
        {"text": "x"},
        {"text": "x", "thought": True},
        {"functionCall": {"name": "f", "args": {}}},
        {"executableCode": {"code": "1"}},
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"text": {"odd": "x"}},
        {"functionCall": "odd"},
        "odd",
    ],
)
def test_content_is_seen(part: Any) -> None:
    assert tapped(came(part)).content_seen
    assert tapped([came(part)]).content_seen


@pytest.mark.parametrize(
    "event",
    [
        came({"text": ""}),
        came({"thoughtSignature": "x"}),
        came(),
        {"candidates": [{}]},
        {"candidates": []},
        {"usageMetadata": {"promptTokenCount": 1}},
        {"promptFeedback": {}},
        {"candidates": [{"content": {"parts": [{"text": ""}, {}]}, "index": 1.5}], "usageMetadata": 7},
        [],
        b"<html>",
        b"",
        b"[DONE]",
    ],
)
def test_what_is_no_content_is_not_taken_for_it(event: Any) -> None:
    tap = tapped(event)

    assert not tap.content_seen
    assert not tap.finished
    assert not tap.error_seen


def test_calls_are_counted_alike_in_a_stream_and_in_a_list() -> None:
    answer = came({"functionCall": {"id": "x" * 50, "name": "look", "args": {"at": "世界"}}})

    for tap in (tapped(answer), tapped([answer])):
        assert tap.counted().of("output_token") == len('look{"at":"世界"}')


@pytest.mark.parametrize(
    "error", [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}, [{"error": {"code": 500}}]]
)
def test_an_error_is_seen_in_a_stream_or_in_place_of_an_answer(error: Any) -> None:
    tap = tapped(*STREAM, error)

    assert tap.error_seen
    assert not tap.finished


def test_the_tier_that_was_served_is_told_where_the_vendor_says_it() -> None:
    assert tapped(came({"text": "x"}, serviceTier="PRIORITY")).service_tier == "priority"
    assert tapped(*STREAM).service_tier is None


def test_much_text_is_counted_piece_by_piece() -> None:
    tap = tapped(came({"text": "x" * (TEXT_CHARS_MAX + 1)}))

    assert tap.heavy
    tap.count_waiting()
    assert not tap.heavy
    assert tap.counted().of("output_token") == TEXT_CHARS_MAX + 1


def test_errors_and_pings_are_as_the_sdk_bears_them() -> None:
    assert GENERATE_CONTENT.error_event(b'{"error":{}}') == b'data: {"error":{}}\n\n'
    told = json.loads(data_of(GENERATE_CONTENT.ping) or b"")
    assert told["candidates"][0]["content"]["parts"] == [{"text": ""}]
    assert not GENERATE_CONTENT.end_marker


# ── embeddings ──────────────────────────────────────────────────────────────────────────────────────────────────────

EMBED: dict[str, Any] = {"content": {"parts": [{"text": "hello"}]}, "title": "A title", "taskType": "RETRIEVAL_QUERY"}


def test_an_embedding_is_read_and_its_text_counted() -> None:
    one = EMBED_CONTENT.read(Incoming(EMBED, model="gemini-embedding-001"))
    many = BATCH_EMBED_CONTENTS.read(
        Incoming({"requests": [{**EMBED, "model": "models/gemini-embedding-001"}] * 3}, model="gemini-embedding-001")
    )

    assert (one.model, one.stream, one.output_limits) == ("gemini-embedding-001", False, {})
    assert one.count_input(len) >= len("helloA title")
    assert many.count_input(len) == 3 * one.count_input(len)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "content"),
        ({"content": "hello"}, "content"),
        ({"content": {"parts": [{"fileData": {}}]}}, "content.parts[0].fileData"),
        ({**EMBED, "model": "models/other"}, "model"),
    ],
)
def test_what_is_no_text_to_embed_is_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        EMBED_CONTENT.read(Incoming(body, model="gemini-embedding-001"))
    assert named(caught.value) == param


@pytest.mark.parametrize(
    ("requests", "param"),
    [
        (None, "requests"),
        ([], "requests"),
        ([EMBED] * 2049, "requests"),
        ([EMBED, "x"], "requests[1]"),
        ([{**EMBED, "model": "models/dearer"}], "requests[0].model"),
        ([EMBED, {}], "requests[1].content"),
    ],
)
def test_a_batch_of_none_or_of_another_model_is_refused(requests: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        BATCH_EMBED_CONTENTS.read(Incoming({"requests": requests}, model="gemini-embedding-001"))
    assert named(caught.value) == param


@pytest.mark.parametrize("answer", [{"embedding": {"values": [0.1, 2e-5]}}, {"embeddings": [{"values": [1]}]}])
def test_a_vector_is_content_and_the_end(answer: dict[str, Any]) -> None:
    tap = EMBED_CONTENT.tap(len, Ask("m", stream=False))
    tap.see(json.dumps(answer).encode())

    assert tap.content_seen
    assert tap.finished
    assert tap.reported() is None
    assert tap.counted().counts == {}


def test_what_an_embedding_reports_is_its_input() -> None:
    tap = EmbeddingTap()
    tap.see(json.dumps({"embedding": {"values": [1]}, "usageMetadata": {"promptTokenCount": 7}}).encode())

    usage = tap.reported()
    assert usage is not None
    assert usage.counts == {"input_token": 7}


@pytest.mark.parametrize("answer", [b'{"error": {"code": 500}}', b"", b"<html>", b'{"embedding": {}}', b"[]", b"7"])
def test_an_answer_without_a_vector_is_no_end(answer: bytes) -> None:
    tap = EmbeddingTap()
    tap.see(answer)

    assert not tap.finished
    assert not tap.content_seen


# ── whatever comes ──────────────────────────────────────────────────────────────────────────────────────────────────

ANSWER = ["candidates", "content", "parts", "text", "finishReason", "index", "usageMetadata", "error", "functionCall"]
FIGURES = [
    "promptTokenCount",
    "candidatesTokenCount",
    "totalTokenCount",
    "promptTokensDetails",
    "modality",
    "tokenCount",
]
NAMES = st.sampled_from(
    [*ANSWER, *FIGURES, "promptFeedback", "blockReason", "groundingMetadata", "embedding", "values"]
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.just("IMAGE"))
ODD = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=12,
)


@given(st.lists(st.one_of(st.binary(max_size=40), ODD.map(lambda value: json.dumps(value).encode())), max_size=5))
def test_nothing_that_comes_back_makes_a_tap_raise(events: list[bytes]) -> None:
    for tap in (GeminiTap(len, web_searches=1), EmbeddingTap()):
        for event in events:
            assert tap.see(event) is False
        tap.count_waiting()
        assert facts(tap)


@pytest.mark.parametrize("depth", [100, 5_000, 200_000])
def test_nor_does_what_is_nested_deeply(depth: int) -> None:
    for name in (b"candidates", b"usageMetadata", b"error"):
        assert facts(tapped(b'{"' + name + b'":' + b"[" * depth + b"]" * depth + b"}"))
    assert facts(tapped(b"[" * depth + b"]" * depth))
    args = b'{"a":' * depth + b"1" + b"}" * depth
    assert facts(tapped(b'{"candidates":[{"content":{"parts":[{"functionCall":{"args":' + args + b"}}]}}]}"))


BODY = [
    "contents",
    "systemInstruction",
    "tools",
    "generationConfig",
    "serviceTier",
    "model",
    "cachedContent",
    "requests",
]
PART = [
    "parts",
    "text",
    "inlineData",
    "mimeType",
    "data",
    "functionCall",
    "functionResponse",
    "response",
    "googleSearch",
]
CONFIG = ["maxOutputTokens", "candidateCount", "responseModalities", "responseSchema", "title", "content"]
SENT_NAMES = st.sampled_from([spelling for name in (*BODY, *PART, *CONFIG) for spelling in (name, snake(name))])
SENT = st.recursive(
    st.one_of(LEAVES, st.sampled_from(["image/png", "text/plain", "TEXT", MODEL])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(SENT_NAMES, inner, max_size=4)),
    max_leaves=12,
)


@given(body=st.dictionaries(st.one_of(SENT_NAMES, st.text(max_size=8)), st.one_of(SENT, JSON), max_size=4))
def test_no_json_makes_a_reader_raise_anything_but_a_refusal(body: dict[str, Any]) -> None:
    assert count_contents(body, len) >= 0
    assert count_embedding(body, len) >= 0
    for wire in (GENERATE_CONTENT, EMBED_CONTENT, BATCH_EMBED_CONTENTS):
        for whole in (body, {**GOOD, **EMBED, **body}):
            try:
                found = wire.read(Incoming(whole, model=MODEL, stream=False))
            except InvalidRequest:
                continue
            assert found.count_input(len) >= 0


@given(parts=st.lists(st.one_of(st.dictionaries(SENT_NAMES, SENT, max_size=3), JSON), max_size=4))
def test_nor_does_any_content(parts: list[Any]) -> None:
    test_no_json_makes_a_reader_raise_anything_but_a_refusal.hypothesis.inner_test(said(*parts))


def test_parts_nested_without_end_are_refused_and_counted() -> None:
    part: dict[str, Any] = {"text": WORD}
    for _ in range(500):
        part = {"functionResponse": {"name": "f", "parts": [part]}}

    assert refused(**said(part)).startswith("contents[1].parts[0].functionResponse.parts[0]")
    assert count_contents(said(part), len) > len(WORD)


@given(st.from_regex(r"[a-z]{1,5}([A-Z][a-z]{1,4}){0,3}", fullmatch=True), JSON)
def test_a_member_is_found_under_either_spelling(name: str, value: Any) -> None:
    assert member({name: value}, name) == (name, value)
    assert member({snake(name): value}, name, "x") == (f"x.{snake(name)}", value)
    assert member({}, name) == (name, None)
