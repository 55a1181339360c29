"""Gemini's answers as OpenAI chat completions, plain and streamed. The request stands in chat_to_gemini.

Streams: every chunk of Gemini's is a whole answer's shape with a piece of the text; its usage is a running total, and
its finishReason may stand on chunks that are not the last (older models), so both wait for the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farebox.dialects import sse
from farebox.dialects.bridge import Terms
from farebox.dialects.bridges.crossing import count, dump, extra_content, image_url, items, members, parse, text

Json = dict[str, Any]

CHOICES_MAX = 128
DONE = sse.event(b"[DONE]")
FINISHES: Mapping[str, str] = {
    "": "stop",
    "FINISH_REASON_UNSPECIFIED": "stop",
    "STOP": "stop",
    "FUNCTION_CALL": "stop",  # unknown to the API itself, but some that imitate it say so
    "MAX_TOKENS": "length",
}
WITHHELD = "content_filter"
"""Every other reason (SAFETY, RECITATION, BLOCKLIST, MALFORMED_FUNCTION_CALL, …) means that something was withheld."""


class _CallIds:
    """Ids for the tool calls of one answer."""

    def __init__(self, terms: Terms) -> None:
        self._stem = f"call_{terms.id}"
        self._given = 0

    def next(self) -> str:
        """One that has not been given before."""
        self._given += 1
        return f"{self._stem}{self._given}"


def answer(data: bytes, terms: Terms) -> bytes:
    """A GenerateContentResponse → a chat.completion. Raises ValueError for what is no answer."""
    said = parse(data)
    if not isinstance(said, dict) or not (_candidates(said) or _blocked(said)):
        raise ValueError("neither candidates nor a reason for their absence")
    ids = _CallIds(terms)
    choices = [_choice(index, candidate, ids) for index, candidate in _candidates(said)]
    whole: Json = {
        "id": _id(said, terms),
        "object": "chat.completion",
        "created": terms.created_s,
        "model": terms.model,
        "choices": choices or [_choice(0, {"finishReason": "SAFETY"}, ids)],
    }
    if (usage := _usage(said)) is not None:
        whole["usage"] = usage
    return dump(whole)


class ChatStream:
    """chat.completion.chunk frames from a stream of GenerateContentResponse."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._ids = _CallIds(terms)
        self._id = ""
        self._usage: Json | None = None
        self._blocked = False
        self._finishes: dict[int, str] = {}
        self._calls: dict[int, int] = {}

    def feed(self, data: bytes) -> list[bytes]:
        """One chunk → at most one frame a candidate."""
        said = parse(data)
        if not isinstance(said, dict) or not ("candidates" in said or "usageMetadata" in said or _blocked(said)):
            return []
        self._id = self._id or _id(said, self._terms)
        usage = _usage(said)
        self._usage = usage if usage is not None else self._usage
        self._blocked = self._blocked or _blocked(said)
        frames = [self._candidate(index, candidate) for index, candidate in _candidates(said)]
        return [frame for frame in frames if frame]

    def end(self) -> list[bytes]:
        """Why each choice ended, the usage if it was asked for, [DONE]."""
        frames = []
        if not self._finishes:
            frames.append(self._candidate(0, {"finishReason": "SAFETY" if self._blocked else "STOP"}))
        for index, reason in sorted(self._finishes.items()):
            finish = _finish(reason, calls=bool(self._calls.get(index)))
            frames.append(self._frame([_chunk_choice(index, {}, None, finish)]))
        if self._terms.include_usage and self._usage is not None:
            frames.append(self._frame([], self._usage))
        return [frame for frame in frames if frame] + [DONE]

    def _candidate(self, index: int, candidate: Json) -> bytes:
        first = index not in self._finishes
        self._finishes[index] = text(candidate.get("finishReason")) or self._finishes.get(index, "")
        delta = _message(candidate, self._ids)
        for call in delta.get("tool_calls", ()):
            call["index"] = self._calls.get(index, 0)
            self._calls[index] = call["index"] + 1
        logprobs = _logprobs(candidate)
        if first:
            delta = {"role": "assistant", "content": ""} | delta
        return self._frame([_chunk_choice(index, delta, logprobs, None)]) if delta or logprobs else b""

    def _frame(self, choices: list[Json], usage: Json | None = None) -> bytes:
        """b"" for what cannot be written."""
        chunk: Json = {
            "id": self._id or _id({}, self._terms),
            "object": "chat.completion.chunk",
            "created": self._terms.created_s,
            "model": self._terms.model,
            "choices": choices,
        }
        if self._terms.include_usage:
            chunk["usage"] = usage
        try:
            return sse.event(dump(chunk))
        except ValueError:
            return b""


