"""One worked example for each shape that a price can have: from the TOML line to the bill, reckoned by hand.

1 CA = 1,000,000,000 nano-CA. A price of "0.01" for 1000 is 10,000 nano-CA for one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from farebox.adapters.catalog_files import load_catalog
from farebox.adapters.catalog_prices import PRICE_KEYS
from farebox.domain.catalog import SERVICE_TIERS, Price, Rated
from farebox.domain.image_tokens import METHODS
from farebox.domain.money import format_ca
from farebox.domain.pricing import Unpriced, lines_of, total_nano_ca, upper_bound_nano_ca
from farebox.domain.usage import Usage, tokens

CATALOG = load_catalog()
MODEL = """
vendor = "acme"
tier = "official"
tokenizer = "o200k_base"
input_margin_percent = 0
[[model]]
id = "m"
kind = "chat"
context_tokens = 1000000
output_tokens_max = 1000
image_tokens_max = 100
[[model.price]]
from = "2025-05-01"
input_per_1k = "0.01"
output_per_1k = "0.04"
"""
BY_LENGTH = """
[[model.price.tier]]
above_input_tokens = 200000
input_per_1k = "0.02"
output_per_1k = "0.06"
"""


PriceWith = Callable[..., Price]


@pytest.fixture
def price_with(tmp_path: Path) -> PriceWith:
    """A chat model's price: 10,000 nano-CA a token in, 40,000 a token out, and what the test adds to that."""

    def make(more: str = "") -> Price:
        (tmp_path / "acme.toml").write_text(MODEL + more, encoding="utf-8")
        return load_catalog(tmp_path).models["m"].prices[0]

    return make


def seed(model_id: str) -> Price:
    return CATALOG.models[model_id].prices[0]


def of(**counts: int) -> Usage:
    return Usage(counts, dict.fromkeys(counts, "upstream"))


def bill(price: Price, usage: Usage, service_tier: str | None = None) -> int:
    """nano-CA, by the rates that this usage and this answer lead to."""
    rated = price.rates_for(input_tokens=usage.input_tokens, service_tier=service_tier)
    return total_nano_ca(lines_of(usage, rated.rates))


def test_per_1k_tokens_in_and_out() -> None:
    usage = tokens(input_tokens=1234, output_tokens=567, source="upstream")

    # gpt-4o: 0.0175 and 0.07 CA for 1000, so 17,500 and 70,000 nano-CA for one.
    assert bill(seed("gpt-4o"), usage) == 1234 * 17_500 + 567 * 70_000 == 21_595_000 + 39_690_000 == 61_285_000
    assert format_ca(61_285_000) == "0.061285"


def test_a_completion_and_an_embedding_are_charged_by_tokens_too() -> None:
    # gpt-3.5-turbo-instruct: 0.0105 and 0.014 for 1000. text-embedding-3-small: 0.00014 for 1000, so 140 for one.
    assert bill(seed("gpt-3.5-turbo-instruct"), of(input_token=100, output_token=10)) == 1_050_000 + 140_000
    assert bill(seed("text-embedding-3-small"), of(input_token=8191)) == 8191 * 140 == 1_146_740


def test_tokens_read_from_the_cache(price_with: PriceWith) -> None:
    usage = tokens(input_tokens=1000, output_tokens=10, cached=900, source="upstream")

    # 100 fresh at 10,000; 900 cached at 0.0025 for 1000, so 2,500; 10 out at 40,000.
    assert bill(price_with('cached_input_per_1k = "0.0025"'), usage) == 1_000_000 + 2_250_000 + 400_000
    # Without a price of their own they are input: 1000 at 10,000.
    assert bill(price_with(), usage) == 10_000_000 + 400_000


