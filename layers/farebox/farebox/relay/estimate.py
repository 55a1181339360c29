"""What a request can cost at most, without sending it: POST /v1/estimate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from farebox.dialects.wire import Incoming, Wire
from farebox.dialects.wires import WIRES
from farebox.domain import money
from farebox.domain.accounts import Account
from farebox.domain.catalog import Catalog
from farebox.errors import InvalidRequest
from farebox.ports import Store
from farebox.relay.call import Call
from farebox.relay.endpoints import METHODS
from farebox.relay.gate import Gate
from farebox.relay.request import Request, read_body

BY_MEMBER: dict[str, tuple[str, ...]] = {
    "messages": ("chat.completions",),
    "contents": ("generateContent",),
    "content": ("embedContent",),
    "requests": ("batchEmbedContents",),
    "images": ("images.edits",),
    "image": ("images.edits",),
    "prompt": ("completions", "images.generations"),
    "input": ("responses", "embeddings", "audio.speech", "moderations"),
}
"""A member that only some operations have → those operations; the model's kind decides between them."""


@dataclass(frozen=True, slots=True)
class Estimator:
    """Plans a request as the relay would, and says what the plan holds."""

    catalog: Catalog
    store: Store
    gate: Gate

    async def estimate(self, call: Call, endpoint: str | None, account: Account) -> dict[str, Any]:
        """The answer's members. `endpoint`: an operation's name, or None to tell by the body.

        Raises InvalidRequest, ModelNotFound, ModelNotAllowed, PromptTooLong.
        """
        name, stream = METHODS.get(endpoint or "", (endpoint or self._operation(call.request), None))
        if name not in WIRES:
            raise InvalidRequest(
                param="endpoint",
                zh=f"endpoint 必须是以下之一：{', '.join(WIRES)}。",
                en=f"endpoint must be one of {', '.join(WIRES)}.",
            )
        wired = replace(call, request=_fitting(call.request, WIRES[name], stream=stream))
        plan, units = await self.gate.planned(wired)
        counts = await self.store.counts(units) if units else []
        left = [
            limit.limit - count.get(limit.field, 0)
            for unit, count in zip(units, counts, strict=True)
            for limit in unit.limits
        ]
        return {
            "model": plan.model.id,
            "endpoint": plan.wire.name,
            "input_tokens": plan.input_tokens + plan.images_tokens,
            "at_most": dict(plan.bounds),
            "price_version": plan.price.version,
            "max_cost": money.format_ca(plan.hold_nano),
            "max_cost_nano": plan.hold_nano,
            "available": money.format_ca(account.avail_nano),
            "requests_left": max(0, min(left)) if left else None,
            "can_pay": min(left) > 0 if left else account.avail_nano >= plan.hold_nano,
        }

    def _operation(self, request: Request) -> str:
        """The operation that such a body is for."""
        incoming = read_body(request)
        if incoming.form is not None:
            return _of_form(incoming)
        model = self.catalog.get(str(incoming.fields.get("model")))
        for member, names in BY_MEMBER.items():
            if member in incoming.fields:
                fitting = [name for name in names if model is not None and model.kind in WIRES[name].kinds]
                return (fitting or list(names))[0]
        return "chat.completions"


def _of_form(incoming: Incoming) -> str:
    """The operation that such a form is for. A translation's is a transcription's, and costs the same."""
    if not any(file.field in ("image", "image[]") for file in incoming.files):
        return "audio.transcriptions"
    return "images.edits" if "prompt" in incoming.fields else "images.variations"


def _fitting(request: Request, wire: Wire, *, stream: bool | None) -> Request:
    """The same body, for this operation. Gemini's model and method stand in the path, here in the body."""
    if wire.dialect != "gemini":
        return replace(request, wire=wire)
    body = read_body(request).fields
    return replace(request, wire=wire, model=str(body.get("model", "")).removeprefix("models/"), stream=stream or False)
