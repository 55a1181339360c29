"""Farebox: a serverless LLM relay that authenticates, limits, meters, bills and signs a receipt for every request."""

__version__ = "0.1.0"
