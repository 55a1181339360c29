"""Reads the catalog's TOML files and refuses them, with all that is wrong at once, unless every figure is sound."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from farebox.domain.catalog import FREE_GROUPS, KINDS, TIERS, TOKENIZERS, Catalog, Model, Price, Tier, Tokenizer
from farebox.domain.money import parse_ca

PRICE_KEYS: Mapping[str, tuple[str, int]] = {
    "input_per_1k": ("input_token", 1000),
    "output_per_1k": ("output_token", 1000),
    "cached_input_per_1k": ("cached_input_token", 1000),
    "cache_write_per_1k": ("cache_write_token", 1000),
    "per_1k_tokens": ("input_token", 1000),
    "text_input_per_1k": ("input_token", 1000),
    "image_input_per_1k": ("image_input_token", 1000),
    "image_output_per_1k": ("image_output_token", 1000),
    "per_1k_characters": ("character", 1000),
    "per_minute": ("audio_ms", 60_000),
    "image_when_streaming": ("image_when_streaming", 1),
}
"""A price's key in the files → the unit that it prices, and how many of that unit the written figure is for."""

_CHAT, _CACHE = "input_per_1k output_per_1k", "cached_input_per_1k cache_write_per_1k"
PRICE_FORMS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "chat": ((_CHAT, f"{_CACHE} image_when_streaming"),),
    "completion": ((_CHAT, _CACHE),),
    "embedding": (("per_1k_tokens", ""),),
    "image": (("images", ""), ("text_input_per_1k image_input_per_1k image_output_per_1k", "")),
    "speech": (("per_1k_characters", ""), ("per_minute per_1k_tokens", "")),
    "transcription": (("per_minute", ""),),
}
"""Kind → the forms that its price can take, each as keys that must stand there and keys that may."""

