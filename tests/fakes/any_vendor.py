"""One upstream that plays OpenAI, Anthropic and Google: by its path, each request gets an ordinary answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.fakes import anthropic_vendor as anthropic
from tests.fakes.upstream import (
    Request,
    Send,
    Sleep,
    Step,
    chat_completion,
    chat_stream,
    head,
    json_answer,
    sse_answer,
    sse_head,
)

USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


def answer(request: Request, text: str = "hello") -> list[Step]:
    """What the vendor says to an ordinary request; `text` is the model's."""
    path = request.path.partition("?")[0]
    streams = b'"stream":true' in request.body.replace(b" ", b"") or "streamGenerateContent" in path
    if streams:
        return sse_answer(stream_of(path, text))
    if path.endswith("/audio/speech"):
        return [Send(head(content_type="audio/mpeg") + b"\xff\xfb\x90\x00" + bytes(413))]
    return json_answer(next(make(text) for end, make in PLAIN.items() if path.endswith(end)))


def generated(text: str, finish: str | None = "STOP") -> dict[str, Any]:
    """An answer of Gemini's, or an event of its streams."""
    return {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": finish, "index": 0},
        ],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
    }


def response(text: str) -> dict[str, Any]:
    """An answer of OpenAI's Responses."""
    part = {"type": "output_text", "text": text, "annotations": []}
    output = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    return {"id": "resp_1", "object": "response", "status": "completed", "output": [output], "usage": USAGE}


PLAIN: dict[str, Callable[[str], Any]] = {
    "/chat/completions": chat_completion,
    "/responses": response,
    "/completions": lambda text: {
        "choices": [{"index": 0, "text": text, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    },
    "/embeddings": lambda _: {"data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 3}},
    "/moderations": lambda _: {"results": [{"flagged": False}]},
    "/images/generations": lambda text: {"created": 1, "data": [{"b64_json": "aGk=", "revised_prompt": text}]},
    "/audio/transcriptions": lambda text: {"text": text},
    "/count_tokens": lambda _: {"input_tokens": 3},
    "/messages": lambda text: anthropic.message({"type": "text", "text": text}),
    ":generateContent": generated,
    ":countTokens": lambda _: {"totalTokens": 3},
}
"""How a path ends → the answer; the first that fits."""


def data_event(document: Any) -> bytes:
    """One event without a name."""
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


def stream_of(path: str, text: str) -> list[bytes]:
    """A whole stream of the dialect that is spoken at this path."""
    if path.endswith("/messages"):
        return [anthropic.start(), *anthropic.said(text), *anthropic.end()]
    if "streamGenerateContent" in path:
        return [data_event(generated(text, None)), data_event(generated(text))]
    if path.endswith("/responses"):
        done = {"type": "response.completed", "response": response(text)}
        return [data_event({"type": "response.output_text.delta", "delta": text}), data_event(done)]
    return chat_stream(text)


def broken(request: Request, text: str, error: bytes) -> list[Step]:
    """A stream of which some content has come, and then these bytes."""
    path = request.path.partition("?")[0]
    begun = stream_of(path, text)[: 3 if path.endswith("/messages") else 1]
    return [Send(sse_head()), *map(Send, begun), Sleep(0.05), Send(error)]
