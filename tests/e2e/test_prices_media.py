"""Every price of the seed that is not sold by the token alone, through the running relay: to the nano.

Images by size and quality, speech by the character or by the minute and the token, transcripts by the minute.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from farebox.domain.receipts import arithmetic_errors
from tests.fakes.openai_vendor import (
    PNG,
    answer,
    event,
    form,
    recorded,
    response,
    response_events,
    stream,
    tones,
    wav,
)
from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import ScriptedUpstream, Send, Step, head, json_answer

with (Path(__file__).parents[1] / "data" / "seed" / "other_prices.csv").open(encoding="utf-8", newline="") as file:
    SEED = {row["model"]: row["price_text"] for row in csv.DictReader(file)}
MEDIA = {name: price for name, price in SEED.items() if "embedding" not in name}
"""A row's name → its price, as the list words it. Embeddings are sold by the token alone: see test_prices.py."""
TONES = tones()
MINUTE_MS = 60_000
THOUSAND_TOKENS = "word " * 1000
Units = dict[str, tuple[int, str]]


@dataclass(frozen=True)
class Sale:
    """A request, an answer to it, and what it must cost: unit of the receipt → (count, CA for them all)."""

    path: str
    body: dict[str, Any]
    answer: list[Step]
    units: Units
    file: tuple[str, bytes] | None = None
    row: str = ""

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def cost_nano(self) -> int:
        exact = sum((Decimal(ca) for _, ca in self.units.values()), Decimal()) * 10**9
        assert exact == int(exact)
        return int(exact)


def figures(text: str) -> list[str]:
    """The prices in a row's words; "1K" is no price."""
    return re.findall(r"\d+\.\d+", text)


def times(ca: str, count: int, each: int = 1) -> str:
    """`count` at `ca` for `each`."""
    return str(Decimal(ca) * count / each)


def send(farebox: RunningFarebox, key: Funded, sale: Sale) -> httpx.Response:
    if sale.file is None:
        kind, body = "application/json", json.dumps(sale.body).encode()
    else:
        name, data = sale.file
        kind, body = form({each: str(value) for each, value in sale.body.items()}, {name: ("a.bin", data, "a/b")})
    headers = {"authorization": f"Bearer {key.text}", "content-type": kind}
    return http.post(f"{farebox.base_url}{sale.path}", content=body, headers=headers)


def check(farebox: RunningFarebox, key: Funded, sale: Sale) -> dict[str, Any]:
    """The wallet and the one receipt say what the sale must cost, and that no more was ever at stake."""
    account = farebox.account(key.account)
    (receipt,) = farebox.receipts(key.account)

    assert {line["unit"]: (line["count"], line["cost_nano"]) for line in receipt["arithmetic"]} == {
        unit: (count, int(Decimal(ca) * 10**9)) for unit, (count, ca) in sale.units.items()
    }
    assert (receipt["cost_nano"], receipt["overrun_nano"], receipt["model"]) == (sale.cost_nano, 0, sale.model)
    assert receipt["cost_nano"] <= receipt["hold_nano"] <= 100 * 10**9
    assert (receipt["outcome"], arithmetic_errors(receipt)) == ("completed", [])
    assert (account.spent_nano, account.held_nano, dict(account.holds)) == (sale.cost_nano, 0, {})
    assert account.avail_nano + account.spent_nano == account.credited_nano
    return receipt


# ── images ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def pictures(count: int) -> list[Step]:
    return json_answer({"created": 1, "data": [{"b64_json": "iVBORw0KGgo="} for _ in range(count)]})


