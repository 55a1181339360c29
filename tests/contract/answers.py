"""What a caller reads in an answer of its dialect, plain or streamed: an independent reader, and the official types."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from anthropic.types import Message, RawMessageStreamEvent
from google.genai.types import EmbedContentResponse, GenerateContentResponse
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from tests.contract.recordings import Facts

Json = Any


@dataclass
class Said:
    """`calls`: name, and arguments as text or whole. `usage`: as the caller sees it. `ended`: the end marker came."""

    text: str = ""
    thoughts: str = ""
    refusal: str = ""
    calls: list[list[Any]] = field(default_factory=list)
    finish: str | None = None
    usage: Json = None
    ended: bool = False

    def agrees_with(self, facts: Facts, *, bridged: bool) -> None:
        """Asserts that nothing was lost, added or changed. Other dialects have no word for a refusal but its text."""
        told = self.text + self.refusal if bridged else self.text
        assert told == facts.text + (facts.refusal if bridged else "")
        assert self.thoughts == facts.thoughts
        assert [[name, _parsed(arguments)] for name, arguments in self.calls] == facts.calls
        if facts.finish is not None:
            # Anthropic has a word for a model that declines, where OpenAI says "stop".
            assert self.finish in (facts.finish, "content_filter" if facts.refusal and bridged else facts.finish)


def frames_of(data: bytes) -> list[str]:
    """The data of each event, whatever ends its lines. Comments and pings without data are none."""
    events = data.decode().replace("\r\n", "\n").split("\n\n")
    lines = [[line[5:].removeprefix(" ") for line in event.split("\n") if line.startswith("data:")] for event in events]
    return ["\n".join(each) for each in lines if each]


def read(operation: str, data: bytes, *, stream: bool) -> Said:
    """What a caller of this operation makes of an answer."""
    read_plain, read_stream = READERS[operation]
    if not stream:
        return read_plain(json.loads(data), Said(ended=True))
    said = Said()
    for frame in frames_of(data):
        if frame == "[DONE]":
            said.ended = True
        else:
            read_stream(json.loads(frame), said)
    return said


def valid(operation: str, data: bytes, *, stream: bool) -> None:
    """Raises what the official SDK's types raise for what is not theirs."""
    plain, streamed = TYPES[operation]
    if not stream:
        plain.validate_json(data)
        return
    assert streamed is not None
    for frame in frames_of(data):
        if frame != "[DONE]" and frame != '{"type": "ping"}':
            streamed.validate_json(frame)


TYPES: dict[str, tuple[TypeAdapter[Any], TypeAdapter[Any] | None]] = {
    "chat.completions": (TypeAdapter(ChatCompletion), TypeAdapter(ChatCompletionChunk)),
    "completions": (TypeAdapter(Completion), TypeAdapter(Completion)),
    "embeddings": (TypeAdapter(CreateEmbeddingResponse), None),
    "messages": (TypeAdapter(Message), TypeAdapter(RawMessageStreamEvent)),
    "generateContent": (TypeAdapter(GenerateContentResponse), TypeAdapter(GenerateContentResponse)),
    "embedContent": (TypeAdapter(dict[str, Any]), None),
    "batchEmbedContents": (TypeAdapter(EmbedContentResponse), None),
}
"""Operation → the official types of a plain answer and of an event."""


def _parsed(arguments: Any) -> Any:
    return json.loads(arguments) if isinstance(arguments, str) else arguments


# ── OpenAI ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _chat(chunk: Json, said: Said) -> Said:
    """A chunk, or a whole completion."""
    said.usage = chunk.get("usage") or said.usage
    for choice in chunk.get("choices") or ():
        said.finish = choice.get("finish_reason") or said.finish
        delta = choice.get("delta") or choice.get("message") or {}
        said.text += choice.get("text") or delta.get("content") or ""
        said.refusal += delta.get("refusal") or ""
        said.thoughts += delta.get("reasoning_content") or delta.get("reasoning") or ""
        for place, call in enumerate(delta.get("tool_calls") or ()):
            index = call.get("index", place)
            while len(said.calls) <= index:
                said.calls.append(["", ""])
            said.calls[index][0] += call["function"].get("name") or ""
            said.calls[index][1] += call["function"].get("arguments") or ""
    return said


def _response(response: Json, said: Said) -> Said:
    said.usage = response["usage"]
    for item in response["output"]:
        if item["type"] == "message":
            said.text += "".join(part["text"] for part in item["content"])
        elif item["type"] == "reasoning":
            said.thoughts += "".join(part["text"] for part in item["summary"])
        else:
            said.calls.append([item["name"], item["arguments"]])
    return said


