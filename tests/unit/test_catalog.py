"""The price list: every figure of the seed, which price applies when, and what can be no price."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiktoken.model

from farebox.adapters.catalog_files import load_catalog
from farebox.domain.catalog import FREE_GROUPS, KINDS, Catalog, LengthTier, NoPriceYet, Price, ServiceTier
from farebox.domain.money import format_ca

SEED = Path(__file__).parents[1] / "data" / "seed"
SEED_FROM_MS = 1_746_057_600_000  # 2025-05-01T00:00:00Z
FIGURE = re.compile(r"[0-9]+\.[0-9]+")
FREE_UPSTREAM = {"omni-moderation-latest", "text-moderation-latest"}
OTHER_FORMS = {  # a price's text without its figures → the unit that each prices, and how many of it
    "文字输入: CA/1K Tokens, 图片输入: CA/1K Tokens, 图片输入： CA/1K Tokens": (
        ("input_token", 1000),
        ("image_input_token", 1000),
        ("image_output_token", 1000),
    ),
    " / 1K characters": (("character", 1000),),
    "( / minute) + ( / 1kToken)": (("audio_ms", 60_000), ("input_token", 1000)),
    " / minute": (("audio_ms", 60_000),),
    " / 1K Tokens": (("input_token", 1000),),
}


def rows(name: str) -> list[dict[str, str]]:
    with (SEED / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def image_of(name: str) -> tuple[str, str]:
    """The model and the price key that the seed's `dall-e-3-hd 1024×1792` stands for."""
    model_id, size = name.replace("×", "x").split(" ")
    quality = "hd" if model_id.endswith("-hd") else "standard"
    return model_id.removesuffix("-hd"), f"{quality}:{size}"


TOKEN_ROWS = rows("token_prices.csv")
IMAGE_ROWS = [row for row in rows("other_prices.csv") if row["price_text"].endswith("/ image")]
UNIT_ROWS = [row for row in rows("other_prices.csv") if row not in IMAGE_ROWS]
UNIT_IDS = {row["model"]: {"Whisper": "whisper-1"}.get(row["model"], row["model"]) for row in UNIT_ROWS}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


def seed_price(catalog: Catalog, model_id: str) -> Price:
    return catalog.models[model_id].price_at(SEED_FROM_MS)


def test_the_seed_has_83_rows() -> None:
    assert (len(TOKEN_ROWS), len(IMAGE_ROWS), len(UNIT_ROWS)) == (66, 7, 10)


@pytest.mark.parametrize("row", TOKEN_ROWS, ids=lambda row: row["model"])
def test_every_token_row_of_the_seed_prices_to_exactly_itself(catalog: Catalog, row: dict[str, str]) -> None:
    written = {"input_token": (row["input_per_1k"], 1000), "output_token": (row["output_per_1k"], 1000)}
    if row["per_image_when_streaming"]:
        written["image_when_streaming"] = (row["per_image_when_streaming"], 1)

    price = seed_price(catalog, row["model"])

    assert {unit: format_ca(price.rates[unit] * count) for unit, (_, count) in written.items()} == {
        unit: figure for unit, (figure, _) in written.items()
    }
    assert price.rates.keys() == written.keys()
    assert price.version == f"{row['model']}@2025-05-01"


@pytest.mark.parametrize("row", TOKEN_ROWS, ids=lambda row: row["model"])
def test_every_flag_of_the_seed_is_kept(catalog: Catalog, row: dict[str, str]) -> None:
    model = catalog.models[row["model"]]

    assert (model.points_to or "") == row["points_to"]
    assert model.scarce == (row["scarce"] == "yes")
    if row["image_tokens_billed"] or row["per_image_when_streaming"]:
        assert model.image_tokens_max is not None


@pytest.mark.parametrize("row", IMAGE_ROWS, ids=lambda row: row["model"])
def test_every_image_row_of_the_seed_prices_to_exactly_itself(catalog: Catalog, row: dict[str, str]) -> None:
    model_id, image = image_of(row["model"])

    nano = seed_price(catalog, model_id).images[image]

    assert f"{format_ca(nano)} / image" == re.sub("0 / ", " / ", row["price_text"])  # the seed pads: 0.280


