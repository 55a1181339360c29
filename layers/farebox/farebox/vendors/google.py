"""Google Gemini, by its OpenAI-compatible door."""

from farebox.vendors.vendor import Vendor

GOOGLE = Vendor(
    name="google",
    base_url="https://generativelanguage.googleapis.com/v1beta/openai",
    cancel_stops_billing=False,  # https://openrouter.ai/docs/api/reference/streaming lists who stops and who does not
)
