"""Same protocol in and out: the caller's bytes go up, the upstream's bytes come down."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.caller import CHAT, CHAT_PATH, STREAM, ask, headers_of
from tests.fakes.service import RunningFarebox
from tests.fakes.upstream import ScriptedUpstream, Send, Sleep, Step, chat_completion, json_answer, sse_head

RECORDINGS = {
    path.stem: path.read_bytes() for path in sorted((Path(__file__).parents[1] / "data/streams").glob("*.sse"))
}
CHUNKINGS = 1000
USAGE_FRAME = re.compile(
    rb'(?:id: \d+\nevent: message\n)?data: ?[^\r\n]*"choices":\[\],"usage":\{[^\r\n]*(?:\r\n\r\n|\n\n)'
)
ASKS = {**STREAM, "stream_options": {"include_usage": True}}


def without_usage(stream: bytes) -> bytes:
    """What a caller sees who did not ask for usage."""
    return USAGE_FRAME.sub(b"", stream).replace(b',"usage":null', b"")


def rechunked(stream: bytes, random: random.Random) -> list[Step]:
    """The stream in one to eight pieces, most of them as packets of their own."""
    cuts = sorted(random.sample(range(1, len(stream)), random.randrange(8)))
    steps: list[Step] = [Send(sse_head())]
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        steps += [Send(stream[start:end]), Sleep(random.choice((0, 0, 0.0005)))]
    return steps


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_recordings_hold_what_they_are_there_for() -> None:
    every = b"".join(RECORDINGS.values())
    wanted = [
        "你好",
        "👩‍👩‍👧‍👦",
        "\u2028",
        "\u2029",
        "\x85",
        "\ufeff",
        "\r\n\r\n",
        "-0.0",
        "1e-05",
        "-0.10",
        "-1.0E+2",
        "obfuscation",
    ]
    wanted += [
        "prompt_filter_results",
        "reasoning_content",
        '"refusal":" sorry"',
        '"arguments":',
        ": keep-alive",
        "data:{",
    ]

    assert len(RECORDINGS) >= 12
    assert [each for each in wanted if each.encode() not in every] == []
    assert all(stream.rstrip().endswith(b"[DONE]") for stream in RECORDINGS.values())


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_stream_is_the_same_to_the_byte_however_it_is_cut(
    name: str, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    stream, chance, key = RECORDINGS[name], random.Random(f"seed 1 of {name}"), farebox.new_key()
    rounds = -(-CHUNKINGS // len(RECORDINGS))
    with httpx.Client(base_url=farebox.url, headers=headers_of(key), timeout=30) as client:
        for number in range(rounds):
            upstream.script = rechunked(stream, chance)
            asks = number % 2 == 0
            got = client.post(CHAT_PATH, json=ASKS if asks else STREAM).content

            assert got == (stream if asks else without_usage(stream)), upstream.script
    receipts = farebox.receipts(key.account)
    assert len(receipts) == rounds
    assert {receipt["outcome"] for receipt in receipts} == {"completed"}
    assert len({json.dumps(receipt["usage"]) for receipt in receipts}) == 1  # metered alike, however it was cut
    assert farebox.account(key.account).held_nano == 0


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_stream_byte_by_byte_is_the_same(name: str, farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    stream = RECORDINGS[name][-700:]
    stream = stream[re.search(rb"\n\r?\n", stream).end() :]  # type: ignore[union-attr]
    upstream.script = [Send(sse_head()), *(Send(stream[at : at + 1]) for at in range(len(stream)))]

    assert ask(farebox, farebox.new_key(), ASKS).content == stream


@pytest.mark.parametrize("name", RECORDINGS)
def test_who_asks_for_usage_sends_exactly_what_he_wrote(
    name: str, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    upstream.script = [Send(sse_head() + RECORDINGS[name])]
    body = b'{ "stream_options":{"include_usage" : true},"stream":true , ' + json.dumps(CHAT).encode()[1:]

    assert ask(farebox, farebox.new_key(), body).content == RECORDINGS[name]
    assert upstream.requests[0].body == body


# ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────────

ODD = (
    b'\r\n\t{ "messages" :[ {"role":"user","content":"\\u4f60\xe5\xa5\xbd \\/ \xf0\x9f\x8c\x8d'
    b' \\ud83c\\udf0d \xe2\x80\xa8"} ],'
    b'"temperature":1.0,"top_p":1e0,"seed":-0,"logit_bias":{"50256":-1.00E+2},"x_new":{"k":[1.10,null,{"k":{}}]},'
    b'"n":1,"\\u5907\\u6ce8":"\\u0000","metadata":{"a":1,"b":{"a":2}},\n\n"model":"gpt-4o-mini","max_tokens":100%s}  \n'
)


def test_a_request_goes_up_byte_by_byte_as_it_came(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    body = ODD % b""

    assert ask(farebox, farebox.new_key(), body).status_code == 200
    assert upstream.requests[0].body == body
    assert upstream.requests[0].path == CHAT_PATH


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (b',"stream":true', b',"stream":true'),
        (b',"stream" : true ,"stream_options" : null', b',"stream" : true ,"stream_options" : {"include_usage":true}'),
        (b',"stream_options":{},"stream":true', b',"stream_options":{"include_usage":true},"stream":true'),
        (
            b',"stream":true,"stream_options":\t{ "include_usage":false }\n',
            b',"stream":true,"stream_options":\t{"include_usage":true}\n',
        ),
    ],
)
def test_only_the_wish_for_usage_is_changed_in_a_streaming_request(
    given: bytes, sent: bytes, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    upstream.script = [Send(sse_head() + RECORDINGS["plain"])]
    ask(farebox, farebox.new_key(), ODD % given)
    added = b'"stream_options":{"include_usage":true},' if b"options" not in given else b""

    assert upstream.requests[0].body == (ODD % sent).replace(b"{", b"{" + added, 1)


def test_a_completion_and_an_embedding_go_up_as_they_came(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key()
    completion = b'{"prompt":["\\u4f60",  "b"],"model":"gpt-3.5-turbo-instruct","max_tokens":5,"logprobs":1,"x":1.50}'
    embedding = (
        b' {"input":[[1,2],[3]] ,"model":"text-embedding-3-small","encoding_format":"base64","user":"\xe4\xbd\xa0"}'
    )
    ask(farebox, key, completion, "/v1/completions")
    ask(farebox, key, embedding, "/v1/embeddings")

    assert [request.body for request in upstream.requests] == [completion, embedding]
    assert [request.path for request in upstream.requests] == ["/v1/completions", "/v1/embeddings"]


ODD_ANSWER = (
    b'{"usage":{"total_tokens":2 ,"completion_tokens":1,"prompt_tokens":1},"z":-0.0,"y":1e-05,"x":0.10,'
    b'"big":12345678901234567890,"choices":[{"index":0,"message":{"content":"\\ud83c\\udf0d","role":"assistant",'
    b'"x":[{"k":1,"k":2}],"reasoning_content":"\\u55ef"},"logprobs":{"content":[{"token":"a",'
    b'"logprob":-1.9361265e-07}]},"finish_reason":"stop"}]}\r\n \n'
)
TOOL_ANSWER = (
    b'{"choices":[{"message":{"content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f",'
    b'"arguments":"{\\"usage\\":null}"}}]},"finish_reason":"tool_calls"}],"usage":null,"service_tier":"default"}'
)
# ── plain answers ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(chat_completion("你好 🌍")).encode(),
        json.dumps(chat_completion("你好 \u2028"), ensure_ascii=False, indent=3).encode(),
        ODD_ANSWER,
        TOOL_ANSWER,
        b'{"choices":[{"message":{"content":[{"type":"text","text":"in parts"}]},"finish_reason":"stop"}]}',
        b'{"choices":[{"message":{"content":"half \\ud83c"},"finish_reason":"stop"}]}',
    ],
)
def test_a_plain_answer_comes_down_byte_by_byte_as_it_was(
    body: bytes, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer(body)
    answer = ask(farebox, farebox.new_key())

    assert answer.status_code == 200
    assert answer.content == body
    assert answer.headers["content-type"] == "application/json"


def test_an_answer_in_many_packets_is_the_same(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    body = json.dumps(chat_completion("你好 🌍" * 200), ensure_ascii=False).encode()
    upstream.script = [Send(json_answer(body)[0].data[: -len(body)])]  # type: ignore[union-attr]
    upstream.script += [step for at in range(0, len(body), 331) for step in (Send(body[at : at + 331]), Sleep(0.0005))]

    assert ask(farebox, farebox.new_key()).content == body


def test_the_empty_lines_of_a_waiting_vendor_are_no_answer(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    body = json.dumps(chat_completion()).encode()
    upstream.script = json_answer(b"\n\n\n\n" + body)
    answer = ask(farebox, farebox.new_key())

    assert answer.content == body
    assert int(answer.headers["content-length"]) == len(body)


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_an_embeddings_numbers_are_not_touched(
    encoding: str, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    vector: Any = b"[-0.0,1e-05,0.10,-1.9361265E-7]" if encoding == "float" else b'"AAAAPwAAgL4AAIA/"'
    body = b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":' + vector
    body += b'}],"model":"m","usage":{"prompt_tokens":2,"total_tokens":2}}'
    upstream.script = json_answer(body)
    asked = {"model": "text-embedding-3-small", "input": "hi", "encoding_format": encoding}

    assert ask(farebox, farebox.new_key(), asked, "/v1/embeddings").content == body
