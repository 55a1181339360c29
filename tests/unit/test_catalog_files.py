"""The price list's files: what is read from them, what is refused, and what an operator's own files may do."""

from __future__ import annotations

from pathlib import Path

import pytest

from farebox.adapters.catalog_files import CatalogError, load_catalog
from farebox.domain.catalog import Catalog, LengthTier, ServiceTier
from farebox.domain.image_tokens import Tiles

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
END = 'image_when_streaming = "0.1"\n'
LONG, SERVED = "[[model.price.tier]]\nabove_input_tokens = 500\n", "[model.price.service_tier.flex]\n"
TIER, SERVICE = "chatty-1: price 2025-05-01: tier", "chatty-1: price 2025-05-01: service_tier"


def rule(method: str, **figures: int) -> str:
    return f'image_tokens = {{ method = "{method}"{"".join(f", {name} = {no}" for name, no in figures.items())} }}\n'


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
        (OUT, OUT + "price_tier = []\n", "chatty-1: price 2025-05-01: no such key: price_tier"),
        (OUT, OUT + 'per_request = "0"\n', "chatty-1: price 2025-05-01: per_request does not belong"),
        (OUT, OUT + "tier = []\n", "chatty-1: price 2025-05-01: tier must be a list of tables, not empty"),
        (END, END + "[[model.price.tier]]\n" + IN, f"{TIER} 1: above_input_tokens is missing"),
        (END, f"{END}{LONG.replace('500', '0')}{IN}", f"{TIER} 0: above_input_tokens must be from 1 to"),
        (END, f"{END}{LONG.replace('500', '5e2')}{IN}", f"{TIER} 5e2: above_input_tokens must be a whole number; a fl"),
        (END, f"{END}{LONG.replace('500', '1000')}{IN}", "chatty-1: price chatty-1@2025-05-01: tier 1000 is not below"),
        (END, f"{END}{LONG}", f"{TIER} 500: it has no price"),
        (END, f"{END}{LONG}{IN}{LONG}{IN}", f"{TIER} 500: above_input_tokens must be above that of the tier before"),
        (END, f"{END}{LONG}{IN.replace('0.01', '0')}", f"{TIER} 500: input_per_1k must be above zero"),
        (END, f'{END}{LONG}per_minute = "1"\n', f"{TIER} 500: per_minute does not belong"),
        (END, f'{END}{LONG}per_web_search = "1"\n', f"{TIER} 500: per_web_search does not belong"),
        (END, f"{END}{LONG}images = {{}}\n", f"{TIER} 500: no such key: images"),
        (END, f"{END}service_tier = {{}}\n", "chatty-1: price 2025-05-01: service_tier is empty"),
        (END, f"{END}service_tier = 1\n", "chatty-1: price 2025-05-01: service_tier must be a table"),
        (END, f"{END}{SERVED.replace('flex', 'flx')}{IN}", f"{SERVICE}: flx must be one of batch, flex, performance"),
        (END, f"{END}{SERVED.replace('flex', 'default')}{IN}", f"{SERVICE}: default must be one of batch, flex"),
        (END, f"{END}service_tier.flex = 1\n", f"{SERVICE}: flex must be a table"),
        (END, f"{END}{SERVED}", f"{SERVICE}: flex: it has no price"),
        (END, f"{END}{SERVED}inptu = 1\n{IN}", f"{SERVICE}: flex: no such key: inptu"),
        (END, f"{END}{SERVED}{IN}tier = [{{ above_input_tokens = 5 }}]\n", f"{SERVICE}: flex: tier 5: it has no price"),
        (IMAGE, IMAGE + "image_tokens = 85\n", "chatty-1: image_tokens must be a table"),
        (IMAGE, IMAGE + rule("tile"), "chatty-1: image_tokens: method must be one of area, patches, tiles"),
        (IMAGE, IMAGE + rule("tiles", base=1), "chatty-1: image_tokens: tile is missing"),
        (IMAGE, IMAGE + rule("tiles", base=1, tile=0), "chatty-1: image_tokens: tile must be from 1 to"),
        (IMAGE, IMAGE + rule("tiles", base=1, tile=1, fit=9), "chatty-1: image_tokens: no such key: fit"),
        (IMAGE, IMAGE + rule("tiles", base=1, tile=7), "chatty-1: image_tokens can be 57, more than image_tokens_max"),
        (IMAGE, IMAGE + rule("patches", patches_max=9), "chatty-1: image_tokens: permille is missing"),
        (IMAGE, rule("area", limit=50), "chatty-1: image_tokens without image_tokens_max"),
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


ROOMY = SOUND.replace("context_tokens = 1000", "context_tokens = 1000000").replace('points_to = "chatty-1"', "")
TIERS = """
cached_input_per_1k = "0.001"
[[model.price.tier]]
above_input_tokens = 200000
input_per_1k = "0.03"
[[model.price.tier]]
above_input_tokens = 500000
output_per_1k = "0.05"
[model.price.service_tier.priority]
output_per_1k = "0.07"
[[model.price.service_tier.priority.tier]]
above_input_tokens = 300000
output_per_1k = "0.09"
[model.price.service_tier.flex]
input_per_1k = "0.006"
"""


def test_tiers_by_length_and_by_service_are_read(tmp_path: Path) -> None:
    price = load(tmp_path, ROOMY + TIERS).models["chatty-1"].prices[0]

    assert price.rates["cached_input_token"] == 1_000
    assert price.tiers == (LengthTier(200_000, {"input_token": 30_000}), LengthTier(500_000, {"output_token": 50_000}))
    assert price.service_tiers == {
        "priority": ServiceTier({"output_token": 70_000}, (LengthTier(300_000, {"output_token": 90_000}),)),
        "flex": ServiceTier({"input_token": 6_000}),
    }


