"""The list of models: what there is, and what this key may use, in the shape of the caller's dialect."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from farebox.dialects.wires import WIRES
from farebox.domain.accounts import KeyRecord
from farebox.domain.catalog import Catalog, Model
from farebox.domain.keys import ApiKey
from farebox.errors import ModelNotFound
from farebox.relay.channels import Channels
from farebox.service.authenticate import Authenticator

Shape = Callable[[Model], dict[str, Any]]
SERVED_KINDS = frozenset(kind for wire in WIRES.values() for kind in wire.kinds)
GEMINI_METHODS = {
    "chat": ["generateContent", "streamGenerateContent", "countTokens"],
    "embedding": ["embedContent", "batchEmbedContents"],
}


class ModelList:
    """The models that a key of each kind may use, as far as some channel serves them."""

    def __init__(self, catalog: Catalog, channels: Channels, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._usable = [
            model
            for model in catalog.models.values()
            if model.kind in SERVED_KINDS and channels.serve(model.id, model.vendor)
        ]

    async def all(self, key: ApiKey, address: str, dialect: str = "openai") -> dict[str, Any]:
        """Raises InvalidApiKey, AddressNotAllowed: clients ask for this list to see whether a key is good."""
        _, record = await self._authenticator.owner(key, address)
        return LISTS[dialect]([model for model in self._usable if _may_use(record, model)])

    async def one(self, key: ApiKey, address: str, model_id: str, dialect: str = "openai") -> dict[str, Any]:
        """Raises InvalidApiKey, AddressNotAllowed, ModelNotFound."""
        _, record = await self._authenticator.owner(key, address)
        for model in self._usable:
            if model.id == model_id and _may_use(record, model):
                return SHAPES[dialect](model)
        raise ModelNotFound


def _may_use(key: KeyRecord, model: Model) -> bool:
    if key.models and model.id not in key.models:
        return False
    return key.kind == "paid" or model.free_group is not None


def _openai(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.prices[0].from_ms // 1000,
        "owned_by": model.vendor,
    }


def _anthropic(model: Model) -> dict[str, Any]:
    created = datetime.fromtimestamp(model.prices[0].from_ms // 1000, UTC)
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _gemini(model: Model) -> dict[str, Any]:
    return {
        "name": f"models/{model.id}",
        "displayName": model.id,
        "inputTokenLimit": model.context_tokens,
        "outputTokenLimit": model.output_tokens_max,
        "supportedGenerationMethods": GEMINI_METHODS[model.kind],
    }


def _openai_list(models: list[Model]) -> dict[str, Any]:
    return {"object": "list", "data": [_openai(model) for model in models]}


def _anthropic_list(models: list[Model]) -> dict[str, Any]:
    """Those that /v1/messages serves, all on one page."""
    data = [_anthropic(model) for model in models if model.kind == "chat"]
    ends = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"data": data, "has_more": False, "first_id": ends[0], "last_id": ends[1]}


def _gemini_list(models: list[Model]) -> dict[str, Any]:
    """Those that Gemini's methods serve, all on one page."""
    return {"models": [_gemini(model) for model in models if model.kind in GEMINI_METHODS]}


SHAPES: dict[str, Shape] = {"openai": _openai, "anthropic": _anthropic, "gemini": _gemini}
LISTS: dict[str, Callable[[list[Model]], dict[str, Any]]] = {
    "openai": _openai_list,
    "anthropic": _anthropic_list,
    "gemini": _gemini_list,
}