@pytest.mark.parametrize("row", UNIT_ROWS, ids=lambda row: row["model"])
def test_every_other_row_of_the_seed_prices_to_exactly_itself(catalog: Catalog, row: dict[str, str]) -> None:
    units = OTHER_FORMS[FIGURE.sub("", row["price_text"])]

    rates = seed_price(catalog, UNIT_IDS[row["model"]]).rates

    assert [format_ca(rates[unit] * count) for unit, count in units] == FIGURE.findall(row["price_text"])
    assert rates.keys() == {unit for unit, _ in units}


def test_the_catalog_holds_what_the_seed_holds_and_what_is_free_and_no_more(catalog: Catalog) -> None:
    images = {image_of(row["model"]) for row in IMAGE_ROWS}
    listed = {(model.id, image) for model in catalog.models.values() for image in model.prices[0].images}
    token_priced = {row["model"] for row in TOKEN_ROWS}

    assert catalog.models.keys() - FREE_UPSTREAM == (
        token_priced | {*UNIT_IDS.values()} | {model_id for model_id, _ in images}
    )
    # The seed names one of the two oblong sizes; the other costs the same.
    assert listed ^ images == {("dall-e-3", "standard:1792x1024"), ("dall-e-3", "hd:1792x1024")}
    for quality in ("standard", "hd"):
        dall_e_3 = seed_price(catalog, "dall-e-3").images
        assert dall_e_3[f"{quality}:1792x1024"] == dall_e_3[f"{quality}:1024x1792"]


def test_free_keys_have_the_models_that_the_seed_offers_them(catalog: Catalog) -> None:
    models = catalog.models.values()

    assert {group: {model.id for model in models if model.free_group == group} for group in FREE_GROUPS} == {
        "gpt-4o": {"gpt-4o", "gpt-4.1"},
        "deepseek": {"deepseek-r1", "deepseek-v3"},
        "gpt-4o-mini": {"gpt-4o-mini", "gpt-3.5-turbo", "gpt-4.1-mini", "gpt-4.1-nano"},
        "embedding": {"text-embedding-ada-002", "text-embedding-3-small", "text-embedding-3-large"},
        "moderation": FREE_UPSTREAM,
    }


def test_only_what_is_free_upstream_is_free(catalog: Catalog) -> None:
    free = {model.id for model in catalog.models.values() if 0 in model.prices[-1].rates.values()}

    assert free == FREE_UPSTREAM
    assert seed_price(catalog, "omni-moderation-latest").rates == {"request": 0}


def test_every_model_that_takes_images_has_a_rule_that_just_reaches_its_maximum(catalog: Catalog) -> None:
    for model in catalog.models.values():
        if model.image_tokens_max is None:
            assert model.image_rule is None, model.id
        else:
            assert model.image_rule is not None, model.id
            assert model.image_rule.tokens_max == model.image_tokens_max, model.id


def test_the_names_of_one_model_count_its_images_alike(catalog: Catalog) -> None:
    for model in catalog.models.values():
        if model.points_to is not None:
            target = catalog.models[model.points_to]
            assert (model.image_rule, model.image_tokens_max) == (target.image_rule, target.image_tokens_max), model.id


def test_the_ca_tier_is_the_models_that_end_in_ca(catalog: Catalog) -> None:
    for model in catalog.models.values():
        assert (model.tier == "ca") == model.id.endswith("-ca"), model.id


def test_the_tokenizer_is_the_one_that_openai_names(catalog: Catalog) -> None:
    for model in catalog.by_vendor("openai"):
        if model.kind in ("chat", "completion", "embedding"):
            assert model.tokenizer == tiktoken.model.encoding_name_for_model(model.id), model.id


def test_other_vendors_are_counted_with_a_margin(catalog: Catalog) -> None:
    margins = {model.vendor: model.input_margin_percent for model in catalog.models.values() if not model.reasoning}

    assert margins == {"openai": 0, "deepseek": 25, "anthropic": 40, "google": 20, "xai": 20}
    assert {model.input_margin_percent for model in catalog.by_vendor("openai") if model.reasoning} == {5}


