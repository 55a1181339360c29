"""GET /v1/models and /v1/models/{id}: what there is, and what this key may use, in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from farebox.domain.accounts import KeyRecord
from farebox.domain.catalog import Catalog, Model
from farebox.domain.keys import ApiKey
from farebox.errors import ModelNotFound
from farebox.relay.channels import Channels
from farebox.relay.endpoints import ENDPOINTS
from farebox.service.authenticate import Authenticator

SERVED_KINDS = frozenset(endpoint.kind for endpoint in ENDPOINTS.values())


class ModelList:
    """The models that a key of each kind may use, as far as some channel serves them."""

    def __init__(self, catalog: Catalog, channels: Channels, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._usable = [
            model
            for model in catalog.models.values()
            if model.kind in SERVED_KINDS and channels.serve(model.id, model.vendor)
        ]

    async def all(self, key: ApiKey) -> dict[str, Any]:
        """Raises InvalidApiKey: clients ask for this list to see whether a key is good."""
        _, record = await self._authenticator.owner(key)
        return {"object": "list", "data": [_shape(model) for model in self._usable if _may_use(record, model)]}

    async def one(self, key: ApiKey, model_id: str) -> dict[str, Any]:
        """Raises InvalidApiKey, ModelNotFound."""
        _, record = await self._authenticator.owner(key)
        for model in self._usable:
            if model.id == model_id and _may_use(record, model):
                return _shape(model)
        raise ModelNotFound


def _may_use(key: KeyRecord, model: Model) -> bool:
    if key.models and model.id not in key.models:
        return False
    return key.kind == "paid" or model.free_group is not None


def _shape(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.prices[0].from_ms // 1000,
        "owned_by": model.vendor,
    }
