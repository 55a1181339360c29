"""Pairs of dialects: one file a pair, and one entry in this table."""

from farebox.dialects.bridge import Bridge
from farebox.dialects.bridges.anthropic_to_chat import BRIDGE as ANTHROPIC_TO_CHAT
from farebox.dialects.bridges.chat_to_anthropic import BRIDGE as CHAT_TO_ANTHROPIC
from farebox.dialects.bridges.chat_to_gemini import BRIDGE as CHAT_TO_GEMINI
from farebox.dialects.bridges.embed_content_to_embeddings import BATCH_BRIDGE as BATCH_EMBED_CONTENTS_TO_EMBEDDINGS
from farebox.dialects.bridges.embed_content_to_embeddings import BRIDGE as EMBED_CONTENT_TO_EMBEDDINGS
from farebox.dialects.bridges.gemini_to_chat import BRIDGE as GEMINI_TO_CHAT
from farebox.dialects.bridges.over_chat import over_chat

BRIDGES: dict[tuple[str, str], Bridge] = {
    (bridge.caller, vendor_dialect): bridge
    for bridge, vendor_dialect in (
        (CHAT_TO_ANTHROPIC, "anthropic"),
        (CHAT_TO_GEMINI, "gemini"),
        (ANTHROPIC_TO_CHAT, "openai"),
        (GEMINI_TO_CHAT, "openai"),
        (over_chat(GEMINI_TO_CHAT, CHAT_TO_ANTHROPIC), "anthropic"),
        (EMBED_CONTENT_TO_EMBEDDINGS, "openai"),
        (BATCH_EMBED_CONTENTS_TO_EMBEDDINGS, "openai"),
    )
}
"""The caller's operation and the vendor's dialect → the bridge between them."""
