"""The price list as the core sees it: models, what bounds their use, and their dated prices.

`adapters/catalog_files.py` fills it from `catalog/*.toml`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

from farebox.domain.image_tokens import ImageRule

Kind = Literal["chat", "completion", "embedding", "image", "speech", "transcription", "moderation"]
Tier = Literal["official", "ca"]
Tokenizer = Literal["o200k_base", "cl100k_base"]

KINDS: frozenset[str] = frozenset(get_args(Kind))
TIERS: frozenset[str] = frozenset(get_args(Tier))
TOKENIZERS: frozenset[str] = frozenset(get_args(Tokenizer))
FREE_GROUPS = frozenset({"gpt-4o", "deepseek", "gpt-4o-mini", "embedding", "moderation"})
"""The groups that free keys have a daily limit for. Closed: a misspelt group would get the default limit, unnoticed."""

UNITS: Mapping[str, str] = MappingProxyType(
    {
        "input_token": "a token that is sent, unless one of the narrower units below has a price",
        "cached_input_token": "a sent token that the vendor read from its cache",
        "cache_write_token": "a sent token that the vendor wrote to its cache (Anthropic: for 5 minutes)",
        "cache_write_1h_token": "a sent token that the vendor wrote to its cache for an hour",
        "audio_input_token": "a token of audio that is sent",
        "output_token": "a token that comes back, unless one of the narrower units has a price",
        "reasoning_token": "a token of thoughts",
        "audio_output_token": "a token of audio that comes back",
        "image_input_token": "a token of an image that is sent",
        "image_output_token": "a token of an image that is made",
        "image_when_streaming": "an image that is sent in a request whose answer is streamed",
        "character": "a character that is spoken",
        "audio_ms": "a millisecond of audio, heard or spoken",
        "web_search": "a search that the vendor makes for the model",
        "request": "a request, whatever is in it",
    }
)
"""Every unit that can have a price, and what one of it is. Closed: a misspelt unit is refused, never free."""


_IMAGE_MADE = re.compile(r"image/[a-z]+:[1-9][0-9]{1,4}x[1-9][0-9]{1,4}")
IMAGE_MADE = "image/"
"""An image that is made is a unit too: `image/<quality>:<WIDTH>x<HEIGHT>`, such as `image/hd:1024x1792`."""

MAY_BE_FREE = frozenset({"request"})
"""The units whose price may be zero: what is free upstream. Every other price is above zero."""

SERVICE_TIERS = frozenset({"batch", "flex", "performance", "priority", "scale"})
"""Ways to be served that can have rates of their own, by the names that answers give them. Closed, like UNITS."""

ANSWERED_AS: Mapping[str, str] = MappingProxyType({"fast": "priority"})
"""A service tier that callers can ask for under another name than answers give it."""


class NoPriceYet(LookupError):
    """The model has no price at that time: its first one starts later."""


@dataclass(frozen=True, slots=True)
class Rated:
    """The rates of one request, and the name that its receipt gives them for ever. `rates`: unit → nano-CA for one."""

    version: str
    rates: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LengthTier:
    """Other rates for all of a request that sends more than `above_input_tokens`, of whatever class."""

    above_input_tokens: int
    rates: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ServiceTier:
    """Other rates for a request that was served so. `tiers`: as Price has them."""

    rates: Mapping[str, int]
    tiers: tuple[LengthTier, ...] = ()


@dataclass(frozen=True, slots=True)
class Price:
    """What one model costs from `from_ms` (epoch ms, UTC, inclusive) until its next price starts.

    `version` names this price in receipts for ever, e.g. `gpt-4o@2025-05-01`.
    `rates`: unit → nano-CA for one; the units are those of UNITS, and images that are made.
    `tiers`: by length, ascending; only the last one that the input reaches applies.
    `service_tiers`: name of SERVICE_TIERS → its rates.
    Raises ValueError for an unknown unit or service tier, tiers out of order, and a figure that is not a whole number
    above zero.
    """

    from_ms: int
    version: str
    rates: Mapping[str, int]
    tiers: tuple[LengthTier, ...] = ()
    service_tiers: Mapping[str, ServiceTier] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.service_tiers) - SERVICE_TIERS):
            raise ValueError(f"{self.version}: no such service tier: {', '.join(unknown)}")
        # Shared by every request of the process, so nobody may change them.
        served = {
            name: ServiceTier(_checked(self.version, tier.rates), _checked_tiers(self.version, tier.tiers))
            for name, tier in self.service_tiers.items()
        }
        object.__setattr__(self, "rates", _checked(self.version, self.rates))
        object.__setattr__(self, "tiers", _checked_tiers(self.version, self.tiers))
        object.__setattr__(self, "service_tiers", MappingProxyType(served))

    @property
    def figures(self) -> tuple[object, ...]:
        """When it starts and what it charges: equal for two names of one model."""
        return self.from_ms, self.rates, self.tiers, self.service_tiers

    @property
    def images(self) -> Mapping[str, int]:
        """`quality:WIDTHxHEIGHT` → nano-CA for one image made."""
        made = {unit: nano for unit, nano in self.rates.items() if unit.startswith(IMAGE_MADE)}
        return MappingProxyType({unit.removeprefix(IMAGE_MADE): nano for unit, nano in made.items()})

    def has_service_tier(self, name: str) -> bool:
        """Whether this service tier, named as asked for or as answered, has rates of its own."""
        return ANSWERED_AS.get(name, name) in self.service_tiers

    def rates_for(self, *, input_tokens: int, service_tier: str | None = None) -> Rated:
        """The rates of a request that sent `input_tokens` of all classes and was served as `service_tier`.

        Four tables lie on each other, and for each unit the topmost one that states it counts: the price, its length
        tier, the service tier, the service tier's length tier. A service tier without rates of its own is the
        ordinary one. The version names each table above the first: `m@2025-05-01/above-200000/priority`.
        """
        version, rates = _raised(self.version, self.rates, self.tiers, input_tokens)
        if service_tier is not None and self.has_service_tier(service_tier):
            name = ANSWERED_AS.get(service_tier, service_tier)
            served = self.service_tiers[name]
            version, rates = _raised(f"{version}/{name}", {**rates, **served.rates}, served.tiers, input_tokens)
        return Rated(version, rates)

    def borders(self, service_tier: str | None) -> frozenset[int]:
        """The lengths of input above which other rates apply, ordinarily or as `service_tier`."""
        served = self.service_tiers.get(ANSWERED_AS.get(service_tier or "", service_tier or ""))
        tiers = self.tiers if served is None else (*self.tiers, *served.tiers)
        return frozenset(tier.above_input_tokens for tier in tiers)


def _raised(
    version: str, rates: Mapping[str, int], tiers: tuple[LengthTier, ...], input_tokens: int
) -> tuple[str, Mapping[str, int]]:
    """The version and the rates with the length tier on them that `input_tokens` has reached, if any."""
    for tier in reversed(tiers):
        if input_tokens > tier.above_input_tokens:
            return f"{version}/above-{tier.above_input_tokens}", {**rates, **tier.rates}
    return version, rates


def _checked(version: str, rates: Mapping[str, int]) -> Mapping[str, int]:
    """A copy of `rates` that cannot be changed. Raises ValueError."""
    if unknown := sorted(unit for unit in rates if unit not in UNITS and not _IMAGE_MADE.fullmatch(unit)):
        raise ValueError(f"{version}: no such unit: {', '.join(unknown)}")
    for unit, nano in rates.items():
        if type(nano) is not int or nano < 0 or (nano == 0 and unit not in MAY_BE_FREE):
            raise ValueError(f"{version}: {unit} must be a whole number of nano-CA above zero")
    return MappingProxyType(dict(rates))


def _checked_tiers(version: str, tiers: tuple[LengthTier, ...]) -> tuple[LengthTier, ...]:
    borders = [tier.above_input_tokens for tier in tiers]
    if borders != sorted(set(borders)) or (borders and borders[0] <= 0):
        raise ValueError(f"{version}: length tiers must ascend from above zero")
    return tuple(LengthTier(tier.above_input_tokens, _checked(version, tier.rates)) for tier in tiers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model that callers can name. Its token figures are upper bounds: holds are computed from them.

    `points_to`: the model that this name stands for at present; same price by construction.
    `context_tokens`, `output_tokens_max`: per request; 0 where the model is not charged by such tokens.
    `image_tokens_max`: the most input tokens that one sent image can cost; None: the model takes no images.
    `image_rule`: how many tokens an image of known size is, never above that; None: that is all that is known.
    `input_margin_percent`: how far our own count of the input may fall short of the vendor's.
    `free_group`: which daily limit a free key's requests count against; None: paid keys only.
    `scarce`: the vendor has little capacity, so failures are to be expected.
    `reasoning`: it can spend output tokens that its visible text does not show.
    `prices`: ascending by `from_ms`, at least one.
    """

    id: str
    vendor: str
    tier: Tier
    kind: Kind
    points_to: str | None
    context_tokens: int
    output_tokens_max: int
    image_tokens_max: int | None
    image_rule: ImageRule | None = None
    tokenizer: Tokenizer
    input_margin_percent: int
    free_group: str | None
    scarce: bool
    reasoning: bool
    prices: tuple[Price, ...]

    def price_at(self, now_ms: int) -> Price:
        """The latest price that has started at `now_ms` (epoch ms); raises NoPriceYet."""
        for price in reversed(self.prices):
            if price.from_ms <= now_ms:
                return price
        raise NoPriceYet(self.id)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All models, by id, in the order of the price list."""

    models: Mapping[str, Model]

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", MappingProxyType(dict(self.models)))

    def get(self, model_id: str) -> Model | None:
        return self.models.get(model_id)

    def by_vendor(self, vendor: str) -> tuple[Model, ...]:
        """The models of `vendor`, of every tier."""
        return tuple(model for model in self.models.values() if model.vendor == vendor)

    def by_kind(self, kind: Kind) -> tuple[Model, ...]:
        """The models that an endpoint of this kind serves."""
        return tuple(model for model in self.models.values() if model.kind == kind)
