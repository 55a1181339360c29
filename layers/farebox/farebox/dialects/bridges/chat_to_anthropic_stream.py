"""Anthropic's answers as OpenAI chat completions: plain and streamed. The request stands in chat_to_anthropic.py.

Thoughts come twice: as `reasoning_content`, to be read, and as `reasoning_details`, with the signatures that the
vendor wants back. Citations and the blocks of the vendor's own tools are left out: nothing that this bridge sends
asks for them. The joined deltas of a stream are the plain answer's message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import orjson

from farebox.dialects import sse
from farebox.dialects.bridge import Terms
from farebox.domain.usage import COUNT_MAX

Block = dict[str, Any]
THOUGHT_FORMAT = "anthropic-claude-v1"
"""What `reasoning_details` call thoughts that Anthropic signed."""
DONE = b"data: [DONE]\n\n"
FINISH_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "pause_turn": "stop",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "tool_use": "tool_calls",
        "refusal": "content_filter",
    }
)
"""Why the vendor's model stopped → why OpenAI's would have. A reason that is not known yet counts as "stop"."""
INPUT_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def answer(data: bytes, terms: Terms) -> bytes:
    """The vendor's message as a chat.completion. Raises ValueError for what is no message."""
    message = _object(_parsed(data))
    if message.get("type") != "message" or not isinstance(message.get("content"), list):
        raise ValueError("no message")
    blocks = [_object(block) for block in message["content"]]
    texts = [text for block in blocks if (text := _string(block, "text", "text"))]
    thoughts = [text for block in blocks if (text := _string(block, "thinking", "thinking"))]
    details = [detail for block in blocks if (detail := _detail(block))]
    calls = [
        {**call, "function": {**call["function"], "arguments": _arguments(block.get("input"))}}
        for block in blocks
        if (call := _call(block))
    ]
    said: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not calls else None,
        "refusal": _refusal(message),
    }
    if thoughts:
        said["reasoning_content"] = "".join(thoughts)
    if details:
        said["reasoning_details"] = [{**detail, "index": index} for index, detail in enumerate(details)]
    if calls:
        said["tool_calls"] = calls
    made = {
        **_head(_id(message, terms), "chat.completion", terms),
        "choices": [
            {"index": 0, "message": said, "logprobs": None, "finish_reason": _finish_reason(message) or "stop"}
        ],
    }
    if usage := _usage(_object(message.get("usage"))):
        made["usage"] = usage
    return _dumped(made)


