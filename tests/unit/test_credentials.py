"""The key in the headers: every form that clients send, and what is refused without the store."""

from __future__ import annotations

import random

import pytest

from farebox.domain import keys
from farebox.errors import InvalidApiKey
from farebox.http.credentials import api_key

RANDOM = random.Random(3)
KEY = keys.mint("paid", keys.mint_account(RANDOM.randbytes), RANDOM.randbytes)


@pytest.mark.parametrize(
    "value",
    [
        f"Bearer {KEY.text}",
        f"bearer {KEY.text}",
        f"BEARER {KEY.text}",
        f"Bearer   {KEY.text}",
        f"  Bearer {KEY.text}  ",
        KEY.text,
        f" {KEY.text} ",
    ],
)
def test_the_key_is_read_with_bearer_and_bare(value: str) -> None:
    assert api_key([(b"accept", b"*/*"), (b"authorization", value.encode())]) == KEY


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "Bearer",
        "Bearer ",
        f"Basic {KEY.text}",
        f"Token {KEY.text}",
        f"{KEY.text} {KEY.text}",
        f"Bearer {KEY.text} x",
        f"Bearer Bearer {KEY.text}",
        f"Bearer {KEY.text[:-1]}",
        f"Bearer {KEY.text[:-1]}{'0' if KEY.text[-1] != '0' else '1'}",
        f"Bearer {KEY.text.swapcase()}",
        "Bearer sk-proj-abcdefghijklmnopqrstuvwxyz",
        f"Bearer {'x' * 600}",
        f"Bearer {KEY.text}{' ' * 600}",
        "Bearer 密钥",
    ],
)
def test_what_is_no_key_is_refused_before_the_store(value: str) -> None:
    with pytest.raises(InvalidApiKey):
        api_key([(b"authorization", value.encode())])


def test_no_header_is_refused() -> None:
    with pytest.raises(InvalidApiKey):
        api_key([])


def test_two_authorization_headers_are_refused_even_if_both_are_the_key() -> None:
    with pytest.raises(InvalidApiKey):
        api_key([(b"authorization", KEY.text.encode())] * 2)


def test_no_other_header_counts_as_the_key_on_openai_paths() -> None:
    for name in (b"x-api-key", b"x-goog-api-key", b"api-key", b"cookie", b"proxy-authorization"):
        with pytest.raises(InvalidApiKey):
            api_key([(name, KEY.text.encode())])
