"""OpenAI's Python SDK on images, speech, transcripts and moderations: what goes up and what comes down, to the byte."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from email.message import Message
from typing import Any

import openai
import pytest
from openai import OpenAI

from farebox.domain import money
from farebox.relay.channels import Channel
from farebox.settings import Settings
from farebox.vendors import VENDORS
from tests.fakes.openai_vendor import PNG, answer, form, recorded, stream, tones, wav
from tests.fakes.process import http
from tests.fakes.service import ADMIN_TOKEN, Funded, RunningFarebox
from tests.fakes.upstream import Request, Reset, ScriptedUpstream, Send, Sleep, Step, WaitFor, head, json_answer

SECRET = "sk-upstream-secret at host-17.internal"
RENAMED = {"whisper-1": "listener-large", "gpt-image-1": "painter", "tts-1": "speaker"}
SPOKEN = "The lamp is lit now."
TONE = tones()["bare_vbr.mp3"]
TEXT = b"\n 00:00 The lamp is lit. \xe7\x81\xaf\xe4\xba\xae\xe7\x9d\x80\xe3\x80\x82\n\n"
VERBOSE = {
    "task": "transcribe",
    "language": "english",
    "duration": 1.0,
    "text": "The lamp is lit.",
    "segments": [{"id": 0, "seek": 0, "start": 0.0, "end": 1.0, "text": " The lamp is lit.", "tokens": [50364, 440]}],
    "words": [{"word": "The", "start": 0.0, "end": 0.2}],
    "usage": {"type": "duration", "seconds": 1},
}
DIARIZED = {
    "task": "transcribe",
    "duration": 1.0,
    "text": "The lamp is lit.",
    "segments": [{"type": "transcript.text.segment", "id": "s1", "start": 0, "end": 1, "text": "The", "speaker": "A"}],
    "usage": {"type": "tokens", "input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
}


@pytest.fixture
def key(farebox: RunningFarebox) -> Funded:
    return farebox.new_key(credit="10")


@pytest.fixture
def client(farebox: RunningFarebox, key: Funded) -> Iterator[OpenAI]:
    with OpenAI(api_key=key.text, base_url=farebox.base_url, max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def _renaming(_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFarebox]:
    channel = Channel("north", VENDORS["openai"], _upstream.url, ("sk-up",), rename=RENAMED)
    settings = Settings(admin_token=ADMIN_TOKEN, trusted_proxies=("127.0.0.1",))
    folder = tmp_path_factory.mktemp("renaming")
    service = RunningFarebox(folder, _upstream.url, settings, channels=(channel,)).start()
    yield service
    service.stop()


@pytest.fixture
def renaming(_renaming: RunningFarebox, upstream: ScriptedUpstream) -> RunningFarebox:
    """Its one upstream calls some models by other names."""
    return _renaming


def settled(farebox: RunningFarebox, key: Funded) -> dict[str, Any]:
    """The account's one receipt, which its wallet agrees with."""
    account = farebox.account(key.account)
    (receipt,) = farebox.receipts(key.account)
    assert (account.spent_nano, account.held_nano, dict(account.holds)) == (receipt["cost_nano"], 0, {})
    return receipt


def parts(request: Request) -> dict[str, list[bytes]]:
    """A form's parts by field, split without any code of ours; file parts with their file's name before them."""
    boundary = request.headers["content-type"].partition("boundary=")[2].strip('"').encode()
    found: dict[str, list[bytes]] = {}
    for part in request.body.split(b"--" + boundary)[1:-1]:
        about, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = about.partition(b'name="')[2].partition(b'"')[0].decode()
        filename = about.partition(b'filename="')[2].partition(b'"')[0]
        found.setdefault(name, []).append((filename + b":" if filename else b"") + data.removesuffix(b"\r\n"))
    return found


# ── images ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_image_comes_as_base64(
    client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = answer(recorded("images.generations.picture.json"))
    got = client.images.generate(model="gpt-image-1", prompt="A lit lamp", size="1024x1024", quality="low")

    assert got.data is not None
    assert base64.b64decode(got.data[0].b64_json or "").startswith(PNG[:8])
    assert got.usage is not None
    assert upstream.requests[0].path == "/v1/images/generations"
    assert settled(farebox, key)["usage"]["image_output_token"] == {"count": 272, "source": "upstream"}


