"""DeepSeek: OpenAI chat on the wire; reports cache hits under its own name (dialects/openai/usage)."""

from farebox.vendors.vendor import Vendor, openai_door

DEEPSEEK = Vendor(
    name="deepseek",
    base_url="https://api.deepseek.com/v1",
    doors=(openai_door("chat.completions", "completions"),),
    other_limits=False,  # https://api-docs.deepseek.com/api/create-chat-completion knows max_tokens alone
)
