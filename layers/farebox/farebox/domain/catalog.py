"""The price list as the core sees it: models, what bounds their use, and their dated prices.

`adapters/catalog_files.py` fills it from `catalog/*.toml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

Kind = Literal["chat", "completion", "embedding", "image", "speech", "transcription", "moderation"]
Tier = Literal["official", "ca"]
Tokenizer = Literal["o200k_base", "cl100k_base"]

KINDS: frozenset[str] = frozenset(get_args(Kind))
TIERS: frozenset[str] = frozenset(get_args(Tier))
TOKENIZERS: frozenset[str] = frozenset(get_args(Tokenizer))
FREE_GROUPS = frozenset({"gpt-4o", "deepseek", "gpt-4o-mini", "embedding"})
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


class NoPriceYet(LookupError):
    """The model has no price at that time: its first one starts later."""


@dataclass(frozen=True, slots=True)
class Price:
    """What one model costs from `from_ms` (epoch ms, UTC, inclusive) until its next price starts.

    `version` names this price in receipts for ever, e.g. `gpt-4o@2025-05-01`.
    `rates`: unit name of UNITS → nano-CA for one unit. `images`: `quality:WIDTHxHEIGHT` → nano-CA for one image made.
    Raises ValueError for an unknown unit and for a figure that is not a whole number above zero.
    """

    from_ms: int
    version: str
    rates: Mapping[str, int]
    images: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.rates) - set(UNITS)):
            raise ValueError(f"{self.version}: no such unit: {', '.join(unknown)}")
        for name, nano in [*self.rates.items(), *self.images.items()]:
            if type(nano) is not int or nano <= 0:
                raise ValueError(f"{self.version}: {name} must be a whole number of nano-CA above zero")
        # Shared by every request of the process, so nobody may change them.
        object.__setattr__(self, "rates", MappingProxyType(dict(self.rates)))
        object.__setattr__(self, "images", MappingProxyType(dict(self.images)))

    @property
    def figures(self) -> tuple[int, Mapping[str, int], Mapping[str, int]]:
        """When it starts and what it charges: equal for two names of one model."""
        return self.from_ms, self.rates, self.images


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model that callers can name. Its token figures are upper bounds: holds are computed from them.

    `points_to`: the model that this name stands for at present; same price by construction.
    `context_tokens`, `output_tokens_max`: per request; 0 where the model is not charged by such tokens.
    `image_tokens_max`: the most input tokens that one sent image can cost; None: the model takes no images.
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
