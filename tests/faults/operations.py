"""What is asked for in the fault tests: operations of several dialects, and vendors' answers, piece by piece."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from farebox.relay.channels import Channel
from farebox.vendors import VENDORS
from tests.fakes import anthropic_vendor
from tests.fakes.port_upstream import Script
from tests.fakes.upstream import chat_completion, chat_stream
from tests.faults.lab import MODEL

SPEECH_MODEL = "tts-1"
SPOKEN = "hello there"
Json = dict[str, Any]


@dataclass(frozen=True)
class Operation:
    """`body`: what the caller says, and the most output it wants → its body. `in_path`: the model stands in the path.

    `ends`: what a whole stream has in it, any of them (none: whatever ends cleanly is whole). `last`: what stands in
    its last bytes. `array`: as one JSON array.
    """

    wire: str
    body: Callable[[str, int | None], Json]
    ends: tuple[bytes, ...] = ()
    last: bytes = b""
    model: str = MODEL
    in_path: bool = False
    array: bool = False


def _chat(said: str, limit: int | None) -> Json:
    limited = {} if limit is None else {"max_tokens": limit}
    return {"model": MODEL, "messages": [{"role": "user", "content": said}], **limited}


def _messages(said: str, limit: int | None) -> Json:
    return {"model": MODEL, "messages": [{"role": "user", "content": said}], "max_tokens": limit or 100}


def _contents(said: str, limit: int | None) -> Json:
    return {"contents": [{"parts": [{"text": said}]}], "generationConfig": {"maxOutputTokens": limit or 100}}


def _speech(_: str, __: int | None) -> Json:
    return {"model": SPEECH_MODEL, "input": SPOKEN, "voice": "alloy"}


FINISHED = b'"finishReason"'
CHAT = Operation("chat.completions", _chat, (b"data: [DONE]", b'"finish_reason":"stop"'), b"data: [DONE]")
MESSAGES = Operation("messages", _messages, (b"event: message_stop",), b"event: message_stop")
GEMINI = Operation("generateContent", _contents, (FINISHED,), FINISHED, in_path=True)
GEMINI_ARRAY = Operation("generateContent", _contents, (b"}}]",), b"}}]", in_path=True, array=True)
SPEECH = Operation("audio.speech", _speech, model=SPEECH_MODEL)


def channel(name: str, vendor: str = "openai", *, priority: int = 0, keys: tuple[str, ...] = ("sk",)) -> Channel:
    """A channel that serves every model of the catalog by this vendor's doors; its name is its host."""
    url = f"http://{name}"
    return Channel(name=name, vendor=VENDORS[vendor], base_url=url, keys=keys, priority=priority, demo=True)


def two(first: str = "openai", second: str = "openai") -> tuple[Channel, ...]:
    """`first` is asked first."""
    return channel("first", first, priority=1), channel("second", second)


# ── Answers: `words` are their pieces of content, `prompt` and `completion` their usage ─────────────────────────────


def chat(*words: str, prompt: int, completion: int, stream: bool = True) -> Script:
    if not stream:
        body = json.dumps(chat_completion(words[0], prompt=prompt, completion=completion)).encode()
        return Script([body], prompt=prompt, completion=completion, words=words)
    chunks = chat_stream(*words, prompt=prompt, completion=completion)
    return Script(chunks, stream=True, prompt=prompt, completion=completion, words=words, tail=2)


def anthropic(*words: str, prompt: int, completion: int, stream: bool = True) -> Script:
    figures = {"input_tokens": prompt, "output_tokens": completion}
    if not stream:
        text = {"type": "text", "text": words[0]}
        chunks = [json.dumps(anthropic_vendor.message(text, **figures)).encode()]
    else:
        said = anthropic_vendor.said(*words)
        chunks = [anthropic_vendor.start(input_tokens=prompt), *said, *anthropic_vendor.end(output_tokens=completion)]
    return Script(chunks, stream=stream, prompt=prompt, completion=completion, words=words)


def gemini(*words: str, prompt: int, completion: int) -> Script:
    """A stream as Gemini gives it: the last piece of content says why it ended, and nothing follows."""
    chunks = []
    for number, word in enumerate(words, start=1):
        candidate: Json = {"content": {"role": "model", "parts": [{"text": word}]}, "index": 0}
        figures: Json = {"promptTokenCount": prompt, "totalTokenCount": prompt}
        if number == len(words):
            candidate["finishReason"] = "STOP"
            figures |= {"candidatesTokenCount": completion, "totalTokenCount": prompt + completion}
        event = {"candidates": [candidate], "usageMetadata": figures}
        chunks.append(b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\r\n\r\n")
    return Script(chunks, stream=True, prompt=prompt, completion=completion, words=words)


def sound(*pieces: bytes) -> Script:
    """Speech whose length nobody says."""
    words = tuple(piece.decode("latin-1") for piece in pieces)
    used = {"character": len(SPOKEN)}
    return Script(list(pieces), content_type="audio/mpeg", words=words, used=used, completion=1)
