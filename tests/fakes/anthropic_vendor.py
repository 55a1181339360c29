"""Anthropic's answers, as its API gives them: plain messages, and streams event by event."""

from __future__ import annotations

import json
from typing import Any

MODEL = "claude-3-7-sonnet-20250219"
IN_NANO, OUT_NANO = 15_000, 75_000
"""What a token of MODEL costs."""
USAGE: dict[str, Any] = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 5,
    "service_tier": "standard",
}


def message(*content: dict[str, Any], stop: str = "end_turn", **usage: Any) -> dict[str, Any]:
    """A whole plain answer, as the vendor gives it; without content it says hello."""
    return {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": list(content) or [{"type": "text", "text": "hello"}],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {**USAGE, **usage},
    }


def event(kind: str, **members: Any) -> bytes:
    data = json.dumps({"type": kind, **members}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def start(**usage: Any) -> bytes:
    """The first event: the input's figures, and a placeholder for the output's."""
    begun = message(**usage | {"output_tokens": 1}) | {"content": [], "stop_reason": None}
    return event("message_start", message=begun)


def block(index: int, begun: dict[str, Any], *deltas: dict[str, Any]) -> list[bytes]:
    return [
        event("content_block_start", index=index, content_block=begun),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


def end(stop: str = "end_turn", **usage: Any) -> list[bytes]:
    figures = {"output_tokens": 5, **usage}
    delta = {"stop_reason": stop, "stop_sequence": None}
    return [event("message_delta", delta=delta, usage=figures), event("message_stop")]


def said(*texts: str, index: int = 0) -> list[bytes]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": text} for text in texts))


PING = event("ping")
TEXT_STREAM = [start(), PING, *said("你", "好", " 🌍"), *end()]
SIGNATURE = "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds+/="
THOUGHTFUL_STREAM = [
    start(),
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Let me "},
        {"type": "thinking_delta", "thinking": "think."},
        {"type": "signature_delta", "signature": SIGNATURE},
    ),
    *block(1, {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix/LafPsn4="}),
    *said("Checking.", index=2),
    *block(
        3,
        {"type": "tool_use", "id": "toolu_01A09q90qw90lq917835lq9", "name": "weather", "input": {}},
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"city": "'},
        {"type": "input_json_delta", "partial_json": '上海"}'},
    ),
    *end("tool_use", output_tokens=89),
]
