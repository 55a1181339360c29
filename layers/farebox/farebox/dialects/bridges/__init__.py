"""Pairs of dialects: one file a pair, and one entry in this table."""

from farebox.dialects.bridge import Bridge
from farebox.dialects.bridges import anthropic_to_chat, chat_to_anthropic, chat_to_gemini, embed_content_to_embeddings
from farebox.dialects.bridges import gemini_to_chat

BRIDGES: dict[tuple[str, str], Bridge] = {
    (bridge.caller, dialect): bridge
    for bridge, dialect in (
        (chat_to_anthropic.BRIDGE, "anthropic"),
        (chat_to_gemini.BRIDGE, "gemini"),
        (anthropic_to_chat.BRIDGE, "openai"),
        (gemini_to_chat.BRIDGE, "openai"),
        (embed_content_to_embeddings.BRIDGE, "openai"),
    )
}
"""The caller's operation and the vendor's dialect → the bridge between them."""
