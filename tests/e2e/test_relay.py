"""The relay over real sockets: what goes in, what comes out, what it costs."""

from __future__ import annotations

from tests.fakes.process import http
from tests.fakes.service import RunningFarebox
from tests.fakes.upstream import ScriptedUpstream, chat_stream, sse_answer

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}


def test_a_plain_answer_arrives_as_it_was_and_is_billed_from_the_upstreams_usage(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    key = farebox.new_key(credit="1")
    headers = {"authorization": f"Bearer {key.text}"}
    answer = http.post(f"{farebox.base_url}/chat/completions", json=CHAT, headers=headers)

    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "hello"
    # 10 tokens at 0.00105 CA/1K and 5 at 0.0042
    assert answer.headers["x-farebox-cost"] == "0.0000315"
    assert farebox.account(key.account).spent_nano == 31_500
    assert farebox.account(key.account).held_nano == 0


def test_a_stream_is_passed_on_without_the_usage_that_we_asked_for(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    events = chat_stream("he", "llo", prompt=10, completion=2)
    upstream.script = sse_answer(events)
    key = farebox.new_key(credit="1")
    answer = http.post(
        f"{farebox.base_url}/chat/completions", json={**CHAT, "stream": True}, headers={"authorization": key.text}
    )

    assert answer.content == b"".join(event for event in events if b'"usage":{' not in event)
    assert upstream.requests[0].json["stream_options"] == {"include_usage": True}
    assert farebox.account(key.account).spent_nano == 10 * 1050 + 2 * 4200
