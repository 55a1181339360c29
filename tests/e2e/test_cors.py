"""Clients that are pages: a browser asks first, and reads only what it is allowed to."""

from __future__ import annotations

import pytest

from tests.fakes.caller import CHAT, CHAT_PATH
from tests.fakes.process import http
from tests.fakes.service import RunningFarebox
from tests.fakes.upstream import ScriptedUpstream

PAGE = {"origin": "https://chat.example"}
ASKING = {**PAGE, "access-control-request-method": "POST"}


@pytest.mark.parametrize("path", [CHAT_PATH, "/v1/messages", "/v1beta/models/gpt-4o:generateContent", "/v1/models"])
def test_a_browser_may_ask_and_is_told_that_any_page_may_call(farebox: RunningFarebox, path: str) -> None:
    headers = {**ASKING, "access-control-request-headers": "authorization,content-type,x-stainless-os"}
    answer = http.options(farebox.url + path, headers=headers)

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-os"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in answer.headers


def test_names_that_are_none_are_not_repeated(farebox: RunningFarebox) -> None:
    headers = {**ASKING, "access-control-request-headers": "x; <script>"}

    assert http.options(farebox.url + CHAT_PATH, headers=headers).headers["access-control-allow-headers"] == (
        "authorization, content-type"
    )


def test_an_answer_to_a_page_can_be_read_with_its_cost_and_so_can_an_error(
    farebox: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    key = farebox.new_key()
    good = http.post(farebox.url + CHAT_PATH, json=CHAT, headers={**PAGE, "authorization": f"Bearer {key.text}"})
    bad = http.post(farebox.url + CHAT_PATH, json=CHAT, headers=PAGE)

    assert (good.status_code, bad.status_code) == (200, 401)
    for answer in (good, bad):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "x-farebox-cost" in answer.headers["access-control-expose-headers"]


def test_who_is_no_page_hears_nothing_of_it(farebox: RunningFarebox) -> None:
    plain = http.get(farebox.url + "/healthz")

    assert [name for name in plain.headers if name.startswith("access-control")] == []
    assert http.options(farebox.url + CHAT_PATH).status_code == 404


@pytest.mark.parametrize("path", ["/admin/v1/audit", "/v1/query/balance", "/status"])
def test_the_admins_calls_and_the_pages_are_not_opened(farebox: RunningFarebox, path: str) -> None:
    assert "access-control-allow-origin" not in http.options(farebox.url + path, headers=ASKING).headers
