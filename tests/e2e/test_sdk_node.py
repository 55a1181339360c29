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
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


def _vendor(request: Request) -> list[Step]:
    """Plays OpenAI as far as the script asks."""
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
def got(farebox: RunningFarebox, upstream: ScriptedUpstream) -> Any:
    """What the script printed, and what the upstream saw of it."""
    upstream.on_request = _vendor
    paid, spent = farebox.new_key(credit="100"), farebox.new_key("free", credit="0")
    headers = {"authorization": spent.text, "x-forwarded-for": ADDRESS}
    for _ in range(5):
        assert http.post(f"{farebox.base_url}/chat/completions", json=CHAT, headers=headers).status_code == 200
    environ = {
        **os.environ,
        "FAREBOX_BASE_URL": farebox.base_url,
        "FAREBOX_PAID_KEY": paid.text,
        "FAREBOX_SPENT_KEY": spent.text,
        "FAREBOX_ADDRESS": ADDRESS,
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
