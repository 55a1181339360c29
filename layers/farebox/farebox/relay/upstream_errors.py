"""How an upstream fails us. Adapters and the passage raise these; the relay turns them into a setback."""

from __future__ import annotations


class UpstreamFailure(Exception):
    """The root."""


class Unreachable(UpstreamFailure):
    """No connection, no TLS, or it broke before an answer began."""


class Stalled(UpstreamFailure):
    """Nothing came for too long."""


class Cut(UpstreamFailure):
    """The answer broke off, or is none."""


class TooLarge(UpstreamFailure):
    """The answer exceeds what we hold in memory."""


class ErrorAnswer(UpstreamFailure):
    """A success by its status, an error by its content."""


class Empty(UpstreamFailure):
    """It ended properly, and nothing was in it."""
