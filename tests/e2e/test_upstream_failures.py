"""An upstream that says no or talks nonsense: mapped, free of charge, and not a word of it passed on."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.fakes.caller import CHAT, STREAM, ask, headers_of, problem
from tests.fakes.service import RunningFarebox
from tests.fakes.upstream import Reset, ScriptedUpstream, Send, Step, chat_completion, head, json_answer

SECRETS = ("SECRET-marker", "sk-proj-abcdefSECRET", "internal-7.openai.example", "org-SECRET", "acct_SECRET")
TEXT = f"Incorrect key {SECRETS[1]} at https://{SECRETS[2]}/v1 for {SECRETS[3]} ({SECRETS[4]}): {SECRETS[0]} sk-up"
ERROR = {"error": {"message": TEXT, "type": SECRETS[0], "param": None, "code": SECRETS[1]}}
SEEN = {"content-type", "content-length", "date", "server", "x-request-id", "x-farebox-cost"}
SEEN |= {"openai-processing-ms", "openai-version"}
LEAKS = (*SECRETS, "sk-up", "127.0.0.1", "Traceback", "aiohttp")
UNAVAILABLE, WRONG, TIMEOUT = (503, "upstream_unavailable"), (502, "upstream_error"), (504, "upstream_timeout")
REFUSED = (400, "invalid_request")


def told(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error; nothing of the upstream's stands anywhere in it."""
    everything = answer.text + repr(answer.headers.raw)
    assert [leak for leak in LEAKS if leak.lower() in everything.lower()] == []
    return answer.status_code, problem(answer)["code"]


def failures() -> dict[str, tuple[list[Step], tuple[int, str]]]:
    answers: dict[int, tuple[int, str]] = {
        400: REFUSED,
        401: WRONG,
        402: WRONG,
        403: WRONG,
        404: WRONG,
        408: TIMEOUT,
        409: WRONG,
        413: REFUSED,
        422: REFUSED,
        429: UNAVAILABLE,
        500: WRONG,
        501: WRONG,
        502: WRONG,
        503: UNAVAILABLE,
        504: TIMEOUT,
        520: WRONG,
        529: UNAVAILABLE,
        201: WRONG,
        302: WRONG,
        307: WRONG,
        418: WRONG,
    }
    by_status = {f"status {status}": (json_answer(ERROR, status), seen) for status, seen in answers.items()}
    page = f"<html><title>{TEXT}</title></html>".encode()
    return by_status | {
        "reset before the head": ([Reset()], UNAVAILABLE),
        "closed before the head": ([], UNAVAILABLE),
        "reset in the head": ([Send(head()[:20]), Reset()], UNAVAILABLE),
        "no HTTP": ([Send(f"220 {SECRETS[2]} ESMTP {TEXT}\r\n\r\n".encode())], UNAVAILABLE),
        "a huge header": ([Send(head(x_big="x" * 100_000))], UNAVAILABLE),
        "a million headers": ([Send(head()[:-2] + b"x-many: 1\r\n" * 100_000 + b"\r\n")], UNAVAILABLE),
        "HTML with 200": ([Send(head(content_type="text/html") + page)], WRONG),
        "HTML with 502": ([Send(head(502, content_type="text/html") + page)], WRONG),
        "an error with 200": (json_answer(ERROR), WRONG),
        "an error as a string with 200": (json_answer({"error": TEXT}), WRONG),
        "no JSON with 200": (json_answer(b'{"choices":[{"mess' + TEXT.encode()), WRONG),
        "a JSON array with 200": (json_answer([TEXT]), WRONG),
        "status 204": ([Send(head(204))], WRONG),
        "nothing with 200": (json_answer(b""), WRONG),
        "no choices with 200": (json_answer({"id": TEXT, "object": "chat.completion"}), WRONG),
        "no text in a 400": (json_answer(b"", 400), REFUSED),
        "HTML with 400": ([Send(head(400, content_type="text/html") + page)], REFUSED),
        "strange JSON in a 400": (json_answer({"error": {"param": [TEXT], "message": 5}}, 400), REFUSED),
        "shorter than announced": ([Send(head(content_length="9999") + b'{"choices":[')], WRONG),
        "a reset in the body": ([Send(head(content_length="9999") + b'{"choices":['), Reset()], WRONG),
        "compressed all the same": (json_answer(b"\x1f\x8b\x08\x00" + TEXT.encode(), content_encoding="gzip"), WRONG),
    }


