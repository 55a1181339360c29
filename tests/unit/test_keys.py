"""The key: its shape, its checksum, and that nothing of its secret leaves it."""

from __future__ import annotations

import random
import re

import pytest

from farebox.domain import keys
from farebox.domain.keys import ALPHABET, KEY_CHARS, ApiKey

KEYS = 10_000
FLIPPED = 300


@pytest.fixture(scope="module")
def minted() -> list[ApiKey]:
    source = random.Random(20261123)
    accounts = [keys.mint_account(source.randbytes) for _ in range(KEYS)]
    return [keys.mint("paid" if n % 2 else "free", account, source.randbytes) for n, account in enumerate(accounts)]


def test_ten_thousand_keys_parse_to_themselves(minted: list[ApiKey]) -> None:
    assert [keys.parse(key.text) for key in minted] == minted
    assert len({key.text for key in minted}) == KEYS
    assert len({key.account for key in minted}) == KEYS


def test_every_key_has_the_format_that_is_promised(minted: list[ApiKey]) -> None:
    shape = re.compile(r"sk-fb-[fp][0-9A-Za-z]{54}")

    assert all(shape.fullmatch(key.text) and len(key.text) == KEY_CHARS for key in minted)
    assert {key.kind: key.text[6] for key in minted} == {"free": "f", "paid": "p"}


def test_the_secret_uses_the_whole_alphabet_evenly(minted: list[ApiKey]) -> None:
    secrets = "".join(key.text[25:55] for key in minted)
    counts = [secrets.count(letter) for letter in ALPHABET]

    # 300,000 letters over 62: 4,839 of each, with a deviation of 69; seven of them is never chance
    assert min(counts) > 4839 - 7 * 69
    assert max(counts) < 4839 + 7 * 69


def test_no_character_outside_the_alphabet_parses_at_any_place(minted: list[ApiKey]) -> None:
    for key in minted[:FLIPPED]:
        for place, letter in enumerate(key.text):
            for other in "-_ .é\x00":
                if other != letter:
                    assert keys.parse(key.text[:place] + other + key.text[place + 1 :]) is None, (key.text, place)


def test_no_other_character_of_the_alphabet_parses_at_any_place(minted: list[ApiKey]) -> None:
    for key in minted[:FLIPPED]:
        for place, letter in enumerate(key.text):
            for other in ALPHABET:
                if other != letter:
                    assert keys.parse(key.text[:place] + other + key.text[place + 1 :]) is None, (key.text, place)


def test_no_swap_of_neighbours_parses(minted: list[ApiKey]) -> None:
    for key in minted[:FLIPPED]:
        for place in range(len(key.text) - 1):
            left, right = key.text[place : place + 2]
            if left != right:
                assert keys.parse(f"{key.text[:place]}{right}{left}{key.text[place + 2 :]}") is None


def test_what_is_no_key_is_no_key(minted: list[ApiKey]) -> None:
    text = minted[0].text
    odd = ["", "sk-", "sk-fb-", text[:-1], text + "0", f" {text}", f"{text}\n", text.upper(), text.replace("sk", "SK")]
    odd += ["sk-fb-" + "0" * 55, text.translate({ord("0") + n: 0x660 + n for n in range(10)}), "\x00" * KEY_CHARS]

    assert [each for each in odd if keys.parse(each) is not None] == []


def test_the_public_id_leads_back_to_the_account_and_the_number(minted: list[ApiKey]) -> None:
    for key in minted[:1000]:
        assert re.fullmatch(r"key_[0-9A-Za-z]{18}", key.id)
        assert keys.parse_key_id(key.id) == (key.account, key.number)
        assert keys.is_account_id(key.account)


@pytest.mark.parametrize("text", ["", "key_", "key_short", "key_" + "0" * 19, "acc_" + "0" * 18, "key_" + "é" * 18])
def test_what_is_no_key_id_leads_nowhere(text: str) -> None:
    assert keys.parse_key_id(text) is None


@pytest.mark.parametrize(
    "text", ["", "acc_", "acc_" + "0" * 11, "acc_" + "0" * 13, "acc_" + "é" * 12, "acc_" + "0" * 12 + "\n"]
)
def test_what_is_no_account_id_is_none(text: str) -> None:
    assert not keys.is_account_id(text)


def test_a_key_is_shown_by_its_id_and_never_by_its_text(minted: list[ApiKey]) -> None:
    key = minted[0]
    secret = key.text[25:55]
    shown = f"{key!r} {key} {[key]} {key.id}"

    assert key.id in shown
    assert not any(secret[start : start + 6] in shown for start in range(len(secret) - 5))
    assert key.last4 == key.text[-4:]


def test_the_digest_depends_on_the_pepper_and_on_every_key(minted: list[ApiKey]) -> None:
    one, other = minted[0].digest(b"p" * 32), minted[0].digest(b"q" * 32)

    assert len(one) == 32
    assert one != other
    assert one == keys.parse(minted[0].text).digest(b"p" * 32)  # type: ignore[union-attr]
    assert len({key.digest(b"p" * 32) for key in minted}) == KEYS
