"""Who may come in: every door asks for the same key, its addresses, its models, and an account that is not frozen."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterator
from io import BytesIO
from typing import Any, NamedTuple

import httpx
import pytest

from farebox.domain import keys
from tests.fakes.addresses import addresses
from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import ScriptedUpstream

CLAUDE, GEMINI = "claude-3-7-sonnet-20250219", "gemini-1.5-pro-latest"
SAID: list[dict[str, str]] = [{"role": "user", "content": "hi"}]
CONTENTS = {"contents": [{"parts": [{"text": "hi"}]}]}


class Door(NamedTuple):
    """`headers`: where, besides Authorization, a key may stand; `names_model`: whether a request is for one model."""

    method: str
    path: str
    body: Any
    dialect: str = "openai"
    headers: tuple[str, ...] = ()
    names_model: bool = True


def sound() -> bytes:
    """A second of silence."""
    file = BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(1)
        out.setframerate(8000)
        out.writeframes(bytes(8000))
    return file.getvalue()


FORM = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n%s\r\n--b--\r\n' % sound()
)
X_API_KEY, X_GOOG = ("x-api-key",), ("x-goog-api-key",)
DOORS = {
    "chat": Door("POST", "/v1/chat/completions", {"model": "o3", "messages": SAID}),
    "chat at Anthropic": Door("POST", "/v1/chat/completions", {"model": CLAUDE, "messages": SAID}),
    "chat at Google": Door("POST", "/v1/chat/completions", {"model": GEMINI, "messages": SAID}),
    "responses": Door("POST", "/v1/responses", {"model": "o3", "input": "hi"}),
    "completions": Door("POST", "/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "hi"}),
    "embeddings": Door("POST", "/v1/embeddings", {"model": "text-embedding-3-large", "input": "hi"}),
    "moderations": Door("POST", "/v1/moderations", {"model": "omni-moderation-latest", "input": "hi"}),
    "images": Door("POST", "/v1/images/generations", {"model": "dall-e-3", "prompt": "hi"}),
    "speech": Door("POST", "/v1/audio/speech", {"model": "tts-1", "input": "hi", "voice": "alloy"}),
    "transcription": Door("POST", "/v1/audio/transcriptions", FORM),
    "messages": Door(
        "POST", "/v1/messages", {"model": CLAUDE, "max_tokens": 9, "messages": SAID}, "anthropic", X_API_KEY
    ),
    "messages at OpenAI": Door(
        "POST", "/v1/messages", {"model": "o3", "max_tokens": 9, "messages": SAID}, "anthropic", X_API_KEY
    ),
    "count_tokens": Door(
        "POST", "/v1/messages/count_tokens", {"model": CLAUDE, "messages": SAID}, "anthropic", X_API_KEY
    ),
    "generateContent": Door("POST", f"/v1beta/models/{GEMINI}:generateContent", CONTENTS, "gemini", X_GOOG),
    "generateContent at OpenAI": Door("POST", "/v1beta/models/o3:generateContent", CONTENTS, "gemini", X_GOOG),
    "streamGenerateContent": Door("POST", f"/v1/models/{GEMINI}:streamGenerateContent", CONTENTS, "gemini", X_GOOG),
    "embedContent": Door(
        "POST",
        "/v1beta/models/text-embedding-3-large:embedContent",
        {"content": {"parts": [{"text": "hi"}]}},
        "gemini",
        X_GOOG,
    ),
    "countTokens": Door("POST", f"/v1beta/models/{GEMINI}:countTokens", CONTENTS, "gemini", X_GOOG),
    "estimate": Door("POST", "/v1/estimate", {"model": "o3", "messages": SAID}, headers=X_API_KEY + X_GOOG),
    "upload": Door(
        "POST",
        "/v1/uploads/presigned",
        {"filename": "a.mp3", "bytes": 3},
        headers=X_API_KEY + X_GOOG,
        names_model=False,
    ),
    "cancel": Door(
        "POST",
        f"/v1/requests/req_{'0' * 26}/cancel",
        {},
        headers=X_API_KEY + X_GOOG,
        names_model=False,
    ),
    "models": Door("GET", "/v1/models", None, names_model=False),
    "a model": Door("GET", "/v1/models/o3", None, names_model=False),
    "Gemini's models": Door("GET", "/v1beta/models", None, "gemini", X_GOOG, names_model=False),
    "balance": Door("POST", "/v1/query/balance", {}, names_model=False),
    "receipt": Door("GET", f"/v1/receipts/req_{'0' * 26}", None, names_model=False),
}
SPENDING = [name for name, door in DOORS.items() if door.names_model]


@pytest.fixture
def quiet(vendors: RunningFarebox, upstream: ScriptedUpstream) -> Iterator[RunningFarebox]:
    """The service, in front of vendors that must hear nothing."""
    yield vendors
    assert upstream.requests == []


def call(farebox: RunningFarebox, door: Door, headers: dict[str, str], query: str = "") -> httpx.Response:
    data = door.body if isinstance(door.body, bytes) else json.dumps(door.body).encode()
    kind = "multipart/form-data; boundary=b" if isinstance(door.body, bytes) else "application/json"
    return http.request(
        door.method,
        farebox.url + door.path + query,
        content=None if door.body is None else data,
        headers={"content-type": kind, "x-forwarded-for": next(addresses), **headers},
    )


def refusal(answer: httpx.Response, door: Door) -> tuple[int, str]:
    """(status, code); the envelope is that of the door's dialect."""
    assert answer.headers["x-request-id"].startswith("req_")
    document = answer.json()
    error = document["error"]
    if door.dialect == "gemini":
        assert set(error) == {"code", "message", "status", "details"}
        assert error["code"] == answer.status_code
        return answer.status_code, error["details"][0]["reason"]
    assert (document.get("type") == "error") is (door.dialect == "anthropic")
    assert ("request-id" in answer.headers) is (door.dialect == "anthropic")
    return answer.status_code, error["code"]


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", DOORS)
def test_no_door_opens_without_a_good_key(name: str, quiet: RunningFarebox) -> None:
    door, random = DOORS[name], quiet.services.random.token
    good, revoked, expired = quiet.new_key(), quiet.new_key(), quiet.new_key(expires_ms=1)
    parsed = keys.parse(revoked.text)
    assert parsed is not None
    quiet.run(quiet.services.accounts.revoke(revoked.account, parsed.number))
    unknown = keys.mint("paid", keys.mint_account(random), random).text
    neighbour = keys.mint("paid", good.account, random).text
    body = f"f{good.text[7:-6]}"
    other_kind = f"{good.text[:6]}{body}{keys._checksum(body)}"
    assert keys.parse(other_kind) is not None
    bad = [revoked.text, expired.text, unknown, neighbour, other_kind, good.text[:-1], good.text.swapcase(), "x" * 600]
    places = [*door.headers, "authorization"]
    answers = [call(quiet, door, {})]
    answers += [call(quiet, door, {"authorization": f"Basic {good.text}"})]
    answers += [call(quiet, door, {place: text}) for place in places for text in bad]
    if door.dialect == "gemini":
        answers += [call(quiet, door, {}, f"?key={text}") for text in (*bad, "")]

    told = {refusal(answer, door) for answer in answers}
    assert told <= {(401, "invalid_api_key"), *([(403, "model_not_allowed")] if door.names_model else [])}
    assert (401, "invalid_api_key") in told
    for account in (good.account, revoked.account, expired.account):
        assert quiet.account(account).held_nano == quiet.account(account).spent_nano == 0
        assert quiet.receipts(account) == []


