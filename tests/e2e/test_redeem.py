"""Redeem codes: each is one credit, whoever comes how often and at the same time; guessing leads nowhere."""

from __future__ import annotations

import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from farebox.cli import main
from farebox.domain import codes as domain_codes
from farebox.domain.codes import GUESSES_PER_ADDRESS, GUESSES_PER_KEY
from tests.fakes.addresses import addresses
from tests.fakes.process import http
from tests.fakes.service import ADMIN_TOKEN, Funded, RunningFarebox

ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
SHAPE = re.compile(r"FB(-[0-9A-HJKMNP-TV-Z]{5}){5}")
NANO = 1_000_000_000


def make(farebox: RunningFarebox, value: str = "30.00", **more: Any) -> list[str]:
    answer = http.post(f"{farebox.url}/admin/v1/codes", json={"value": value, **more}, headers=ADMIN)
    assert answer.status_code == 201, answer.text
    made: list[str] = answer.json()["codes"]
    return made


def redeem(farebox: RunningFarebox, key: Funded, code: object, address: str | None = None) -> httpx.Response:
    headers = {"authorization": f"Bearer {key.text}", "x-forwarded-for": address or next(addresses)}
    return http.post(f"{farebox.base_url}/redeem", json={"code": code}, headers=headers)


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def unknown(farebox: RunningFarebox) -> str:
    return domain_codes.mint(farebox.services.random.token)


def audited(farebox: RunningFarebox, account: str) -> list[str]:
    found = http.get(f"{farebox.url}/admin/v1/audit", headers=ADMIN).json()["violations"]
    return [sentence for sentence in found if account in sentence]


def test_a_code_is_credited_and_the_answer_says_what_there_is_now(farebox: RunningFarebox) -> None:
    key = farebox.new_key(credit="1")
    [code] = make(farebox, "30.00", count=1, expires_at=None)
    answer = redeem(farebox, key, code)

    assert SHAPE.fullmatch(code)
    assert answer.status_code == 200
    assert answer.json() == {"account": key.account, "value": "30", "balance": "31", "available": "31"}
    account = farebox.account(key.account)
    assert (account.avail_nano, account.credited_nano) == (31 * NANO, 31 * NANO)
    assert audited(farebox, key.account) == []


def test_a_free_keys_owner_may_redeem_too(farebox: RunningFarebox) -> None:
    key = farebox.new_key("free", credit="0.000000001")
    assert redeem(farebox, key, make(farebox, "0.000000001")[0]).json()["balance"] == "0.000000002"


def test_many_codes_are_all_different_and_each_is_worth_its_value(farebox: RunningFarebox) -> None:
    key = farebox.new_key(credit="1")
    made = make(farebox, "2", count=120)

    assert len(set(made)) == 120
    for code in (made[0], made[99], made[100], made[119]):
        assert redeem(farebox, key, code).status_code == 200
    assert farebox.account(key.account).avail_nano == 9 * NANO


def test_however_a_code_is_typed_it_is_the_same(farebox: RunningFarebox) -> None:
    key = farebox.new_key(credit="1")
    [code] = make(farebox)
    typed = f" {code.lower().replace('0', 'o').replace('1', 'l').replace('-', ' ')}\n"

    assert redeem(farebox, key, typed).json()["balance"] == "31"
    assert redeem(farebox, key, code.replace("-", "")).json()["balance"] == "31"


def test_the_same_account_is_told_again_that_it_is_done_and_gets_nothing_more(farebox: RunningFarebox) -> None:
    key = farebox.new_key(credit="1")
    [code] = make(farebox)
    answers = [redeem(farebox, key, code) for _ in range(GUESSES_PER_KEY + 2)]

    assert {answer.status_code for answer in answers} == {200}
    assert answers[0].json() == answers[-1].json()
    assert farebox.account(key.account).credited_nano == 31 * NANO


