"""OpenAI chat completions as Gemini's answers, plain and streamed. The request stands in gemini_to_chat.

Streams: text crosses as it comes; a tool call is held until all of it has come, because Gemini sends calls whole. The
last frame carries why it ended, and the usage. Gemini's streams have no end marker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from farebox.dialects import sse
from farebox.dialects.bridge import Terms
from farebox.dialects.bridges.crossing import count, dump, inline_image, items, members, parse, signature_of, text
from farebox.dialects.openai.usage import beside_completion

Json = dict[str, Any]

CHOICES_MAX = 128
CALLS_MAX = 1024
DONE = b"[DONE]"
FINISHES: Mapping[str, str] = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "function_call": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
}
UNKNOWN_FINISH = "OTHER"
BROKEN_CALL = "MALFORMED_FUNCTION_CALL"
"""Gemini's own word for a call whose arguments are no JSON object; such a call is left out."""
NO_PARTS: list[Json] = [{"text": ""}]
"""What Gemini itself sends where nothing is left to say: SDKs take content without parts for a failure."""


@dataclass(slots=True)
class _Call:
    """A tool call on its way. `pieces`: of its arguments."""

    id: str = ""
    name: str = ""
    signature: str = ""
    pieces: list[str] = field(default_factory=list)


def answer(data: bytes, terms: Terms) -> bytes:
    """A chat.completion → a GenerateContentResponse. Raises ValueError for what is no answer."""
    said = parse(data)
    choices = _choices(said)
    if not choices:
        raise ValueError("no choices")
    candidates = []
    for index, choice in choices:
        message = members(choice.get("message"))
        calls: dict[int, _Call] = {}
        _gather(message, calls, whole=True)
        last = _last(index, calls, choice.get("finish_reason"), before=_parts(message))
        candidates.append(last | _logprobs(choice))
    return dump(_response(candidates, text(said.get("id")), terms) | _usage(said.get("usage")))


