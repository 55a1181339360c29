"""The settings: all that is wrong is said at once, each with its key, and no secret is repeated."""

from __future__ import annotations

import base64
import tomllib
from pathlib import Path
from typing import Any

import pytest

from farebox.adapters.secrets import resolver
from farebox.bootstrap import settings_of
from farebox.domain.quota import FreeLimits
from farebox.on_lambda import SECRETS_OF
from farebox.settings import EpaySettings, Settings, SettingsError, StripeSettings, read

VENDORS = {"openai": True, "deepseek": True, "azure": False}
SECRET = "sk-upstream-very-secret-0123456789"
TOKEN = "an-admin-token-that-is-long-enough"
CHANNEL = {"name": "one", "vendor": "openai", "keys": [SECRET]}


def settings(document: dict[str, Any] | str, environ: dict[str, str] | None = None) -> Settings:
    parsed = tomllib.loads(document) if isinstance(document, str) else document
    return read(parsed, resolver(environ or {}), vendors=VENDORS)


def problems(document: dict[str, Any] | str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        settings(document, environ)
    return refused.value.problems


def test_nothing_set_is_the_contracts_defaults() -> None:
    assert settings({}) == Settings(
        store_endpoint=None,
        admin_token=None,
        free=FreeLimits(200, 200, 4096, (("gpt-4o", 5), ("deepseek", 30), ("gpt-4o-mini", 200))),
        reset_timezone="Asia/Shanghai",
        signup_credit_nano=1_400_000_000,
        trusted_proxies=(),
        channels=(),
    )


def test_the_contracts_example_is_read() -> None:
    read_in = settings(
        """
        [store]
        endpoint = "http://127.0.0.1:8000/"
        [admin]
        token = "env:FAREBOX_ADMIN_TOKEN"
        [free]
        reset_timezone = "UTC"
        requests_per_key = 100
        [free.groups]
        deepseek = 7
        [signup]
        credit = "0.000000001"
        [network]
        trusted_proxies = ["10.0.0.0/8", "::1"]
        [github]
        client_id = "x"
        [stripe]
        api_key = "env:STRIPE"
        [[channel]]
        name = "openai-1"
        vendor = "openai"
        base_url = "https://api.openai.com/v1"
        keys = ["env:OPENAI_API_KEY", "literal"]
        models = ["gpt-4o", "gpt-4o-mini"]
        rename = { "gpt-4o-ca" = "gpt-4o" }
        priority = -1
        weight = 0
        """,
        {"FAREBOX_ADMIN_TOKEN": TOKEN, "OPENAI_API_KEY": SECRET, "STRIPE": "sk_live_1"},
    )
    channel = read_in.channels[0]

    assert (read_in.store_endpoint, read_in.admin_token) == ("http://127.0.0.1:8000", TOKEN)
    assert (read_in.reset_timezone, read_in.free.requests_per_key, read_in.signup_credit_nano) == ("UTC", 100, 1)
    assert (read_in.free.group_limit("deepseek"), read_in.free.group_limit("gpt-4o")) == (7, 5)
    assert read_in.trusted_proxies == ("10.0.0.0/8", "::1")
    assert channel.keys == (SECRET, "literal")
    assert (channel.models, channel.rename) == (("gpt-4o", "gpt-4o-mini"), {"gpt-4o-ca": "gpt-4o"})
    assert (channel.priority, channel.weight) == (-1, 0)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a section that is not there": ({"sotre": {}}, "sotre: "),
    "a setting that is not there": ({"store": {"endpiont": "http://x"}}, "store.endpiont: "),
    "a section that is no table": ({"free": 5}, "free: "),
    "a store without scheme": ({"store": {"endpoint": "127.0.0.1:8000"}}, "store.endpoint: "),
    "a store on another protocol": ({"store": {"endpoint": "ftp://127.0.0.1"}}, "store.endpoint: "),
    "a store with a query": ({"store": {"endpoint": "http://h?x=1"}}, "store.endpoint: "),
    "half an IPv6 address": ({"store": {"endpoint": "http://[::1"}}, "store.endpoint: "),
    "a port that is none": ({"store": {"endpoint": "http://h:99999"}}, "store.endpoint: "),
    "a store that is a number": ({"store": {"endpoint": 8000}}, "store.endpoint: "),
    "a token that is a number": ({"admin": {"token": 1234567890123456}}, "admin.token: "),
    "a token from nowhere": ({"admin": {"token": "env:NOT_SET"}}, "admin.token: "),
    "no such zone": ({"free": {"reset_timezone": "Asia/Beijing2"}}, "free.reset_timezone: "),
    "a zone outside": ({"free": {"reset_timezone": "../../etc/passwd"}}, "free.reset_timezone: "),
    "no zone at all": ({"free": {"reset_timezone": ""}}, "free.reset_timezone: "),
    "a negative limit": ({"free": {"requests_per_key": -1}}, "free.requests_per_key: "),
    "a limit with a point": ({"free": {"requests_per_address": 200.0}}, "free.requests_per_address: "),
    "a limit that is true": ({"free": {"input_tokens_max": True}}, "free.input_tokens_max: "),
    "a group that is not there": ({"free": {"groups": {"gpt4o": 5}}}, "free.groups.gpt4o: "),
    "a group's limit as text": ({"free": {"groups": {"gpt-4o": "5"}}}, "free.groups.gpt-4o: "),
    "groups that are no table": ({"free": {"groups": 5}}, "free.groups: "),
    "money as a float": ({"signup": {"credit": 1.4}}, "signup.credit: "),
    "money that is owed": ({"signup": {"credit": "-1"}}, "signup.credit: "),
    "money finer than nano": ({"signup": {"credit": "0.0000000001"}}, "signup.credit: "),
    "a hop that is no list": ({"network": {"trusted_proxies": "10.0.0.1"}}, "network.trusted_proxies: "),
    "a hop that is no address": ({"network": {"trusted_proxies": ["proxy.local"]}}, "network.trusted_proxies: "),
    "a hop with host bits": ({"network": {"trusted_proxies": ["10.0.0.1/8"]}}, "network.trusted_proxies: "),
    "a receipt key that is none": ({"receipts": {"previous_keys": ["abc"]}}, "receipts.previous_keys: "),
    "one channel as a table": ({"channel": CHANNEL}, "channel: "),
    "a channel without name": ({"channel": [{**CHANNEL, "name": ""}]}, "channel[0].name: "),
    "two channels of one name": ({"channel": [CHANNEL, CHANNEL]}, "channel.name: "),
    "no such vendor": ({"channel": [{**CHANNEL, "vendor": "opneai"}]}, "channel[0].vendor: "),
    "a channel without keys": ({"channel": [{"name": "a", "vendor": "openai"}]}, "channel[0].keys: "),
    "an empty key": ({"channel": [{**CHANNEL, "keys": [""]}]}, "channel[0].keys: "),
    "a key from nowhere": ({"channel": [{**CHANNEL, "keys": ["env:NOT_SET"]}]}, "channel[0].keys: "),
    "a key that is no list": ({"channel": [{**CHANNEL, "keys": SECRET}]}, "channel[0].keys: "),
    "a base_url without scheme": ({"channel": [{**CHANNEL, "base_url": "h/v1"}]}, "channel[0].base_url: "),
    "models that are no list": ({"channel": [{**CHANNEL, "models": "*"}]}, "channel[0].models: "),
    "a rename that is no text": ({"channel": [{**CHANNEL, "rename": {"a": 1}}]}, "channel[0].rename: "),
    "a weight below nought": ({"channel": [{**CHANNEL, "weight": -1}]}, "channel[0].weight: "),
    "a priority as text": ({"channel": [{**CHANNEL, "priority": "1"}]}, "channel[0].priority: "),
    "a channel's unknown setting": ({"channel": [{**CHANNEL, "wieght": 1}]}, "channel[0].wieght: "),
}


