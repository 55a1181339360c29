"""Every operation of every dialect, by name."""

from __future__ import annotations

from farebox.dialects.anthropic.messages import MESSAGES
from farebox.dialects.gemini.embed_content import BATCH_EMBED_CONTENTS, EMBED_CONTENT
from farebox.dialects.gemini.generate_content import GENERATE_CONTENT
from farebox.dialects.openai.audio import SPEECH, TRANSCRIPTIONS, TRANSLATIONS
from farebox.dialects.openai.chat import CHAT
from farebox.dialects.openai.completions import COMPLETIONS
from farebox.dialects.openai.embeddings import EMBEDDINGS
from farebox.dialects.openai.images import EDITS, GENERATIONS, VARIATIONS
from farebox.dialects.openai.moderations import MODERATIONS
from farebox.dialects.openai.responses import RESPONSES
from farebox.dialects.wire import Wire

WIRES: dict[str, Wire] = {
    wire.name: wire
    for wire in (
        CHAT,
        COMPLETIONS,
        RESPONSES,
        EMBEDDINGS,
        MODERATIONS,
        GENERATIONS,
        EDITS,
        VARIATIONS,
        SPEECH,
        TRANSCRIPTIONS,
        TRANSLATIONS,
        MESSAGES,
        GENERATE_CONTENT,
        EMBED_CONTENT,
        BATCH_EMBED_CONTENTS,
    )
}
