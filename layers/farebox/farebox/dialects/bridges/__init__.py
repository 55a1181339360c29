"""Pairs of dialects: one file a pair."""
