"""The doors of the relay as a table: path, name in receipts, the kinds of model it serves, how its body is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from farebox.dialects.ask import Ask, Fields
from farebox.dialects.openai import chat, completions, embeddings


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
        Endpoint("/v1/chat/completions", "chat.completions", "chat", "/chat/completions", chat.read),
        Endpoint("/v1/completions", "completions", "completion", "/completions", completions.read),
        Endpoint("/v1/embeddings", "embeddings", "embedding", "/embeddings", embeddings.read),
    )
}
