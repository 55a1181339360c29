"""How an upstream fails us. Adapters raise these; the relay turns them into an ending and an answer."""

from __future__ import annotations


class UpstreamFailure(Exception):
    """The root."""


class Unreachable(UpstreamFailure):
    """No connection, no TLS, or it broke before an answer began."""


class Stalled(UpstreamFailure):
    """Nothing came for too long."""


class Cut(UpstreamFailure):
    """The answer broke off."""


class TooLarge(UpstreamFailure):
    """The answer exceeds what we hold in memory."""
