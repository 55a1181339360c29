"""What may be tried so often an hour: counters of a key and of an address, each with the hour in its name."""

from __future__ import annotations

from farebox.domain.quota import Limit, Unit, address_hash

HOUR_MS = 3_600_000
FIELD = "tries"


def tries(
    what: str, *, key_id: str, address: str, per_key: int, per_address: int, now_ms: int, pepper: bytes
) -> tuple[Unit, Unit]:
    """The two counters of one try. An address is only kept as a keyed hash that is another one every hour."""
    hour = now_ms // HOUR_MS
    hashed = address_hash(address, day_name=f"{what}|{hour}", pepper=pepper)
    ends_ms = (hour + 1) * HOUR_MS
    return (
        Unit("key", f"{what}#key#{key_id}#{hour}", (Limit(FIELD, per_key),), ends_ms),
        Unit("address", f"{what}#address#{hashed}#{hour}", (Limit(FIELD, per_address),), ends_ms),
    )
