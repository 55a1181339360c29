"""The prices in the catalog's TOML files: closed sets of keys, each with its unit, and whole nano-CA for one of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from itertools import pairwise

from farebox.adapters.catalog_tables import Table
from farebox.domain.catalog import IMAGE_MADE, MAY_BE_FREE, SERVICE_TIERS, LengthTier, Price, ServiceTier
from farebox.domain.money import parse_ca
from farebox.domain.usage import INPUT_TOKENS, OUTPUT_TOKENS

PRICE_KEYS: Mapping[str, tuple[str, int]] = {
    "input_per_1k": ("input_token", 1000),
    "output_per_1k": ("output_token", 1000),
    "cached_input_per_1k": ("cached_input_token", 1000),
    "cache_write_per_1k": ("cache_write_token", 1000),
    "cache_write_1h_per_1k": ("cache_write_1h_token", 1000),
    "reasoning_per_1k": ("reasoning_token", 1000),
    "audio_input_per_1k": ("audio_input_token", 1000),
    "audio_output_per_1k": ("audio_output_token", 1000),
    "per_1k_tokens": ("input_token", 1000),
    "text_input_per_1k": ("input_token", 1000),
    "image_input_per_1k": ("image_input_token", 1000),
    "image_output_per_1k": ("image_output_token", 1000),
    "per_1k_characters": ("character", 1000),
    "per_minute": ("audio_ms", 60_000),
    "image_when_streaming": ("image_when_streaming", 1),
    "per_web_search": ("web_search", 1),
    "per_request": ("request", 1),
}
"""A price's key in the files → the unit that it prices, and how many of that unit the written figure is for."""

_CHAT, _CACHE = "input_per_1k output_per_1k", "cached_input_per_1k cache_write_per_1k cache_write_1h_per_1k"
_CLASSES = "reasoning_per_1k audio_input_per_1k audio_output_per_1k image_input_per_1k image_output_per_1k"
PRICE_FORMS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "chat": ((_CHAT, f"{_CACHE} {_CLASSES} image_when_streaming per_web_search"),),
    "completion": ((_CHAT, _CACHE),),
    "embedding": (("per_1k_tokens", ""),),
    "image": (
        ("images", ""),
        ("text_input_per_1k image_input_per_1k image_output_per_1k", "cached_input_per_1k output_per_1k"),
    ),
    "speech": (("per_1k_characters", ""), ("per_minute per_1k_tokens", "")),
    "transcription": (("per_minute", ""),),
    "moderation": (("per_request", ""),),
}
"""Kind → the forms that its price can take, each as keys that must stand there and keys that may."""

TIERED = frozenset({"chat", "completion"})
TOKENS = frozenset((*INPUT_TOKENS, *OUTPUT_TOKENS))
"""The kinds whose prices may have `tier` and `service_tier`, and the units of their form that these may price."""

