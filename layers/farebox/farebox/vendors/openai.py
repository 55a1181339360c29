"""OpenAI itself, and every endpoint that speaks as it does."""

from farebox.vendors.vendor import Vendor

OPENAI = Vendor(name="openai", base_url="https://api.openai.com/v1", reasoning_limit_param="max_completion_tokens")