class GeminiStream:
    """Frames of GenerateContentResponse from a stream of chat.completion.chunk."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._id = ""
        self._usage: Json = {}
        self._finishes: dict[int, Any] = {}
        self._calls: dict[int, dict[int, _Call]] = {}

    def feed(self, data: bytes) -> list[bytes]:
        """One chunk → at most one frame."""
        said = None if data == DONE else parse(data)
        if not isinstance(said, dict):
            return []
        self._id = self._id or text(said.get("id"))
        self._usage = _usage(said.get("usage")) or self._usage
        candidates = []
        for index, choice in _choices(said):
            # DeepSeek, Moonshot and others may report it on the chunk, or even in the choice.
            self._usage = _usage(choice.get("usage")) or self._usage
            delta = members(choice.get("delta"))
            self._finishes[index] = choice.get("finish_reason") or self._finishes.get(index)
            _gather(delta, self._calls.setdefault(index, {}), whole=False)
            parts, logprobs = _parts(delta), _logprobs(choice)
            if parts or logprobs:
                candidates.append(_candidate(index, parts or NO_PARTS) | logprobs)
        return self._frame(candidates, {}) if candidates else []

    def end(self) -> list[bytes]:
        """One frame: the tool calls, why each candidate ended, the usage."""
        finishes = self._finishes or {0: None}
        candidates = [
            _last(index, self._calls.get(index, {}), reason, before=[]) for index, reason in sorted(finishes.items())
        ]
        return self._frame(candidates, self._usage)

    def _frame(self, candidates: list[Json], usage: Json) -> list[bytes]:
        try:
            return [sse.event(dump(_response(candidates, self._id, self._terms) | usage))]
        except ValueError:
            return []


def _choices(said: Any) -> list[tuple[int, Json]]:
    """Each choice and its number: its own or, where it has none, its place."""
    found: list[tuple[int, Json]] = []
    for place, choice in enumerate(items(members(said).get("choices"))[:CHOICES_MAX]):
        if isinstance(choice, dict):
            index = choice.get("index")
            found.append((index if type(index) is int and 0 <= index < CHOICES_MAX else place, choice))
    return found


def _response(candidates: list[Json], identity: str, terms: Terms) -> Json:
    return {"candidates": candidates, "modelVersion": terms.model, "responseId": identity or terms.id}


def _candidate(index: int, parts: list[Json]) -> Json:
    return {"content": {"role": "model", "parts": parts}, "index": index}


def _last(index: int, calls: Mapping[int, _Call], reason: Any, *, before: list[Json]) -> Json:
    """A candidate that has ended, with its calls behind what it said `before`."""
    finish = FINISHES.get(reason, UNKNOWN_FINISH) if isinstance(reason, str) and reason else "STOP"
    made = [_function_call(call) for _, call in sorted(calls.items())]
    if None in made and finish == "STOP":
        finish = BROKEN_CALL
    parts = before + [part for part in made if part is not None]
    return _candidate(index, parts or NO_PARTS) | {"finishReason": finish}


def _parts(said: Json) -> list[Json]:
    """What a message or a delta says: thoughts first, then text and refusal, then images (OpenRouter's shape)."""
    parts: list[Json] = []
    if thoughts := text(said.get("reasoning_content")) or text(said.get("reasoning")):
        parts.append({"text": thoughts, "thought": True})
    spoken = text(said.get("content")) + text(said.get("refusal"))
    if spoken:
        parts.append({"text": spoken})
    urls = [members(members(image).get("image_url")).get("url") for image in items(said.get("images"))]
    parts += [{"inlineData": blob} for blob in map(inline_image, urls) if blob]
    if signature := signature_of(said):
        parts = parts or [{"text": ""}]
        parts[-1]["thoughtSignature"] = signature
    return parts


def _gather(said: Json, calls: dict[int, _Call], *, whole: bool) -> None:
    """Adds what a message or a delta says of tool calls. In a `whole` message the place is the number."""
    for place, each in enumerate(items(said.get("tool_calls"))):
        if not isinstance(each, dict):
            continue
        index = place if whole else each.get("index")
        index = index if type(index) is int and index >= 0 else place
        if index not in calls and len(calls) >= CALLS_MAX:
            continue
        call = calls.setdefault(index, _Call())
        call.id = call.id or text(each.get("id"))
        call.signature = call.signature or signature_of(each)
        _gather_function(members(each.get("function")), call)
    if isinstance(said.get("function_call"), dict):  # the way of 2023: one call, without id
        _gather_function(said["function_call"], calls.setdefault(0, _Call()))


def _gather_function(function: Json, call: _Call) -> None:
    call.name = call.name or text(function.get("name"))
    call.pieces.append(text(function.get("arguments")))


def _function_call(call: _Call) -> Json | None:
    """None where the arguments are no JSON object, cut off for example."""
    args = parse("".join(call.pieces) or "{}")
    if not isinstance(args, dict) or not call.name:
        return None
    made: Json = {"name": call.name, "args": args}
    if call.id:
        made["id"] = call.id
    part: Json = {"functionCall": made}
    if call.signature:
        part["thoughtSignature"] = call.signature
    return part


def _logprobs(choice: Json) -> Json:
    content = items(members(choice.get("logprobs")).get("content"))
    if not content:
        return {}
    chosen = [_token(each) for each in content]
    top = [{"candidates": [_token(other) for other in items(members(each).get("top_logprobs"))]} for each in content]
    return {"logprobsResult": {"chosenCandidates": chosen, "topCandidates": top}}


def _token(each: Any) -> Json:
    said = members(each)
    logprob = said.get("logprob")
    return {"token": text(said.get("token")), "logProbability": logprob if type(logprob) in (int, float) else 0}


def _usage(told: Any) -> Json:
    """OpenAI counts thoughts in what came back, Gemini beside it."""
    if not isinstance(told, dict):
        return {}
    sent, beside = count(told.get("prompt_tokens")), beside_completion(told)
    came = count(told.get("completion_tokens")) + beside
    thoughts = count(members(told.get("completion_tokens_details")).get("reasoning_tokens")) or beside
    came = max(came, thoughts)
    cached = count(members(told.get("prompt_tokens_details")).get("cached_tokens"))
    cached = cached or count(told.get("prompt_cache_hit_tokens"))
    figures = {
        "promptTokenCount": sent,
        "cachedContentTokenCount": cached,
        "candidatesTokenCount": came - thoughts,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": sent + came,
    }
    optional = ("cachedContentTokenCount", "thoughtsTokenCount")
    return {"usageMetadata": {name: figure for name, figure in figures.items() if figure or name not in optional}}