def test_tokens_written_to_the_cache_for_five_minutes_and_for_an_hour(price_with: PriceWith) -> None:
    usage = tokens(
        input_tokens=1000, output_tokens=0, cached=400, cache_write=300, cache_write_1h=200, source="upstream"
    )
    five_minutes = 'cache_write_per_1k = "0.0125"\n'
    hour = 'cache_write_1h_per_1k = "0.02"\n'

    # 100 fresh and 400 cached at 10,000; 300 written at 12,500; 200 for an hour at 20,000.
    assert bill(price_with(five_minutes + hour), usage) == 5_000_000 + 3_750_000 + 4_000_000
    # An hour without a price of its own is a write: 500 at 12,500.
    assert bill(price_with(five_minutes), usage) == 5_000_000 + 6_250_000
    assert bill(price_with(), usage) == 10_000_000


def test_tokens_of_thoughts(price_with: PriceWith) -> None:
    usage = tokens(input_tokens=10, output_tokens=100, reasoning=80, source="upstream")

    # 10 in at 10,000; 20 of text at 40,000; 80 of thoughts at 0.05 for 1000, so 50,000.
    assert bill(price_with('reasoning_per_1k = "0.05"'), usage) == 100_000 + 800_000 + 4_000_000
    assert bill(price_with(), usage) == 100_000 + 4_000_000  # 100 at 40,000


def test_tokens_of_sound_in_and_out(price_with: PriceWith) -> None:
    usage = tokens(input_tokens=110, output_tokens=60, audio_input=100, audio_output=50, source="upstream")
    price = price_with('audio_input_per_1k = "0.28"\naudio_output_per_1k = "0.56"')

    # 10 of text at 10,000; 100 heard at 280,000; 10 of text at 40,000; 50 spoken at 560,000.
    assert bill(price, usage) == 100_000 + 28_000_000 + 400_000 + 28_000_000


def test_tokens_of_images_in_and_out(price_with: PriceWith) -> None:
    usage = tokens(input_tokens=268, output_tokens=1300, image_input=258, image_output=1290, source="upstream")
    price = price_with('image_input_per_1k = "0.012"\nimage_output_per_1k = "0.21"')

    # 10 of text at 10,000; 258 seen at 12,000; 10 of text at 40,000; 1290 drawn at 210,000.
    assert bill(price, usage) == 100_000 + 3_096_000 + 400_000 + 270_900_000


def test_the_length_of_the_input_raises_all_rates_from_one_token_above_the_border(price_with: PriceWith) -> None:
    price = price_with(BY_LENGTH)
    at, above = of(input_token=200_000, output_token=100), of(input_token=200_001, output_token=100)

    # At the border: 200,000 at 10,000 and 100 at 40,000. Above: ALL 200,001 at 20,000 and 100 at 60,000.
    assert bill(price, at) == 2_000_000_000 + 4_000_000
    assert bill(price, above) == 4_000_020_000 + 6_000_000
    assert price.rates_for(input_tokens=200_000).version == "m@2025-05-01"
    assert price.rates_for(input_tokens=200_001).version == "m@2025-05-01/above-200000"


def test_what_was_cached_counts_towards_the_length_and_a_tier_leaves_alone_what_it_does_not_state(
    price_with: PriceWith,
) -> None:
    price = price_with('cached_input_per_1k = "0.001"\n' + BY_LENGTH)
    usage = tokens(input_tokens=200_001, output_tokens=0, cached=200_000, source="upstream")

    # 1 fresh at the tier's 20,000; 200,000 cached at the price's own 1,000.
    assert bill(price, usage) == 20_000 + 200_000_000


def test_only_the_highest_tier_reached_applies(price_with: PriceWith) -> None:
    higher = '[[model.price.tier]]\nabove_input_tokens = 500000\ninput_per_1k = "0.03"\n'
    rated = price_with(BY_LENGTH + higher).rates_for(input_tokens=500_001)

    # The output is the price's own 40,000 again: the tier at 200,000 is not under the one at 500,000.
    assert rated == Rated("m@2025-05-01/above-500000", {"input_token": 30_000, "output_token": 40_000})


