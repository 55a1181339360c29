"""Whom Farebox can relay to: one file a vendor, one entry in this table."""

from farebox.vendors.anthropic import ANTHROPIC
from farebox.vendors.azure import AZURE
from farebox.vendors.deepseek import DEEPSEEK
from farebox.vendors.google import GOOGLE
from farebox.vendors.openai import OPENAI
from farebox.vendors.openai_compatible import OPENAI_COMPATIBLE
from farebox.vendors.vendor import Door, Vendor
from farebox.vendors.xai import XAI

VENDORS: dict[str, Vendor] = {
    vendor.name: vendor for vendor in (OPENAI, AZURE, ANTHROPIC, DEEPSEEK, GOOGLE, XAI, OPENAI_COMPATIBLE)
}

__all__ = ["VENDORS", "Door", "Vendor"]