def by_the_image(row: str) -> list[Sale]:
    """A row such as "dall-e-3-hd 1024×1792"."""
    found = re.fullmatch(r"(dall-e-[23])(-hd)? (\d+)[x×](\d+)", row)
    assert found is not None
    model, hd, wide, high = found.groups()
    (price,) = figures(SEED[row])
    quality = "hd" if hd else "standard"
    sales = []
    for size in {f"{wide}x{high}", f"{high}x{wide}"}:  # the list names one of the two oblong sizes
        for count in (1,) if model == "dall-e-3" else (1, 3, 10):
            body = {"model": model, "prompt": "a lamp", "size": size, "n": count}
            body |= {"quality": quality} if hd else {}
            units = {f"image/{quality}:{size}": (count, times(price, count))}
            sales.append(Sale("/images/generations", body, pictures(count), units, row=row))
            if model == "dall-e-2":
                sales.append(Sale("/images/edits", body, pictures(count), units, ("image", PNG), row))
                varied = {name: value for name, value in body.items() if name != "prompt"}
                sales.append(Sale("/images/variations", varied, pictures(count), units, ("image", PNG), row))
    return sales


PAINTED = {
    "input_tokens": 2000,
    "input_tokens_details": {"text_tokens": 1000, "image_tokens": 1000},
    "output_tokens": 1000,
    "output_tokens_details": {"image_tokens": 1000, "text_tokens": 0},
    "total_tokens": 3000,
}


def by_three_figures(row: str) -> list[Sale]:
    """gpt-image-1: text that goes, images that go, and (though the list says "input" again) images that come."""
    text, sent, made = figures(SEED[row])
    units: Units = {
        "input_token": (1000, text),
        "image_input_token": (1000, sent),
        "image_output_token": (1000, made),
    }
    body = {"model": row, "prompt": THOUSAND_TOKENS, "input_fidelity": "high"}
    plain = json_answer({"created": 1, "data": [{"b64_json": "iVBORw0KGgo="}], "usage": PAINTED})
    streamed = stream(event("image_edit.completed", b64_json="iVBORw0KGgo=", usage=PAINTED))
    return [
        Sale("/images/edits", body, plain, units, ("image", PNG), row),
        Sale("/images/edits", {**body, "stream": "true"}, streamed, units, ("image[]", PNG), row),
    ]


# ── speech ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def by_the_character(row: str) -> list[Sale]:
    (price,) = figures(SEED[row])
    texts = ["x" * 1000, "灯亮着🌍" * 25, "a"]
    sound = recorded("audio.speech.sound.mp3")
    answers = {"audio": answer(sound, "audio/mpeg"), "sse": stream(recorded("audio.speech.sound.sse"))}
    return [
        Sale(
            "/audio/speech",
            {"model": row, "voice": "alloy", "input": text, "stream_format": kind},
            steps,
            {"character": (len(text), times(price, len(text), 1000))},
            row=row,
        )
        for text in texts
        for kind, steps in answers.items()
    ]