SERVED = """
[model.price.service_tier.priority]
input_per_1k = "0.025"
output_per_1k = "0.1"
[model.price.service_tier.flex]
input_per_1k = "0.005"
"""


def test_the_service_tier_that_the_answer_names_decides(price_with: PriceWith) -> None:
    price = price_with(SERVED)
    usage = of(input_token=1000, output_token=100)

    ordinary = 10_000_000 + 4_000_000  # 1000 at 10,000 and 100 at 40,000
    for name in (None, "default", "standard", "auto", "scale", "never-heard-of"):
        assert bill(price, usage, name) == ordinary
        assert price.rates_for(input_tokens=1000, service_tier=name).version == "m@2025-05-01"
    # Priority: 1000 at 25,000 and 100 at 100,000. It can be asked for as "fast". Flex: input 5,000, output as ever.
    assert bill(price, usage, "priority") == bill(price, usage, "fast") == 25_000_000 + 10_000_000
    assert bill(price, usage, "flex") == 5_000_000 + 4_000_000
    assert price.rates_for(input_tokens=1000, service_tier="fast").version == "m@2025-05-01/priority"
    assert [price.has_service_tier(name) for name in ("priority", "fast", "flex")] == [True, True, True]
    assert [price.has_service_tier(name) for name in ("default", "auto", "scale", "")] == [False] * 4


def test_a_service_tier_lies_over_the_length_tier_and_can_have_length_tiers_of_its_own(price_with: PriceWith) -> None:
    own = '[[model.price.service_tier.flex.tier]]\nabove_input_tokens = 300000\ninput_per_1k = "0.015"\n'
    price = price_with(BY_LENGTH + SERVED + own)

    def rated(input_tokens: int, name: str) -> tuple[str, int, int]:
        found = price.rates_for(input_tokens=input_tokens, service_tier=name)
        version = found.version.removeprefix("m@2025-05-01")
        return version, found.rates["input_token"], found.rates["output_token"]

    # What priority states it states for every length. Flex states no output, so the length tier's 60,000 stands.
    assert rated(200_000, "priority") == ("/priority", 25_000, 100_000)
    assert rated(200_001, "priority") == ("/above-200000/priority", 25_000, 100_000)
    assert rated(200_000, "flex") == ("/flex", 5_000, 40_000)
    assert rated(200_001, "flex") == ("/above-200000/flex", 5_000, 60_000)
    assert rated(300_001, "flex") == ("/above-200000/flex/above-300000", 15_000, 60_000)


def test_per_image_by_size_and_quality() -> None:
    dall_e_3, dall_e_2 = seed("dall-e-3"), seed("dall-e-2")

    assert bill(dall_e_3, Usage({"image/standard:1024x1024": 2}, {})) == 2 * 280_000_000
    assert bill(dall_e_3, Usage({"image/standard:1792x1024": 1}, {})) == 560_000_000
    assert bill(dall_e_3, Usage({"image/hd:1024x1024": 1}, {})) == 560_000_000
    assert bill(dall_e_3, Usage({"image/hd:1024x1792": 3}, {})) == 3 * 840_000_000
    assert bill(dall_e_2, Usage({"image/standard:256x256": 10}, {})) == 10 * 112_000_000
    assert dall_e_2.images == {"standard:1024x1024": 140_000_000, "standard:512x512": 126_000_000} | {
        "standard:256x256": 112_000_000
    }
    for unpriced in ("image/hd:512x512", "image/standard:1792x1024"):
        with pytest.raises(Unpriced):
            bill(dall_e_2, Usage({unpriced: 1}, {}))


def test_the_three_figures_of_gpt_image_1() -> None:
    usage = tokens(input_tokens=50 + 323, output_tokens=1056, image_input=323, image_output=1056, source="upstream")

    # 50 of text at 40,000; 323 of the image that was sent at 80,000; 1056 of the one that was made at 320,000.
    assert bill(seed("gpt-image-1"), usage) == 2_000_000 + 25_840_000 + 337_920_000 == 365_760_000


