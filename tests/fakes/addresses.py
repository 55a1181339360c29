"""Addresses for callers: each is given out once in a whole run, so that no test meets another's counters."""

from __future__ import annotations

import itertools

addresses = (f"10.{n // 62500 % 250}.{n // 250 % 250}.{n % 250 + 1}" for n in itertools.count())
"""`next(addresses)` is one that no other test has used."""
