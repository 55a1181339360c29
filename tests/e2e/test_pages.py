"""What anyone may read without a key, and what is not there: health, status, and the one kind of 404."""

from __future__ import annotations

import pytest

from tests.fakes.process import http
from tests.fakes.service import RunningFarebox
from tests.fakes.upstream import ScriptedUpstream

NOWHERE = [
    ("GET", "/favicon.ico"),
    ("GET", "/.env"),
    ("GET", "/v1"),
    ("GET", "/v1/"),
    ("GET", "/v1/chat/completions"),
    ("POST", "/v1/chat/completions/"),
    ("POST", "/v1/chat"),
    ("POST", "/v1/models"),
    ("POST", "/v1/responses/../files"),
    ("POST", "/v1/files"),
    ("POST", "/V1/chat/completions"),
    ("POST", "//v1/chat/completions"),
    ("GET", "/v1/query/balance"),
    ("POST", "/v1/query/nothing"),
    ("POST", "/v1/query/balance/"),
    ("DELETE", "/v1/receipts/key"),
    ("GET", "/v1/receipts/a/b"),
    ("GET", "/v1/receipts/"),
    ("GET", "/statusx"),
    ("GET", "/status/"),
    ("POST", "/status"),
    ("POST", "/healthz"),
    ("GET", "/healthz/x"),
    ("GET", "/readyz/"),
    ("GET", "/admin"),
    ("GET", "/admin/v1/"),
    ("GET", "/admin/v1/nothing"),
    ("PUT", "/admin/v1/keys"),
    ("POST", "/admin/v1/keys/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/redoc"),
    ("OPTIONS", "/v1/chat/completions"),
    ("PROPFIND", "/v1/models"),
]


def test_healthz_answers_without_the_store(farebox: RunningFarebox) -> None:
    answer = http.get(f"{farebox.url}/healthz")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert http.head(f"{farebox.url}/healthz").status_code == 200


def test_readyz_answers_when_the_store_does(farebox: RunningFarebox) -> None:
    answer = http.get(f"{farebox.url}/readyz")

    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


def test_status_names_each_channel_and_says_that_it_is_a_demo(farebox: RunningFarebox) -> None:
    document = http.get(f"{farebox.url}/status.json").json()
    page = http.get(f"{farebox.url}/status")
    assert http.get(f"{farebox.url}/").text == page.text

    assert document == {"demo": True, "channels": [{"name": "scripted", "vendor": "openai", "demo": True}]}
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "scripted" in page.text
    assert "演示上游" in page.text
    assert "Demo upstream" in page.text


def test_status_shows_no_host_and_no_key_of_a_channel(farebox: RunningFarebox, upstream: ScriptedUpstream) -> None:
    shown = http.get(f"{farebox.url}/status").text + http.get(f"{farebox.url}/status.json").text

    for secret in ("sk-up", upstream.url, str(upstream.port), "127.0.0.1"):
        assert secret not in shown


def test_a_page_runs_no_script_and_loads_nothing(farebox: RunningFarebox) -> None:
    headers = http.get(f"{farebox.url}/status").headers

    assert "default-src 'none'" in headers["content-security-policy"]
    assert "script-src" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(("method", "path"), NOWHERE, ids=lambda value: value)
def test_what_is_not_there_is_404_in_the_openai_envelope_and_nothing_is_forwarded(
    farebox: RunningFarebox, upstream: ScriptedUpstream, method: str, path: str
) -> None:
    key = farebox.new_key()
    answer = http.request(method, farebox.url + path, headers={"authorization": key.text})

    if path.startswith("/admin/v1/") and answer.status_code == 401:
        return  # a route of the admin's, and this is no admin
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == "not_found"
    assert answer.headers["x-request-id"].startswith("req_")
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/status"),
        ("GET", "/status.json"),
        ("GET", "/v1/models"),
        ("GET", "/v1/receipts/key"),
        ("GET", "/v1/receipts/req_x"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/query/balance"),
        ("GET", "/admin/v1/accounts/acc_x"),
    ],
)
def test_every_answer_has_a_request_id_of_its_own(farebox: RunningFarebox, method: str, path: str) -> None:
    ids = {http.request(method, farebox.url + path).headers["x-request-id"] for _ in range(2)}

    assert len(ids) == 2
    assert all(each.startswith("req_") and len(each) == 30 for each in ids)


def test_a_callers_own_request_id_is_not_taken_over(farebox: RunningFarebox) -> None:
    mine = "req_00000000000000000000000000"
    assert http.get(f"{farebox.url}/healthz", headers={"x-request-id": mine}).headers["x-request-id"] != mine


def test_no_answer_tells_which_server_runs_here(farebox: RunningFarebox) -> None:
    for path in ("/healthz", "/status", "/nothing"):
        assert "x-powered-by" not in http.get(farebox.url + path).headers


def test_the_receipt_key_is_public(farebox: RunningFarebox) -> None:
    document = http.get(f"{farebox.url}/v1/receipts/key").json()

    assert document["algorithm"] == "Ed25519"
    assert document["id"]
    assert document["public_key"]
