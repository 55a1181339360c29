"""Google Gemini, by its OpenAI-compatible door."""

from farebox.vendors.vendor import Vendor

GOOGLE = Vendor(name="google", base_url="https://generativelanguage.googleapis.com/v1beta/openai")
