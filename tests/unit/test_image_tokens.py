"""Tokens of a sent image: the vendors' worked examples, and bounds that hold for every size."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from farebox.adapters.catalog_files import load_catalog
from farebox.domain.catalog import Model
from farebox.domain.image_tokens import Area, ImageRule, Patches, Tiles, image_tokens

GPT_4O = Tiles(base=85, tile=170, low=85)
MODELS = [model for model in load_catalog().models.values() if model.image_rule is not None]
SIDE = st.one_of(st.integers(1, 10_000), st.sampled_from([1, 28, 32, 256, 384, 385, 512, 768, 2048, 3072, 2**31]))
TILES = st.builds(
    Tiles,
    base=st.integers(0, 3_000),
    tile=st.integers(1, 6_000),
    low=st.one_of(st.none(), st.integers(1, 100)),
    fit_px=st.integers(1, 4_000),
    short_px=st.one_of(st.just(0), st.integers(1, 4_000)),
    tile_px=st.integers(1, 1_000),
    tile_px_min=st.one_of(st.just(0), st.integers(16, 1_000)),
    single_px=st.integers(0, 500),
)
PATCHES = st.builds(
    Patches,
    patches_max=st.integers(1, 12_000),
    permille=st.integers(1, 3_000),
    fit_px=st.integers(1, 8_000),
    patch_px=st.integers(1, 64),
)
AREA = st.builds(Area, limit=st.integers(1, 5_000), fit_px=st.integers(1, 4_000), px_per_token=st.integers(1, 1_000))
RULES = st.one_of(TILES, PATCHES, AREA)


def rule_of(model_id: str) -> ImageRule:
    (rule,) = (model.image_rule for model in MODELS if model.id == model_id)
    assert rule is not None
    return rule


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [
        (512, 512, 85 + 170),
        (513, 512, 85 + 2 * 170),
        (1024, 1024, 765),  # to 768x768: 2 x 2 tiles
        (2048, 4096, 1105),  # to 1024x2048, then 768x1536: 2 x 3 tiles
        (4096, 2048, 1105),
        (2000, 768, 1445),  # as it is: 4 x 2 tiles
        (2048, 768, 1445),
        (4096, 8192, 1105),
        (1, 1, 85 + 170),
        (10_000, 100, 85 + 4 * 170),  # to 2048x20.48
    ],
)
def test_tiles_of_gpt_4o(width: int, height: int, tokens: int) -> None:
    assert image_tokens(GPT_4O, width, height) == tokens
    assert image_tokens(GPT_4O, width, height, "high") == image_tokens(GPT_4O, width, height, "original") == tokens
    assert image_tokens(GPT_4O, width, height, "low") == 85


def test_an_image_of_unknown_size_is_the_most_that_any_is_unless_its_detail_is_low() -> None:
    assert image_tokens(GPT_4O, 0, 0) == image_tokens(GPT_4O, 0, 700) == GPT_4O.tokens_max == 1445
    assert image_tokens(GPT_4O, 0, 0, "low") == 85


@pytest.mark.parametrize(
    ("model_id", "detail", "width", "height", "tokens"),
    [
        ("gpt-4o-mini", "auto", 1024, 1024, 2833 + 4 * 5667),
        ("gpt-4o-mini", "low", 1024, 1024, 2833),
        ("o1", "auto", 1024, 1024, 75 + 4 * 150),
        ("o3", "auto", 2000, 768, 75 + 8 * 150),
        ("gpt-4-turbo", "auto", 1024, 1024, 765),
        ("gpt-4o-ca", "auto", 1024, 1024, 765),
        # Of high fidelity: 65 + 6240, and 1 tile once the shorter side is 512. Of low fidelity: 65 + 4 x 129 at most.
        ("gpt-image-1", "auto", 1024, 1024, 65 + 6240 + 129),
        ("gpt-image-1", "auto", 1536, 1024, 65 + 6240 + 2 * 129),
        ("gpt-image-1", "low", 1536, 1024, 65 + 4 * 129),
        # 32 x 32 patches, each 1.62, 2.46 or 1.72 tokens; 32 x 32 is below every budget.
        ("gpt-4.1-mini", "auto", 1024, 1024, 1659),  # 1658.88
        ("gpt-4.1-nano", "auto", 1024, 1024, 2520),  # 2519.04
        ("o4-mini", "auto", 1024, 1024, 1762),  # 1761.28
        ("o4-mini", "auto", 1800, 2400, 2498),  # 33 x 44 patches: 2497.44
        ("gpt-4.1-nano", "low", 64, 64, 10),  # 4 patches: 9.84; no low detail
        ("gpt-4.1-mini", "auto", 2048, 2048, 6636),  # 64 x 64 patches: 6635.52
        ("gpt-4.1-mini", "auto", 8000, 4000, 3318),  # to 2048x1024: 64 x 32 patches: 3317.76
        # The vendor's own table of sizes: about 1590, and a token for 750 pixels each.
        ("claude-3-7-sonnet-20250219", "auto", 1092, 1092, 1590),
        ("claude-3-7-sonnet-20250219", "low", 819, 1456, 1590),
        ("claude-3-7-sonnet-20250219", "auto", 784, 1568, 1640),
        ("claude-3-7-sonnet-20250219", "auto", 8000, 8000, 1640),
        ("claude-3-7-sonnet-20250219", "auto", 29, 29, 4),  # 2 x 2 patches of 28: more than 841 / 750
        ("claude-3-7-sonnet-20250219", "auto", 3136, 1568, 1640),
        ("claude-3-7-sonnet-20250219", "auto", 3136, 784, 820),  # to 1568x392: 614656 / 750 = 819.5
        # 258 each; a tile's side is two thirds of the shorter side, but 256 to 768.
        ("gemini-2.0-flash", "auto", 384, 384, 258),
        ("gemini-2.0-flash", "auto", 385, 384, 258 * (1 + 2 * 2)),
        ("gemini-2.0-flash", "low", 960, 540, 258 * (1 + 3 * 2)),  # tiles of 360
        ("gemini-2.0-flash", "auto", 1980, 1380, 258 * (1 + 3 * 2)),  # tiles of 768, 920 would be two thirds
        ("gemini-2.0-flash", "auto", 6144, 6144, 258 * (1 + 4 * 4)),  # to 3072x3072
        ("gemini-2.0-flash", "auto", 3072, 384, 258 * (1 + 12 * 2)),  # tiles of 256: the most there are
    ],
)
def test_the_rules_of_the_catalog(model_id: str, detail: str, width: int, height: int, tokens: int) -> None:
    assert image_tokens(rule_of(model_id), width, height, detail) == tokens


def test_patches_fill_one_side_exactly_when_there_are_too_many() -> None:
    rule = Patches(patches_max=1536, permille=1000)

    assert image_tokens(rule, 1800, 2400) == 33 * 44 == 1452  # 1056x1408
    assert image_tokens(rule, 2400, 1800) == 1452
    assert image_tokens(rule, 1024, 1536) == 32 * 48 == 1536  # just within
    assert image_tokens(rule, 1025, 1536) == 32 * 47  # 33 x 48 are too many; 32.02 x 47.98 fit, then 31.36 x 47


def test_a_strip_thinner_than_a_patch_is_held_at_every_patch() -> None:
    rule = Patches(patches_max=100, permille=1000, fit_px=100_000)

    assert image_tokens(rule, 1, 100_000) == image_tokens(rule, 100_000, 1) == 100


@given(rule=RULES, width=SIDE, height=SIDE, detail=st.sampled_from(["low", "high", "auto", "original", ""]))
@example(rule=rule_of("gemini-2.0-flash"), width=3072, height=385, detail="auto")
def test_no_image_is_more_than_the_rules_maximum_or_less_than_nothing(
    rule: ImageRule, width: int, height: int, detail: str
) -> None:
    tokens = image_tokens(rule, width, height, detail)

    assert type(tokens) is int
    assert 0 <= tokens <= rule.tokens_max
    assert tokens == image_tokens(rule, height, width, detail)


@given(
    width=SIDE, height=SIDE, detail=st.sampled_from(["low", "high", "auto", "original"]), model=st.sampled_from(MODELS)
)
def test_every_image_of_the_catalog_has_tokens_within_the_models_maximum(
    width: int, height: int, detail: str, model: Model
) -> None:
    assert model.image_rule is not None
    assert model.image_tokens_max is not None
    assert 1 <= image_tokens(model.image_rule, width, height, detail) <= model.image_tokens_max


@given(
    width=SIDE,
    height=SIDE,
    times=st.integers(1, 20),
    rule=st.one_of(TILES.filter(lambda rule: not rule.tile_px_min), AREA),
)
def test_a_larger_copy_of_an_image_is_no_fewer_tokens(width: int, height: int, times: int, rule: ImageRule) -> None:
    assert image_tokens(rule, width, height) <= image_tokens(rule, width * times, height * times)


@given(rule=PATCHES, width=st.integers(1, 3_000), height=st.integers(1, 3_000), wider=st.integers(0, 3_000))
def test_patches_within_the_budget_grow_with_each_side(rule: Patches, width: int, height: int, wider: int) -> None:
    large = Patches(patches_max=10**9, permille=rule.permille, fit_px=10**9, patch_px=rule.patch_px)

    assert image_tokens(large, width, height) <= image_tokens(large, width + wider, height)
    assert image_tokens(rule, width, height) <= image_tokens(large, width, height)


@given(width=st.integers(1, 5_000), height=st.integers(1, 5_000), budget=st.integers(100, 10_000))
def test_what_is_scaled_to_a_budget_keeps_its_shape_and_uses_most_of_it(width: int, height: int, budget: int) -> None:
    rule = Patches(patches_max=budget, permille=1000, fit_px=10**6)
    every = -(-width // 32) * -(-height // 32)
    tokens = image_tokens(rule, width, height)

    assert tokens == every if every <= budget else tokens <= budget
    if every > budget and max(width, height) <= 4 * min(width, height):
        assert tokens >= budget * 6 // 10
