"""Whom Farebox can relay to: one file a vendor, one entry in this table."""

from farebox.vendors.anthropic import ANTHROPIC
from farebox.vendors.deepseek import DEEPSEEK
from farebox.vendors.google import GOOGLE
from farebox.vendors.openai import OPENAI
from farebox.vendors.vendor import Vendor
from farebox.vendors.xai import XAI

VENDORS: dict[str, Vendor] = {vendor.name: vendor for vendor in (OPENAI, ANTHROPIC, DEEPSEEK, GOOGLE, XAI)}

__all__ = ["VENDORS", "Vendor"]
