"""The settings: one frozen record, from a mapping. Everything that is wrong is said at once, each with its key."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from farebox.domain import money
from farebox.domain.quota import FreeLimits

ADMIN_TOKEN_CHARS_MIN = 16
PAYMENT_SECRET_CHARS_MIN = 16
THREE_DECIMALS = frozenset({"bhd", "iqd", "jod", "kwd", "lyd", "omr", "tnd"})
"""Currencies whose smallest units Stripe does not take one by one."""
PUBLIC_KEY_BYTES = 32
Secrets = Callable[[str], str]
"""Resolves "env:NAME" and "ssm:/path" to their values; anything else is itself. Raises LookupError."""


class EmptySecret(LookupError):
    """The secret is there, and empty."""


class SettingsError(Exception):
    """`problems`: one sentence each, beginning with the key at fault."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """One [[channel]]."""

    name: str
    vendor: str
    base_url: str | None
    keys: tuple[str, ...] = field(repr=False)
    models: tuple[str, ...]
    rename: Mapping[str, str]
    priority: int
    weight: int
    api_version: str = ""
    first_content_s: int | None = None


@dataclass(frozen=True, slots=True)
class StripeSettings:
    """[stripe]. Without the key nothing can be paid, without the secret no notice is believed: "" is off."""

    api_key: str = field(default="", repr=False)
    webhook_secret: str = field(default="", repr=False)
    base_url: str = "https://api.stripe.com"
    currency: str = "cny"
    ca_per_unit_nano: int = money.NANO_PER_CA


@dataclass(frozen=True, slots=True)
class EpaySettings:
    """[epay]: 易支付. `type`: alipay, wxpay, …; "" lets the payer choose there."""

    base_url: str = ""
    pid: str = ""
    key: str = field(default="", repr=False)
    type: str = ""
    ca_per_unit_nano: int = money.NANO_PER_CA


@dataclass(frozen=True, slots=True)
class Settings:
    """`admin_token` is None where the admin API is off. `signup_credit_nano` is nano-CA.

    `catalog_files`: the operator's own price lists. `previous_receipt_keys`: public keys (raw Ed25519) that signed
    receipts before the present one. `public_url`: where payment providers and payers reach this service; `return_url`:
    where payers come back to.
    """

    store_endpoint: str | None = None
    admin_token: str | None = field(default=None, repr=False)
    free: FreeLimits = field(default_factory=FreeLimits)
    reset_timezone: str = "Asia/Shanghai"
    signup_credit_nano: int = 1_400_000_000
    trusted_proxies: tuple[str, ...] = ()
    previous_receipt_keys: tuple[bytes, ...] = ()
    channels: tuple[ChannelSettings, ...] = ()
    catalog_files: tuple[str, ...] = ()
    stripe: StripeSettings = StripeSettings()
    epay: EpaySettings = EpaySettings()
    public_url: str | None = None
    return_url: str | None = None


Table = Mapping[str, Any]
Sections = (
    "store",
    "admin",
    "free",
    "signup",
    "network",
    "receipts",
    "catalog",
    "github",
    "topup",
    "stripe",
    "epay",
    "channel",
)
LATER_SECTIONS = {
    "github": ("client_id", "client_secret", "base_url", "api_url"),
}
"""Sections that the contract names and nothing uses yet: their keys are checked all the same."""
CHANNEL_KEYS = (
    "name",
    "vendor",
    "base_url",
    "keys",
    "models",
    "rename",
    "priority",
    "weight",
    "api_version",
    "first_content_s",
)


class _Reader:
    """Reads typed values out of tables and collects what is wrong instead of stopping at it."""

    def __init__(self, secrets: Secrets, needed: frozenset[str]) -> None:
        self.problems: list[str] = []
        self._secrets = secrets
        self._needed = needed

    def table(self, parent: Table, name: str, known: tuple[str, ...]) -> Table:
        table = parent.get(name.rpartition(".")[2], {})
        if not isinstance(table, Mapping):
            self.problems.append(f"{name}: must be a table")
            return {}
        self.problems += [f"{name}.{key}: there is no such setting" for key in table if key not in known]
        return table

    def text(self, table: Table, path: str, default: str | None = None) -> str | None:
        value = table.get(path.rpartition(".")[2], default)
        if value is not None and not isinstance(value, str):
            self.problems.append(f"{path}: must be a string")
            return default
        return value

    def secret(self, value: str, path: str, *, may_be_empty: bool = False) -> str:
        """The secret's value; "" where this function has no use for it, and so no right to read it."""
        if re.split(r"[.\[]", path, maxsplit=1)[0] not in self._needed:
            return ""
        try:
            return self._secrets(value)
        except LookupError as error:
            if not (may_be_empty and isinstance(error, EmptySecret)):
                self.problems.append(f"{path}: {error}")
            return ""

    def whole(self, table: Table, path: str, default: int, *, low: int) -> int:
        value = table.get(path.rpartition(".")[2], default)
        if type(value) is not int or value < low:
            self.problems.append(f"{path}: must be a whole number, at least {low}")
            return default
        return value

    def texts(self, table: Table, path: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        value = table.get(path.rpartition(".")[2], default)
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            self.problems.append(f"{path}: must be an array of strings")
            return default
        return tuple(value)

    def url(self, table: Table, path: str) -> str | None:
        value = self.text(table, path)
        if value is None:
            return None
        if not _is_base_url(value):
            self.problems.append(f"{path}: must be an http(s) URL without query")
        return value.rstrip("/")


def _is_base_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and "?" not in text
            and "#" not in text
        )
    except ValueError:  # half an IPv6 address, a port that is none
        return False


