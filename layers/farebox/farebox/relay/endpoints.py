"""The doors of the relay as a table: path, name in receipts, the kinds of model it serves, how its body is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from farebox.dialects import openai_chat, openai_completions, openai_embeddings
from farebox.dialects.ask import Ask, Fields


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`upstream_path` follows a channel's base_url."""

    path: str
    name: str
    kind: str
    upstream_path: str
    read: Callable[[Fields], Ask]


ENDPOINTS: dict[str, Endpoint] = {
    endpoint.path: endpoint
    for endpoint in (
        Endpoint("/v1/chat/completions", "chat.completions", "chat", "/chat/completions", openai_chat.read),
        Endpoint("/v1/completions", "completions", "completion", "/completions", openai_completions.read),
        Endpoint("/v1/embeddings", "embeddings", "embedding", "/embeddings", openai_embeddings.read),
    )
}
