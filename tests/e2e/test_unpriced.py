"""What has no price is refused by the parameter's name, at every endpoint of every dialect, and nothing is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fakes.openai_vendor import PNG, form, wav
from tests.fakes.process import http
from tests.fakes.service import RunningFarebox
from tests.fakes.upstream import ScriptedUpstream

CHAT = "/v1/chat/completions"
GEMINI = "/v1beta/models/gemini-2.5-pro-exp-03-25:generateContent"
BASES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"model": "gpt-3.5-turbo-instruct", "prompt": "hi"},
    "/v1/responses": {"model": "gpt-4o", "input": "hi"},
    "/v1/moderations": {"model": "omni-moderation-latest"},
    "/v1/images/generations": {"model": "dall-e-3", "prompt": "a lamp"},
    "/v1/images/edits": {"model": "dall-e-2", "prompt": "a lamp"},
    "/v1/images/variations": {"model": "dall-e-2"},
    "/v1/audio/speech": {"model": "tts-1", "voice": "alloy", "input": "hi"},
    "/v1/audio/transcriptions": {"model": "whisper-1"},
    "/v1/audio/translations": {"model": "whisper-1"},
    "/v1/messages": {
        "model": "claude-3-7-sonnet-20250219",
        "max_tokens": 10,
        "messages": [{"role": "user", "content": "hi"}],
    },
    GEMINI: {"contents": [{"parts": [{"text": "hi"}]}]},
}
FILES = {
    "/v1/images/edits": {"image": ("a.png", PNG, "image/png")},
    "/v1/images/variations": {"image": ("a.png", PNG, "image/png")},
    "/v1/audio/transcriptions": {"file": ("a.wav", wav(100), "audio/wav")},
    "/v1/audio/translations": {"file": ("a.wav", wav(100), "audio/wav")},
}
DIALECTS = {"/v1/messages": "anthropic", GEMINI: "gemini"}


def part(**members: Any) -> dict[str, Any]:
    """A chat whose one message has this part."""
    return {"messages": [{"role": "user", "content": [members]}]}


def item(**members: Any) -> dict[str, Any]:
    """Responses' input with this part."""
    return {"input": [{"role": "user", "content": [members]}]}


def block(**members: Any) -> dict[str, Any]:
    """A message of Anthropic's with this block."""
    return {"messages": [{"role": "user", "content": [members]}]}


def piece(**members: Any) -> dict[str, Any]:
    """Gemini's contents with this part."""
    return {"contents": [{"parts": [members]}]}


