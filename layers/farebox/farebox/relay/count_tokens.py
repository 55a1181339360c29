"""Anthropic's count_tokens and Gemini's countTokens: free, held for nothing, billed to nobody.

The vendor counts where it speaks the caller's dialect; elsewhere, and where it does not answer, our own count stands
in, which is an estimate for models whose tokenizer is not public.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson

from farebox.dialects import json_splice
from farebox.dialects.anthropic.messages import MESSAGES
from farebox.dialects.ask import Ask, Fields
from farebox.dialects.gemini.generate_content import GENERATE_CONTENT
from farebox.dialects.wire import Incoming, Wire
from farebox.errors import ModelNotAllowed, ModelNotFound
from farebox.ports import Upstream
from farebox.relay import bounds
from farebox.relay.plan import Planner
from farebox.relay.request import Request, read_json
from farebox.relay.upstream_errors import UpstreamFailure
from farebox.relay.ways import Way

ANSWER_BYTES_MAX = 64 * 1024
VENDOR_S = 10
"""Longer than this nobody waits for a count that we can make ourselves."""


@dataclass(frozen=True, slots=True)
class Counting:
    """`operation`: as a vendor's door lists it. `whole`: the request whose tokens are asked for, complete enough to be
    read by `wire`. `answer_member`: where the number stands in the answer.
    """

    operation: str
    wire: Wire
    whole: Callable[[Fields], Fields]
    answer_member: str


COUNTINGS: dict[str, Counting] = {
    counting.operation: counting
    for counting in (
        Counting("messages.count_tokens", MESSAGES, lambda body: {"max_tokens": 1, **body}, "input_tokens"),
        Counting(
            "countTokens",
            GENERATE_CONTENT,
            lambda body: body.get("generateContentRequest") or body.get("generate_content_request") or body,
            "totalTokens",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """Counts what a request would send."""

    planner: Planner
    upstream: Upstream

    async def count(self, counting: Counting, request: Request, *, free: bool, allowed: tuple[str, ...]) -> bytes:
        """The answer's JSON. `allowed`: the key's own list of models, empty for all.

        Raises InvalidRequest, ModelNotFound, ModelNotAllowed.
        """
        fields = read_json(request.body)
        whole = counting.whole(fields)
        incoming = Incoming(whole if isinstance(whole, dict) else {}, request.body, model=request.model, stream=False)
        ask = counting.wire.read(incoming)
        model = self.planner.model(ask.model, counting.wire)
        if (free and model.free_group is None) or (allowed and model.id not in allowed):
            raise ModelNotAllowed
        found = self.planner.ways(counting.wire, model)
        if not found:
            raise ModelNotFound
        first = found[0]
        if first.bridge is None and counting.operation in first.door.paths:
            answer = await self._ask(replace(first, wire=_named(counting)), request, ask, model.id)
            if answer is not None and _is_count(answer, counting.answer_member):
                return answer
        counted = await asyncio.to_thread(ask.count_input, self.planner.counter(model))
        return orjson.dumps({counting.answer_member: counted + bounds.image_tokens_of(ask, model)})

    async def _ask(self, way: Way, request: Request, ask: Ask, model_id: str) -> bytes | None:
        """The vendor's answer, or None where it gives none."""
        headers = way.headers(0, request.read_as, request.passed, stream=False)
        changes = dict(ask.changes)
        if request.model is None and way.channel.upstream_name(model_id) != ask.model:
            changes["model"] = orjson.dumps(way.channel.upstream_name(model_id))
        body = json_splice.splice(request.body, changes)
        try:
            async with asyncio.timeout(VENDOR_S):
                async with self.upstream.post(way.url(model_id, stream=False), headers, body) as answer:
                    return await answer.body(ANSWER_BYTES_MAX) if answer.status == 200 else None
        except (UpstreamFailure, TimeoutError):
            return None


def _named(counting: Counting) -> Wire:
    """The wire under the name by which a door lists the counting of it."""
    return replace(counting.wire, name=counting.operation)


def _is_count(answer: bytes, member: str) -> bool:
    try:
        document = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return False
    return isinstance(document, dict) and type(document.get(member)) is int
