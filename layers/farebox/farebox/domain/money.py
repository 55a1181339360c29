"""Amounts of money: whole numbers of nano-CA, and decimal text where people read or write them.

1 CA = 1,000,000,000 nano-CA. Every price of the catalog is a whole number of nano-CA, so nothing is ever rounded.
"""

from __future__ import annotations

import re

NANO_PER_CA = 1_000_000_000
_DECIMALS_MAX = 9
_DIGITS_MAX = 12
# [0-9] and not \d: \d also takes the digits of other scripts. Lengths are bounded, so no text can be costly to read.
_DECIMAL = re.compile(rf"(-?)(0|[1-9][0-9]{{0,{_DIGITS_MAX - 1}}})(?:\.([0-9]{{1,{_DECIMALS_MAX}}}))?")


def parse_ca(text: str, *, signed: bool = False) -> int:
    """nano-CA from a decimal string in CA such as "0.0175"; a leading "-" only if `signed`.

    At most 12 digits before the point and 9 after it. Raises ValueError for anything else, a number included: what
    has passed through a float is no longer the figure that somebody wrote.
    """
    if not isinstance(text, str):
        raise ValueError(  # noqa: TRY004 - one kind of error for everything that is no amount
            f'an amount must be a decimal string such as "0.0175", not {type(text).__name__}'
        )
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(
            f'an amount must be plain decimal digits such as "0.0175", at most {_DIGITS_MAX} before the point '
            f"and {_DECIMALS_MAX} after it"
        )
    sign, whole, decimals = match.groups(default="")
    if sign and not signed:
        raise ValueError("an amount must not be negative here")
    nano = int(whole) * NANO_PER_CA + int(decimals.ljust(_DECIMALS_MAX, "0"))
    return -nano if sign else nano


def format_ca(nano: int) -> str:
    """Plain decimal text in CA for `nano` nano-CA: no exponent, no trailing zeros; "0" for zero, "-0.5" for a debt."""
    whole, rest = divmod(abs(nano), NANO_PER_CA)
    sign = "-" if nano < 0 else ""
    decimals = f"{rest:0{_DECIMALS_MAX}d}".rstrip("0")
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"