INPUT_BOUNDED = frozenset({"chat", "completion", "embedding"})
OUTPUT_BOUNDED = frozenset({"chat", "completion"})
"""The kinds whose holds could not be computed without context_tokens, and without output_tokens_max."""
TOKENS_MAX = 100_000_000
MARGIN_PERCENT_MAX = 400
_MS_PER_DAY = 86_400_000
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
_IMAGE = re.compile(r"[a-z]+:[1-9][0-9]{1,4}x[1-9][0-9]{1,4}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NAMES = {str: "a string", int: "a whole number", bool: "true or false", list: "a list of tables", dict: "a table"}
T = TypeVar("T")


class CatalogError(ValueError):
    """The catalog is refused. `problems`: one sentence for each thing that is wrong, naming file, model and key."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("the catalog is refused:\n" + "\n".join(f"- {problem}" for problem in problems))
        self.problems = problems


def load_catalog(directory: Path | None = None) -> Catalog:
    """The catalog from all `*.toml` files of `directory`, by default those of the package.

    Raises CatalogError with everything that is wrong in any of them.
    """
    folder = files("farebox").joinpath("catalog") if directory is None else directory
    problems: list[str] = []
    models: dict[str, Model] = {}
    seen: dict[str, str] = {}
    entries = folder.iterdir() if folder.is_dir() else ()
    found = sorted((file for file in entries if file.name.endswith(".toml")), key=lambda file: file.name)
    for file in found:
        listed = _models_of(file.name, _parsed(file.name, file.read_bytes(), problems), seen, problems)
        models.update((model.id, model) for model in listed)
    _check_aliases(models, seen, problems)
    if not found:
        problems.append(f"{folder.name}: holds no TOML file")
    if problems:
        raise CatalogError(problems)
    return Catalog(models)


class _Float(str):
    """Stands for a float in a file, so that it can be refused by name. No float is ever made."""


def _parsed(file_name: str, content: bytes, problems: list[str]) -> _Table:
    """One file's top table; empty if it cannot be read."""
    try:
        return _Table(tomllib.loads(content.decode(), parse_float=_Float), file_name, problems)
    except ValueError as error:  # tomllib's own error and wrong UTF-8 both derive from it
        problems.append(f"{file_name}: is not valid TOML: {error}")
        return _Table({"vendor": "", "tier": "", "model": []}, file_name, [])


class _Table:
    """One TOML table, read key by key. Whatever is wrong goes to `problems`, with `where` in front."""

    def __init__(self, fields: Mapping[str, Any], where: str, problems: list[str]) -> None:
        self.keys = fields.keys()
        self._left = dict(fields)
        self._problems = problems
        self.where = where

    def child(self, fields: Mapping[str, Any], name: str) -> _Table:
        return _Table(fields, f"{self.where}: {name}", self._problems)

    def refuse(self, problem: str) -> None:
        self._problems.append(f"{self.where}: {problem}")

    def take(self, key: str, wanted: type[T], *, needed: bool = False) -> T | None:
        """The value of `key`; None if it is absent, which is a problem if `needed`, or no `wanted`, which always is."""
        if key not in self._left:
            if needed:
                self.refuse(f"{key} is missing")
            return None
        value = self._left.pop(key)
        if type(value) is wanted:  # not isinstance: TOML's true is no number here
            return value
        hint = "; a float is never exact, write it in quotes" if isinstance(value, _Float) else ""
        self.refuse(f"{key} must be {_NAMES[wanted]}{hint}")
        return None

    def take_word(self, key: str, words: Iterable[str], *, needed: bool = False) -> Any:
        """A string out of a closed list, or None."""
        word = self.take(key, str, needed=needed)
        if word is None or word in words:
            return word
        self.refuse(f"{key} must be one of {', '.join(sorted(words))}, not {word!r}")
        return None

    def take_count(self, key: str, *, most: int, least: int = 1, needed: bool = False) -> int | None:
        """A whole number from `least` to `most`, or None."""
        count = self.take(key, int, needed=needed)
        if count is None or least <= count <= most:
            return count
        self.refuse(f"{key} must be from {least} to {most}")
        return None

    def take_tables(self, key: str) -> list[Mapping[str, Any]]:
        """A list of tables, not empty; else a problem."""
        entries: list[Any] | None = self.take(key, list, needed=True)
        if entries and all(isinstance(entry, dict) for entry in entries):
            return entries
        if entries is not None:
            self.refuse(f"{key} must be a list of tables, not empty")
        return []

    def refuse_the_rest(self) -> None:
        for key in self._left:
            self.refuse(f"no such key: {key}")


def _models_of(file_name: str, top: _Table, seen: dict[str, str], problems: list[str]) -> list[Model]:
    """The sound models of one file. `seen`: id → the file that lists it, for all ids so far, sound or not."""
    vendor = top.take("vendor", str, needed=True)
    tier = top.take_word("tier", TIERS, needed=True)
    stem = vendor if tier == "official" else f"{vendor}_{tier}"
    if vendor is not None and tier is not None and file_name != f"{stem}.toml":
        top.refuse(f"vendor {vendor!r} in tier {tier!r} belongs into {stem}.toml")
    tokenizer: Tokenizer = top.take_word("tokenizer", TOKENIZERS, needed=True) or "o200k_base"
    margin_percent = top.take_count("input_margin_percent", least=0, most=MARGIN_PERCENT_MAX, needed=True) or 0
    entries = top.take_tables("model")
    top.refuse_the_rest()
    models = []
    for number, entry in enumerate(entries, start=1):
        model_id = entry.get("id")
        if isinstance(model_id, str) and model_id in seen:
            problems.append(f"{file_name}: {model_id}: id is listed twice, first in {seen[model_id]}")
        before = len(problems)
        table = top.child(entry, model_id if isinstance(model_id, str) else f"model {number}")
        model = _model(table, vendor or "", tier, tokenizer, margin_percent)
        seen.setdefault(model.id, file_name)
        if len(problems) == before:
            models.append(model)
    return models


def _model(table: _Table, vendor: str, tier: Tier, tokenizer: Tokenizer, margin_percent: int) -> Model:
    """One model; only sound if this added no problem. The last two are the file's, a model can have its own."""
    model_id = table.take("id", str, needed=True) or ""
    if not _MODEL_ID.fullmatch(model_id):
        table.refuse("id must be letters, digits and . _ : / -")
    kind = table.take_word("kind", KINDS, needed=True)
    own_margin_percent = table.take_count("input_margin_percent", least=0, most=MARGIN_PERCENT_MAX)
    model = Model(
        id=model_id,
        vendor=vendor,
        tier=tier,
        kind=kind,
        points_to=table.take("points_to", str),
        context_tokens=table.take_count("context_tokens", most=TOKENS_MAX, needed=kind in INPUT_BOUNDED) or 0,
        output_tokens_max=table.take_count("output_tokens_max", most=TOKENS_MAX, needed=kind in OUTPUT_BOUNDED) or 0,
        image_tokens_max=table.take_count("image_tokens_max", most=TOKENS_MAX),
        tokenizer=table.take_word("tokenizer", TOKENIZERS) or tokenizer,
        input_margin_percent=margin_percent if own_margin_percent is None else own_margin_percent,
        free_group=table.take_word("free_group", FREE_GROUPS),
        scarce=table.take("scarce", bool) or False,
        reasoning=table.take("reasoning", bool) or False,
        prices=_prices(table, model_id, kind),
    )
    table.refuse_the_rest()
    if model.image_tokens_max is None and any("image_when_streaming" in price.rates for price in model.prices):
        table.refuse("image_when_streaming without image_tokens_max: the model would take no image")
    return model


def _prices(table: _Table, model_id: str, kind: str | None) -> tuple[Price, ...]:
    """The model's sound prices, as they stand; a problem unless their dates ascend."""
    prices = []
    for number, entry in enumerate(table.take_tables("price"), start=1):
        price = _price(table.child(entry, f"price {entry.get('from', number)}"), model_id, kind)
        if price is not None:
            prices.append(price)
    for earlier, later in pairwise(prices):
        if later.from_ms <= earlier.from_ms:
            table.refuse(f"price {later.version}: from must be later than that of {earlier.version} above it")
    return tuple(prices)


def _price(table: _Table, model_id: str, kind: str | None) -> Price | None:
    """One dated price; None if its date or a figure of it is wrong."""
    if kind is not None:
        _check_form(table, kind)
    start = table.take("from", str, needed=True)
    from_ms = None if start is None else _start_ms(table, start)
    rates = {unit: _nano_each(table, key, count) for key, (unit, count) in PRICE_KEYS.items() if key in table.keys}
    images_entry = table.take("images", dict)
    if images_entry == {}:
        table.refuse("images is empty")
    images_table = table.child(images_entry or {}, "images")
    images = {key: _nano_each(images_table, key, 1) for key in images_table.keys}
    for key in images:
        if not _IMAGE.fullmatch(key):
            images_table.refuse(f"{key} must be quality:WIDTHxHEIGHT")
    table.refuse_the_rest()
    if from_ms is None or 0 in (*rates.values(), *images.values()):
        return None
    return Price(from_ms, f"{model_id}@{start}", rates, images)


def _check_form(table: _Table, kind: str) -> None:
    """Refuses a price that has not all the keys of one form of its kind, or has others."""
    given = table.keys & (PRICE_KEYS.keys() | {"images"})
    # The form that the price comes closest to is the one that was meant.
    forms = [(set(must.split()), set(may.split())) for must, may in PRICE_FORMS[kind]]
    must, may = max(forms, key=lambda form: len(form[0] & given))
    for key in sorted(must - given):
        table.refuse(f"{key} is missing, kind {kind!r} needs it")
    for key in sorted(given - must - may):
        table.refuse(f"{key} does not belong to a price of kind {kind!r} by {', '.join(sorted(must))}")


def _start_ms(table: _Table, start: str) -> int | None:
    """Midnight UTC of the date `start`, in epoch ms."""
    try:
        if _DATE.fullmatch(start):  # fromisoformat alone would take "20250501" and "2025-W18-4" too
            return (date.fromisoformat(start) - date(1970, 1, 1)).days * _MS_PER_DAY
    except ValueError:
        pass
    table.refuse("from must be a date as YYYY-MM-DD")
    return None


def _nano_each(table: _Table, key: str, count: int) -> int:
    """nano-CA for one unit, out of the price that `key` gives for `count` of them; 0 after a problem."""
    text = table.take(key, str)
    if text is None:
        return 0
    try:
        nano = parse_ca(text)
    except ValueError as error:
        table.refuse(f"{key}: {error}, not {text[:40]!r}")
        return 0
    if nano == 0:
        table.refuse(f"{key} must be above zero")
    if nano % count:
        table.refuse(f"{key}: {text} CA for {count} is not a whole number of nano-CA for one")
    return nano // count


def _check_aliases(models: Mapping[str, Model], seen: Mapping[str, str], problems: list[str]) -> None:
    """Refuses a `points_to` that leads nowhere, on to another alias, or to something that is not charged alike."""
    for model in models.values():
        if model.points_to is None:
            continue
        where = f"{seen[model.id]}: {model.id}: points_to"
        target = models.get(model.points_to)
        if target is None:
            if model.points_to not in seen:  # else the target has problems of its own, told already
                problems.append(f"{where}: there is no model {model.points_to}")
        elif target.points_to is not None:
            problems.append(f"{where}: {target.id} is itself an alias")
        elif (target.vendor, target.tier, target.kind) != (model.vendor, model.tier, model.kind):
            problems.append(f"{where}: {target.id} is of another vendor, tier or kind")
        elif [price.figures for price in target.prices] != [price.figures for price in model.prices]:
            problems.append(f"{where}: {target.id} has a different price")
