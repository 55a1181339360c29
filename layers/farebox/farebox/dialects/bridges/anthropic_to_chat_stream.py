"""Answers of OpenAI chat as Anthropic messages, plain and streamed. The way back of bridges/anthropic_to_chat.

A plain answer is read as one large delta, so that both ways give the same blocks: thoughts, text and a refusal's text,
tool calls, in the order in which they came.

OpenAI tells the usage last and may interleave the tool calls; Anthropic wants one block open at a time, in ascending
order. So message_start shows zeros and message_delta, held back to the end, the whole usage (the SDKs take the later
figures); and what belongs to a later block waits until the one before it is whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from farebox.dialects import sse
from farebox.dialects.bridge import StreamBridge, Terms
from farebox.dialects.bridges.crossing import count, dump, items, members, parse, signature_of, text
from farebox.dialects.openai.usage import beside_completion

Json = dict[str, Any]

DONE = b"[DONE]"
ID_CHARS_MAX = 64
STOP_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "stop": "end_turn",
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "function_call": "tool_use",
        "content_filter": "refusal",
        "insufficient_system_resource": "max_tokens",  # DeepSeek: cut short
    }
)
"""finish_reason → stop_reason; any other is "end_turn". A stop sequence cannot be told from an ordinary end."""
REASONING_MEMBERS = ("reasoning_content", "reasoning")
"""Where vendors put thoughts; one that sends both says the same twice."""
RAW_ARGUMENTS = "raw_arguments"
"""The one member of a tool's input, in a plain answer, whose arguments are no JSON object: their text, so that nothing
is lost and the tool's own checks refuse it. In a stream the text goes as it comes."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def own_signature(member: str, model: str) -> str:
    """The signature of a thinking block that stands for what `model` (its public name) said under `member`.

    Anthropic's callers return thinking blocks as they were. "thought_signature" is Google's: it seals the next tool
    call, and its text follows behind this head.
    """
    return f"farebox:{member}:{model}:"


@dataclass(slots=True)
class _Block:
    """One content block as it grows. `kind`: "text", "thinking" or "tool_use". `signature`: of a thinking block.

    `id`: of a tool call; `vendor_id`: what the vendor calls it, "" if it has no name for it.
    """

    kind: str
    signature: str = ""
    id: str = ""
    vendor_id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    _checked: int = 0

    def start(self) -> Json:
        """The block as content_block_start shows it."""
        if self.kind == "tool_use":
            return {"type": "tool_use", "id": self.id, "name": self.name, "input": {}}
        return {"type": self.kind, self.kind: ""} | ({"signature": ""} if self.kind == "thinking" else {})

    def delta(self, piece: str) -> Json:
        if self.kind == "tool_use":
            return {"type": "input_json_delta", "partial_json": piece}
        return {"type": f"{self.kind}_delta", self.kind: piece}

    def whole(self) -> Json:
        """The block as a plain answer has it."""
        said = "".join(self.pieces)
        if self.kind == "tool_use":
            return self.start() | {"input": _input(said)}
        return self.start() | {self.kind: said} | ({"signature": self.signature} if self.kind == "thinking" else {})

    def is_complete(self) -> bool:
        """Whether nothing can be missing from it. A tool call ends with its arguments' last bracket."""
        if self.kind != "tool_use":
            return True
        # Parsed only where it may have ended, and then not before it has doubled, lest a long call be parsed for ever.
        if not self.pieces or len(self.pieces) < 2 * self._checked or not self.pieces[-1].rstrip().endswith("}"):
            return False
        self._checked = len(self.pieces)
        return isinstance(parse("".join(self.pieces)), dict)


