"""Errors as callers see them: one table, complete, two languages in each message."""

from __future__ import annotations

import re
from collections.abc import Iterator

import orjson
import pytest

from farebox import errors
from farebox.errors import FareboxError
from farebox.http.errors import SHAPES, headers_of, openai_envelope, shape_of

CONTRACT = {
    "invalid_request": 400,
    "invalid_api_key": 401,
    "insufficient_balance": 402,
    "model_not_allowed": 403,
    "ip_not_allowed": 403,
    "prompt_too_long": 403,
    "model_not_found": 404,
    "not_found": 404,
    "request_too_large": 413,
    "idempotency_mismatch": 422,
    "already_completed": 422,
    "daily_quota_exceeded": 429,
    "too_many_in_flight": 429,
    "upstream_error": 502,
    "upstream_unavailable": 503,
    "store_unavailable": 503,
    "upstream_timeout": 504,
}
OUR_OWN = {
    "account_frozen",
    "already_running",
    "cancelled",
    "forbidden",
    "internal_error",
    "invalid_code",
    "not_configured",
    "payment_unavailable",
    "too_many",
    "unavailable",
}
"""Codes beyond the contract's table: it is silent there."""
CHINESE = re.compile(r"[\u4e00-\u9fff]")

MADE: dict[type[FareboxError], FareboxError] = {
    errors.InsufficientBalance: errors.InsufficientBalance(
        needed_nano=3, available_nano=2, needed="0.000000003", available="0.000000002"
    ),
    errors.PromptTooLong: errors.PromptTooLong(limit_tokens=4096),
    errors.RequestTooLarge: errors.RequestTooLarge(limit_bytes=6 * 1024 * 1024),
    errors.TooMany: errors.TooMany(zh="太多。", en="Too many.", retry_after_s=1),
    errors.DailyQuotaExceeded: errors.DailyQuotaExceeded(
        subject="key", limit=5, retry_after_s=3600, reset_at="00:00 Asia/Shanghai"
    ),
    errors.TooManyInFlight: errors.TooManyInFlight(limit=500),
    errors.AlreadyCompleted: errors.AlreadyCompleted({"request_id": "req_0", "cost": "0.1"}),
}


def family(kind: type[FareboxError]) -> Iterator[type[FareboxError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


KINDS = list(family(FareboxError))


def made(kind: type[FareboxError]) -> FareboxError:
    return MADE.get(kind) or kind()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_has_an_entry_of_its_own_in_the_table(kind: type[FareboxError]) -> None:
    assert shape_of(made(kind)) is SHAPES[kind]


def test_the_table_has_no_entry_for_an_error_that_is_not_there() -> None:
    assert set(SHAPES) == set(KINDS)


def test_the_contracts_codes_have_the_contracts_statuses() -> None:
    found = {shape.code: shape.status for shape in SHAPES.values()}

    assert {code: status for code, status in found.items() if code in CONTRACT} == CONTRACT
    assert set(found) - set(CONTRACT) == OUR_OWN


def test_no_code_stands_for_two_errors() -> None:
    codes = [shape.code for shape in SHAPES.values()]

    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_message_is_chinese_then_english(kind: type[FareboxError]) -> None:
    envelope = orjson.loads(openai_envelope(made(kind)))["error"]
    chinese, english = made(kind).zh, made(kind).en

    assert envelope["message"] == f"{chinese} {english}"
    assert CHINESE.search(chinese)
    assert chinese.endswith("。")
    assert not CHINESE.search(english)
    assert english.endswith(".")
    assert {"message", "type", "param", "code"} <= envelope.keys()


def test_the_tree_in_the_docs_names_every_status_as_the_table_does() -> None:
    told = dict(re.findall(r"([A-Z]\w+)\s+(\d{3})\b", errors.__doc__ or ""))

    assert len(told) > 15
    assert {name: int(status) for name, status in told.items()} == {
        name: SHAPES[getattr(errors, name)].status for name in told
    }


def test_a_full_day_says_when_to_come_back_and_that_an_sdk_should_not_try() -> None:
    assert dict(headers_of(made(errors.DailyQuotaExceeded))) == {
        b"content-type": b"application/json",
        b"retry-after": b"3600",
        b"x-should-retry": b"false",
    }


def test_a_bad_key_says_that_it_will_not_get_better() -> None:
    assert dict(headers_of(made(errors.InvalidApiKey)))[b"x-should-retry"] == b"false"


def test_other_limits_say_when_and_let_an_sdk_try() -> None:
    assert dict(headers_of(made(errors.TooManyInFlight))) == {
        b"content-type": b"application/json",
        b"retry-after": b"1",
    }


def test_an_upstreams_hint_is_passed_on_and_none_is_made_up() -> None:
    assert (b"retry-after", b"7") in headers_of(errors.UpstreamUnavailable(retry_after_s=7))
    assert [name for name, _ in headers_of(errors.UpstreamUnavailable())] == [b"content-type"]


def test_an_error_names_the_parameter_at_fault() -> None:
    assert orjson.loads(openai_envelope(errors.ModelNotFound()))["error"]["param"] == "model"
    assert orjson.loads(openai_envelope(errors.InvalidRequest(param="n")))["error"]["param"] == "n"


def test_a_completed_request_says_what_it_was() -> None:
    told = orjson.loads(openai_envelope(made(errors.AlreadyCompleted)))["error"]

    assert (told["code"], told["request_id"], told["cost"]) == ("already_completed", "req_0", "0.1")


def test_an_unknown_subclass_is_shaped_like_its_nearest_ancestor() -> None:
    kind = type("Later", (errors.UpstreamError,), {})

    assert shape_of(kind()) is SHAPES[errors.UpstreamError]