class ChatStream:
    """One message's stream as chat.completion.chunk frames. Never raises; what it cannot read it skips."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._id = _id({}, terms)
        self._started = False
        self._finished = False
        self._ended = False
        self._usage: dict[str, Any] = {}
        # By the vendor's index of a block: our own index of the call or of the thought; and, until the call's input
        # comes in deltas, the input that came with its start.
        self._calls: dict[int, int] = {}
        self._thoughts: dict[int, int] = {}
        self._inputs: dict[int, str] = {}

    def feed(self, data: bytes) -> list[bytes]:
        """One event's data → whole frames, maybe none."""
        try:
            event = _object(_parsed(data))
            kind = event.get("type")
            see = self._EVENTS.get(kind) if isinstance(kind, str) and not self._ended else None
            return see(self, event) if see else []
        except ValueError:
            return []

    def end(self) -> list[bytes]:
        """What is outstanding: the finish, the usage if it is wanted and known, [DONE]."""
        if self._ended:
            return []
        frames = self._finish("tool_calls" if self._calls else "stop") if self._started else []
        self._ended = True
        usage = _usage(self._usage)
        if usage and self._terms.include_usage:
            frames.append(self._frame({"choices": [], "usage": usage}))
        return [*frames, DONE]

    # ── our chunks ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _frame(self, members: Mapping[str, Any]) -> bytes:
        return sse.event(_dumped({**_head(self._id, "chat.completion.chunk", self._terms), **members}))

    def _chunk(self, delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._frame({"choices": [choice], **({"usage": None} if self._terms.include_usage else {})})

    def _start(self) -> list[bytes]:
        """The opening chunk, unless it has gone."""
        started, self._started = self._started, True
        return [] if started else [self._chunk({"role": "assistant", "content": ""})]

    def _say(self, **delta: Any) -> list[bytes]:
        return [*self._start(), self._chunk(delta)]

    def _think(self, index: int, kind: str, members: Mapping[str, str]) -> list[bytes]:
        """A piece of a thought. `type` and `index` alone stand in each: clients join what else repeats."""
        first = index not in self._thoughts
        number = self._thoughts.setdefault(index, len(self._thoughts))
        opening = {"format": THOUGHT_FORMAT, **({"text": ""} if kind == "reasoning.text" else {})} if first else {}
        readable = {"reasoning_content": members["text"]} if members.get("text") else {}
        return self._say(**readable, reasoning_details=[{"type": kind, **opening, **members, "index": number}])

    def _close(self, index: int) -> list[bytes]:
        """The input of a call for which no deltas came."""
        if (text := self._inputs.pop(index, None)) is None:
            return []
        return self._say(tool_calls=[{"index": self._calls[index], "function": {"arguments": text}}])

    def _finish(self, reason: str, **delta: Any) -> list[bytes]:
        frames = [frame for index in list(self._inputs) for frame in self._close(index)]
        if not self._finished:
            self._finished = True
            frames = [*self._start(), *frames, self._chunk(delta, reason)]
        return frames

    # ── the vendor's events ─────────────────────────────────────────────────────────────────────────────────────────

    def _message_start(self, event: Block) -> list[bytes]:
        message = _object(event.get("message"))
        if not self._started:
            self._id = _id(message, self._terms)
        self._keep_usage(message)
        return self._start()

    def _block_start(self, event: Block) -> list[bytes]:
        index, block = _index(event), _object(event.get("content_block"))
        if (call := _call(block)) and index not in self._calls:
            number = self._calls[index] = len(self._calls)
            self._inputs[index] = _arguments(block.get("input"))
            return self._say(tool_calls=[{"index": number, **call}])
        if (detail := _detail(block)) and detail["type"] == "reasoning.encrypted":
            return self._think(index, detail["type"], {"data": detail["data"]})
        # A block of text or of thoughts that begins with something in it is like its own first deltas.
        begun = ("text_delta",) if block.get("type") == "text" else ("thinking_delta", "signature_delta")
        if block.get("type") not in ("text", "thinking"):
            return []
        deltas = [{"index": index, "delta": {**block, "type": kind}} for kind in begun]
        return [frame for delta in deltas for frame in self._delta(delta)]

    def _delta(self, event: Block) -> list[bytes]:
        index, delta = _index(event), _object(event.get("delta"))
        if text := _string(delta, "text_delta", "text"):
            return self._say(content=text)
        if text := _string(delta, "thinking_delta", "thinking"):
            return self._think(index, "reasoning.text", {"text": text})
        if text := _string(delta, "signature_delta", "signature"):
            return self._think(index, "reasoning.text", {"signature": text})
        if (text := _string(delta, "input_json_delta", "partial_json")) and index in self._calls:
            self._inputs.pop(index, None)
            return self._say(tool_calls=[{"index": self._calls[index], "function": {"arguments": text}}])
        return []

    def _block_stop(self, event: Block) -> list[bytes]:
        return self._close(_index(event))

    def _message_delta(self, event: Block) -> list[bytes]:
        delta = _object(event.get("delta"))
        self._keep_usage(event)
        if not (reason := _finish_reason(delta)):
            return []
        refusal = _refusal(delta)
        return self._finish(reason, **({"refusal": refusal} if refusal else {}))

    def _keep_usage(self, source: Block) -> None:
        """Later figures take the place of earlier ones: they are running totals."""
        figures = _object(source.get("usage"))
        for name in (*INPUT_COUNTS, "output_tokens", "output_tokens_details"):
            if figures.get(name) is not None:
                self._usage[name] = figures[name]

    _EVENTS: ClassVar[Mapping[str, Callable[[ChatStream, Block], list[bytes]]]] = MappingProxyType(
        {
            "message_start": _message_start,
            "content_block_start": _block_start,
            "content_block_delta": _delta,
            "content_block_stop": _block_stop,
            "message_delta": _message_delta,
        }
    )


# ── reading and writing, both ways of answering ─────────────────────────────────────────────────────────────────────


def _parsed(data: bytes) -> Any:
    """Any JSON, whole numbers exact and half an emoji forgiven. Raises ValueError."""
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _dumped(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # half an emoji: escaped, it stays what it was
        return json.dumps(value, separators=(",", ":")).encode()


def _object(value: Any) -> Block:
    return value if isinstance(value, dict) else {}


def _string(block: Block, kind: str, name: str) -> str:
    """The member of a block of that type; "" where there is none."""
    value = block.get(name)
    return value if block.get("type") == kind and isinstance(value, str) else ""


def _index(event: Block) -> int:
    index = event.get("index")
    return index if type(index) is int else -1


def _head(made_id: str, what: str, terms: Terms) -> dict[str, Any]:
    return {"id": made_id, "object": what, "created": terms.created_s, "model": terms.model}


def _id(message: Block, terms: Terms) -> str:
    given = message.get("id")
    return f"chatcmpl-{given if isinstance(given, str) and given else terms.id}"


def _finish_reason(source: Block) -> str | None:
    reason = source.get("stop_reason")
    return FINISH_REASONS.get(reason, "stop") if isinstance(reason, str) else None


def _refusal(source: Block) -> str | None:
    """The vendor's explanation of a refusal, if it gives one."""
    return _string(_object(source.get("stop_details")), "refusal", "explanation") or None


def _detail(block: Block) -> dict[str, Any] | None:
    """A block of thoughts as it is to come back."""
    if data := _string(block, "redacted_thinking", "data"):
        return {"type": "reasoning.encrypted", "format": THOUGHT_FORMAT, "data": data}
    text, signature = (_string(block, "thinking", name) for name in ("thinking", "signature"))
    if not text and not signature:
        return None
    signed = {"signature": signature} if signature else {}
    return {"type": "reasoning.text", "format": THOUGHT_FORMAT, "text": text, **signed}


def _call(block: Block) -> dict[str, Any] | None:
    """A block that calls a tool, its arguments yet to come."""
    call_id, name = (_string(block, "tool_use", member) for member in ("id", "name"))
    return (
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": ""}} if call_id and name else None
    )


def _arguments(value: Any) -> str:
    """Raises ValueError."""
    try:
        return json.dumps(_object(value), ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _usage(figures: Block) -> dict[str, Any] | None:
    """OpenAI's usage: its prompt includes what was read from the cache and written to it. None if it is not known."""
    counts = [figures.get(name) or 0 for name in INPUT_COUNTS]
    output: Any = figures.get("output_tokens")
    if figures.get("input_tokens") is None or any(
        type(count) is not int or not 0 <= count <= COUNT_MAX for count in (*counts, output)
    ):
        return None
    prompt = sum(counts)
    made: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": counts[2], "cache_write_tokens": counts[1]},
    }
    thinking = _object(figures.get("output_tokens_details")).get("thinking_tokens")
    if type(thinking) is int and 0 <= thinking <= output:
        made["completion_tokens_details"] = {"reasoning_tokens": thinking}
    return made
