"""What a request can cost at most, without sending it: POST /v1/estimate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from farebox.dialects.wire import Wire
from farebox.dialects.wires import WIRES
from farebox.domain import money
from farebox.domain.accounts import Account
from farebox.domain.catalog import Catalog
from farebox.errors import InvalidRequest
from farebox.ports import Store
from farebox.relay.call import Call
from farebox.relay.gate import Gate
from farebox.relay.request import FORM, Request, read_body

BY_MEMBER: dict[str, tuple[str, ...]] = {
    "messages": ("chat.completions",),
    "contents": ("generateContent",),
    "content": ("embedContent",),
    "requests": ("batchEmbedContents",),
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
        name = endpoint or self._operation(call.request)
        if name not in WIRES:
            raise InvalidRequest(
                param="endpoint",
                zh=f"endpoint 必须是以下之一：{', '.join(WIRES)}。",
                en=f"endpoint must be one of {', '.join(WIRES)}.",
            )
        wired = replace(call, request=_fitting(call.request, WIRES[name]))
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
        body = read_body(request).fields
        model = self.catalog.get(str(body.get("model")))
        for member, names in BY_MEMBER.items():
            if member in body:
                fitting = [name for name in names if model is not None and model.kind in WIRES[name].kinds]
                return (fitting or list(names))[0]
        return "audio.transcriptions" if request.content_type.startswith(FORM) else "chat.completions"


def _fitting(request: Request, wire: Wire) -> Request:
    """The same body, for this operation. Gemini's model and method stand in the path, here in the body."""
    if wire.dialect != "gemini":
        return replace(request, wire=wire)
    body = read_body(request).fields
    return replace(request, wire=wire, model=str(body.get("model", "")).removeprefix("models/"), stream=False)
