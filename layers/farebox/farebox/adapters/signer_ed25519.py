"""Signs receipts with Ed25519."""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SEED_BYTES = 32


class Ed25519Signer:
    """`seed`: 32 secret bytes. `key_id` names the public key, so that receipts outlive a change of key."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError("the signing key's seed must be 32 bytes")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()
        self.key_id = key_id(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """A 64-byte signature."""
        return self._key.sign(message)


def key_id(public_key: bytes) -> str:
    """The name of a signing key: derived from it, so that nobody has to keep a list."""
    return "ed25519:" + hashlib.sha256(public_key).hexdigest()[:16]


def public_keys(current: bytes, previous: tuple[bytes, ...]) -> dict[str, bytes]:
    """Key id → public key, the current one first. Old receipts are verified with old keys."""
    return {key_id(key): key for key in (current, *previous)}


def verifies(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