def read(
    document: Table,
    secrets: Secrets,
    *,
    vendors: Mapping[str, bool],
    needed: frozenset[str] = frozenset(Sections),
) -> Settings:
    """Settings from a parsed TOML document. Raises SettingsError with every problem in it.

    `vendors`: their names, and whether each has an address of its own, so that a channel needs none.
    `needed`: the sections whose secrets are resolved. A function on Lambda may read only its own.
    """
    reader = _Reader(secrets, needed)
    reader.problems += [f"{name}: there is no such section" for name in document if name not in Sections]
    store = reader.table(document, "store", ("endpoint",))
    for name, known in LATER_SECTIONS.items():
        reader.table(document, name, known)
    free = reader.table(
        document,
        "free",
        ("reset_timezone", "requests_per_key", "requests_per_address", "input_tokens_max", "groups"),
    )
    topup = reader.table(document, "topup", ("public_url", "return_url"))
    settings = Settings(
        store_endpoint=reader.url(store, "store.endpoint"),
        admin_token=_admin_token(reader, document),
        free=_free_limits(reader, free),
        reset_timezone=_timezone(reader, free),
        signup_credit_nano=_credit(reader, reader.table(document, "signup", ("credit",))),
        trusted_proxies=_proxies(reader, reader.table(document, "network", ("trusted_proxies",))),
        previous_receipt_keys=_previous_keys(reader, reader.table(document, "receipts", ("previous_keys",))),
        catalog_files=reader.texts(reader.table(document, "catalog", ("files",)), "catalog.files"),
        channels=_channels(reader, document.get("channel", []), vendors),
        stripe=_stripe(reader, document),
        epay=_epay(reader, document),
        public_url=reader.url(topup, "topup.public_url"),
        return_url=reader.url(topup, "topup.return_url"),
    )
    if reader.problems:
        raise SettingsError(reader.problems)
    return settings


def _admin_token(reader: _Reader, document: Table) -> str | None:
    given = reader.text(reader.table(document, "admin", ("token",)), "admin.token")
    token = reader.secret(given, "admin.token") if given else ""
    return token if len(token) >= ADMIN_TOKEN_CHARS_MIN else None


def _stripe(reader: _Reader, document: Table) -> StripeSettings:
    table = reader.table(document, "stripe", ("api_key", "webhook_secret", "base_url", "currency", "ca_per_unit"))
    currency = reader.text(table, "stripe.currency", "cny") or ""
    if not re.fullmatch("[a-z]{3}", currency) or currency in THREE_DECIMALS:
        reader.problems.append("stripe.currency: must be three small letters, of a currency without a third decimal")
    return StripeSettings(
        api_key=_payment_secret(reader, table, "stripe.api_key", 1),
        webhook_secret=_payment_secret(reader, table, "stripe.webhook_secret", PAYMENT_SECRET_CHARS_MIN),
        base_url=reader.url(table, "stripe.base_url") or StripeSettings().base_url,
        currency=currency,
        ca_per_unit_nano=_rate(reader, table, "stripe.ca_per_unit"),
    )


def _epay(reader: _Reader, document: Table) -> EpaySettings:
    table = reader.table(document, "epay", ("base_url", "pid", "key", "type", "ca_per_unit"))
    return EpaySettings(
        base_url=reader.url(table, "epay.base_url") or "",
        pid=reader.text(table, "epay.pid", "") or "",
        key=_payment_secret(reader, table, "epay.key", PAYMENT_SECRET_CHARS_MIN),
        type=reader.text(table, "epay.type", "") or "",
        ca_per_unit_nano=_rate(reader, table, "epay.ca_per_unit"),
    )


def _payment_secret(reader: _Reader, table: Table, path: str, chars_min: int) -> str:
    """The secret; "", which is off, where it is missing, empty or too short to prove anything."""
    given = reader.text(table, path)
    secret = reader.secret(given, path, may_be_empty=True).strip() if given else ""
    return secret if len(secret) >= chars_min else ""


