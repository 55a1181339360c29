"""The doors of the relay as a table: path → operation. What is not in it is 404, and nothing is forwarded."""

from __future__ import annotations

import re
from dataclasses import dataclass

from farebox.dialects.wire import Wire
from farebox.dialects.wires import WIRES


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An operation that was called. `model` and `stream` come from the path where a dialect has them there (Gemini)."""

    wire: Wire
    model: str | None = None
    stream: bool | None = None


PATHS: dict[str, str] = {
    "/v1/chat/completions": "chat.completions",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
    "/v1/moderations": "moderations",
    "/v1/images/generations": "images.generations",
    "/v1/images/edits": "images.edits",
    "/v1/images/variations": "images.variations",
    "/v1/audio/speech": "audio.speech",
    "/v1/audio/transcriptions": "audio.transcriptions",
    "/v1/audio/translations": "audio.translations",
    "/v1/messages": "messages",
}
METHODS: dict[str, tuple[str, bool | None]] = {
    "generateContent": ("generateContent", False),
    "streamGenerateContent": ("generateContent", True),
    "embedContent": ("embedContent", None),
    "batchEmbedContents": ("batchEmbedContents", None),
}
"""Gemini's methods behind a model's name → the operation, and whether its answer is a stream."""
_GEMINI = re.compile(r"/v1(?:alpha|beta)?/models/([^:]{1,200}):([A-Za-z]{1,40})")
"""Google's Python SDK calls v1 since its third major, its other SDKs v1beta. All are served alike."""
GEMINI_ROOTS = ("/v1beta", "/v1alpha")


def endpoint_at(path: str) -> Endpoint | None:
    """The operation at this path; None where there is none."""
    name = PATHS.get(path)
    if name is not None:
        return Endpoint(WIRES[name])
    model, method = gemini_method(path) or ("", "")
    if method not in METHODS:
        return None
    name, stream = METHODS[method]
    return Endpoint(WIRES[name], model, stream)


def gemini_method(path: str) -> tuple[str, str] | None:
    """The model and the method of a path in Gemini's way of writing."""
    found = _GEMINI.fullmatch(path)
    return (found[1], found[2]) if found else None


def dialect_of(path: str) -> str:
    """Which dialect speaks at this path: errors are told in it, also where there is no such path."""
    if path in GEMINI_ROOTS or path.startswith(tuple(f"{root}/" for root in GEMINI_ROOTS)) or gemini_method(path):
        return "gemini"
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return "anthropic"
    return "openai"