class _Reader:
    """Deltas → blocks, in the order in which they begin."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._calls: dict[int, _Block] = {}
        self._ids: set[str] = set()
        self._refused = False
        self.blocks: list[_Block] = []

    def read(self, delta: Json) -> Iterator[tuple[_Block, str]]:
        """What this delta adds: blocks, new ones among them, and the text by which each grows, maybe none."""
        for member in REASONING_MEMBERS:
            if said := _said(delta.get(member)):
                yield self._last("thinking", own_signature(member, self._terms.model)), said
                break
        for member in ("content", "refusal"):
            if said := _said(delta.get(member)):
                self._refused = self._refused or member == "refusal"
                yield self._last("text"), said
        for position, call in enumerate(items(delta.get("tool_calls"))):
            if isinstance(call, dict):
                yield from self._read_call(call, position)

    def stop_reason(self, finish: Any) -> str:
        """Some vendors say "stop" after tool calls, and "tool_calls" after none."""
        reason = STOP_REASONS.get(finish, "end_turn") if isinstance(finish, str) else "end_turn"
        if reason in ("end_turn", "tool_use"):
            called = any(block.kind == "tool_use" for block in self.blocks)
            return "tool_use" if called else "refusal" if self._refused else "end_turn"
        return reason

    def _last(self, kind: str, signature: str = "") -> _Block:
        """The last block if it is of this kind, or a new one."""
        if not self.blocks or (self.blocks[-1].kind, self.blocks[-1].signature) != (kind, signature):
            self.blocks.append(_Block(kind, signature))
        return self.blocks[-1]

    def _read_call(self, call: Json, position: int) -> Iterator[tuple[_Block, str]]:
        given, vendor_id, function = call.get("index"), text(call.get("id")), members(call.get("function"))
        index = given if type(given) is int else position
        block = self._calls.get(index)
        # Google numbers every call 0: another id is another call.
        if block is None or (vendor_id and block.vendor_id and vendor_id != block.vendor_id):
            if seal := signature_of(call):
                sealing = _Block("thinking", own_signature("thought_signature", self._terms.model) + seal)
                self.blocks.append(sealing)
                yield sealing, ""
            block = _Block("tool_use", id=self._id(vendor_id), vendor_id=vendor_id)
            self._calls[index] = block
            self.blocks.append(block)
        block.name = block.name or text(function.get("name"))
        yield block, _arguments(function.get("arguments"))

    def _id(self, vendor_id: str) -> str:
        """The vendor's id if it is there, of the allowed letters and not used twice in this answer; or one of ours."""
        made = vendor_id if vendor_id and not _UNSAFE.search(vendor_id) else f"toolu_{self._terms.id}_{len(self._ids)}"
        if made in self._ids:
            made = f"toolu_{self._terms.id}_{len(self._ids)}"
        self._ids.add(made)
        return made


class _Stream:
    """One stream on its way to the caller: the reader's blocks, sent one after the other."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._reader = _Reader(terms)
        self._at = 0
        """Which of the reader's blocks is being sent."""
        self._open: _Block | None = None
        self._started = self._ended = False
        self._usage: Any = None
        self._finish: Any = None

    def feed(self, data: bytes) -> list[bytes]:
        chunk = None if data == DONE else parse(data)
        if not isinstance(chunk, dict):
            return []
        choice = _first_choice(chunk)
        for usage in (choice.get("usage") if choice else None, chunk.get("usage")):
            self._usage = usage if isinstance(usage, dict) else self._usage
        if choice is None:
            return []
        frames = self._start(chunk)
        delta = choice.get("delta") or choice.get("message")
        for block, piece in self._reader.read(members(delta)):
            if piece:
                block.pieces.append(piece)
            if piece and self._open is block:
                frames.append(self._delta(block.delta(piece)))
            frames += self._advance()
        if choice.get("finish_reason") is not None:
            self._finish = choice["finish_reason"]
        return frames

    def end(self) -> list[bytes]:
        if self._ended:
            return []
        self._ended = True
        frames = self._start({})
        while self._at < len(self._reader.blocks):
            frames += [*self._open_block(), *self._close_block()]
        delta = {"stop_reason": self._reader.stop_reason(self._finish), "stop_sequence": None}
        frames.append(_event("message_delta", delta=delta, usage=_usage(self._usage)))
        frames.append(_event("message_stop"))
        return frames

    def _start(self, chunk: Json) -> list[bytes]:
        if self._started:
            return []
        self._started = True
        return [_event("message_start", message=_message(chunk, self._terms))]

    def _advance(self) -> list[bytes]:
        """Opens the block whose turn it is, and closes what is complete as soon as another waits behind it."""
        frames: list[bytes] = []
        blocks = self._reader.blocks
        while self._at < len(blocks):
            block = blocks[self._at]
            if self._open is None and block.kind == "tool_use" and not block.name:
                break  # its name may yet come
            frames += self._open_block()
            if self._at + 1 == len(blocks) or not block.is_complete():
                break
            frames += self._close_block()
        return frames

    def _open_block(self) -> list[bytes]:
        if self._open is not None:
            return []
        self._open = block = self._reader.blocks[self._at]
        frames = [_event("content_block_start", index=self._at, content_block=block.start())]
        waiting = "".join(block.pieces)
        return [*frames, self._delta(block.delta(waiting))] if waiting else frames

    def _close_block(self) -> list[bytes]:
        block, frames = self._reader.blocks[self._at], []
        if block.kind == "thinking":
            frames.append(self._delta({"type": "signature_delta", "signature": block.signature}))
        frames.append(_event("content_block_stop", index=self._at))
        block.pieces.clear()
        self._open = None
        self._at += 1
        return frames

    def _delta(self, delta: Json) -> bytes:
        return _event("content_block_delta", index=self._at, delta=delta)


