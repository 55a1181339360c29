"""The price list: every figure of the seed, which price applies when, and what is refused."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest
import tiktoken.model

from farebox.adapters.catalog_files import CatalogError, load_catalog
from farebox.domain.catalog import FREE_GROUPS, KINDS, Catalog, NoPriceYet, Price
from farebox.domain.money import format_ca

SEED = Path(__file__).parents[1] / "data" / "seed"
SEED_FROM_MS = 1_746_057_600_000  # 2025-05-01T00:00:00Z
FIGURE = re.compile(r"[0-9]+\.[0-9]+")
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


def test_the_catalog_holds_what_the_seed_holds_and_no_more(catalog: Catalog) -> None:
    images = {image_of(row["model"]) for row in IMAGE_ROWS}
    listed = {(model.id, image) for model in catalog.models.values() for image in model.prices[0].images}
    token_priced = {row["model"] for row in TOKEN_ROWS}

    assert catalog.models.keys() == token_priced | {*UNIT_IDS.values()} | {model_id for model_id, _ in images}
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
    }


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


@pytest.mark.parametrize(("unit", "nano"), [*(("input_token", no) for no in (0, -1, True, 1.5, "1")), ("inputs", 1)])
def test_a_price_is_a_whole_number_above_zero_of_a_known_unit(unit: str, nano: object) -> None:
    with pytest.raises(ValueError, match=rf"m@1: .*\b{unit}\b"):
        Price(0, "m@1", {unit: nano})  # type: ignore[dict-item]


def test_nobody_can_change_a_price_that_is_shared(catalog: Catalog) -> None:
    for shared in (catalog.models, seed_price(catalog, "gpt-4o").rates):
        with pytest.raises(TypeError):
            shared["gpt-4o"] = None  # type: ignore[index]


SOUND = """
vendor = "acme"
tier = "official"
tokenizer = "o200k_base"
input_margin_percent = 10
[[model]]
id = "chatty-latest"
kind = "chat"
points_to = "chatty-1"
context_tokens = 1000
output_tokens_max = 100
price = [{ from = "2025-05-01", input_per_1k = "0.01", output_per_1k = "0.02", image_when_streaming = "0.1" }]
image_tokens_max = 60
[[model]]
id = "chatty-1"
kind = "chat"
context_tokens = 1000
output_tokens_max = 100
image_tokens_max = 50
[[model.price]]
from = "2025-05-01"
input_per_1k = "0.01"
output_per_1k = "0.02"
image_when_streaming = "0.1"
"""


def load(folder: Path, text: str, name: str = "acme.toml") -> Catalog:
    (folder / name).write_text(text, encoding="utf-8")
    return load_catalog(folder)


def test_a_sound_file_is_read_and_a_later_price_is_appended(tmp_path: Path) -> None:
    later = '[[model.price]]\nfrom = "2025-06-01"\ninput_per_1k = "0.005"\noutput_per_1k = "0.01"\n'

    model = load(tmp_path, SOUND.replace('points_to = "chatty-1"', "") + later).models["chatty-1"]

    assert [price.version for price in model.prices] == ["chatty-1@2025-05-01", "chatty-1@2025-06-01"]
    assert [price.rates["input_token"] for price in model.prices] == [10_000, 5_000]


IN, OUT, FROM = 'input_per_1k = "0.01"\n', 'output_per_1k = "0.02"\n', 'from = "2025-05-01"\n'
KIND, ID, IMAGE = 'id = "chatty-1"\nkind = "chat"', 'id = "chatty-1"', "image_tokens_max = 50\n"
PRICE = f"[[model.price]]\n{FROM}{IN}{OUT}"


@pytest.mark.parametrize(
    ("sound", "broken", "problem"),
    [
        (IN, 'inptu_per_1k = "0.01"\n', "chatty-1: price 2025-05-01: no such key: inptu_per_1k"),
        (IN, "", "chatty-1: price 2025-05-01: input_per_1k is missing"),
        (IN, "input_per_1k = 0.01\n", "chatty-1: price 2025-05-01: input_per_1k must be a string; a float"),
        (IN, "input_per_1k = nan\n", "chatty-1: price 2025-05-01: input_per_1k must be a string; a float"),
        (IN, 'input_per_1k = "0.00"\n', "chatty-1: price 2025-05-01: input_per_1k must be above zero"),
        (IN, 'input_per_1k = "-0.01"\n', "chatty-1: price 2025-05-01: input_per_1k: an amount must not be negative"),
        (IN, 'input_per_1k = "1e-2"\n', "chatty-1: price 2025-05-01: input_per_1k: an amount must be plain"),
        (IN, 'input_per_1k = "0.0000005"\n', "chatty-1: price 2025-05-01: input_per_1k: 0.0000005 CA for 1000"),
        (OUT, OUT + 'per_minute = "0.06"\n', "chatty-1: price 2025-05-01: per_minute does not belong"),
        (OUT, OUT + 'images = { "a:1x1" = "1" }\n', "chatty-1: price 2025-05-01: images: a:1x1 must be quality:WIDTH"),
        (OUT, OUT + "images = {}\n", "chatty-1: price 2025-05-01: images is empty"),
        (FROM, "", "chatty-1: price 1: from is missing"),
        (FROM, 'from = "2025-02-30"\n', "chatty-1: price 2025-02-30: from must be a date"),
        (FROM, 'from = "20250501"\n', "chatty-1: price 20250501: from must be a date"),
        (FROM, "from = 2025-05-01\n", "chatty-1: price 2025-05-01: from must be a string"),
        (PRICE, PRICE + PRICE, "chatty-1: price chatty-1@2025-05-01: from must be later"),
        (PRICE, PRICE + PRICE.replace("2025-05", "2025-04"), "chatty-1: price chatty-1@2025-04-01: from must be later"),
        (PRICE, "", "chatty-1: price is missing"),
        (PRICE, "price = []\n", "chatty-1: price must be a list of tables, not empty"),
        (KIND, f'{ID}\nkind = "chatt"', "chatty-1: kind must be one of chat, completion"),
        (KIND, f'{ID}\nkind = "transcription"', "chatty-1: price 2025-05-01: per_minute is missing"),
        (ID, "", "model 2: id is missing"),
        (ID, 'id = "chatty 1"', "chatty 1: id must be letters"),
        (ID, 'id = "chatty-latest"', "chatty-latest: id is listed twice, first in acme.toml"),
        (ID, 'id = "chatty-2"', "chatty-latest: points_to: there is no model chatty-1"),
        (ID, f'{ID}\npoints_to = "chatty-latest"', "chatty-latest: points_to: chatty-1 is itself an alias"),
        (IN, 'input_per_1k = "0.03"\n', "chatty-latest: points_to: chatty-1 has a different price"),
        (ID, f'{ID}\nfree_group = "gpt4o"', "chatty-1: free_group must be one of deepseek, embedding"),
        (ID, f'{ID}\ntokenizer = "o200k"', "chatty-1: tokenizer must be one of cl100k_base, o200k_base"),
        (ID, f"{ID}\ninput_margin_percent = -5", "chatty-1: input_margin_percent must be from 0 to 400"),
        (IMAGE, "image_tokens_max = 5.0\n", "chatty-1: image_tokens_max must be a whole number; a float"),
        (IMAGE, "image_tokens_max = true\n", "chatty-1: image_tokens_max must be a whole number"),
        (IMAGE, "", "chatty-1: image_when_streaming without image_tokens_max"),
        ("output_tokens_max = 100\nimage", "image", "chatty-1: output_tokens_max is missing"),
        ('vendor = "acme"', 'vendor = "acne"', "vendor 'acne' in tier 'official' belongs into acne.toml"),
        ('tier = "official"', 'tier = "ca"', "vendor 'acme' in tier 'ca' belongs into acme_ca.toml"),
        ('tier = "official"', 'tiers = "official"', "no such key: tiers"),
        ("[[model]]", "[[model]", "is not valid TOML"),
    ],
)
def test_a_broken_file_is_refused_by_model_and_key(tmp_path: Path, sound: str, broken: str, problem: str) -> None:
    assert sound in SOUND

    with pytest.raises(CatalogError) as refusal:
        load(tmp_path, broken.join(SOUND.rsplit(sound, 1)))

    assert any(line.startswith(f"acme.toml: {problem}") for line in refusal.value.problems), refusal.value.problems


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(CatalogError):
        load(tmp_path, SOUND.replace("0.01", "0").replace("kind", "kin"))
    with pytest.raises(CatalogError) as refusal:
        load(tmp_path, "no toml", "beta.toml")

    assert len(refusal.value.problems) == 7
    assert str(refusal.value).count("\n- ") == 7


def test_a_folder_without_a_price_list_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CatalogError, match="holds no TOML file"):
            load_catalog(folder)
