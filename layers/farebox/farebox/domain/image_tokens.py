"""How many tokens a sent image can be: the vendors' published rules as data, in integers and exact fractions.

For holds, so whatever a vendor rounds down is rounded up here; what is billed are the vendor's own figures.
`low`, in every rule: the most that an image costs in low detail; None: detail changes nothing.
`tokens`, in every rule: the most for an image of `width` x `height` px, both above zero, in any other detail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from types import MappingProxyType

LOW = "low"
_PERMILLE = 1000
Size = tuple[Fraction, Fraction]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """`base` tokens for an image and `tile` for each square tile that it takes, once it is scaled down.

    First its longer side to `fit_px`, then its shorter one to `short_px` (0: not that). A tile's side is `tile_px`.
    If `tile_px_min` is above 0 the side follows the image: two thirds of its shorter one, but neither below
    `tile_px_min` nor above `tile_px` (Gemini). An image of at most `single_px` on both sides takes no tile.
    """

    base: int
    tile: int
    low: int | None = None
    fit_px: int = 2048
    short_px: int = 768
    tile_px: int = 512
    tile_px_min: int = 0
    single_px: int = 0

    @property
    def tokens_max(self) -> int:
        short_px = min(self.short_px or self.fit_px, self.fit_px)
        tiles = _ceil(self.fit_px, self.tile_px) * _ceil(short_px, self.tile_px)
        if self.tile_px_min:
            # A side that follows the shorter one of the image fits into it twice at most.
            tiles = max(tiles, 2 * _ceil(self.fit_px, self.tile_px_min))
        return max(self.base + self.tile * tiles, self.low or 0)

    def tokens(self, width: int, height: int) -> int:
        if max(width, height) <= self.single_px:
            tiles = 0
        else:
            across, down = _shrunk(_shrunk(_size(width, height), self.fit_px, max), self.short_px, min)
            side = self.tile_px
            if self.tile_px_min:
                side = min(max(min(across, down) * 2 // 3, self.tile_px_min), self.tile_px)
            tiles = _ceil(across, side) * _ceil(down, side)
        return self.base + self.tile * tiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Patches:
    """`permille` thousandths of a token for each patch of `patch_px` squared, `patches_max` of them at the most.

    An image is scaled down until its longer side is `fit_px`; if it still takes too many patches, once more, so that
    its patches fill a side exactly.
    """

    patches_max: int
    permille: int
    low: int | None = None
    fit_px: int = 2048
    patch_px: int = 32

    @property
    def tokens_max(self) -> int:
        most = min(self.patches_max, _ceil(self.fit_px, self.patch_px) ** 2)
        return max(_ceil(most * self.permille, _PERMILLE), self.low or 0)

    def tokens(self, width: int, height: int) -> int:
        # Which way a vendor rounds the pixels of a scaled image can decide over a whole row of patches.
        across, down = ({int(side), _ceil(side, 1)} for side in _shrunk(_size(width, height), self.fit_px, max))
        patches = max(self._patches(max(each, 1), max(other, 1)) for each in across for other in down)
        return _ceil(patches * self.permille, _PERMILLE)

    def _patches(self, width: int, height: int) -> int:
        patches = _ceil(width, self.patch_px) * _ceil(height, self.patch_px)
        if patches <= self.patches_max:
            return patches
        # Scaled to just patches_max the image would be sqrt(patches_max x width / height) patches wide; it is scaled
        # on until the side that is further above a whole number of patches has come down to it.
        across = isqrt(self.patches_max * width // height)
        down = isqrt(self.patches_max * height // width)
        if not across or not down:
            return self.patches_max  # a strip that is thinner than a patch: no rule is published
        if across * height <= down * width:
            return across * _ceil(across * height, width)
        return down * _ceil(down * width, height)


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """A token for each `px_per_token` pixels or for each patch of `patch_px` squared, whichever are more.

    At most `limit` tokens: a larger image is scaled down to that, after its longer side was to `fit_px`.
    """

    limit: int
    low: int | None = None
    fit_px: int = 1568
    px_per_token: int = 750
    patch_px: int = 28

    @property
    def tokens_max(self) -> int:
        return max(self.limit, self.low or 0)

    def tokens(self, width: int, height: int) -> int:
        across, down = _shrunk(_size(width, height), self.fit_px, max)
        patches = _ceil(across, self.patch_px) * _ceil(down, self.patch_px)
        return min(max(_ceil(across * down, self.px_per_token), patches), self.limit)


ImageRule = Tiles | Patches | Area
METHODS: Mapping[str, type[Tiles] | type[Patches] | type[Area]] = MappingProxyType(
    {"tiles": Tiles, "patches": Patches, "area": Area}
)
"""A rule's method, as the catalog's files name it."""


def image_tokens(rule: ImageRule, width: int, height: int, detail: str = "auto") -> int:
    """The most tokens that an image of `width` x `height` px is; of unknown size (0), the most that any image is.

    `detail`: "low", "high", "original" or "auto"; all but "low" are held alike, at the rule's full resolution.
    """
    if detail == LOW and rule.low is not None:
        return rule.low
    if width <= 0 or height <= 0:
        return rule.tokens_max
    return rule.tokens(width, height)


def _size(width: int, height: int) -> Size:
    return Fraction(width), Fraction(height)


def _shrunk(size: Size, side_px: int, which: Callable[[Fraction, Fraction], Fraction]) -> Size:
    """`size` scaled down, never up, until the side that `which` names is `side_px`; 0: not scaled."""
    side = which(*size)
    if not side_px or side <= side_px:
        return size
    return size[0] * side_px / side, size[1] * side_px / side


def _ceil(count: int | Fraction, each: int | Fraction) -> int:
    """How many of `each` it takes to cover `count`."""
    return int(-(-count // each))