def _response_event(event: Json, said: Said) -> Said:
    """Only deltas count, so that they are compared with the whole."""
    match event["type"]:
        case "response.output_text.delta":
            said.text += event["delta"]
        case "response.reasoning_summary_text.delta":
            said.thoughts += event["delta"]
        case "response.output_item.added" if event["item"]["type"] == "function_call":
            said.calls.append([event["item"]["name"], ""])
        case "response.function_call_arguments.delta":
            said.calls[-1][1] += event["delta"]
        case "response.completed":
            said.usage, said.ended = event["response"]["usage"], True
    return said


# ── Anthropic ───────────────────────────────────────────────────────────────────────────────────────────────────────

STOPS = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter"}


def _message(message: Json, said: Said) -> Said:
    said.usage, said.finish = message["usage"], STOPS[message["stop_reason"]]
    for block in message["content"]:
        said.text += block.get("text", "")
        said.thoughts += block.get("thinking", "")
        if block["type"] == "tool_use":
            said.calls.append([block["name"], block["input"]])
    return said


def _message_event(event: Json, said: Said) -> Said:
    match event["type"]:
        case "message_start":
            said.usage = dict(event["message"]["usage"])
        case "content_block_start" if event["content_block"]["type"] == "tool_use":
            said.calls.append([event["content_block"]["name"], ""])
        case "content_block_delta":
            delta = event["delta"]
            said.text += delta.get("text", "")
            said.thoughts += delta.get("thinking", "")
            if delta["type"] == "input_json_delta":
                said.calls[-1][1] += delta["partial_json"]
        case "message_delta":
            said.finish = STOPS[event["delta"]["stop_reason"]]
            said.usage |= {name: value for name, value in event["usage"].items() if value is not None}
        case "message_stop":
            said.ended = True
    return said


# ── Gemini ──────────────────────────────────────────────────────────────────────────────────────────────────────────

FINISHES = {"STOP": "stop", "FUNCTION_CALL": "stop", "MAX_TOKENS": "length"}


def _generated(response: Json, said: Said) -> Said:
    """A chunk, or a whole response. A stream's end is the reason of its candidate."""
    said.usage = response.get("usageMetadata") or said.usage
    for candidate in response.get("candidates", ()):
        for part in candidate.get("content", {}).get("parts", ()):
            if part.get("thought"):
                said.thoughts += part["text"]
            else:
                said.text += part.get("text", "")
            if call := part.get("functionCall"):
                said.calls.append([call["name"], call["args"]])
        if reason := candidate.get("finishReason"):
            finish = FINISHES.get(reason, "content_filter")
            said.finish = "tool_calls" if said.calls and finish == "stop" else finish
            said.ended = True
    return said


Reader = Callable[[Json, Said], Said]
READERS: dict[str, tuple[Reader, Reader]] = {
    "chat.completions": (_chat, _chat),
    "completions": (_chat, _chat),
    "responses": (_response, _response_event),
    "messages": (_message, _message_event),
    "generateContent": (_generated, _generated),
}
"""Operation → what reads a plain answer, and what reads one event more."""


# ── what the caller is told of its usage ────────────────────────────────────────────────────────────────────────────


def told_usage(operation: str, usage: Json) -> dict[str, int]:
    """A caller's figures as a receipt has them, noughts left out; classes that the dialect has no word for are in
    their wholes.
    """
    match operation:
        case "messages":
            details = usage.get("output_tokens_details") or {}
            thoughts = details.get("thinking_tokens", 0)
            told = {
                "input_token": usage["input_tokens"],
                "cache_write_token": usage.get("cache_creation_input_tokens") or 0,
                "cached_input_token": usage.get("cache_read_input_tokens") or 0,
                "output_token": usage["output_tokens"] - thoughts,
                "reasoning_token": thoughts,
            }
        case "generateContent":
            cached = usage.get("cachedContentTokenCount", 0)
            told = {
                "input_token": usage["promptTokenCount"] - cached,
                "cached_input_token": cached,
                "output_token": usage.get("candidatesTokenCount", 0),
                "reasoning_token": usage.get("thoughtsTokenCount", 0),
            }
        case _:
            sent, came = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
            cached, written = sent.get("cached_tokens") or 0, sent.get("cache_write_tokens") or 0
            thoughts = came.get("reasoning_tokens") or 0
            told = {
                "input_token": usage["prompt_tokens"] - cached - written,
                "cached_input_token": cached,
                "cache_write_token": written,
                "output_token": usage["completion_tokens"] - thoughts,
                "reasoning_token": thoughts,
            }
    return {unit: count for unit, count in told.items() if count}
