"""`farebox serve --demo` with no channel: every door answers, says that it is a demo, and costs what the list says."""

from __future__ import annotations

import base64
import io
import json
import struct
import wave
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

import httpx
import pytest
from openai import OpenAI
from pydantic import BaseModel

from farebox.domain.receipts import arithmetic_errors
from tests.fakes.process import FareboxProcess, http, wait_until

SAYS = "demo upstream, not a model"
HI: Any = [{"role": "user", "content": "hi"}]
SPOKEN = "你好, speak!"
SECONDS = 1.5
GEMINI = "/v1beta/models/gemini-2.0-flash"
GEMINI_HI: Any = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}

# nano-CA by the price list: for a token that is sent, and one that comes back.
MINI, INSTRUCT, HAIKU, FLASH = (1050, 4200), (10_500, 14_000), (5000, 25_000), (5000, 20_000)
EMBEDDING = 140
GPT_IMAGE_TEXT, GPT_IMAGE_SENT, GPT_IMAGE_MADE = 40_000, 80_000, 320_000


def wav(seconds: float) -> bytes:
    """Silence: 8 kHz, 16 bits, one channel."""
    written = io.BytesIO()
    with wave.open(written, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(2 * int(8000 * seconds)))
    return written.getvalue()


def png(side: int) -> bytes:
    """Nothing but black."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(side * (side + 1)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


IMAGE = {"image": ("a.png", png(64), "image/png")}
SOUND = {"file": ("a.wav", wav(SECONDS), "audio/wav")}


def events(answer: httpx.Response) -> list[Any]:
    """What the events of a stream hold."""
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(each) for each in data if each != "[DONE]"]


def made_of(image: bytes) -> tuple[int, int]:
    """The size of a PNG that decodes and says that it is a demo's."""
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    assert SAYS.encode() in image
    width, height = struct.unpack(">II", image[16:24])
    start = image.index(b"IDAT") + 4
    (size,) = struct.unpack(">I", image[start - 8 : start - 4])
    assert len(zlib.decompress(image[start : start + size])) == (width + 1) * height
    return width, height