def test_a_hundred_redeems_of_one_code_at_once_are_one_credit(farebox: RunningFarebox) -> None:
    key = farebox.new_key(credit="1")
    [code] = make(farebox)
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: redeem(farebox, key, code), range(100)))

    assert Counter(answer.status_code for answer in answers) == {200: 100}
    assert farebox.account(key.account).credited_nano == 31 * NANO
    assert audited(farebox, key.account) == []


def test_of_forty_accounts_that_race_for_a_code_one_gets_it(farebox: RunningFarebox) -> None:
    racers = [farebox.new_key(credit="1") for _ in range(40)]
    [code] = make(farebox)
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda key: redeem(farebox, key, code), racers))

    assert Counter(answer.status_code for answer in answers) == {200: 1, 400: 39}
    winners = [key for key in racers if farebox.account(key.account).credited_nano == 31 * NANO]
    [paid] = [answer.json()["account"] for answer in answers if answer.status_code == 200]
    assert [key.account for key in winners] == [paid]
    assert sum(farebox.account(key.account).avail_nano for key in racers) == (40 + 30) * NANO


def test_wrong_used_expired_and_malformed_codes_have_one_answer(farebox: RunningFarebox) -> None:
    key, other = farebox.new_key(credit="1"), farebox.new_key(credit="1")
    [used, expired] = [make(farebox)[0], make(farebox, expires_at="2020-01-01T00:00:00Z")[0]]
    assert redeem(farebox, other, used).status_code == 200
    answers = [redeem(farebox, key, code) for code in (used, expired, unknown(farebox), "nonsense", "", "兑换码")]

    assert {told(answer) for answer in answers} == {(400, "invalid_code")}
    assert len({answer.text for answer in answers}) == 1
    assert farebox.account(key.account).credited_nano == NANO


def test_a_code_is_good_until_the_very_millisecond_of_its_expiry(farebox: RunningFarebox) -> None:
    expires = datetime(2031, 1, 1, tzinfo=UTC)
    first, second = make(farebox, count=2, expires_at=expires.isoformat())
    key = farebox.new_key(credit="1")
    farebox.clock.fixed_ms = int(expires.timestamp() * 1000) - 1
    assert redeem(farebox, key, first).status_code == 200
    farebox.clock.fixed_ms += 1
    assert told(redeem(farebox, key, second)) == (400, "invalid_code")
    assert redeem(farebox, key, first).status_code == 200  # done is done


def test_a_key_may_guess_ten_times_an_hour_and_then_not_even_rightly(farebox: RunningFarebox) -> None:
    farebox.clock.fixed_ms = 500_000 * 3_600_000 + 1
    key, [code] = farebox.new_key(credit="1"), make(farebox)
    for _ in range(GUESSES_PER_KEY):
        assert told(redeem(farebox, key, unknown(farebox))) == (400, "invalid_code")
    refused = [redeem(farebox, key, each) for each in (unknown(farebox), code)]

    assert {told(answer) for answer in refused} == {(429, "too_many")}
    assert {answer.headers["retry-after"] for answer in refused} == {"3600"}
    assert redeem(farebox, farebox.new_key(), unknown(farebox)).status_code == 400
    farebox.clock.fixed_ms += 3_600_000
    assert redeem(farebox, key, code).status_code == 200


def test_guesses_at_once_are_no_more_guesses(farebox: RunningFarebox) -> None:
    farebox.clock.fixed_ms = 500_100 * 3_600_000
    key = farebox.new_key(credit="1")
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: redeem(farebox, key, unknown(farebox)), range(64)))

    assert Counter(answer.status_code for answer in answers) == {400: GUESSES_PER_KEY, 429: 64 - GUESSES_PER_KEY}


