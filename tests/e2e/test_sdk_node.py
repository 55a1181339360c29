"""The official Node SDK at our base_url: one run of tests/e2e/node/sdk.mjs, and what it got."""

from __future__ import annotations

import base64
import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.openai_vendor import answer, recorded, tones
from tests.fakes.openai_vendor import stream as sse
from tests.fakes.process import http
from tests.fakes.service import RunningFarebox
from tests.fakes.upstream import (
    Request,
    Reset,
    ScriptedUpstream,
    Send,
    Step,
    chat_completion,
    chat_stream,
    chunk,
    json_answer,
    sse_answer,
    sse_head,
)

SCRIPT = Path(__file__).with_name("node") / "sdk.mjs"
VECTOR = [0.5, -0.25, 1.0]
ADDRESS = "198.19.0.1"
SRT = b"1\n00:00:00,000 --> 00:00:01,000\n\xe7\x81\xaf\n\n"
RECORDED = {
    "/v1/responses": "responses.text",
    "/v1/images/generations": "images.generations.picture",
    "/v1/images/edits": "images.edits.picture",
    "/v1/audio/transcriptions": "audio.transcriptions.text",
}
"""Path → the recorded answer, of which there is a .json and an .sse."""
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


def _vendor(request: Request) -> list[Step]:
    """Plays OpenAI as far as the script asks."""
    if request.path == "/v1/audio/speech":
        return answer(recorded("audio.speech.sound.mp3"), "audio/mpeg")
    if b"srt" in request.body:
        return answer(SRT, "text/plain; charset=utf-8")
    if request.path in RECORDED:
        name, streams = RECORDED[request.path], b'"stream":true' in request.body or b'name="stream"' in request.body
        return sse(recorded(f"{name}.sse")) if streams else answer(recorded(f"{name}.json"))
    body = request.json
    if request.path == "/v1/embeddings":
        packed = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()
        value = packed if body.get("encoding_format") == "base64" else VECTOR
        data = [{"object": "embedding", "index": 0, "embedding": value}]
        return json_answer({"object": "list", "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}})
    if body.get("user") == "cut":
        return [Send(sse_head()), Send(chunk("some")), Reset()]
    if body.get("stream"):
        return sse_answer(chat_stream("你", "好", prompt=7))
    return json_answer(chat_completion())


@pytest.fixture
def got(farebox: RunningFarebox, upstream: ScriptedUpstream, tmp_path: Path) -> Any:
    """What the script printed, and what the upstream saw of it."""
    upstream.on_request = _vendor
    paid, spent = farebox.new_key(credit="100"), farebox.new_key("free", credit="0")
    headers = {"authorization": spent.text, "x-forwarded-for": ADDRESS}
    for _ in range(5):
        assert http.post(f"{farebox.base_url}/chat/completions", json=CHAT, headers=headers).status_code == 200
    sound = tmp_path / "sound.mp3"
    sound.write_bytes(tones()["bare_vbr.mp3"])
    environ = {
        **os.environ,
        "FAREBOX_BASE_URL": farebox.base_url,
        "FAREBOX_PAID_KEY": paid.text,
        "FAREBOX_SPENT_KEY": spent.text,
        "FAREBOX_ADDRESS": ADDRESS,
        "FAREBOX_SOUND": str(sound),
    }
    run = subprocess.run(["node", SCRIPT], env=environ, capture_output=True, text=True, timeout=60, encoding="utf-8")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_the_node_sdk_chats_streams_embeds_lists_and_raises_its_own_errors(got: Any) -> None:
    assert got["chat"] == "hello"
    assert got["requestId"].startswith("req_")
    assert got["cost"] == "0.0000315"
    assert got["stream"] == "你好"
    assert got["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    assert got["embedding"] == VECTOR
    assert {"gpt-4o", "gpt-4o-mini", "text-embedding-3-small"} <= set(got["models"])
    assert got["model"] == "gpt-4o"

    assert (got["badKey"]["name"], got["badKey"]["code"]) == ("AuthenticationError", "invalid_api_key")
    assert got["badKey"]["requestId"].startswith("req_")
    # x-should-retry: false keeps the SDK from asking three times for what a day will not give.
    assert (got["quota"]["name"], got["quota"]["code"], got["quota"]["sent"]) == (
        "RateLimitError",
        "daily_quota_exceeded",
        1,
    )
    assert (got["cut"]["name"], got["cut"]["code"], got["cut"]["sent"]) == ("APIError", "upstream_error", 1)


LIT = "The lamp in bay 3 is lit. 灯亮着 💡"


def test_the_node_sdk_has_its_responses_images_sounds_and_transcripts(got: Any, upstream: ScriptedUpstream) -> None:
    assert (got["response"], got["deltas"], got["helped"]) == (LIT, LIT, LIT)
    assert (got["events"][0], got["events"][-1]) == ("response.created", "response.completed")
    assert got["image"] == json.loads(recorded("images.generations.picture.json"))["data"][0]["b64_json"]
    assert got["partial"] == ["image_generation.partial_image", "image_generation.completed"]
    assert got["edit"] == 1
    assert got["speech"] == {
        "type": "audio/mpeg",
        "base64": base64.b64encode(recorded("audio.speech.sound.mp3")).decode(),
    }
    assert got["transcript"] == got["heard"] == "The lamp is lit. 灯亮着。"
    assert got["asText"] == SRT.decode()
    assert [got[name]["name"] for name in ("stored", "elsewhere", "noSound")] == [
        "BadRequestError",
        "NotFoundError",
        "BadRequestError",
    ]
    assert [request.json["store"] for request in upstream.requests if request.path == "/v1/responses"] == [False] * 3
    assert [request.body.count(b"a.png") for request in upstream.requests if request.path == "/v1/images/edits"] == [2]
