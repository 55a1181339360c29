"""Any answer, plain or cut into any stream: over a bridge the caller reads the same of both, and what was said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.bridge import Bridge
from farebox.dialects.bridges import BRIDGES
from tests.contract.answers import read, told_usage, valid
from tests.contract.test_fuzz import TERMS, well_formed

BETWEEN = [
    bridge for bridge in BRIDGES.values() if bridge.vendor in ("chat.completions", "messages", "generateContent")
]
Json = dict[str, Any]


@dataclass(frozen=True)
class Spoken:
    """What a model says. `cuts`: how long the pieces of its stream are, in turn."""

    thoughts: str
    text: str
    calls: list[tuple[str, Json]]
    sent: int
    cached: int
    came: int
    thought_tokens: int
    finish: str
    cuts: list[int]

    def pieces(self, whole: str) -> Iterator[str]:
        """The text in pieces; none of nothing."""
        at, turn = 0, 0
        while at < len(whole):
            size = self.cuts[turn % len(self.cuts)]
            yield whole[at : at + size]
            at, turn = at + size, turn + 1


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
ARGUMENTS = st.dictionaries(WORDS, st.one_of(WORDS, st.integers(-(2**53), 2**53), st.booleans(), st.none()), max_size=3)
CALLS = st.lists(st.tuples(st.sampled_from(["lamp_state", "door"]), ARGUMENTS), max_size=3)


@st.composite
def spoken(draw: st.DrawFn) -> Spoken:
    calls = draw(CALLS)
    text = draw(WORDS) if calls else draw(WORDS.filter(bool))
    sent, came = draw(st.integers(0, 10**6)), draw(st.integers(0, 10**6))
    return Spoken(
        thoughts=draw(WORDS),
        text=text,
        calls=calls,
        sent=sent,
        cached=draw(st.integers(0, sent)),
        came=came,
        thought_tokens=draw(st.integers(0, came)),
        finish="tool_calls" if calls else draw(st.sampled_from(["stop", "length"])),
        cuts=draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)),
    )


# ── as each vendor would put it ─────────────────────────────────────────────────────────────────────────────────────


def chat(said: Spoken) -> tuple[Json, list[Json]]:
    """OpenAI: the whole, and its chunks."""
    calls = [
        {"id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
        for place, (name, given) in enumerate(said.calls)
    ]
    usage = {
        "prompt_tokens": said.sent,
        "completion_tokens": said.came,
        "total_tokens": said.sent + said.came,
        "prompt_tokens_details": {"cached_tokens": said.cached},
        "completion_tokens_details": {"reasoning_tokens": said.thought_tokens},
    }
    message = {"role": "assistant", "content": said.text or None, "reasoning_content": said.thoughts or None}
    head = {"id": "chatcmpl-1", "model": "m", "created": 1}
    choice = {"index": 0, "message": message | ({"tool_calls": calls} if calls else {}), "finish_reason": said.finish}
    whole = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": piece} for piece in said.pieces(said.thoughts)]
    deltas += [{"content": piece} for piece in said.pieces(said.text)]
    for place, call in enumerate(calls):
        begun = {**call, "index": place, "function": {"name": call["function"]["name"], "arguments": ""}}  # type: ignore[index]
        deltas.append({"tool_calls": [begun]})
        for piece in said.pieces(call["function"]["arguments"]):  # type: ignore[index]
            deltas.append({"tool_calls": [{"index": place, "function": {"arguments": piece}}]})
    chunk = {**head, "object": "chat.completion.chunk"}
    stream = [{**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    stream.append({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": said.finish}]})
    return whole, [*stream, {**chunk, "choices": [], "usage": usage}]


STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def messages(said: Spoken) -> tuple[Json, list[Json]]:
    """Anthropic: the message, and its events."""
    blocks: list[tuple[Json, Json, list[Json]]] = []
    if said.thoughts:
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in said.pieces(said.thoughts)]
        deltas.append({"type": "signature_delta", "signature": "c2ln"})
        whole = {"type": "thinking", "thinking": said.thoughts, "signature": "c2ln"}
        blocks.append((whole, {"type": "thinking", "thinking": "", "signature": ""}, deltas))
    if said.text:
        deltas = [{"type": "text_delta", "text": piece} for piece in said.pieces(said.text)]
        blocks.append(({"type": "text", "text": said.text}, {"type": "text", "text": ""}, deltas))
    for place, (name, args) in enumerate(said.calls):
        call = {"type": "tool_use", "id": f"toolu_{place}", "name": name, "input": args}
        deltas = [{"type": "input_json_delta", "partial_json": each} for each in ("", *said.pieces(json.dumps(args)))]
        blocks.append((call, {**call, "input": {}}, deltas))
    usage = {
        "input_tokens": said.sent - said.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": said.cached,
        "output_tokens": said.came,
        "output_tokens_details": {"thinking_tokens": said.thought_tokens},
    }
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
    whole = {**head, "content": [each for each, _, _ in blocks], "stop_reason": STOPS[said.finish], "usage": usage}
    stream: list[Json] = [
        {
            "type": "message_start",
            "message": {**head, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}},
        }
    ]
    for place, (_, begun, deltas) in enumerate(blocks):
        stream.append({"type": "content_block_start", "index": place, "content_block": begun})
        stream += [{"type": "content_block_delta", "index": place, "delta": delta} for delta in deltas]
        stream.append({"type": "content_block_stop", "index": place})
    end = {"stop_reason": STOPS[said.finish], "stop_sequence": None}
    return whole, [*stream, {"type": "message_delta", "delta": end, "usage": usage}, {"type": "message_stop"}]


FINISHES = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP"}


def generate_content(said: Spoken) -> tuple[Json, list[Json]]:
    """Gemini: the response, and its chunks, with running totals."""
    thoughts = [{"text": piece, "thought": True} for piece in said.pieces(said.thoughts)]
    spoken = [{"text": piece} for piece in said.pieces(said.text)]
    calls = [{"functionCall": {"name": name, "args": given}} for name, given in said.calls]
    usage = {
        "promptTokenCount": said.sent,
        "cachedContentTokenCount": said.cached,
        "candidatesTokenCount": said.came - said.thought_tokens,
        "thoughtsTokenCount": said.thought_tokens,
        "totalTokenCount": said.sent + said.came,
    }
    parts = [
        *([{"text": said.thoughts, "thought": True}] if said.thoughts else []),
        *([{"text": said.text}] if said.text else []),
        *calls,
    ]

    def response(parts: list[Json], figures: Json, finish: str | None) -> Json:
        candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
        candidate |= {"finishReason": finish} if finish else {}
        return {"candidates": [candidate], "usageMetadata": figures, "responseId": "r1", "modelVersion": "m"}

    begun = {"promptTokenCount": said.sent, "totalTokenCount": said.sent}
    pieces = [*thoughts, *spoken, *calls]
    stream = [response([part], begun, None) for part in pieces[:-1]]
    finish = FINISHES[said.finish]
    return response(parts, usage, finish), [*stream, response(pieces[-1:], usage, finish)]


VENDORS = {"chat.completions": chat, "messages": messages, "generateContent": generate_content}


@pytest.mark.parametrize("bridge", BETWEEN, ids=lambda bridge: f"{bridge.caller}-to-{bridge.vendor}")
@given(spoken())
def test_a_stream_and_a_plain_answer_say_the_same(bridge: Bridge, said: Spoken) -> None:
    whole, chunks = VENDORS[bridge.vendor](said)
    plain = bridge.answer(json.dumps(whole).encode(), TERMS)
    stream = bridge.stream(replace(TERMS, stream=True))
    frames = [frame for chunk in chunks for frame in stream.feed(json.dumps(chunk).encode())]
    frames += stream.end()
    well_formed(frames, bridge)
    streamed = b"".join(frames)
    for data, is_stream in ((plain, False), (streamed, True)):
        valid(bridge.caller, data, stream=is_stream)
        heard = read(bridge.caller, data, stream=is_stream)
        calls = [[name, json.loads(given) if isinstance(given, str) else given] for name, given in heard.calls]

        assert (heard.thoughts, heard.text, heard.finish) == (said.thoughts, said.text, said.finish)
        assert calls == [[name, given] for name, given in said.calls]
        assert heard.ended
        assert told_usage(bridge.caller, heard.usage) == _billed(said)


def _billed(said: Spoken) -> dict[str, int]:
    told = {
        "input_token": said.sent - said.cached,
        "cached_input_token": said.cached,
        "output_token": said.came - said.thought_tokens,
        "reasoning_token": said.thought_tokens,
    }
    return {unit: count for unit, count in told.items() if count}