@pytest.mark.parametrize("name", DOORS)
def test_two_keys_in_one_request_are_none(name: str, quiet: RunningFarebox) -> None:
    door, one, two = DOORS[name], quiet.new_key(), quiet.new_key()
    pairs = [{"authorization": f"Bearer {one.text}", place: two.text} for place in door.headers]
    answers = [call(quiet, door, pair) for pair in pairs]
    if door.dialect == "gemini":
        answers += [call(quiet, door, {"x-goog-api-key": one.text}, f"?key={two.text}")]
        answers += [call(quiet, door, {}, f"?key={one.text}&key={two.text}")]

    assert {refusal(answer, door) for answer in answers} <= {(401, "invalid_api_key")}


@pytest.mark.parametrize(
    "name", [name for name, door in DOORS.items() if door.dialect == "openai" and not door.headers]
)
def test_another_dialects_place_for_a_key_is_none_here(name: str, quiet: RunningFarebox) -> None:
    door, key = DOORS[name], quiet.new_key()
    if not door.path.startswith("/v1/models"):  # where all dialects' clients ask
        for place in ("x-api-key", "x-goog-api-key"):
            assert refusal(call(quiet, door, {place: key.text}), door) == (401, "invalid_api_key")
        assert refusal(call(quiet, door, {}, f"?key={key.text}"), door) == (401, "invalid_api_key")