AUDIO = {"data": "AAAA", "format": "wav"}
TIERS = ("flex", "priority", "scale", "fast", "batch", "never-heard-of")
CASES: list[tuple[str, str, dict[str, Any]]] = [
    # A tool.
    (CHAT, "tools[0].type", {"tools": [{"type": "code_interpreter"}]}),
    (CHAT, "tools[1].type", {"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "mcp"}]}),
    (CHAT, "web_search_options", {"web_search_options": {}}),
    *(
        ("/v1/responses", "tools[0].type", {"tools": [{"type": kind, "max_tool_calls": 1}], "max_tool_calls": 1})
        for kind in (
            "web_search",
            "web_search_preview_2025_03_11",
            "file_search",
            "code_interpreter",
            "computer_use_preview",
            "image_generation",
            "mcp",
            "tool_of_tomorrow",
        )
    ),
    (
        "/v1/responses",
        "tools[0].environment",
        {"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]},
    ),
    ("/v1/messages", "tools[0].type", {"tools": [{"type": "web_search_20250305", "name": "w", "max_uses": 1}]}),
    ("/v1/messages", "tools[0].type", {"tools": [{"type": "code_execution_20250825", "name": "c"}]}),
    ("/v1/messages", "mcp_servers", {"mcp_servers": [{"type": "url", "url": "https://mcp.example"}]}),
    (GEMINI, "tools[0].googleSearch", {"tools": [{"googleSearch": {}}]}),
    (GEMINI, "tools[0].codeExecution", {"tools": [{"codeExecution": {}}]}),
    (GEMINI, "tools[0].url_context", {"tools": [{"url_context": {}}]}),
    # A modality.
    (CHAT, "modalities", {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}),
    (CHAT, "modalities", {"modalities": ["text", "image"]}),
    (CHAT, "audio", {"audio": {"voice": "alloy", "format": "wav"}}),
    (CHAT, "messages[0].content[0].type", part(type="input_audio", input_audio=AUDIO)),
    (CHAT, "messages[0].content[0].type", part(type="file", file={"file_data": "data:application/pdf;base64,AA"})),
    (CHAT, "messages[0].content[0].type", part(type="video_url", video_url={"url": "https://films.example"})),
    ("/v1/responses", "input[0].content[0].type", item(type="input_audio", input_audio=AUDIO)),
    ("/v1/responses", "input[0].content[0].type", item(type="input_file", file_url="https://files.example/a.pdf")),
    ("/v1/responses", "input[0].type", {"input": [{"type": "image_generation_call", "id": "ig_1"}]}),
    ("/v1/moderations", "input[0].type", {"input": [{"type": "video_url", "video_url": {}}]}),
    (GEMINI, "generationConfig.responseModalities[0]", {"generationConfig": {"responseModalities": ["AUDIO"]}}),
    (GEMINI, "generationConfig.responseModalities[1]", {"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}),
    (
        GEMINI,
        "contents[0].parts[0].inlineData.mimeType",
        piece(inlineData={"mimeType": "audio/mp3", "data": "AAAA"}),
    ),
    (GEMINI, "contents[0].parts[0].fileData", piece(fileData={"fileUri": "https://films.example"})),
    # A tier of service.
    *((CHAT, "service_tier", {"service_tier": tier}) for tier in TIERS[:5]),
    ("/v1/completions", "service_tier", {"service_tier": "priority"}),
    ("/v1/responses", "service_tier", {"service_tier": "flex"}),
    ("/v1/messages", "service_tier", {"service_tier": "priority"}),
    ("/v1/messages", "speed", {"speed": "fast"}),
    ("/v1/messages", "inference_geo", {"inference_geo": "us"}),
    (GEMINI, "serviceTier", {"serviceTier": "priority"}),
    # A size, a quality.
    ("/v1/images/generations", "size", {"size": "1023x1024"}),
    ("/v1/images/generations", "size", {"size": "512x512"}),
    ("/v1/images/generations", "size", {"size": "01024x1024"}),
    ("/v1/images/generations", "quality", {"quality": "high"}),
    ("/v1/images/generations", "quality", {"model": "dall-e-2", "quality": "hd"}),
    ("/v1/images/generations", "size", {"model": "dall-e-2", "size": "1024x1792"}),
    ("/v1/images/generations", "output_format", {"model": "gpt-image-1", "output_format": "svg"}),
    ("/v1/images/generations", "frame_count", {"model": "gpt-image-1", "frame_count": 2}),
    ("/v1/images/edits", "size", {"size": "1792x1024"}),
    ("/v1/images/edits", "quality", {"quality": "hd"}),
    ("/v1/images/variations", "size", {"size": "2048x2048"}),
    # Something more that is made, or kept, or heard.
    (CHAT, "prediction", {"prediction": {"type": "content", "content": "x"}}),
    (CHAT, "store", {"store": True}),
    (CHAT, "prompt_cache_options.ttl", {"prompt_cache_options": {"ttl": "12h"}}),
    ("/v1/responses", "context_management", {"context_management": [{"type": "compaction"}]}),
    ("/v1/audio/speech", "voice", {"voice": {"id": "voice_1"}}),
    ("/v1/audio/speech", "response_format", {"response_format": "film"}),
    (
        "/v1/audio/transcriptions",
        "known_speaker_references[]",
        {"known_speaker_references[]": "data:audio/wav;base64,"},
    ),
    ("/v1/audio/transcriptions", "url", {"url": "https://sounds.example/long.mp3"}),
    ("/v1/audio/transcriptions", "response_format", {"response_format": "film"}),
    ("/v1/audio/translations", "response_format", {"response_format": "film"}),
    ("/v1/messages", "fallbacks", {"fallbacks": [{"model": "claude-opus-4"}]}),
    ("/v1/messages", "container", {"container": "container_1"}),
    (GEMINI, "cachedContent", {"cachedContent": "cachedContents/1"}),
    (GEMINI, "generationConfig.routingConfig", {"generationConfig": {"routingConfig": {}}}),
]
assert len(CASES) >= 60


@dataclass(frozen=True)
class Told:
    status: int
    param: str | None
    text: str


def send(farebox: RunningFarebox, key: str, path: str, body: dict[str, Any]) -> Told:
    if path in FILES:
        kind, data = form({name: str(value) for name, value in body.items()}, FILES[path])
    else:
        kind, data = "application/json", json.dumps(body).encode()
    header = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}.get(DIALECTS.get(path, ""), "authorization")
    answer = http.post(farebox.url + path, content=data, headers={header: key, "content-type": kind})
    error = answer.json()["error"]
    param = error["details"][0]["metadata"].get("param") if path == GEMINI else error["param"]
    return Told(answer.status_code, param, error["message"])


@pytest.mark.parametrize(("path", "param", "more"), CASES, ids=lambda value: str(value)[:60])
def test_what_has_no_price_is_refused_by_name(
    path: str, param: str, more: dict[str, Any], farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    key = farebox.new_key(credit="10")
    told = send(farebox, key.text, path, {**BASES[path], **more})
    account = farebox.account(key.account)

    assert (told.status, told.param) == (400, param)
    assert param in told.text
    assert (upstream.requests, account.held_nano, account.spent_nano, dict(account.holds)) == ([], 0, 0, {})
    assert farebox.receipts(key.account) == []


@pytest.mark.parametrize("more", [{}, *({"service_tier": tier} for tier in ("auto", "default", None))])
@pytest.mark.parametrize("path", [CHAT, "/v1/responses"])
def test_the_ordinary_tier_may_be_named(
    path: str, more: dict[str, Any], farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    key = farebox.new_key(credit="10")
    answer = http.post(farebox.url + path, json={**BASES[path], **more}, headers={"authorization": key.text})

    assert answer.status_code != 400
    assert len(upstream.requests) >= 1