def test_an_address_may_guess_so_often_with_however_many_keys(farebox: RunningFarebox) -> None:
    farebox.clock.fixed_ms = 500_200 * 3_600_000
    address = next(addresses)
    answers = []
    for _ in range(GUESSES_PER_ADDRESS // GUESSES_PER_KEY):
        key = farebox.new_key()
        with ThreadPoolExecutor(10) as pool:
            answers += pool.map(lambda _: redeem(farebox, key, unknown(farebox), address), range(GUESSES_PER_KEY))  # noqa: B023

    assert {answer.status_code for answer in answers} == {400}
    assert told(redeem(farebox, farebox.new_key(), unknown(farebox), address)) == (429, "too_many")
    assert redeem(farebox, farebox.new_key(), unknown(farebox)).status_code == 400


@pytest.mark.parametrize("key", ["x", "sk-fb-nonsense"])
def test_without_a_good_key_nothing_is_redeemed_or_guessed(farebox: RunningFarebox, key: str) -> None:
    [code] = make(farebox)
    assert told(redeem(farebox, Funded(key, "", ""), code)) == (401, "invalid_api_key")
    stranger = farebox.new_key()
    http.delete(f"{farebox.url}/admin/v1/keys/{stranger.id}", headers=ADMIN)
    assert told(redeem(farebox, stranger, code)) == (401, "invalid_api_key")
    assert redeem(farebox, farebox.new_key(), code).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"code":1}',
        b'{"code":null}',
        b'{"code":"x","value":"9"}',
        b'{"code":"' + b"x" * 201 + b'"}',
    ],
)
def test_a_body_that_is_none_is_refused_by_name_and_never_repeated(farebox: RunningFarebox, body: bytes) -> None:
    headers = {"authorization": farebox.new_key().text, "content-type": "application/json"}
    answer = http.post(f"{farebox.base_url}/redeem", content=body, headers=headers)
    assert told(answer) == (400, "invalid_request")
    assert "xxx" not in answer.text


def test_a_long_body_is_not_read(farebox: RunningFarebox) -> None:
    headers = {"authorization": farebox.new_key().text}
    answer = http.post(f"{farebox.base_url}/redeem", content=b"x" * 20_000, headers=headers)
    assert told(answer) == (413, "request_too_large")


@pytest.mark.parametrize(
    "wanted",
    [
        {"count": 0, "value": "1"},
        {"count": 1001, "value": "1"},
        {"count": "1", "value": "1"},
        {"count": 1},
        {"count": 1, "value": "0"},
        {"count": 1, "value": 1},
        {"count": 1, "value": "-1"},
        {"count": 1, "value": "1", "expires_at": "tomorrow"},
        {"count": 1, "value": "1", "code": "mine"},
    ],
)
def test_codes_are_made_of_sense_only(farebox: RunningFarebox, wanted: dict[str, Any]) -> None:
    answer = http.post(f"{farebox.url}/admin/v1/codes", json=wanted, headers=ADMIN)
    assert told(answer) == (400, "invalid_request")


def test_only_the_admin_makes_codes(farebox: RunningFarebox) -> None:
    for token in ("wrong", farebox.new_key().text):
        answer = http.post(
            f"{farebox.url}/admin/v1/codes", json={"value": "1"}, headers={"authorization": f"Bearer {token}"}
        )
        assert told(answer) == (401, "invalid_api_key")


def test_the_store_knows_no_code_only_its_digest(farebox: RunningFarebox) -> None:
    made = make(farebox, count=3)
    assert redeem(farebox, farebox.new_key(), made[0]).status_code == 200
    for table in ("registry", "ledger", "counters", "accounts"):
        scan = farebox.services.db.call("Scan", {"TableName": f"test-{table}"})
        lying = str(farebox.run(scan)).upper()
        for code in made:
            assert code not in lying
            assert code.replace("-", "")[2:] not in lying


def test_the_operators_verb_prints_codes_one_a_line_or_as_json(farebox: RunningFarebox) -> None:
    command = ["codes", "create", "--value", "5", "--count", "2", "--url", farebox.url, "--token", ADMIN_TOKEN]
    lines = CliRunner().invoke(main, command)
    document = CliRunner().invoke(main, [*command, "--json"])

    assert lines.exit_code == 0, lines.output
    assert len(lines.output.split()) == 2
    key = farebox.new_key(credit="1")
    for code in [*lines.output.split(), *json.loads(document.output)["codes"]]:
        assert redeem(farebox, key, code).status_code == 200
    assert farebox.account(key.account).avail_nano == 21 * NANO