def test_two_names_of_a_model_have_the_same_tiers(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="chatty-1 has a different price"):
        load(tmp_path, SOUND + '[model.price.service_tier.flex]\ninput_per_1k = "0.006"\n')


def test_only_what_is_charged_by_tokens_has_tiers(tmp_path: Path) -> None:
    heard = SOUND[: SOUND.index("[[model]]")] + (
        '[[model]]\nid = "ears"\nkind = "transcription"\n[[model.price]]\nfrom = "2025-05-01"\nper_minute = "0.06"\n'
    )
    with pytest.raises(CatalogError, match="tier does not belong to a price of kind 'transcription'"):
        load(tmp_path, heard + LONG + 'per_minute = "0.12"\n')


def test_an_image_rule_is_read_with_its_defaults(tmp_path: Path) -> None:
    read = load(tmp_path, SOUND.replace(IMAGE, IMAGE + rule("tiles", base=2, tile=6, low=2)))

    assert read.models["chatty-1"].image_rule == Tiles(base=2, tile=6, low=2)
    assert read.models["chatty-latest"].image_rule is None


def operators(folder: Path, text: str, name: str = "mine.toml") -> Path:
    """A file of the operator's beside the folder of the price list."""
    (folder / "operator").mkdir(exist_ok=True)
    path = folder / "operator" / name
    path.write_text(text, encoding="utf-8")
    return path


MINE = f"""
vendor = "homegrown"
tier = "official"
tokenizer = "o200k_base"
input_margin_percent = 10
[[model]]
id = "tiny"
kind = "chat"
context_tokens = 10
output_tokens_max = 5
{PRICE}"""


def test_an_operator_adds_models_of_any_vendor_in_a_file_of_any_name(tmp_path: Path) -> None:
    load(tmp_path, SOUND)

    catalog = load_catalog(tmp_path, [operators(tmp_path, MINE)])

    assert list(catalog.models) == ["chatty-latest", "chatty-1", "tiny"]
    assert catalog.models["tiny"].vendor == "homegrown"


def test_an_operator_replaces_a_model_only_by_saying_so_and_then_whole(tmp_path: Path) -> None:
    load(tmp_path, SOUND.replace('points_to = "chatty-1"', ""))
    mine = operators(tmp_path, MINE.replace('"tiny"', '"chatty-1"'))
    with pytest.raises(CatalogError) as refusal:
        load_catalog(tmp_path, [mine])
    saying_so = operators(tmp_path, "override = true\n" + MINE.replace('"tiny"', '"chatty-1"'))

    catalog = load_catalog(tmp_path, [saying_so])

    assert refusal.value.problems == [
        f"{mine}: chatty-1: id is listed twice, first in acme.toml; to replace it, say override = true at the top"
    ]
    assert list(catalog.models) == ["chatty-latest", "chatty-1"]
    assert (catalog.models["chatty-1"].vendor, catalog.models["chatty-1"].image_tokens_max) == ("homegrown", None)


def test_a_later_file_replaces_an_earlier_one_but_no_file_lists_a_model_twice(tmp_path: Path) -> None:
    load(tmp_path, SOUND)
    first, override = operators(tmp_path, MINE), "override = true\n"
    later = operators(tmp_path, override + MINE.replace("homegrown", "bought"), "later.toml")
    twice = operators(tmp_path, override + MINE + MINE[MINE.index("[[model]]") :], "twice.toml")

    assert load_catalog(tmp_path, [first, later]).models["tiny"].vendor == "bought"
    with pytest.raises(CatalogError) as refusal:
        load_catalog(tmp_path, [twice])
    assert refusal.value.problems == [f"{twice}: tiny: id is listed twice, first in {twice}"]


def test_an_alias_cannot_be_left_with_another_price_than_the_model_that_was_replaced(tmp_path: Path) -> None:
    load(tmp_path, SOUND)
    dearer = ROOMY[ROOMY.index('[[model]]\nid = "chatty-1"') :].replace('"0.01"', '"0.04"')
    mine = operators(tmp_path, "override = true\n" + SOUND[: SOUND.index("[[model]]")] + dearer)

    with pytest.raises(CatalogError) as refusal:
        load_catalog(tmp_path, [mine])

    assert refusal.value.problems == ["acme.toml: chatty-latest: points_to: chatty-1 has a different price"]


@pytest.mark.parametrize("line", ["override = true", "override = false"])
def test_the_price_list_itself_overrides_nothing(tmp_path: Path, line: str) -> None:
    with pytest.raises(CatalogError, match=r"acme\.toml: no such key: override"):
        load(tmp_path, f"{line}\n{SOUND}")


def test_what_is_wrong_with_the_operators_files_is_told_together_with_the_rest(tmp_path: Path) -> None:
    (tmp_path / "acme.toml").write_text(SOUND.replace("kind", "kin", 1), encoding="utf-8")
    missing, broken = tmp_path / "missing.toml", operators(tmp_path, "[[model]")
    wrong = operators(tmp_path, 'override = "yes"\n' + MINE, "wrong.toml")

    with pytest.raises(CatalogError) as refusal:
        load_catalog(tmp_path, [missing, broken, wrong])

    starts = [problem.partition(": ")[0] for problem in refusal.value.problems]
    assert starts == ["acme.toml", "acme.toml", str(missing), str(broken), str(wrong)]
    assert "cannot be read: No such file or directory" in str(refusal.value)
    assert "override must be true or false" in str(refusal.value)


def test_the_packages_own_list_takes_an_operators_file(tmp_path: Path) -> None:
    catalog = load_catalog(extra=[operators(tmp_path, MINE)])

    assert {"tiny", "gpt-4o"} <= catalog.models.keys()