def stream(terms: Terms) -> StreamBridge:
    """A bridge for one answer's stream."""
    return _Stream(terms)


def answer(data: bytes, terms: Terms) -> bytes:
    """A chat.completion as an Anthropic message. Raises ValueError for what is no answer."""
    chat = parse(data)
    choice = _first_choice(chat) if isinstance(chat, dict) else None
    message = choice.get("message") if choice else None
    if choice is None or not isinstance(message, dict):
        raise ValueError("no chat.completion")
    reader = _Reader(terms)
    for block, piece in reader.read(message):
        block.pieces.append(piece)
    said = _message(chat, terms) | {
        "content": [block.whole() for block in reader.blocks],
        "stop_reason": reader.stop_reason(choice.get("finish_reason")),
        "usage": _usage(chat.get("usage")),
    }
    return dump(said)


def _message(chat: Json, terms: Terms) -> Json:
    """A message in which nothing is said yet."""
    made = _UNSAFE.sub("", text(chat.get("id")))[:ID_CHARS_MAX]
    return {
        "id": f"msg_{made or terms.id}",
        "type": "message",
        "role": "assistant",
        "model": text(chat.get("model")) or terms.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(None),
    }


def _usage(raw: Any) -> Json:
    """OpenAI's figures in Anthropic's disjoint ones, for the caller to read; noughts where there are none.

    Nothing is billed from here. xAI and Google leave thoughts out of completion_tokens but not out of the total.
    """
    figures = members(raw)
    sent, beside = count(figures.get("prompt_tokens")), beside_completion(figures)
    came = count(figures.get("completion_tokens")) + beside
    details = members(figures.get("prompt_tokens_details"))
    cached = count(details.get("cached_tokens")) or count(figures.get("prompt_cache_hit_tokens"))
    written = count(details.get("cache_write_tokens"))
    if cached + written > sent:  # they contradict each other: the whole is believed
        cached = written = 0
    thoughts = count(members(figures.get("completion_tokens_details")).get("reasoning_tokens"))
    thoughts = min(thoughts or beside, came)
    return {
        "input_tokens": sent - cached - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": came,
        **({"output_tokens_details": {"thinking_tokens": thoughts}} if thoughts else {}),
    }


def _first_choice(chat: Json) -> Json | None:
    """No request of ours asks for more than one."""
    choices = chat.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None


def _said(value: Any) -> str:
    """A text; Mistral and others send it in parts."""
    if isinstance(value, list):
        return "".join(text(members(part).get("text")) for part in value)
    return text(value)


def _arguments(value: Any) -> str:
    """A call's arguments. Some vendors send the object itself."""
    if not isinstance(value, dict):
        return text(value)
    try:
        return dump(value).decode()
    except ValueError:
        return ""


def _input(arguments: str) -> Json:
    """A tool's input. None at all is an empty one."""
    if arguments.strip() in ("", "null"):
        return {}
    value = parse(arguments)
    if isinstance(value, dict):
        with suppress(ValueError):
            dump(value)
            return value
    return {RAW_ARGUMENTS: arguments}


def _event(name: str, **others: Any) -> bytes:
    return sse.event(dump({"type": name} | others), name)