def _candidates(said: Json) -> list[tuple[int, Json]]:
    """Each candidate and its number: its own or, where it has none, its place."""
    found: list[tuple[int, Json]] = []
    for place, candidate in enumerate(items(said.get("candidates"))[:CHOICES_MAX]):
        if isinstance(candidate, dict):
            index = candidate.get("index")
            found.append((index if type(index) is int and 0 <= index < CHOICES_MAX else place, candidate))
    return found


def _blocked(said: Json) -> bool:
    """Whether the prompt was refused."""
    return bool(members(said.get("promptFeedback")).get("blockReason"))


def _id(said: Json, terms: Terms) -> str:
    return f"chatcmpl-{text(said.get('responseId')) or terms.id}"


def _choice(index: int, candidate: Json, ids: _CallIds) -> Json:
    said = _message(candidate, ids)
    calls = said.get("tool_calls")
    return {
        "index": index,
        "message": {"role": "assistant", "content": None if calls else "", "refusal": None} | said,
        "logprobs": _logprobs(candidate),
        "finish_reason": _finish(text(candidate.get("finishReason")), calls=bool(calls)),
    }


def _chunk_choice(index: int, delta: Json, logprobs: Json | None, finish: str | None) -> Json:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _finish(reason: str, *, calls: bool) -> str:
    finish = FINISHES.get(reason, WITHHELD)
    return "tool_calls" if calls and finish == "stop" else finish


def _message(candidate: Json, ids: _CallIds) -> Json:
    """What a candidate says, as members of a message or of a delta; what it does not say is not in it."""
    spoken: list[str] = []
    thoughts: list[str] = []
    calls: list[Json] = []
    images: list[Json] = []
    said: Json = {}
    for part in items(members(candidate.get("content")).get("parts")):
        if not isinstance(part, dict):
            continue
        signature = text(part.get("thoughtSignature"))
        if isinstance(part.get("functionCall"), dict):
            calls.append(_tool_call(part["functionCall"], signature, ids))
            continue
        if words := text(part.get("text")):
            (thoughts if part.get("thought") is True else spoken).append(words)
        if url := image_url(members(part.get("inlineData"))):
            images.append({"type": "image_url", "image_url": {"url": url}})
        if signature:
            said |= extra_content(signature)
    if spoken:
        said["content"] = "".join(spoken)
    if thoughts:
        said["reasoning_content"] = "".join(thoughts)
    if calls:
        said["tool_calls"] = calls
    if images:
        said["images"] = images
    return said


def _tool_call(call: Json, signature: str, ids: _CallIds) -> Json:
    try:
        arguments = dump(members(call.get("args"))).decode()
    except ValueError:
        arguments = "{}"
    made: Json = {
        "id": text(call.get("id")) or ids.next(),
        "type": "function",
        "function": {"name": text(call.get("name")), "arguments": arguments},
    }
    return made | (extra_content(signature) if signature else {})


def _logprobs(candidate: Json) -> Json | None:
    result = members(candidate.get("logprobsResult"))
    chosen, top = items(result.get("chosenCandidates")), items(result.get("topCandidates"))
    if not chosen:
        return None
    content = []
    for place, each in enumerate(chosen):
        others = items(members(top[place]).get("candidates")) if place < len(top) else []
        content.append(_token(each) | {"top_logprobs": [_token(other) for other in others]})
    return {"content": content, "refusal": None}


def _token(each: Any) -> Json:
    said = members(each)
    token, logprob = text(said.get("token")), said.get("logProbability")
    return {
        "token": token,
        "logprob": logprob if type(logprob) in (int, float) else 0,  # proto3 leaves noughts out
        "bytes": list(token.encode("utf-8", "replace")),
    }


def _usage(said: Json) -> Json | None:
    """Gemini counts thoughts, and what tools put before the model, beside the rest; OpenAI counts them in it."""
    told = said.get("usageMetadata")
    if not isinstance(told, dict):
        return None
    thoughts = count(told.get("thoughtsTokenCount"))
    sent = count(told.get("promptTokenCount")) + count(told.get("toolUsePromptTokenCount"))
    came = count(told.get("candidatesTokenCount")) + thoughts
    return {
        "prompt_tokens": sent,
        "completion_tokens": came,
        "total_tokens": sent + came,
        "prompt_tokens_details": {"cached_tokens": count(told.get("cachedContentTokenCount"))},
        "completion_tokens_details": {"reasoning_tokens": thoughts},
    }
