"""OpenAI itself."""

from farebox.vendors.vendor import Vendor, openai_door

OPENAI = Vendor(
    name="openai",
    base_url="https://api.openai.com/v1",
    doors=(openai_door(),),
    reasoning_limit_param="max_completion_tokens",
)
