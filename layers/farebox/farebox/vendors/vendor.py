"""The record of a vendor: data first, never a class to inherit from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Auth = Callable[[str], tuple[str, str]]
"""An upstream key → the header that carries it. Keys never stand in a URL."""


def bearer(key: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {key}")


@dataclass(frozen=True, slots=True)
class Vendor:
    """`base_url`: where a channel points unless it says otherwise. `stream_options`: does the vendor accept it?

    `cancel_stops_billing`: whether leaving a stream ends what the vendor charges. `reasoning_limit_param`: how a
    reasoning model's output limit is called.
    """

    name: str
    base_url: str
    auth: Auth = bearer
    stream_options: bool = True
    cancel_stops_billing: bool = True
    reasoning_limit_param: str = "max_tokens"
