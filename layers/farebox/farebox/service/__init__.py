"""Use cases off the hot path."""