def by_minute_and_token(row: str) -> list[Sale]:
    """gpt-4o-mini-tts: the minute that comes back, and the tokens of the text that goes."""
    minute, token = figures(SEED[row])
    text = THOUSAND_TOKENS.strip()  # a thousand tokens, by tests/data/counting

    def sale(milliseconds: int, steps: list[Step], **more: Any) -> Sale:
        units: Units = {
            "input_token": (1000, token),
            "audio_ms": (milliseconds, times(minute, milliseconds, MINUTE_MS)),
        }
        return Sale("/audio/speech", {"model": row, "voice": "a", "input": text, **more}, steps, units, row=row)

    def sized(data: bytes, kind: str) -> list[Step]:
        return answer(data, kind)

    def unsized(data: bytes, kind: str) -> list[Step]:
        return [Send(head(content_type=kind)), *(Send(data[at : at + 9000]) for at in range(0, len(data), 9000))]

    return [
        sale(MINUTE_MS, sized(wav(MINUTE_MS), "audio/wav"), response_format="wav"),
        sale(MINUTE_MS, unsized(wav(MINUTE_MS), "audio/wav"), response_format="wav"),
        sale(1234, unsized(wav(1234), "audio/wav"), response_format="wav"),
        sale(2500, unsized(bytes(24_000 * 2 * 5 // 2), "audio/pcm"), response_format="pcm"),
        sale(1080, sized(TONES["bare_vbr.mp3"], "audio/mpeg")),
        sale(1080, stream(recorded("audio.speech.sound.sse")), stream_format="sse"),
    ]


# ── transcripts ─────────────────────────────────────────────────────────────────────────────────────────────────────

HEARD = {"type": "tokens", "input_tokens": 9999, "output_tokens": 9999, "total_tokens": 19_998}
"""The vendor's own figures: the price is by the minute, whatever they say."""


def by_the_minute(row: str) -> list[Sale]:
    (price,) = figures(SEED[row])
    model = "whisper-1" if row == "Whisper" else row
    plain = json_answer({"text": "hi", "usage": HEARD})
    done = event("transcript.text.done", text="hi", usage=HEARD)
    sales = []
    for milliseconds, data in (
        (MINUTE_MS, wav(MINUTE_MS)),
        (1234, wav(1234)),
        (1, wav(1)),
        (1080, TONES["bare_vbr.mp3"]),
    ):
        units: Units = {"audio_ms": (milliseconds, times(price, milliseconds, MINUTE_MS))}
        body = {"model": model, "prompt": "a lamp"}
        sales.append(Sale("/audio/transcriptions", body, plain, units, ("file", data), row))
        text = answer(b"hi\n", "text/plain")
        sales.append(Sale("/audio/translations", {**body, "response_format": "vtt"}, text, units, ("file", data), row))
        if model != "whisper-1":
            streamed = {**body, "stream": "true"}
            sales.append(Sale("/audio/transcriptions", streamed, stream(done), units, ("file", data), row))
    return sales


KINDS: tuple[tuple[str, Callable[[str], list[Sale]]], ...] = (
    (r"dall-e-.*", by_the_image),
    (r"gpt-image-1", by_three_figures),
    (r"tts-1(-hd)?", by_the_character),
    (r"gpt-4o-mini-tts", by_minute_and_token),
    (r"Whisper|gpt-4o-(mini-)?transcribe", by_the_minute),
)
SALES = [sale for row in MEDIA for pattern, sales in KINDS if re.fullmatch(pattern, row) for sale in sales(row)]


def test_every_row_of_the_seed_is_sold_here() -> None:
    assert len(MEDIA) == 14
    assert {sale.row for sale in SALES} == set(MEDIA)


@pytest.mark.parametrize("sale", SALES, ids=lambda sale: f"{sale.row} {sale.path}")
def test_a_sale_costs_what_the_list_says(sale: Sale, farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = sale.answer
    key = farebox.new_key(credit="100")
    answered = send(farebox, key, sale)
    assert answered.status_code == 200, answered.text
    receipt = check(farebox, key, sale)

    assert receipt["price_version"] == f"{sale.model}@2025-05-01"
    if "x-farebox-cost" in answered.headers:
        assert Decimal(answered.headers["x-farebox-cost"]) * 10**9 == sale.cost_nano


@pytest.mark.parametrize("name", TONES)
def test_a_file_of_any_format_costs_its_own_length(
    name: str, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer({"text": "hi", "usage": {"type": "duration", "seconds": 99}})
    key = farebox.new_key(credit="1")
    sale = Sale("/audio/transcriptions", {"model": "whisper-1"}, [], {}, ("file", TONES[name]))
    assert send(farebox, key, sale).status_code == 200
    (receipt,) = farebox.receipts(key.account)
    milliseconds = receipt["usage"]["audio_ms"]["count"]

    assert 1000 <= milliseconds <= 1160  # encoders pad
    assert receipt["cost_nano"] == receipt["hold_nano"] == milliseconds * 700


@pytest.mark.parametrize("sale", {sale.row: sale for sale in SALES}.values(), ids=lambda sale: sale.row)
def test_a_free_key_is_refused(sale: Sale, farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key("free", credit="0")
    answered = send(farebox, key, sale)

    assert (answered.status_code, answered.json()["error"]["code"]) == (403, "model_not_allowed")
    assert (upstream.requests, farebox.receipts(key.account)) == ([], [])


@pytest.mark.parametrize("sale", {sale.row: sale for sale in SALES}.values(), ids=lambda sale: sale.row)
def test_a_wallet_that_does_not_cover_the_hold_is_refused(
    sale: Sale, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    key = farebox.new_key(credit="0.000001")
    answered = send(farebox, key, sale)

    assert (answered.status_code, answered.json()["error"]["code"]) == (402, "insufficient_balance")
    assert (upstream.requests, farebox.account(key.account).held_nano) == ([], 0)


def test_fewer_images_than_asked_for_cost_what_came(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    upstream.script = pictures(2)
    key = farebox.new_key(credit="10")
    body = {"model": "dall-e-2", "prompt": "a lamp", "n": 5, "size": "256x256"}
    sale = Sale("/images/generations", body, [], {"image/standard:256x256": (2, "0.224")})
    assert send(farebox, key, sale).status_code == 200

    assert check(farebox, key, sale)["hold_nano"] == 5 * 112_000_000


def test_size_and_quality_that_are_not_named_are_the_list_price_of_the_ordinary_ones(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    upstream.script = pictures(1)
    for body in ({}, {"size": "auto", "quality": "auto"}, {"size": None, "quality": "standard"}):
        key = farebox.new_key(credit="10")
        asked = {"model": "dall-e-3", "prompt": "a lamp", **body}
        sale = Sale("/images/generations", asked, [], {"image/standard:1024x1024": (1, "0.28")})
        assert send(farebox, key, sale).status_code == 200
        check(farebox, key, sale)


SPOKEN_AS = {
    "mp3": ("id3_xing.mp3", "audio/mpeg"),
    "opus": ("opus.ogg", "audio/ogg"),
    "aac": ("adts.aac", "audio/aac"),
    "flac": ("streamed.flac", "audio/flac"),
    "wav": ("pcm.wav", "audio/wav"),
}


@pytest.mark.parametrize("wish", SPOKEN_AS)
@pytest.mark.parametrize("size", [100, 100_000])
def test_speech_of_any_format_costs_the_length_that_came(
    wish: str, size: int, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    name, kind = SPOKEN_AS[wish]
    data = TONES[name]
    if wish == "wav":  # as OpenAI writes it: its length was not known when it began
        known, unknown = b"data" + (8000).to_bytes(4, "little"), b"data" + b"\xff" * 4
        data = data[:4] + b"\xff" * 4 + data[8:].replace(known, unknown, 1)
        assert unknown in data
    upstream.script = [Send(head(content_type=kind))]
    upstream.script += [Send(data[at : at + size]) for at in range(0, len(data), size)]
    key = farebox.new_key(credit="1")
    body = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "The lamp is lit now.", "response_format": wish}
    answered = send(farebox, key, Sale("/audio/speech", body, [], {}))
    (receipt,) = farebox.receipts(key.account)
    milliseconds = receipt["usage"]["audio_ms"]["count"]

    assert (answered.status_code, answered.content, answered.headers["content-type"]) == (200, data, kind)
    assert 1000 <= milliseconds <= 1160  # encoders pad
    assert receipt["usage"]["audio_ms"]["source"] == "counted"
    assert receipt["cost_nano"] == milliseconds * 2000 + 6 * 12_000
    assert arithmetic_errors(receipt) == []


def test_a_streamed_image_has_its_own_price_in_a_response_too(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    """The seed's note: an image in a streamed request has a price of its own on some models."""
    upstream.script = stream(response_events(response(sent=5000, came=10)))
    key = farebox.new_key(credit="10")
    image = {"type": "input_image", "image_url": "https://images.example/a.png", "detail": "low"}
    content = [{"type": "input_text", "text": "What is this?"}, image]
    body = {"model": "gpt-4o-ca", "input": [{"role": "user", "content": content}], "stream": True}
    assert send(farebox, key, Sale("/responses", body, [], {})).status_code == 200
    (receipt,) = farebox.receipts(key.account)

    assert receipt["usage"]["image_when_streaming"] == {"count": 1, "source": "counted"}
    assert receipt["usage"]["input_token"]["count"] < 40
    assert receipt["usage"]["output_token"] == {"count": 10, "source": "upstream"}
    assert (receipt["overrun_nano"], arithmetic_errors(receipt)) == (0, [])
