"""Anthropic, by its OpenAI-compatible door."""

from farebox.vendors.vendor import Vendor

ANTHROPIC = Vendor(name="anthropic", base_url="https://api.anthropic.com/v1")