@dataclass(frozen=True)
class Door:
    """A call, and what must come of it. `checked`: looks at the answer, returns what it must have cost in nano-CA."""

    name: str
    path: str
    body: dict[str, Any]
    checked: Callable[[httpx.Response], int]
    files: dict[str, Any] = field(default_factory=dict)

    def call(self, url: str, key: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        if self.files:
            return http.post(url + self.path, data=self.body, files=self.files, headers=headers)
        return http.post(url + self.path, json=self.body, headers=headers)


# ── What each answer must be, and cost ──────────────────────────────────────────────────────────────────────────────


def cost(rates: tuple[int, int], sent: int, came: int) -> int:
    assert sent > 0
    assert came > 0
    return sent * rates[0] + came * rates[1]


def chat(answer: httpx.Response) -> int:
    said = answer.json()
    assert SAYS in said["choices"][0]["message"]["content"]
    return cost(MINI, said["usage"]["prompt_tokens"], said["usage"]["completion_tokens"])


def chat_stream(answer: httpx.Response) -> int:
    *chunks, last = events(answer)
    assert SAYS in "".join(each["choices"][0]["delta"].get("content") or "" for each in chunks)
    assert len(chunks) > 3
    return cost(MINI, last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"])


def completion(answer: httpx.Response) -> int:
    said = answer.json()
    assert SAYS in said["choices"][0]["text"]
    return cost(INSTRUCT, said["usage"]["prompt_tokens"], said["usage"]["completion_tokens"])


def completion_stream(answer: httpx.Response) -> int:
    *chunks, last = events(answer)
    assert SAYS in "".join(each["choices"][0]["text"] for each in chunks)
    return cost(INSTRUCT, last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"])


def response_cost(response: Any) -> int:
    assert SAYS in response["output"][0]["content"][0]["text"]
    assert response["status"] == "completed"
    assert response["store"] is False
    return cost(MINI, response["usage"]["input_tokens"], response["usage"]["output_tokens"])


def response_stream(answer: httpx.Response) -> int:
    seen = events(answer)
    kinds = [each["type"] for each in seen]
    text = "".join(each["delta"] for each in seen if each["type"] == "response.output_text.delta")
    assert [each["sequence_number"] for each in seen] == list(range(len(seen)))
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [line[7:] for line in answer.text.splitlines() if line.startswith("event: ")] == kinds
    assert text == seen[-1]["response"]["output"][0]["content"][0]["text"]
    return response_cost(seen[-1]["response"])


def embedding(answer: httpx.Response) -> int:
    said = answer.json()
    assert [len(each["embedding"]) for each in said["data"]] == [64, 64]
    return EMBEDDING * int(said["usage"]["prompt_tokens"])


def moderation(answer: httpx.Response) -> int:
    results = answer.json()["results"]
    assert [each["flagged"] for each in results] == [False, False]
    assert not any(results[0]["categories"].values())
    assert SAYS in answer.json()["note"]
    return 0


def image_cost(usage: Any) -> int:
    sent = usage["input_tokens_details"]
    return (
        GPT_IMAGE_TEXT * int(sent["text_tokens"])
        + GPT_IMAGE_SENT * int(sent["image_tokens"])
        + GPT_IMAGE_MADE * int(usage["output_tokens"])
    )


def gpt_image(answer: httpx.Response) -> int:
    said = answer.json()
    assert made_of(base64.b64decode(said["data"][0]["b64_json"])) == (1024, 1024)
    assert (said["size"], said["quality"], said["output_format"]) == ("1024x1024", "low", "png")
    assert said["usage"]["output_tokens"] == 272
    return image_cost(said["usage"])


def gpt_image_stream(kind: str) -> Callable[[httpx.Response], int]:
    def checked(answer: httpx.Response) -> int:
        *partial, last = events(answer)
        assert [each["type"] for each in partial] == [f"{kind}.partial_image"] * 2
        assert [each["partial_image_index"] for each in partial] == [0, 1]
        assert last["type"] == f"{kind}.completed"
        images = [base64.b64decode(each["b64_json"]) for each in (*partial, last)]
        assert [made_of(each) for each in images] == [(1024, 1536)] * 3
        assert len(set(images)) == 3
        assert last["usage"]["output_tokens"] == 408 + 2 * 100
        return image_cost(last["usage"])

    return checked


def dall_e(nano: int, size: tuple[int, int], *, count: int = 1) -> Callable[[httpx.Response], int]:
    def checked(answer: httpx.Response) -> int:
        made = answer.json()["data"]
        links = [each["url"].removeprefix("data:image/png;base64,") for each in made]
        assert [made_of(base64.b64decode(each)) for each in links] == [size] * count
        assert len(set(links)) == count
        assert all(SAYS in each["revised_prompt"] for each in made)
        return nano * count

    return checked


def spoken(nano: int, signature: bytes) -> Callable[[httpx.Response], int]:
    def checked(answer: httpx.Response) -> int:
        assert answer.content.startswith(signature)
        assert len(answer.content) > 100
        return nano

    return checked


def spoken_stream(answer: httpx.Response) -> int:
    *deltas, last = events(answer)
    assert {each["type"] for each in deltas} == {"speech.audio.delta"}
    assert base64.b64decode(deltas[0]["audio"])[:4] == b"RIFF"
    assert last["type"] == "speech.audio.done"
    assert last["usage"]["total_tokens"] == last["usage"]["input_tokens"] + last["usage"]["output_tokens"]
    return len(SPOKEN) * 105_000


def heard(nano_per_ms: int, *, begins: str = "") -> Callable[[httpx.Response], int]:
    def checked(answer: httpx.Response) -> int:
        assert SAYS in answer.text
        assert answer.text.startswith(begins)
        if not begins:
            assert f"{len(SOUND['file'][1])} bytes" in answer.json()["text"]
        return nano_per_ms * int(SECONDS * 1000)

    return checked


def heard_stream(answer: httpx.Response) -> int:
    *deltas, last = events(answer)
    assert "".join(each["delta"] for each in deltas) == last["text"]
    assert SAYS in last["text"]
    assert last["type"] == "transcript.text.done"
    assert last["usage"]["type"] == "tokens"
    return 800 * int(SECONDS * 1000)


def message(answer: httpx.Response) -> int:
    said = answer.json()
    assert SAYS in said["content"][0]["text"]
    assert (said["type"], said["stop_reason"]) == ("message", "end_turn")
    return cost(HAIKU, said["usage"]["input_tokens"], said["usage"]["output_tokens"])


def message_stream(answer: httpx.Response) -> int:
    seen = events(answer)
    text = "".join(each["delta"]["text"] for each in seen if each["type"] == "content_block_delta")
    assert SAYS in text
    assert [seen[0]["type"], seen[-1]["type"]] == ["message_start", "message_stop"]
    used = next(each["usage"] for each in seen if each["type"] == "message_delta")
    return cost(HAIKU, used["input_tokens"], used["output_tokens"])


def gemini_text(pieces: list[Any]) -> int:
    said = [part["text"] for piece in pieces for part in piece["candidates"][0]["content"]["parts"] if "text" in part]
    assert SAYS in "".join(said)
    assert pieces[-1]["candidates"][0]["finishReason"] == "STOP"
    used = pieces[-1]["usageMetadata"]
    return cost(FLASH, used["promptTokenCount"], used["candidatesTokenCount"])


def gemini_embedding(answer: httpx.Response) -> int:
    assert len(answer.json()["embedding"]["values"]) == 256
    return EMBEDDING  # "hi" is one token of the demo's


CHAT = {"model": "gpt-4o-mini", "messages": HI}
ASKED_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
INSTRUCTED = {"model": "gpt-3.5-turbo-instruct", "prompt": "hi", "max_tokens": 100}
RESPONSE = {"model": "gpt-4o-mini", "input": "hi"}
MESSAGE = {"model": "claude-3-5-haiku-20241022", "max_tokens": 100, "messages": HI}
PAINTED = {"model": "gpt-image-1", "prompt": "a fox", "quality": "low"}
PARTIAL = {"stream": True, "partial_images": 2, "size": "1024x1536"}
SPEECH = {"model": "tts-1", "voice": "alloy", "input": SPOKEN}
MINUTES = {**SPEECH, "model": "gpt-4o-mini-tts"}
TUNE_MS = 4 * 240
"""The demo's tune: a note of 240 ms for every three letters."""
SIGNATURES = {"mp3": b"ID3", "wav": b"RIFF", "flac": b"fLaC", "pcm": b"", "opus": b"OggS", "aac": b"\xff\xf1"}
AAC_MS = 982
"""In whole frames of 1024 samples at 24 kHz, rounded up."""

DOORS = (
    Door("chat", "/v1/chat/completions", CHAT, chat),
    Door("chat, streamed", "/v1/chat/completions", {**CHAT, **ASKED_USAGE}, chat_stream),
    Door("completions", "/v1/completions", INSTRUCTED, completion),
    Door("completions, streamed", "/v1/completions", {**INSTRUCTED, **ASKED_USAGE}, completion_stream),
    Door("responses", "/v1/responses", RESPONSE, lambda answer: response_cost(answer.json())),
    Door("responses, streamed", "/v1/responses", {**RESPONSE, "stream": True}, response_stream),
    Door(
        "embeddings",
        "/v1/embeddings",
        {"model": "text-embedding-3-small", "input": ["hi", "there"], "dimensions": 64},
        embedding,
    ),
    Door("moderations", "/v1/moderations", {"input": ["hi", "there"]}, moderation),
    Door("images, gpt-image-1", "/v1/images/generations", PAINTED, gpt_image),
    Door("images, streamed", "/v1/images/generations", {**PAINTED, **PARTIAL}, gpt_image_stream("image_generation")),
    Door(
        "images, dall-e-3",
        "/v1/images/generations",
        {"model": "dall-e-3", "prompt": "a fox", "quality": "hd", "size": "1024x1792"},
        dall_e(840_000_000, (1024, 1792)),
    ),
    Door(
        "images, dall-e-2",
        "/v1/images/generations",
        {"model": "dall-e-2", "prompt": "a fox", "n": 2, "size": "256x256"},
        dall_e(112_000_000, (256, 256), count=2),
    ),
    Door("edits", "/v1/images/edits", PAINTED, gpt_image, IMAGE),
    Door(
        "edits, streamed",
        "/v1/images/edits",
        {**PAINTED, "stream": "true", "partial_images": "2", "size": "1024x1536"},
        gpt_image_stream("image_edit"),
        IMAGE,
    ),
    Door(
        "variations",
        "/v1/images/variations",
        {"model": "dall-e-2", "n": "2", "size": "256x256"},
        dall_e(112_000_000, (256, 256), count=2),
        IMAGE,
    ),
    Door("speech", "/v1/audio/speech", SPEECH, spoken(len(SPOKEN) * 105_000, b"ID3")),
    Door(
        "speech, streamed",
        "/v1/audio/speech",
        {**SPEECH, "stream_format": "sse", "response_format": "wav"},
        spoken_stream,
    ),
    *(
        Door(
            f"speech by the minute, {name}",
            "/v1/audio/speech",
            {**MINUTES, "response_format": name},
            spoken(4 * 12_000 + (AAC_MS if name == "aac" else TUNE_MS) * 2000, signature),
        )
        for name, signature in SIGNATURES.items()
    ),
    Door("transcriptions", "/v1/audio/transcriptions", {"model": "whisper-1"}, heard(700), SOUND),
    *(
        Door(
            f"transcriptions, {name}",
            "/v1/audio/transcriptions",
            {"model": "whisper-1", "response_format": name},
            heard(700, begins=begins),
            SOUND,
        )
        for name, begins in {
            "text": "这是",
            "srt": "1\n00:00:00,000 --> 00:00:01,500\n",
            "vtt": "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\n",
            "verbose_json": "",
        }.items()
    ),
    Door(
        "transcriptions, streamed",
        "/v1/audio/transcriptions",
        {"model": "gpt-4o-transcribe", "stream": "true"},
        heard_stream,
        SOUND,
    ),
    Door("translations", "/v1/audio/translations", {"model": "whisper-1"}, heard(700), SOUND),
    Door("messages", "/v1/messages", MESSAGE, message),
    Door("messages, streamed", "/v1/messages", {**MESSAGE, "stream": True}, message_stream),
    Door("generateContent", f"{GEMINI}:generateContent", GEMINI_HI, lambda answer: gemini_text([answer.json()])),
    Door(
        "streamGenerateContent",
        f"{GEMINI}:streamGenerateContent?alt=sse",
        GEMINI_HI,
        lambda answer: gemini_text(events(answer)),
    ),
    Door(
        "streamGenerateContent, array",
        f"{GEMINI}:streamGenerateContent",
        GEMINI_HI,
        lambda answer: gemini_text(answer.json()),
    ),
    Door(
        "embedContent",
        "/v1beta/models/text-embedding-3-small:embedContent",
        {"content": {"parts": [{"text": "hi"}]}},
        gemini_embedding,
    ),
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FareboxProcess]:
    with FareboxProcess(tmp_path_factory.mktemp("demo") / "data", demo=True) as service:
        yield service


@pytest.fixture(scope="module")
def key(demo: FareboxProcess) -> str:
    return demo.new_key(credit="20")["key"]


def spent_nano(demo: FareboxProcess, key: str) -> int:
    """What the key's account has spent, once nothing of it is held any more."""
    seen: dict[str, Decimal] = {}

    def settled() -> bool:
        answer = http.post(f"{demo.base_url}/query/balance", headers={"authorization": f"Bearer {key}"})
        seen.update(json.loads(answer.text, parse_float=Decimal, parse_int=Decimal))
        return seen["balanceHeld"] == 0

    wait_until(settled)
    return int(seen["balanceUsed"] * 10**9)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_every_door_answers_and_leaves_one_receipt_of_the_right_cost(
    demo: FareboxProcess, key: str, door: Door
) -> None:
    before = spent_nano(demo, key)
    answer = door.call(demo.url, key)
    assert answer.status_code == 200, answer.text
    expected = door.checked(answer)

    assert spent_nano(demo, key) - before == expected
    path = f"{demo.base_url}/receipts/{answer.headers['x-request-id']}"
    receipt = http.get(path, headers={"authorization": f"Bearer {key}"}).json()["receipt"]
    assert (receipt["cost_nano"], receipt["outcome"], receipt["channel"]) == (expected, "completed", "demo")
    assert arithmetic_errors(receipt) == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/messages/count_tokens", {"model": "claude-3-5-haiku-20241022", "messages": HI}),
        ("POST", f"{GEMINI}:countTokens", GEMINI_HI),
        ("POST", "/v1/estimate", CHAT),
        ("GET", "/v1/models", None),
        ("GET", "/v1beta/models", None),
        ("GET", "/v1beta/models/gemini-2.0-flash", None),
    ],
)
def test_what_is_free_of_charge_leaves_no_receipt(
    demo: FareboxProcess, key: str, method: str, path: str, body: Any
) -> None:
    before = spent_nano(demo, key)
    headers = {"authorization": f"Bearer {key}"}
    answer = http.request(method, demo.url + path, json=body, headers=headers)

    assert answer.status_code == 200, answer.text
    receipt = http.get(f"{demo.base_url}/receipts/{answer.headers['x-request-id']}", headers=headers)
    assert receipt.status_code == 404
    assert spent_nano(demo, key) == before


def test_a_limit_on_the_output_holds_in_every_dialect(demo: FareboxProcess, key: str) -> None:
    headers = {"authorization": f"Bearer {key}"}

    def ask(path: str, body: Any) -> Any:
        return http.post(demo.url + path, json=body, headers=headers).json()

    chatted = ask("/v1/chat/completions", {**CHAT, "max_completion_tokens": 8})
    responded = ask("/v1/responses", {**RESPONSE, "max_output_tokens": 8})
    written = ask("/v1/messages", {**MESSAGE, "max_tokens": 8})
    generated = ask(f"{GEMINI}:generateContent", {**GEMINI_HI, "generationConfig": {"maxOutputTokens": 8}})

    assert (chatted["choices"][0]["finish_reason"], chatted["usage"]["completion_tokens"]) == ("length", 8)
    assert responded["incomplete_details"] == {"reason": "max_output_tokens"}
    assert written["stop_reason"] == "max_tokens"
    assert generated["candidates"][0]["finishReason"] == "MAX_TOKENS"


class Fox(BaseModel):
    name: str
    legs: int
    tame: bool
    friends: list[str]
    colour: Literal["red", "grey"]
    home: str | None


@pytest.mark.parametrize("stream", [False, True])
def test_who_asks_for_json_gets_json_that_fits(demo: FareboxProcess, key: str, stream: bool) -> None:
    with OpenAI(api_key=key, base_url=demo.base_url) as client:
        if stream:
            with client.chat.completions.stream(model="gpt-4o", messages=HI, response_format=Fox) as chatted:
                fox = chatted.get_final_completion().choices[0].message.parsed
            with client.responses.stream(model="gpt-4o", input="hi", text_format=Fox) as responded:
                other = responded.get_final_response().output_parsed
        else:
            fox = (
                client.chat.completions.parse(model="gpt-4o", messages=HI, response_format=Fox)
                .choices[0]
                .message.parsed
            )
            other = client.responses.parse(model="gpt-4o", input="hi", text_format=Fox).output_parsed

    assert fox is not None
    assert fox == other
    assert SAYS in fox.name
    assert (fox.legs, fox.tame, fox.friends, fox.colour, fox.home) == (0, False, [], "red", None)


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_that_must_be_called_is_called_in_every_dialect(demo: FareboxProcess, key: str, stream: bool) -> None:
    headers = {"authorization": f"Bearer {key}"}
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    function = {"name": "weather", "parameters": schema}
    forced = {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
    tools = {
        "tools": [{"name": "weather", "input_schema": schema}],
        "tool_choice": {"type": "tool", "name": "weather"},
    }
    declared = {
        "tools": [{"functionDeclarations": [function]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
    }
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"

    for path, body in (
        ("/v1/chat/completions", {**CHAT, **forced, "stream": stream}),
        ("/v1/messages", {**MESSAGE, **tools, "stream": stream}),
        (f"{GEMINI}:{method}", {**GEMINI_HI, **declared}),
    ):
        answer = http.post(demo.url + path, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert "weather" in answer.text
        assert "city" in answer.text


def test_a_chat_without_a_word_of_the_user_is_answered_too(demo: FareboxProcess, key: str) -> None:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "system", "content": "Say something."}]}
    assert Door("system only", "/v1/chat/completions", body, chat).call(demo.url, key).status_code == 200


def test_the_demo_paints_and_sings_the_same_for_the_same_words_and_another_for_others(
    demo: FareboxProcess, key: str
) -> None:
    headers = {"authorization": f"Bearer {key}"}

    def made(path: str, body: Any) -> bytes:
        answer = http.post(demo.url + path, json=body, headers=headers)
        return answer.content if path.endswith("speech") else json.dumps(answer.json()["data"]).encode()

    painted = {"model": "dall-e-2", "prompt": "a fox", "size": "256x256"}
    for path, body, name in (
        ("/v1/images/generations", painted, "prompt"),
        ("/v1/audio/speech", SPEECH, "input"),
    ):
        assert made(path, body) == made(path, body) != made(path, {**body, name: "other words"})


def test_the_books_are_clean_after_all_that(demo: FareboxProcess, key: str) -> None:
    for door in DOORS[:3]:
        assert door.call(demo.url, key).status_code == 200
    wait_until(lambda: demo.admin("GET", "/audit").json()["open_holds"] == 0)
    found = demo.admin("GET", "/audit").json()

    assert (found["violations"], found["difference_nano"], found["stale_holds"]) == ([], 0, 0)
    assert demo.errors == ""
