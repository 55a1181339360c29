"""Reads the catalog's TOML files and refuses them, with all that is wrong at once, unless every figure is sound."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from importlib.resources import files
from pathlib import Path

from farebox.adapters.catalog_prices import TOKENS_MAX, read_prices
from farebox.adapters.catalog_tables import CatalogError, Table, parsed
from farebox.domain.catalog import FREE_GROUPS, KINDS, TIERS, TOKENIZERS, Catalog, Model, Tier, Tokenizer
from farebox.domain.image_tokens import METHODS, ImageRule

__all__ = ["CatalogError", "load_catalog"]

INPUT_BOUNDED = frozenset({"chat", "completion", "embedding"})
OUTPUT_BOUNDED = frozenset({"chat", "completion"})
"""The kinds whose holds could not be computed without context_tokens, and without output_tokens_max."""
MARGIN_PERCENT_MAX = 400
MAY_BE_ZERO = frozenset({"base", "short_px", "tile_px_min", "single_px"})
"""The figures of an image rule that may be 0: there is no such thing then."""
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")


def load_catalog(directory: Path | None = None, extra: Sequence[Path] = ()) -> Catalog:
    """The catalog from all `*.toml` files of `directory`, by default those of the package, and the `extra` files.

    An extra file is the operator's: it can have any name, and `override = true` at its top lets its models replace
    those of the same id, whole. Raises CatalogError with everything that is wrong in any of them.
    """
    folder = files("farebox").joinpath("catalog") if directory is None else directory
    problems: list[str] = []
    models: dict[str, Model] = {}
    seen: dict[str, str] = {}
    entries = folder.iterdir() if folder.is_dir() else ()
    found = sorted((file for file in entries if file.name.endswith(".toml")), key=lambda file: file.name)
    for file in found:
        top = parsed(file.name, file.read_bytes(), problems)
        _check_name(top, file.name)
        models |= _models_of(top, file.name, seen)
    for path in extra:
        try:
            top = parsed(str(path), path.read_bytes(), problems)
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror}")
            continue
        models |= _models_of(top, str(path), seen, override=top.take("override", bool) or False)
    _check_aliases(models, seen, problems)
    if not found:
        problems.append(f"{folder.name}: holds no TOML file")
    if problems:
        raise CatalogError(problems)
    return Catalog(models)


def _check_name(top: Table, file_name: str) -> None:
    """Refuses a file of the package that is not named after its vendor and tier."""
    vendor, tier = top.peek("vendor"), top.peek("tier")
    stem = vendor if tier == "official" else f"{vendor}_{tier}"
    if isinstance(vendor, str) and tier in TIERS and file_name != f"{stem}.toml":
        top.refuse(f"vendor {vendor!r} in tier {tier!r} belongs into {stem}.toml")


def _models_of(top: Table, file_name: str, seen: dict[str, str], *, override: bool | None = None) -> dict[str, Model]:
    """The sound models of one file, by id. `seen`: id → the file that lists it, for all ids so far, sound or not.

    `override`: whether they may replace other files' models, None where that cannot be had.
    """
    vendor = top.take("vendor", str, needed=True)
    tier = top.take_word("tier", TIERS, needed=True)
    tokenizer: Tokenizer = top.take_word("tokenizer", TOKENIZERS, needed=True) or "o200k_base"
    margin_percent = top.take_count("input_margin_percent", least=0, most=MARGIN_PERCENT_MAX, needed=True) or 0
    entries = top.take_tables("model", needed=True)
    top.refuse_the_rest()
    models = {}
    for number, entry in enumerate(entries, start=1):
        before = top.problem_count
        model_id = entry.get("id")
        table = top.child(entry, model_id if isinstance(model_id, str) else f"model {number}")
        first = seen.get(model_id) if isinstance(model_id, str) else None
        if first is not None and not (override and first != file_name):
            hint = "; to replace it, say override = true at the top" if override is False and first != file_name else ""
            table.refuse(f"id is listed twice, first in {first}{hint}")
        model = _model(table, vendor or "", tier, tokenizer, margin_percent)
        seen[model.id] = file_name
        if top.problem_count == before:
            models[model.id] = model
    return models


def _model(table: Table, vendor: str, tier: Tier, tokenizer: Tokenizer, margin_percent: int) -> Model:
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
        image_rule=_image_rule(table),
        tokenizer=table.take_word("tokenizer", TOKENIZERS) or tokenizer,
        input_margin_percent=margin_percent if own_margin_percent is None else own_margin_percent,
        free_group=table.take_word("free_group", FREE_GROUPS),
        scarce=table.take("scarce", bool) or False,
        reasoning=table.take("reasoning", bool) or False,
        prices=read_prices(table, model_id, kind),
    )
    table.refuse_the_rest()
    _check_bounds(table, model)
    return model


def _image_rule(table: Table) -> ImageRule | None:
    """The rule of `image_tokens`, a table of its method and that method's figures; None without one."""
    entry = table.take("image_tokens", dict)
    if entry is None:
        return None
    figures = table.child(entry, "image_tokens")
    before = table.problem_count
    method = figures.take_word("method", METHODS, needed=True)
    if method is None:
        return None
    taken = {
        field.name: figures.take_count(
            field.name, least=0 if field.name in MAY_BE_ZERO else 1, most=TOKENS_MAX, needed=field.default is MISSING
        )
        for field in fields(METHODS[method])
    }
    figures.refuse_the_rest()
    if table.problem_count > before:
        return None
    return METHODS[method](**{name: count for name, count in taken.items() if count is not None})


def _check_bounds(table: Table, model: Model) -> None:
    """Refuses prices and rules that the model's own bounds belie."""
    if model.image_tokens_max is None:
        if any("image_when_streaming" in price.rates for price in model.prices):
            table.refuse("image_when_streaming without image_tokens_max: the model would take no image")
        if model.image_rule is not None:
            table.refuse("image_tokens without image_tokens_max: the model would take no image")
    elif model.image_rule is not None and model.image_rule.tokens_max > model.image_tokens_max:
        table.refuse(f"image_tokens can be {model.image_rule.tokens_max}, more than image_tokens_max")
    for price in model.prices:
        tables = [price.tiers, *(served.tiers for served in price.service_tiers.values())]
        for tier in (tier for tiers in tables for tier in tiers):
            if model.context_tokens and tier.above_input_tokens >= model.context_tokens:
                table.refuse(f"price {price.version}: tier {tier.above_input_tokens} is not below context_tokens")


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
