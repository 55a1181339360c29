"""Anthropic's official Node SDK at our address: one run of tests/e2e/node/anthropic.mjs for each kind of vendor."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import anthropic_vendor as claude
from tests.fakes.service import RunningFarebox
from tests.fakes.upstream import (
    DONE,
    Request,
    Reset,
    ScriptedUpstream,
    Send,
    Sleep,
    Step,
    chat_completion,
    chat_stream,
    chunk,
    json_answer,
    sse_answer,
    sse_head,
    usage_chunk,
)

SCRIPT = Path(__file__).with_name("node") / "anthropic.mjs"
CITY = '{"city": "上海"}'


def _anthropic(request: Request) -> list[Step]:
    """Plays Anthropic as far as the script asks."""
    body = request.json
    if request.path.endswith("/count_tokens"):
        return json_answer({"input_tokens": 8})
    if body.get("system") == "cut":
        return [Send(sse_head()), Send(b"".join([claude.start(), *claude.said("some")[:-1]])), Sleep(1), Reset()]
    if body.get("stream") and body.get("tools"):
        begun = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
        deltas = ({"type": "input_json_delta", "partial_json": piece} for piece in (CITY[:5], CITY[5:]))
        return sse_answer([claude.start(), *claude.block(0, begun, *deltas), *claude.end("tool_use")])
    return sse_answer(claude.TEXT_STREAM) if body.get("stream") else json_answer(claude.message())


def _openai(request: Request) -> list[Step]:
    """Plays OpenAI as far as the script asks."""
    body = request.json
    if body["messages"][0] == {"role": "system", "content": "cut"}:
        return [Send(sse_head()), Send(chunk("some")), Sleep(1), Reset()]
    if body.get("stream") and body.get("tools"):
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": CITY}}
        choice = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}
        data = json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode()
        return sse_answer([b"data: " + data + b"\n\n", chunk(finish="tool_calls"), usage_chunk(20, 9), DONE])
    return sse_answer(chat_stream("你", "好", " 🌍")) if body.get("stream") else json_answer(chat_completion())


@pytest.mark.parametrize(
    ("model", "vendor", "cost"),
    [(claude.MODEL, _anthropic, "0.000525"), ("gpt-4o", _openai, "0.000525")],
    ids=["anthropic", "openai"],
)
def test_the_node_sdk_creates_streams_calls_tools_counts_lists_and_raises_its_own_errors(
    vendors: RunningFarebox, upstream: ScriptedUpstream, model: str, vendor: Any, cost: str
) -> None:
    upstream.on_request = vendor
    key = vendors.new_key(credit="100")
    environ = {**os.environ, "FAREBOX_URL": vendors.url, "FAREBOX_KEY": key.text, "FAREBOX_MODEL": model}
    run = subprocess.run(["node", SCRIPT], env=environ, capture_output=True, text=True, timeout=60, encoding="utf-8")
    assert run.returncode == 0, run.stderr
    got = json.loads(run.stdout)

    assert (got["message"], got["usage"], got["cost"]) == ("hello", 10, cost)
    assert got["requestId"].startswith("req_")
    assert (got["texts"], got["stop"]) == (["你", "好", " 🌍"], "end_turn")
    assert got["call"] == {"name": "weather", "input": {"city": "上海"}, "stop": "tool_use"}
    assert got["answer"] == "hello"
    assert got["counted"] == 8
    assert {model, "gpt-4o"} <= set(got["models"])
    assert (got["badKey"]["name"], got["badKey"]["type"]) == ("AuthenticationError", "authentication_error")
    assert (got["badKey"]["status"], got["badKey"]["sent"]) == (401, 1)
    assert got["badKey"]["requestId"].startswith("req_")
    assert (got["badModel"]["name"], got["badModel"]["type"]) == ("NotFoundError", "not_found_error")
    assert got["cut"]["type"] == "api_error"
    assert got["cut"]["sent"] == 1
    assert "cut" in {each["attempts"][-1]["result"] for each in vendors.receipts(key.account)}
