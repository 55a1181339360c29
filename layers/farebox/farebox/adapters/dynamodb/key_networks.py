"""What this process remembers of keys' address lists, so that a key with a list needs one round trip like any other.

Nothing is decided from memory: the store's condition demands that the list is still the one that the address was
held against. A wrong memory costs one more round trip, never a wrong answer.
"""

from __future__ import annotations

from farebox.domain.quota import address_allowed
from farebox.ports import Admission

KEYS_MAX = 10_000


class KeyNetworks:
    """Key id → its list of networks; a key without a list is not remembered."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, ...]] = {}

    def expected(self, admission: Admission) -> tuple[str, ...]:
        """The list to bet on. A list that would refuse the caller is not bet on: the store shall say so itself."""
        known = self.of(admission)
        return known if address_allowed(admission.address, known) else ()

    def of(self, admission: Admission) -> tuple[str, ...]:
        return self._known.get(admission.key.id, ())

    def learn(self, admission: Admission, networks: tuple[str, ...]) -> None:
        self._known.pop(admission.key.id, None)
        if networks:
            if len(self._known) >= KEYS_MAX:
                self._known.pop(next(iter(self._known)))
            self._known[admission.key.id] = networks