# ── the key's own lists, the account's state ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", DOORS)
def test_a_keys_list_of_addresses_holds_at_every_door(name: str, quiet: RunningFarebox) -> None:
    door, key = DOORS[name], quiet.new_key(networks=("198.51.100.0/24",))
    headers = {"authorization": f"Bearer {key.text}", "x-forwarded-for": "203.0.113.9"}

    assert refusal(call(quiet, door, headers), door) == (403, "ip_not_allowed")
    assert quiet.account(key.account).held_nano == 0


@pytest.mark.parametrize("name", SPENDING)
def test_a_keys_list_of_models_holds_at_every_door(name: str, quiet: RunningFarebox) -> None:
    door, key = DOORS[name], quiet.new_key(models=("gpt-4o-mini",))

    answer = call(quiet, door, {"authorization": f"Bearer {key.text}"})
    assert refusal(answer, door) == (403, "model_not_allowed")


@pytest.mark.parametrize("name", [*SPENDING, "upload"])
def test_a_frozen_account_uses_nothing(name: str, quiet: RunningFarebox) -> None:
    door, key = DOORS[name], quiet.new_key()
    freeze(quiet, key)

    answer = call(quiet, door, {"authorization": f"Bearer {key.text}"})
    assert refusal(answer, door) == (403, "account_frozen")
    assert quiet.account(key.account).held_nano == 0


@pytest.mark.parametrize("name", SPENDING)
def test_no_door_leads_a_free_key_to_a_paid_model(name: str, quiet: RunningFarebox) -> None:
    door, free = DOORS[name], quiet.new_key("free", credit="0")
    model = quiet.services.catalog.get(model_of(door))
    assert model is not None
    if model.free_group is not None:
        pytest.skip("this one is free")

    answer = call(quiet, door, {"authorization": f"Bearer {free.text}"})
    assert refusal(answer, door) == (403, "model_not_allowed")
    assert quiet.receipts(free.account) == []


def test_no_name_of_a_paid_model_is_listed_to_a_free_key(quiet: RunningFarebox) -> None:
    free = quiet.new_key("free", credit="0")
    headers = {"authorization": f"Bearer {free.text}"}
    listed = http.get(f"{quiet.url}/v1/models", headers=headers).json()["data"]
    catalog = quiet.services.catalog

    assert listed
    assert [each["id"] for each in listed if (model := catalog.get(each["id"])) and model.free_group is None] == []
    assert http.get(f"{quiet.url}/v1/models/o3", headers=headers).status_code == 404
    assert http.get(f"{quiet.url}/v1beta/models/{GEMINI}", headers=headers).status_code == 404


def model_of(door: Door) -> str:
    if door.path.startswith(("/v1beta/models/", "/v1/models/")):
        return door.path.rpartition("/")[2].partition(":")[0]
    return "whisper-1" if isinstance(door.body, bytes) else str(door.body["model"])


def freeze(farebox: RunningFarebox, key: Funded) -> None:
    """What an operator does to an account in a dispute."""
    services = farebox.services
    farebox.run(
        services.db.call(
            "UpdateItem",
            {
                "TableName": services.tables.accounts,
                "Key": {"acct": {"S": key.account}},
                "UpdateExpression": "SET st = :frozen",
                "ExpressionAttributeValues": {":frozen": {"S": "frozen"}},
            },
        )
    )
