"""xAI: OpenAI's dialect; its completion_tokens may leave reasoning out (dialects/openai/usage)."""

from farebox.vendors.vendor import Vendor, openai_door

XAI = Vendor(
    name="xai",
    base_url="https://api.x.ai/v1",
    doors=(openai_door("chat.completions", "completions", "responses", "embeddings", "images.generations"),),
    key_refusals=(b"Incorrect API key",),
    reasoning_effort=False,  # most of its models answer 400 to it
)