def test_per_1k_characters() -> None:
    # 0.105 and 0.21 for 1000, so 105,000 and 210,000 for one.
    assert bill(seed("tts-1"), of(character=4096)) == 4096 * 105_000 == 430_080_000
    assert bill(seed("tts-1-hd"), of(character=1)) == 210_000


def test_per_minute_and_per_1k_tokens_together() -> None:
    # 0.12 for 60,000 ms is 2,000 for one; 0.012 for 1000 tokens is 12,000 for one. 2.5 s spoken of 10 tokens.
    assert bill(seed("gpt-4o-mini-tts"), of(audio_ms=2_500, input_token=10)) == 5_000_000 + 120_000


def test_per_minute() -> None:
    # 0.042 for 60,000 ms is 700 for one, 0.024 is 400, 0.048 is 800. A minute and a half.
    assert bill(seed("whisper-1"), of(audio_ms=90_000)) == 63_000_000
    assert bill(seed("gpt-4o-mini-transcribe"), of(audio_ms=90_000)) == 36_000_000
    assert bill(seed("gpt-4o-transcribe"), of(audio_ms=90_000)) == 72_000_000


def test_per_image_when_streaming() -> None:
    price = seed("gpt-4o-ca")

    # 0.01 and 0.04 for 1000; 0.0289 for each image.
    assert bill(price, of(input_token=20, output_token=100, image_when_streaming=2)) == 200_000 + 4_000_000 + 57_800_000
    held = upper_bound_nano_ca(price, {"input_token": 20, "image_input_token": 1445, "image_when_streaming": 1})
    assert held == 20 * 10_000 + 1445 * 10_000 + 28_900_000


def test_a_fee_for_each_search(price_with: PriceWith) -> None:
    usage = tokens(input_tokens=100, output_tokens=50, web_searches=3, source="upstream")

    # 100 at 10,000; 50 at 40,000; 3 at 0.07 CA each.
    assert bill(price_with('per_web_search = "0.07"'), usage) == 1_000_000 + 2_000_000 + 210_000_000
    with pytest.raises(Unpriced):
        bill(price_with(), usage)


def test_what_is_free_upstream_costs_nothing_and_holds_nothing_but_has_a_price() -> None:
    for model_id in ("omni-moderation-latest", "text-moderation-latest"):
        assert bill(seed(model_id), of(request=1)) == 0
        assert upper_bound_nano_ca(seed(model_id), {"request": 1}) == 0
        assert [(line.unit, line.count) for line in lines_of(of(request=1), seed(model_id).rates)] == [("request", 1)]


def test_the_docs_name_every_key_of_a_price_and_every_figure_of_an_image_rule() -> None:
    text = (Path(__file__).parents[2] / "docs" / "billing.md").read_text("utf-8")
    section = text[text.index("## Price shapes") : text.index("## Bound")]
    figures = {
        f"`{field.name}` ({field.default}" if field.default not in (MISSING, None, 0) else f"`{field.name}`"
        for method in METHODS.values()
        for field in fields(method)
    }

    assert [key for key in PRICE_KEYS if f"`{key}`" not in section] == []
    assert [figure for figure in figures if figure not in section] == []
    assert [name for name in SERVICE_TIERS if name not in section] == []
    assert [name for name in METHODS if f'method = "{name}"' not in section] == []


def test_the_docs_example_of_tiers_is_a_price(price_with: PriceWith) -> None:
    text = (Path(__file__).parents[2] / "docs" / "billing.md").read_text("utf-8")
    (example,) = re.findall(r"^```toml\n(\[\[model\.price\]\].*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    price = price_with(example[example.index("[[model.price.tier]]") :])

    rated = price.rates_for(input_tokens=200_001, service_tier="priority")

    assert rated.version == "m@2025-05-01/above-200000/priority/above-200000"
    assert f"`{rated.version}`" in text
    assert rated.rates == {"input_token": 50_000, "output_token": 40_000}
