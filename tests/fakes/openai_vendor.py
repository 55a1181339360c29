"""OpenAI's answers besides chats, as its API reference gives them, and what is sent to get them: sounds, forms."""

from __future__ import annotations

import io
import json
import wave
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.contract.recordings import read
from tests.fakes.upstream import Send, Step, head, sse_head

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6364f8cf500f0003860180"
    "5a347d6b0000000049454e44ae426082"
)
"""One pixel."""
WAV_RATE = 8000
BOUNDARY = "----form-of-a-test-3f9a"
Files = Mapping[str, tuple[str, bytes, str]] | list[tuple[str, tuple[str, bytes, str]]]


def recorded(name: str) -> bytes:
    """One of tests/data/recordings/openai."""
    return read("openai", name)


def tones() -> dict[str, bytes]:
    """File name → one second of a sine, as that encoder writes it."""
    path = Path(__file__).parents[1] / "data" / "media" / "tones.zip"
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def wav(milliseconds: int) -> bytes:
    """So much silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(WAV_RATE)
        sound.writeframes(bytes(2 * WAV_RATE * milliseconds // 1000))
    return file.getvalue()


def form(fields: Mapping[str, str], files: Files, boundary: str = BOUNDARY) -> tuple[str, bytes]:
    """(content type, body): texts first, then files as name → (file name, bytes, type)."""
    mark = f"--{boundary}\r\nContent-Disposition: form-data; name="
    pieces = [f'{mark}"{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
    for name, (filename, data, kind) in files.items() if isinstance(files, Mapping) else files:
        begins = f'{mark}"{name}"; filename="{filename}"\r\nContent-Type: {kind}\r\n\r\n'
        pieces += [begins.encode(), data, b"\r\n"]
    return f"multipart/form-data; boundary={boundary}", b"".join(pieces) + f"--{boundary}--\r\n".encode()


def answer(body: bytes, content_type: str = "application/json", status: int = 200, **headers: str) -> list[Step]:
    """A plain answer that says its length."""
    return [Send(head(status, content_type, content_length=str(len(body)), **headers) + body)]


def stream(events: bytes | list[bytes]) -> list[Step]:
    """Events, one write each, or all at once."""
    return [Send(sse_head()), *(Send(each) for each in ([events] if isinstance(events, bytes) else events))]


def event(kind: str, **members: Any) -> bytes:
    data = json.dumps({"type": kind, **members}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


# ── Responses ───────────────────────────────────────────────────────────────────────────────────────────────────────

REASONING: dict[str, Any] = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Look first."}],
    "encrypted_content": "gAAAAABo" + "Zx9_" * 30,
}
CALL: dict[str, Any] = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"上海"}',
}


def said(text: str) -> dict[str, Any]:
    """A message of the model's."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def response(*output: dict[str, Any], sent: int = 10, came: int = 5, thought: int = 0, **more: Any) -> dict[str, Any]:
    """A whole response; without output it says hello."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1764000000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "gpt-4o",
        "output": list(output) or [said("hello")],
        "parallel_tool_calls": True,
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": sent,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": came,
            "output_tokens_details": {"reasoning_tokens": thought},
            "total_tokens": sent + came,
        },
        **more,
    }


def response_events(whole: dict[str, Any]) -> list[bytes]:
    """The stream that ends with `whole`: each item of its output in deltas."""
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
    ]
    for index, item in enumerate(whole["output"]):
        place = {"item_id": item["id"], "output_index": index}
        events.append(("response.output_item.added", {"output_index": index, "item": EMPTY[item["type"]](item)}))
        events += [(kind, {**place, **members}) for kind, members in DELTAS[item["type"]](item)]
        events.append(("response.output_item.done", {"output_index": index, "item": item}))
    events.append((f"response.{whole['status']}", {"response": whole}))
    return [event(kind, **members, sequence_number=number) for number, (kind, members) in enumerate(events)]


def _message_deltas(item: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    (part,) = item["content"]
    text, at = part["text"], {"content_index": 0}
    pieces = [text[: len(text) // 2], text[len(text) // 2 :]]
    deltas = [
        ("response.output_text.delta", {**at, "delta": piece, "logprobs": [], "obfuscation": "x"}) for piece in pieces
    ]
    return [
        ("response.content_part.added", {**at, "part": {**part, "text": ""}}),
        *deltas,
        ("response.output_text.done", {**at, "text": text, "logprobs": []}),
        ("response.content_part.done", {**at, "part": part}),
    ]


def _reasoning_deltas(item: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    (part,) = item["summary"]
    at = {"summary_index": 0}
    return [
        ("response.reasoning_summary_part.added", {**at, "part": {**part, "text": ""}}),
        ("response.reasoning_summary_text.delta", {**at, "delta": part["text"]}),
        ("response.reasoning_summary_text.done", {**at, "text": part["text"]}),
        ("response.reasoning_summary_part.done", {**at, "part": part}),
    ]


def _call_deltas(item: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    arguments = item["arguments"]
    return [
        ("response.function_call_arguments.delta", {"delta": arguments[:4]}),
        ("response.function_call_arguments.delta", {"delta": arguments[4:]}),
        ("response.function_call_arguments.done", {"name": item["name"], "arguments": arguments}),
    ]


DELTAS = {"message": _message_deltas, "reasoning": _reasoning_deltas, "function_call": _call_deltas}
EMPTY: dict[str, Any] = {
    "message": lambda item: {**item, "status": "in_progress", "content": []},
    "reasoning": lambda item: {"id": item["id"], "type": "reasoning", "summary": []},
    "function_call": lambda item: {**item, "status": "in_progress", "arguments": ""},
}
"""Type of an item → the item as it begins."""
