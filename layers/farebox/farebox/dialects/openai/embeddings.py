"""OpenAI embeddings, read: POST /v1/embeddings. Only input is billed."""

from __future__ import annotations

from farebox.dialects.ask import Ask, Count, Fields, model_of, refuse, refuse_unpriced, whole
from farebox.dialects.openai import counting
from farebox.dialects.openai.charges import OTHERS_FEES
from farebox.dialects.openai.completions import is_text_or_tokens
from farebox.dialects.openai.tap import OpenAITap
from farebox.dialects.wire import Incoming, Wire

DIMENSIONS_MAX = 65_536


def read(body: Fields) -> Ask:
    """Raises InvalidRequest."""
    model = model_of(body)
    given = body.get("input")
    if not (isinstance(given, str) and given) and not is_text_or_tokens(given):
        raise refuse(
            "input", zh="必须是非空字符串、字符串数组或 token 数组", en="it must be a string, strings, or tokens"
        )
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise refuse("encoding_format", zh="必须是 float 或 base64", en="it must be float or base64")
    whole(body, "dimensions", low=1, high=DIMENSIONS_MAX)
    refuse_unpriced(body, OTHERS_FEES)

    def count_input(count: Count) -> int:
        return counting.count_embedding_input(given, count)

    return Ask(model=model, stream=False, count_input=count_input)


def tap(count: Count, ask: Ask) -> OpenAITap:
    return OpenAITap(count, stream=ask.stream)


def _read(incoming: Incoming) -> Ask:
    return read(incoming.fields)


EMBEDDINGS = Wire("embeddings", "openai", frozenset({"embedding"}), read=_read, tap=tap)