FAILURES = failures()


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "stream"])
@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_is_mapped_costs_nothing_and_passes_no_text_on(
    case: str, body: dict[str, Any], farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    key = farebox.new_key()
    before = farebox.account(key.account)
    upstream.script, expected = FAILURES[case]
    answer = ask(farebox, key, body)
    receipts = farebox.receipts(key.account)

    assert told(answer) == expected
    assert "x-farebox-cost" not in answer.headers
    assert len(upstream.requests) == len(receipts[0]["attempts"]) <= 2  # at most once more, and no redirect followed
    assert farebox.account(key.account) == before
    assert [(each["cost_nano"], each["usage"]) for each in receipts] == [(0, {})]
    assert receipts[0]["outcome"] == ("refused" if expected == REFUSED else "failed")
    assert [leak for leak in LEAKS if leak in json.dumps(receipts)] == []


@pytest.mark.parametrize("case", FAILURES)
def test_a_free_unit_comes_back(case: str, farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key("free", credit="0")
    headers, asked = headers_of(key), {**CHAT, "model": "gpt-4o"}
    for _ in range(2):
        upstream.script = FAILURES[case][0]
        assert told(ask(farebox, key, asked, **headers)) == FAILURES[case][1]
        farebox.account(key.account)  # waits for the settlement
    upstream.script = json_answer(chat_completion())

    assert ask(farebox, key, asked, **headers).headers["x-ratelimit-remaining-requests"] == "4"


@pytest.mark.parametrize(
    ("said", "passed_on"),
    [
        ("7", "7"),
        ("60", "60"),
        ("61", "60"),
        ("86400", "60"),
        ("9" * 9, "60"),
        ("9" * 6000, None),
        ("0", "0"),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        (SECRETS[0], None),
    ],
)
@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_retry_after_is_passed_on_up_to_a_minute(
    said: str, passed_on: str | None, status: int, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer(ERROR, status, retry_after=said)
    answer = ask(farebox, farebox.new_key())

    assert told(answer) == UNAVAILABLE
    assert answer.headers.get("retry-after") == passed_on


def test_a_redirect_is_not_followed_and_no_key_sent_elsewhere(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer({}, 302, location=f"{upstream.url}/elsewhere")

    assert told(ask(farebox, farebox.new_key())) == WRONG
    assert [request.path for request in upstream.requests] == ["/v1/chat/completions"]


@pytest.mark.parametrize("param", ["max_tokens", "messages[0].content", "response_format"])
@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_names_the_parameter_and_nothing_else(
    param: str, status: int, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer({"error": {**ERROR["error"], "param": param}}, status)
    answer = ask(farebox, farebox.new_key(), {**CHAT, "response_format": {"type": "text"}})

    assert told(answer) == REFUSED
    assert problem(answer)["param"] == param
    assert param in problem(answer)["message"]


@pytest.mark.parametrize(
    "param",
    [TEXT, *SECRETS, "internal.host", "api_key", "messages " + TEXT, "messages\nx", "messages" + "[0]" * 30, "", 5, {}],
)
def test_a_parameter_that_could_be_anything_else_is_not_named(
    param: Any, farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer({"error": {**ERROR["error"], "param": param}}, 400)
    answer = ask(farebox, farebox.new_key())

    assert told(answer) == REFUSED
    assert problem(answer)["param"] is None


def test_of_an_upstreams_headers_only_the_harmless_are_passed_on(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    upstream.script = json_answer(
        chat_completion(),
        openai_organization=SECRETS[3],
        set_cookie=f"session={SECRETS[0]}",
        x_request_id=SECRETS[0],
        server=SECRETS[2],
        openai_processing_ms="12",
        openai_version="2020-10-01",
        x_ratelimit_remaining_requests="9999",
        cf_ray=SECRETS[0],
    )
    answer = ask(farebox, farebox.new_key())

    assert set(answer.headers) <= SEEN
    assert answer.headers["openai-processing-ms"] == "12"
    assert answer.headers["x-request-id"].startswith("req_")
    assert [leak for leak in SECRETS if leak in repr(answer.headers.raw)] == []


def test_header_values_that_are_no_text_are_no_trouble(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    body = json.dumps(chat_completion()).encode()
    upstream.script = [Send(head(openai_version="@").replace(b"@", b"\xff\xfe \xc3\xa9") + body)]

    assert ask(farebox, farebox.new_key()).status_code == 200


def test_after_all_this_the_next_request_is_answered(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    key = farebox.new_key()
    for script, _ in FAILURES.values():
        upstream.script = script
        ask(farebox, key)
    upstream.reset()

    assert ask(farebox, key).status_code == 200
    assert farebox.account(key.account).holds == {}
