"""xAI: OpenAI chat on the wire."""

from farebox.vendors.vendor import Vendor

XAI = Vendor(name="xai", base_url="https://api.x.ai/v1")
