"""Google Gemini, by its own door, and by its OpenAI-compatible one for dialects that have no bridge to the first.

https://ai.google.dev/api/generate-content
"""

from farebox.vendors.vendor import Door, Vendor, header, openai_door

GOOGLE = Vendor(
    name="google",
    base_url="https://generativelanguage.googleapis.com/v1beta",
    doors=(
        Door(
            "gemini",
            paths={
                "generateContent": "/models/{model}:{method}",
                "embedContent": "/models/{model}:embedContent",
                "batchEmbedContents": "/models/{model}:batchEmbedContents",
                "countTokens": "/models/{model}:countTokens",
            },
            auth=header("x-goog-api-key"),
        ),
        openai_door("chat.completions", "embeddings", prefix="/openai"),
    ),
    key_refusals=(b"API_KEY_INVALID",),
    cancel_stops_billing=False,  # https://openrouter.ai/docs/api/reference/streaming lists who stops and who does not
)