def test_whatever_is_charged_by_tokens_has_bounds_for_its_hold(catalog: Catalog) -> None:
    for model in catalog.models.values():
        rates = model.prices[0].rates
        assert model.output_tokens_max > 0 or "output_token" not in rates, model.id
        assert model.context_tokens > 0 or "input_token" not in rates, model.id
        assert model.output_tokens_max <= model.context_tokens, model.id


def test_models_are_found_by_id_vendor_and_kind(catalog: Catalog) -> None:
    assert catalog.get("gpt-4o") is catalog.models["gpt-4o"]
    assert catalog.get("gpt-5000") is None
    assert [model.id for model in catalog.by_vendor("xai")] == ["grok-3", "grok-3-reasoner", "grok-3-deepsearch"]
    assert [model.id for model in catalog.by_kind("completion")] == ["gpt-3.5-turbo-instruct"]
    assert {model.kind for model in catalog.models.values()} == KINDS


def test_a_price_applies_from_its_first_millisecond_until_the_next_one_starts(catalog: Catalog) -> None:
    old, new = Price(1000, "m@old", {"input_token": 1}), Price(2000, "m@new", {"input_token": 2})
    model = replace(catalog.models["gpt-4o"], prices=(old, new))

    assert [model.price_at(now_ms) for now_ms in (1000, 1999, 2000, 10**15)] == [old, old, new, new]
    with pytest.raises(NoPriceYet):
        model.price_at(999)
    with pytest.raises(NoPriceYet):
        catalog.models["gpt-4o"].price_at(SEED_FROM_MS - 1)


@pytest.mark.parametrize(
    ("unit", "nano"),
    [
        *(("input_token", no) for no in (0, -1, True, 1.5, "1")),
        *((unit, 1) for unit in ("inputs", "image/hd:0x1", "image/HD:512x512", "image/hd:512x512 ", "hd:512x512", "")),
        *(("request", no) for no in (-1, False)),
        ("image/hd:512x512", 0),
    ],
)
def test_a_price_is_a_whole_number_above_zero_of_a_known_unit(unit: str, nano: Any) -> None:
    rates = {unit: nano}
    tier, long = ServiceTier(rates), LengthTier(100, rates)
    wherever: list[dict[str, Any]] = [
        {"rates": rates},
        {"rates": {}, "tiers": (long,)},
        {"rates": {}, "service_tiers": {"flex": tier}},
        {"rates": {}, "service_tiers": {"flex": ServiceTier({}, (long,))}},
    ]
    for price in wherever:
        with pytest.raises(ValueError, match=rf"m@1: .*{re.escape(unit)}"):
            Price(0, "m@1", **price)


@pytest.mark.parametrize("borders", [(0,), (-1,), (200, 100), (100, 100)])
def test_length_tiers_ascend_from_above_zero(borders: tuple[int, ...]) -> None:
    tiers = tuple(LengthTier(border, {"input_token": 1}) for border in borders)
    with pytest.raises(ValueError, match="m@1: length tiers"):
        Price(0, "m@1", {"input_token": 1}, tiers)
    with pytest.raises(ValueError, match="m@1: length tiers"):
        Price(0, "m@1", {"input_token": 1}, (), {"flex": ServiceTier({}, tiers)})


@pytest.mark.parametrize("name", ["default", "standard", "auto", "fast", "Priority", "above-200000", ""])
def test_a_price_knows_no_other_service_tiers_than_those_that_answers_name(name: str) -> None:
    with pytest.raises(ValueError, match="m@1: no such service tier"):
        Price(0, "m@1", {"input_token": 1}, (), {name: ServiceTier({"input_token": 1})})


def test_nobody_can_change_a_price_that_is_shared(catalog: Catalog) -> None:
    mine = {"input_token": 1}
    price = Price(0, "m@1", mine, (LengthTier(1, mine),), {"flex": ServiceTier(mine, (LengthTier(1, mine),))})
    mine["input_token"] = 2

    for rates in (price.rates, price.tiers[0].rates, price.service_tiers["flex"].rates):
        assert rates == {"input_token": 1}
    assert price.service_tiers["flex"].tiers[0].rates == {"input_token": 1}
    for shared in (catalog.models, seed_price(catalog, "gpt-4o").rates, price.tiers[0].rates, price.service_tiers):
        with pytest.raises(TypeError):
            shared["gpt-4o"] = None  # type: ignore[index]