def _rate(reader: _Reader, table: Table, path: str) -> int:
    """nano-CA for one unit of the currency."""
    try:
        nano = money.parse_ca(reader.text(table, path, "1") or "")
    except ValueError as error:
        reader.problems.append(f"{path}: {error}")
        return money.NANO_PER_CA
    if nano == 0:
        reader.problems.append(f"{path}: must be above 0")
    return nano or money.NANO_PER_CA


def _free_limits(reader: _Reader, free: Table) -> FreeLimits:
    defaults = FreeLimits()
    groups = dict(defaults.groups)
    given = reader.table(free, "free.groups", (*groups, "embedding"))
    for name in given:
        groups[name] = reader.whole(given, f"free.groups.{name}", groups.get(name, 0), low=0)
    return FreeLimits(
        requests_per_key=reader.whole(free, "free.requests_per_key", defaults.requests_per_key, low=0),
        requests_per_address=reader.whole(free, "free.requests_per_address", defaults.requests_per_address, low=0),
        input_tokens_max=reader.whole(free, "free.input_tokens_max", defaults.input_tokens_max, low=0),
        groups=tuple(groups.items()),
    )


def _timezone(reader: _Reader, free: Table) -> str:
    name = reader.text(free, "free.reset_timezone", "Asia/Shanghai") or ""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        reader.problems.append("free.reset_timezone: there is no such time zone")
    return name


def _credit(reader: _Reader, signup: Table) -> int:
    text = reader.text(signup, "signup.credit", "1.40") or ""
    try:
        return money.parse_ca(text)
    except ValueError as error:
        reader.problems.append(f"signup.credit: {error}")
        return 0


def _proxies(reader: _Reader, network: Table) -> tuple[str, ...]:
    proxies = reader.texts(network, "network.trusted_proxies")
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            reader.problems.append("network.trusted_proxies: each must be an address or a network (CIDR)")
    return proxies


def _previous_keys(reader: _Reader, receipts: Table) -> tuple[bytes, ...]:
    found: list[bytes] = []
    for text in reader.texts(receipts, "receipts.previous_keys"):
        try:
            found.append(base64.b64decode(text, validate=True))
        except ValueError:
            found.append(b"")
    if any(len(key) != PUBLIC_KEY_BYTES for key in found):
        reader.problems.append("receipts.previous_keys: each must be an Ed25519 public key of 32 bytes in base64")
    return tuple(found)


def _channels(reader: _Reader, given: Any, vendors: Mapping[str, bool]) -> tuple[ChannelSettings, ...]:
    if not isinstance(given, list) or not all(isinstance(each, Mapping) for each in given):
        reader.problems.append("channel: must be written as [[channel]]")
        return ()
    channels = tuple(_channel(reader, each, index, vendors) for index, each in enumerate(given))
    names = [channel.name for channel in channels]
    reader.problems += [f"channel.name: {name!r} is given twice" for name in set(names) if names.count(name) > 1]
    return channels


def _channel(reader: _Reader, table: Table, index: int, vendors: Mapping[str, bool]) -> ChannelSettings:
    path = f"channel[{index}]"
    reader.problems += [f"{path}.{key}: there is no such setting" for key in table if key not in CHANNEL_KEYS]
    name = reader.text(table, f"{path}.name") or ""
    vendor = reader.text(table, f"{path}.vendor") or ""
    keys = reader.texts(table, f"{path}.keys")
    rename = table.get("rename", {})
    if not name:
        reader.problems.append(f"{path}.name: is missing")
    if vendor not in vendors:
        reader.problems.append(f"{path}.vendor: must be one of {', '.join(vendors)}")
    elif not vendors[vendor] and table.get("base_url") is None:
        reader.problems.append(f"{path}.base_url: is missing, {vendor} has none of its own")
    if not keys or not all(keys):
        reader.problems.append(f"{path}.keys: at least one key is needed, and none may be empty")
    # A name of dots alone would lead out of the place that a vendor has for it in a path.
    if not isinstance(rename, Mapping) or not all(
        isinstance(each, str) and each.strip(".") for each in rename.values()
    ):
        reader.problems.append(f"{path}.rename: must be a table of names")
        rename = {}
    return ChannelSettings(
        name=name,
        vendor=vendor,
        base_url=reader.url(table, f"{path}.base_url"),
        keys=tuple(reader.secret(key, f"{path}.keys") for key in keys),
        models=reader.texts(table, f"{path}.models", ("*",)),
        rename=dict(rename),
        priority=reader.whole(table, f"{path}.priority", 0, low=-1_000_000),
        weight=reader.whole(table, f"{path}.weight", 1, low=0),
        api_version=reader.text(table, f"{path}.api_version", "") or "",
        first_content_s=reader.whole(table, f"{path}.first_content_s", 0, low=0) or None,
    )