@pytest.mark.parametrize(("document", "key"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_with_its_key(document: dict[str, Any], key: str) -> None:
    found = problems(document)

    assert any(each.startswith(key) and len(each) > len(key) for each in found), found
    assert SECRET not in "\n".join(found)


def test_all_that_is_wrong_is_said_at_once() -> None:
    keys = problems(
        {
            "sotre": {},
            "store": {"endpoint": "nowhere"},
            "admin": {"token": "env:NOT_SET"},
            "free": {"reset_timezone": "Mars/Olympus", "requests_per_key": -1, "groups": {"gpt-5": 1}},
            "signup": {"credit": "much"},
            "network": {"trusted_proxies": ["x"]},
            "channel": [
                {"name": "a", "vendor": "x", "keys": []},
                {"name": "a", "vendor": "openai", "keys": ["env:NO"]},
            ],
        }
    )

    assert {each.partition(":")[0] for each in keys} == {
        "sotre",
        "store.endpoint",
        "admin.token",
        "free.reset_timezone",
        "free.requests_per_key",
        "free.groups.gpt-5",
        "signup.credit",
        "network.trusted_proxies",
        "channel[0].vendor",
        "channel[0].keys",
        "channel[1].keys",
        "channel.name",
    }


@pytest.mark.parametrize("token", ["", "short", "x" * 15])
def test_an_admin_token_that_is_too_short_turns_the_admin_api_off(token: str) -> None:
    assert settings({"admin": {"token": token}}).admin_token is None


def test_an_admin_token_of_sixteen_characters_will_do() -> None:
    assert settings({"admin": {"token": "x" * 16}}).admin_token == "x" * 16
    assert settings({"admin": {"token": "env:TOKEN"}}, {"TOKEN": "y" * 16}).admin_token == "y" * 16


def test_secrets_are_shown_in_no_representation() -> None:
    read_in = settings({"admin": {"token": TOKEN}, "channel": [CHANNEL]})

    assert SECRET not in repr(read_in)
    assert TOKEN not in repr(read_in)


def test_problems_name_what_a_secret_refers_to_and_never_its_value() -> None:
    found = problems(
        {"admin": {"token": TOKEN, "x": 1}, "channel": [{**CHANNEL, "vendor": "x", "keys": ["env:NOT_SET", SECRET]}]}
    )

    assert "NOT_SET" in "\n".join(found)
    assert SECRET not in "\n".join(found)
    assert TOKEN not in "\n".join(found)


def test_a_limit_of_nought_is_allowed() -> None:
    assert settings({"free": {"requests_per_key": 0, "groups": {"gpt-4o": 0}}}).free.group_limit("gpt-4o") == 0


def test_previous_receipt_keys_are_read_as_bytes() -> None:
    key = bytes(range(32))
    listed = [base64.b64encode(key).decode()]

    assert settings({"receipts": {"previous_keys": listed}}).previous_receipt_keys == (key,)


def test_a_file_that_is_no_toml_is_refused_by_name_and_line(tmp_path: Path) -> None:
    path = tmp_path / "farebox.toml"
    path.write_text(f'[admin]\ntoken = "{TOKEN}\n')
    with pytest.raises(SettingsError) as refused:
        settings_of({}, path)

    assert refused.value.problems[0].startswith("farebox.toml: ")
    assert "line 2" in refused.value.problems[0]
    assert TOKEN not in refused.value.problems[0]


def test_a_file_that_is_missing_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        settings_of({}, tmp_path / "nowhere.toml")


def test_without_a_file_the_admin_token_comes_from_the_environment() -> None:
    assert settings_of({"FAREBOX_ADMIN_TOKEN": TOKEN}, None).admin_token == TOKEN
    assert settings_of({}, None).admin_token is None


PAYMENTS = """
[topup]
public_url = "https://api.example.com/"
return_url = "https://example.com/thanks"
[stripe]
api_key = "env:KEY"
webhook_secret = "env:SECRET"
base_url = "http://127.0.0.1:9/"
currency = "usd"
ca_per_unit = "7.2"
[epay]
base_url = "https://pay.example.com/epay/"
pid = "1001"
key = "env:SECRET"
type = "alipay"
"""


def test_the_payments_sections_are_read() -> None:
    found = settings(PAYMENTS, {"KEY": "sk_live_x", "SECRET": "s" * 16})

    assert found.stripe == StripeSettings("sk_live_x", "s" * 16, "http://127.0.0.1:9", "usd", 7_200_000_000)
    assert found.epay == EpaySettings("https://pay.example.com/epay", "1001", "s" * 16, "alipay", 1_000_000_000)
    assert (found.public_url, found.return_url) == ("https://api.example.com", "https://example.com/thanks")
    assert "sk_live" not in repr(found)
    assert "ssss" not in repr(found)


@pytest.mark.parametrize("secret", ["", " ", "s" * 15, " " * 40])
def test_a_payment_secret_that_proves_nothing_is_off(secret: str) -> None:
    found = settings(PAYMENTS, {"KEY": "sk_live_x", "SECRET": secret})
    assert (found.stripe.webhook_secret, found.epay.key) == ("", "")
    literal = settings({"stripe": {"webhook_secret": secret}, "epay": {"key": secret}})
    assert (literal.stripe.webhook_secret, literal.epay.key) == ("", "")


def test_a_payment_secret_whose_variable_is_not_there_is_a_mistake() -> None:
    assert problems(PAYMENTS, {"KEY": "sk_live_x"}) == [
        "stripe.webhook_secret: the environment variable SECRET is not set",
        "epay.key: the environment variable SECRET is not set",
    ]


def test_a_function_that_takes_no_money_reads_no_payment_secret() -> None:
    parsed = tomllib.loads(PAYMENTS)
    found = read(parsed, resolver({}), vendors=VENDORS, needed=frozenset({"admin"}))
    assert (found.stripe.api_key, found.stripe.webhook_secret, found.epay.key) == ("", "", "")
    assert SECRETS_OF["keys"] == {"admin", "stripe", "epay"}
    assert [name for name, of in SECRETS_OF.items() if of & {"stripe", "epay"}] == ["keys"]


@pytest.mark.parametrize(
    ("section", "wrong", "at"),
    [
        ("stripe", {"currency": "CNY"}, "stripe.currency"),
        ("stripe", {"currency": "kwd"}, "stripe.currency"),
        ("stripe", {"currency": ""}, "stripe.currency"),
        ("stripe", {"ca_per_unit": "0"}, "stripe.ca_per_unit"),
        ("stripe", {"ca_per_unit": 7}, "stripe.ca_per_unit"),
        ("stripe", {"ca_per_unit": "-1"}, "stripe.ca_per_unit"),
        ("stripe", {"base_url": "ftp://x"}, "stripe.base_url"),
        ("stripe", {"secret": "x"}, "stripe.secret"),
        ("epay", {"ca_per_unit": "1e3"}, "epay.ca_per_unit"),
        ("epay", {"pid": 1001}, "epay.pid"),
        ("topup", {"public_url": "api.example.com"}, "topup.public_url"),
    ],
)
def test_what_is_wrong_with_payments_is_said_by_key(section: str, wrong: dict[str, object], at: str) -> None:
    [problem] = problems({section: wrong})
    assert problem.startswith(f"{at}: ")