TOKENS_MAX = 100_000_000
_MS_PER_DAY = 86_400_000
_IMAGE = re.compile(r"[a-z]+:[1-9][0-9]{1,4}x[1-9][0-9]{1,4}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def read_prices(table: Table, model_id: str, kind: str | None) -> tuple[Price, ...]:
    """The sound ones of a model's `price`, as they stand; a problem unless their dates ascend."""
    prices = []
    for number, entry in enumerate(table.take_tables("price", needed=True), start=1):
        price = _price(table.child(entry, f"price {entry.get('from', number)}"), model_id, kind)
        if price is not None:
            prices.append(price)
    for earlier, later in pairwise(prices):
        if later.from_ms <= earlier.from_ms:
            table.refuse(f"price {later.version}: from must be later than that of {earlier.version} above it")
    return tuple(prices)


def _price(table: Table, model_id: str, kind: str | None) -> Price | None:
    """One dated price; None if anything of it is wrong."""
    before = table.problem_count
    if kind is not None:
        _check_form(table, kind)
    start = table.take("from", str, needed=True)
    from_ms = None if start is None else _start_ms(table, start)
    rates = {**_rates(table), **_images(table)}
    tiers = _length_tiers(table, kind)
    service_tiers = _service_tiers(table, kind)
    table.refuse_the_rest()
    if from_ms is None or table.problem_count > before:
        return None
    return Price(from_ms, f"{model_id}@{start}", rates, tiers, service_tiers)


def _check_form(table: Table, kind: str) -> None:
    """Refuses a price that has not all the keys of one form of its kind, or has others."""
    given = table.keys & (PRICE_KEYS.keys() | {"images"})
    # The form that the price comes closest to is the one that was meant.
    forms = [(set(must.split()), set(may.split())) for must, may in PRICE_FORMS[kind]]
    must, may = max(forms, key=lambda form: len(form[0] & given))
    for key in sorted(must - given):
        table.refuse(f"{key} is missing, kind {kind!r} needs it")
    for key in sorted(given - must - may):
        table.refuse(f"{key} does not belong to a price of kind {kind!r} by {', '.join(sorted(must))}")
    for key in sorted(table.keys & {"tier", "service_tier"} if kind not in TIERED else ()):
        table.refuse(f"{key} does not belong to a price of kind {kind!r}")


def _rates(table: Table) -> dict[str, int]:
    """Unit → nano-CA, of the table's own keys."""
    return {unit: _nano_each(table, key, unit, count) for key, (unit, count) in PRICE_KEYS.items() if key in table.keys}


def _images(table: Table) -> dict[str, int]:
    """Unit of an image that is made → nano-CA."""
    entry = table.take("images", dict)
    if entry == {}:
        table.refuse("images is empty")
    images = table.child(entry or {}, "images")
    for key in images.keys:
        if not _IMAGE.fullmatch(key):
            images.refuse(f"{key} must be quality:WIDTHxHEIGHT")
    return {f"{IMAGE_MADE}{key}": _nano_each(images, key, f"{IMAGE_MADE}{key}", 1) for key in images.keys}


def _length_tiers(table: Table, kind: str | None) -> tuple[LengthTier, ...]:
    """The sound ones of `tier`; a problem unless their borders ascend."""
    tiers = []
    for number, entry in enumerate(table.take_tables("tier"), start=1):
        tier = table.child(entry, f"tier {entry.get('above_input_tokens', number)}")
        border = tier.take_count("above_input_tokens", most=TOKENS_MAX, needed=True)
        rates = _some_rates(tier, kind)
        tier.refuse_the_rest()
        if border is not None:
            tiers.append(LengthTier(border, rates))
    for lower, higher in pairwise(tiers):
        if higher.above_input_tokens <= lower.above_input_tokens:
            table.refuse(f"tier {higher.above_input_tokens}: above_input_tokens must be above that of the tier before")
    return tuple(tiers)


def _service_tiers(table: Table, kind: str | None) -> dict[str, ServiceTier]:
    entry = table.take("service_tier", dict)
    if entry == {}:
        table.refuse("service_tier is empty")
    named = table.child(entry or {}, "service_tier")
    tiers = {}
    for name in named.keys:
        fields = named.take(name, dict)
        if name not in SERVICE_TIERS:
            named.refuse(f"{name} must be one of {', '.join(sorted(SERVICE_TIERS))}")
        if fields is not None:
            tier = named.child(fields, name)
            tiers[name] = ServiceTier(_some_rates(tier, kind), _length_tiers(tier, kind))
            tier.refuse_the_rest()
    return tiers


def _some_rates(table: Table, kind: str | None) -> dict[str, int]:
    """The rates of a tier: some of the keys that its price may have, at least one."""
    given = table.keys & PRICE_KEYS.keys()
    if not given:
        table.refuse("it has no price")
    if kind in TIERED:
        form = {key for keys in PRICE_FORMS[kind][0] for key in keys.split()}
        for key in sorted(key for key in given if key not in form or PRICE_KEYS[key][0] not in TOKENS):
            table.refuse(f"{key} does not belong to a price of kind {kind!r}")
    return _rates(table)


def _start_ms(table: Table, start: str) -> int | None:
    """Midnight UTC of the date `start`, in epoch ms."""
    try:
        if _DATE.fullmatch(start):  # fromisoformat alone would take "20250501" and "2025-W18-4" too
            return (date.fromisoformat(start) - date(1970, 1, 1)).days * _MS_PER_DAY
    except ValueError:
        pass
    table.refuse("from must be a date as YYYY-MM-DD")
    return None


def _nano_each(table: Table, key: str, unit: str, count: int) -> int:
    """nano-CA for one `unit`, out of the price that `key` gives for `count` of them; 0 after a problem."""
    text = table.take(key, str)
    if text is None:
        return 0
    try:
        nano = parse_ca(text)
    except ValueError as error:
        table.refuse(f"{key}: {error}, not {text[:40]!r}")
        return 0
    if nano == 0 and unit not in MAY_BE_FREE:
        table.refuse(f"{key} must be above zero")
    if nano % count:
        table.refuse(f"{key}: {text} CA for {count} is not a whole number of nano-CA for one")
    return nano // count
