"""The other doors that callers leave (see aborts.py): Anthropic's and Gemini's, each natively and over a bridge."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.fakes import anthropic_vendor
from tests.fakes.aborts import AT_CHAT, CHAT, INPUT_TOKENS, OUTPUT_TOKENS, Door, Pieces
from tests.fakes.upstream import sse_head

WORDS = ("你", "好", "吗")
MARKS = tuple((f"event {number}", word.encode()) for number, word in enumerate(WORDS, start=1))
GEMINI_MODEL = "gemini-2.0-flash"
MESSAGES = {"model": anthropic_vendor.MODEL, "messages": CHAT["messages"], "max_tokens": 100}
CONTENTS = {"contents": [{"parts": [{"text": "hi"}]}], "generationConfig": {"maxOutputTokens": 100}}


def _anthropic() -> Pieces:
    begun, *deltas, stopped = anthropic_vendor.said(*WORDS)
    first, *others = deltas
    cut = first.index("你".encode()) + 1
    delta, stop = anthropic_vendor.end(output_tokens=OUTPUT_TOKENS)
    return (
        ("head", sse_head()),
        ("message_start", anthropic_vendor.start(input_tokens=INPUT_TOKENS) + begun),
        ("half of event 1", first[:cut]),
        ("event 1", first[cut:]),
        *((f"event {number}", event) for number, event in enumerate(others, start=2)),
        ("message_delta", stopped + delta),
        ("message_stop", stop),
    )


def _gemini() -> Pieces:
    pieces: list[tuple[str, bytes]] = [("head", sse_head())]
    for number, word in enumerate(WORDS, start=1):
        figures = {"promptTokenCount": INPUT_TOKENS, "totalTokenCount": INPUT_TOKENS}
        candidate: dict[str, object] = {"content": {"role": "model", "parts": [{"text": word}]}, "index": 0}
        if number == len(WORDS):
            candidate["finishReason"] = "STOP"
            figures |= {"candidatesTokenCount": OUTPUT_TOKENS, "totalTokenCount": INPUT_TOKENS + OUTPUT_TOKENS}
        event = {"candidates": [candidate], "usageMetadata": figures}
        pieces.append((f"event {number}", _event(event)))
    _, (name, first), *others = pieces
    cut = first.index("你".encode()) + 1
    return (pieces[0], ("half of event 1", first[:cut]), (name, first[cut:]), *others)


def _event(document: object) -> bytes:
    return f"data: {json.dumps(document, ensure_ascii=False)}\r\n\r\n".encode()


AT_ANTHROPIC = Door(
    "messages",
    "/messages",
    json.dumps(MESSAGES),
    _anthropic(),
    (*MARKS, ("message_delta", b"event: message_delta"), ("message_stop", b"event: message_stop")),
    "event 1",
    anthropic_vendor.event("message_stop"),
    in_nano=anthropic_vendor.IN_NANO,
    out_nano=anthropic_vendor.OUT_NANO,
)
MESSAGES_AT_OPENAI = replace(
    AT_CHAT,
    name="messages over a bridge",
    path="/messages",
    body=json.dumps({**MESSAGES, "model": CHAT["model"]}),
    marks=(*MARKS, ("[DONE]", b"event: message_stop")),
    plain=(),
)
AT_GEMINI = Door(
    "streamGenerateContent",
    f"/models/{GEMINI_MODEL}:streamGenerateContent?alt=sse",
    json.dumps(CONTENTS),
    _gemini(),
    MARKS[:2],  # the last one may be the end, so it waits for the conclusion
    "event 1",
    _event({"candidates": [{"finishReason": "STOP", "index": 0}], "usageMetadata": {"promptTokenCount": INPUT_TOKENS}}),
    ends=False,
)
GEMINI_AT_OPENAI = replace(
    AT_CHAT,
    name="streamGenerateContent over a bridge",
    path=f"/models/{CHAT['model']}:streamGenerateContent?alt=sse",
    body=json.dumps(CONTENTS),
    marks=(*MARKS, ("[DONE]", b'"finishReason"')),
    plain=(),
    counted=1,
)