def test_a_streamed_image_comes_unfinished_first(
    client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = stream(recorded("images.generations.picture.sse"))
    got = list(client.images.generate(model="gpt-image-1", prompt="A lamp", stream=True, partial_images=1))

    assert [each.type for each in got] == ["image_generation.partial_image", "image_generation.completed"]
    assert base64.b64decode(got[1].b64_json).startswith(PNG[:8])
    assert (settled(farebox, key)["stream"], upstream.requests[0].json["partial_images"]) == (True, 1)


def test_images_are_edited_one_or_several_and_with_a_mask(client: OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.script = answer(recorded("images.edits.picture.json"))
    client.images.edit(model="gpt-image-1", image=("a.png", PNG), prompt="Light it")
    client.images.edit(
        model="gpt-image-1",
        image=[("a.png", PNG), ("b.png", PNG)],
        mask=("m.png", PNG),
        prompt="点亮它",
        n=2,
        input_fidelity="high",
    )
    one, several = (parts(request) for request in upstream.requests)

    assert one["image"] == [b"a.png:" + PNG]
    assert several["image[]"] == [b"a.png:" + PNG, b"b.png:" + PNG]
    assert (several["mask"], several["n"], several["prompt"]) == ([b"m.png:" + PNG], [b"2"], ["点亮它".encode()])


def test_an_edit_is_streamed(client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream) -> None:
    upstream.script = stream(recorded("images.edits.picture.sse"))
    got = list(client.images.edit(model="gpt-image-1", image=PNG, prompt="x", stream=True, partial_images=1))

    assert [each.type for each in got] == ["image_edit.partial_image", "image_edit.completed"]
    assert parts(upstream.requests[0])["stream"] == [b"true"]
    assert settled(farebox, key)["usage"]["image_input_token"]["count"] == 258


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_an_image_is_varied(client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream) -> None:
    upstream.script = answer(recorded("images.variations.picture.json"))
    got = client.images.create_variation(model="dall-e-2", image=PNG, size="512x512")

    assert got.data is not None
    assert base64.b64decode(got.data[0].b64_json or "").startswith(PNG[:8])
    assert settled(farebox, key)["usage"] == {"image/standard:512x512": {"count": 1, "source": "counted"}}


# ── speech ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_speech_comes_byte_for_byte_with_its_headers(
    client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    sound = recorded("audio.speech.sound.mp3")
    upstream.script = answer(sound, "audio/mpeg", content_disposition='attachment; filename="speech.mp3"')
    got = client.audio.speech.create(model="tts-1", voice="alloy", input=SPOKEN)

    assert got.content == sound
    assert got.response.headers["content-type"] == "audio/mpeg"
    assert got.response.headers["content-length"] == str(len(sound))
    assert got.response.headers["content-disposition"] == 'attachment; filename="speech.mp3"'
    assert got.response.headers["x-farebox-cost"] == "0.0021"
    assert settled(farebox, key)["usage"] == {"character": {"count": len(SPOKEN), "source": "counted"}}


def test_speech_is_heard_while_it_is_still_spoken(
    client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    sound, gate = recorded("audio.speech.sound.mp3"), threading.Event()
    upstream.script = [
        Send(head(content_type="audio/mpeg")),
        Send(sound[:700]),
        Sleep(0.05),
        Send(sound[700:900]),
        WaitFor(gate),
        Send(sound[900:]),
    ]
    with client.audio.speech.with_streaming_response.create(model="tts-1", voice="alloy", input=SPOKEN) as got:
        pieces = got.iter_bytes()
        first = next(pieces)
        assert upstream.sent_all == 0
        gate.set()
        rest = b"".join(pieces)
        assert got.headers["content-type"] == "audio/mpeg"
        told = got.headers["x-farebox-cost"]  # by the character: certain before it is spoken

    receipt = settled(farebox, key)
    assert (first, first + rest) == (sound[: len(first)], sound)
    assert receipt["outcome"] == "completed"
    assert money.parse_ca(told) == receipt["cost_nano"] > 0


def test_speech_comes_as_events(
    client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    data = recorded("audio.speech.sound.sse")
    upstream.script = stream(data)
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="alloy", input=SPOKEN, stream_format="sse"
    ) as got:
        assert got.read() == data
    receipt = settled(farebox, key)

    assert (receipt["stream"], receipt["usage"]["audio_ms"]) == (True, {"count": 1080, "source": "counted"})


@pytest.mark.parametrize("way", ["a reset", "an end before its length"])
def test_a_sound_that_breaks_off_breaks_the_connection_and_is_settled(
    way: str, client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    chunked = head(content_type="audio/wav").replace(b"connection: close", b"transfer-encoding: chunked")
    piece = b"%x\r\n%b\r\n" % (4000, wav(1000)[:4000])
    end: list[Step] = [Reset()] if way == "a reset" else [Send(b"100\r\nno")]
    upstream.script = [Send(chunked + piece), Sleep(0.05), Send(piece), Sleep(0.05), *end]
    with (
        client.audio.speech.with_streaming_response.create(model="gpt-4o-mini-tts", voice="a", input=SPOKEN) as got,
        pytest.raises(Exception, match=r"closed|incomplete|peer|Connection") as caught,
    ):
        b"".join(got.iter_bytes())
    receipt = settled(farebox, key)

    assert "httpx" in type(caught.value).__module__
    assert receipt["outcome"] == "upstream_cut"
    assert 0 < receipt["cost_nano"] <= receipt["hold_nano"]


def test_a_sound_that_breaks_before_its_length_is_no_answer(
    client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = [Send(head(content_type="audio/mpeg", content_length="5000") + TONE), Reset()]
    with pytest.raises(openai.InternalServerError):
        client.audio.speech.create(model="tts-1", voice="alloy", input=SPOKEN)

    assert (settled(farebox, key)["outcome"], settled(farebox, key)["cost_nano"]) == ("failed", 0)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_an_error_in_place_of_a_sound_is_never_played(
    size: int, client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    said = b'{"error":{"message":"' + SECRET.encode() + b'"}}'
    chunks = [said[at : at + size] for at in range(0, len(said), size)]
    upstream.script = [Send(head(content_type="audio/mpeg"))]
    upstream.script += [step for chunk in chunks for step in (Send(chunk), Sleep(0.002))]
    with pytest.raises(openai.InternalServerError) as caught:
        client.audio.speech.create(model="tts-1", voice="alloy", input=SPOKEN)

    assert SECRET not in str(caught.value)
    assert (settled(farebox, key)["outcome"], settled(farebox, key)["cost_nano"]) == ("failed", 0)


# ── transcripts ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["text", "srt", "vtt"])
def test_a_transcript_as_text_is_the_vendors_to_the_byte(
    kind: Any, client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = answer(TEXT, "text/plain; charset=utf-8")
    got: Any = client.audio.transcriptions.with_raw_response.create(
        model="whisper-1", file=("a b.mp3", TONE), response_format=kind
    )

    assert got.http_response.content == TEXT
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    assert got.headers["content-length"] == str(len(TEXT))
    assert parts(upstream.requests[0])["response_format"] == [kind.encode()]
    assert settled(farebox, key)["usage"] == {"audio_ms": {"count": 1080, "source": "counted"}}


def test_a_transcript_as_text_is_text_to_the_sdk(client: OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.script = answer(TEXT, "text/plain; charset=utf-8")
    got = client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", TONE), response_format="text")

    assert got == TEXT.decode()


@pytest.mark.parametrize(
    ("kind", "document"), [("json", {"text": "灯亮着。"}), ("verbose_json", VERBOSE), ("diarized_json", DIARIZED)]
)
def test_a_transcript_as_json_has_all_its_parts(
    kind: Any, document: Any, client: OpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer(document)
    got: Any = client.audio.transcriptions.create(
        model="gpt-4o-transcribe",
        file=("a.mp3", TONE),
        response_format=kind,
        include=["logprobs"],
        timestamp_granularities=["word", "segment"],
        chunking_strategy="auto",
        temperature=0.2,
        prompt="灯",
    )
    sent = parts(upstream.requests[0])

    assert got.to_dict() == document
    assert sent["timestamp_granularities[]"] == [b"word", b"segment"]
    assert sent["file"] == [b"a.mp3:" + TONE]


def test_a_transcript_is_streamed(
    client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    upstream.script = stream(recorded("audio.transcriptions.text.sse"))
    with client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.mp3", TONE), stream=True) as events:
        got: list[Any] = list(events)

    assert "".join(each.delta for each in got if each.type == "transcript.text.delta") == "The lamp is lit. 灯亮着。"
    assert (got[-1].type, got[-1].usage.total_tokens) == ("transcript.text.done", 18)
    assert settled(farebox, key)["stream"] is True


def test_whisper_never_streams_whatever_it_is_told(client: OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.script = json_answer({"text": "hi"})
    with client.audio.transcriptions.with_streaming_response.create(
        model="whisper-1", file=("a.mp3", TONE), stream=True
    ) as got:
        assert (got.read(), got.headers["content-type"]) == (b'{"text": "hi"}', "application/json")


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_a_translation(client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream) -> None:
    upstream.script = answer(recorded("audio.translations.text.json"))
    got = client.audio.translations.create(model="whisper-1", file=("a.mp3", TONE))

    assert got.text == "The lamp is lit."
    assert upstream.requests[0].path == "/v1/audio/translations"
    assert settled(farebox, key)["endpoint"] == "audio.translations"


def test_a_verdict(client: OpenAI, farebox: RunningFarebox, key: Funded, upstream: ScriptedUpstream) -> None:
    upstream.script = answer(recorded("moderations.verdict.json"))
    image: Any = {"type": "image_url", "image_url": {"url": "https://images.example/a.png"}}
    got = client.moderations.create(model="omni-moderation-latest", input=[{"type": "text", "text": "hi"}, image])

    assert (got.results[0].flagged, got.results[0].category_scores.harassment) == (False, 1.5e-05)
    assert (settled(farebox, key)["cost_nano"], settled(farebox, key)["outcome"]) == (0, "completed")


# ── forms to the byte ───────────────────────────────────────────────────────────────────────────────────────────────

FORMS: dict[str, tuple[str, dict[str, str], str, bytes]] = {
    "/audio/transcriptions": ("whisper-1", {"prompt": "灯\r\n--x", "temperature": "0.10"}, "file", TONE),
    "/audio/translations": ("whisper-1", {"x_new": ""}, "file", TONE),
    "/images/edits": ("gpt-image-1", {"prompt": "painter gpt-image-1", "user": "a"}, "image", PNG),
}
"""Path → the model, further fields, the file's field, the file."""
ANSWERS: dict[str, list[Step]] = {
    "/audio/transcriptions": json_answer({"text": "hi"}),
    "/audio/translations": json_answer({"text": "hi"}),
    "/images/edits": answer(recorded("images.edits.picture.json")),
}


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("named", ["by its own name", "by another name"])
def test_a_form_goes_up_byte_for_byte_but_for_the_models_name(
    path: str, named: str, farebox: RunningFarebox, renaming: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    model, more, field, data = FORMS[path]
    service = farebox if named == "by its own name" else renaming
    odd = "=_?boundary-1,2/'()+:. x"
    _, body = form({**more, "model": model, "z": "last"}, {field: ("灯 (1).bin", data, "x/y; a=b")}, boundary=odd)
    kind = f'Multipart/Form-Data; charset=utf-8; boundary="{odd}"'
    upstream.script = ANSWERS[path]
    sent = {"authorization": service.new_key().text, "content-type": kind}
    assert http.post(service.base_url + path, content=body, headers=sent).status_code == 200
    upstream_name = model if service is farebox else RENAMED[model]
    (request,) = upstream.requests

    told = Message()
    told["content-type"] = request.headers["content-type"]
    assert (told.get_content_type(), told.get_param("boundary")) == ("multipart/form-data", odd)
    assert request.headers["content-length"] == str(len(request.body))
    assert request.body == body.replace(
        b'"model"\r\n\r\n' + model.encode(), b'"model"\r\n\r\n' + upstream_name.encode()
    )


def test_a_speakers_other_name_changes_nothing_else(renaming: RunningFarebox, upstream: ScriptedUpstream) -> None:
    body = b'{ "voice":"alloy" ,"model" : "tts-1","input":"tts-1 \\u706f","speed":1.0e0 }'
    upstream.script = answer(TONE, "audio/mpeg")
    answered = http.post(
        f"{renaming.base_url}/audio/speech", content=body, headers={"authorization": renaming.new_key().text}
    )

    assert (answered.status_code, answered.content) == (200, TONE)
    assert upstream.requests[0].body == body.replace(b'"model" : "tts-1"', b'"model" : "speaker"')
    assert upstream.requests[0].headers["content-type"] == "application/json"
