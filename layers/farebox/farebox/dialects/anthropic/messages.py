"""Anthropic's messages, read: POST /v1/messages. https://docs.claude.com/en/api/messages"""

from __future__ import annotations

import re
from typing import Any

from farebox.dialects import sse
from farebox.dialects.anthropic import counting
from farebox.dialects.anthropic.blocks import Found, check_cache, check_content
from farebox.dialects.anthropic.tap import AnthropicTap
from farebox.dialects.anthropic.tools import check_tools, search_input_tokens
from farebox.dialects.ask import Ask, Count, Fields, flag, model_of, refuse, refuse_unpriced, unpriced, whole
from farebox.dialects.openai.charges import stored_elsewhere
from farebox.dialects.wire import Incoming, Wire

TOKENS_MAX = 10_000_000
MESSAGES_MAX = 100_000
ROLES = ("user", "assistant", "system")
ORDINARY_TIERS = (None, "auto", "standard_only")
"""`auto` is the default: it may be served from capacity that the operator has bought, at no price of its own."""
_TIER = re.compile(r"[a-z][a-z0-9_]{0,31}")

FREE_OF_CHARGE: dict[str, tuple[Any, ...]] = {
    "speed": ("standard",),
    "inference_geo": ("global",),  # other places cost a tenth more
    "mcp_servers": ([],),
    "container": (),
    "compaction": (),  # a further call, whose tokens stand beside the usage
    "fallbacks": ([],),  # another model, at its own price
    "fallback_credit_token": (),
    "billing_policy": (),
}
"""Parameters that cost money of their own, with the values that do not."""
OPERATORS_OWN = ("thread", "user_profile_id", "workspace_id")
"""Names of what the vendor keeps under the operator's account."""
FREE_EDITS = "clear_"
"""Edits of the context that only take away. Compaction is a call of its own."""


def read(incoming: Incoming) -> Ask:
    """Checks what matters for money and routing; everything else is the upstream's to judge. Raises InvalidRequest."""
    body = incoming.fields
    model = model_of(body)
    limit = whole(body, "max_tokens", low=1, high=TOKENS_MAX)
    if limit is None:
        raise refuse("max_tokens", zh="此项必填", en="it is required")
    found = Found()
    _check_messages(body.get("messages"), found)
    if body.get("system") is not None:
        check_content(body["system"], "system", found)
    check_cache(dict(body), "", found)
    searches = check_tools(body.get("tools"), found)
    refuse_unpriced(body, FREE_OF_CHARGE)
    _check_stored(body)
    _check_edits(body.get("context_management"))
    tier = _service_tier(body, found)

    def count_input(count: Count) -> int:
        return counting.count_messages(body, count)

    return Ask(
        model=model,
        stream=flag(body, "stream"),
        count_input=count_input,
        output_limits={"max_tokens": limit},
        images=tuple(found.images),
        bounds=_bounds(body, searches),
        needs=found.needs,
        service_tier=tier,
        # Who the caller's users are is none of the vendor's business.
        changes={"metadata": b"{}"} if body.get("metadata") is not None else {},
    )


def error_event(envelope: bytes) -> bytes:
    """An error in a stream as Anthropic's SDKs raise it."""
    return sse.event(envelope, "error")


def tap(count: Count, _: Ask) -> AnthropicTap:
    return AnthropicTap(count)


MESSAGES = Wire(
    name="messages",
    dialect="anthropic",
    kinds=frozenset({"chat"}),
    read=read,
    tap=tap,
    error_event=error_event,
    ping=b'event: ping\ndata: {"type": "ping"}\n\n',
    limit_param="max_tokens",
    marks=(b'"content_block_', b'"message_', b'"ping"'),
)


def _check_messages(messages: Any, found: Found) -> None:
    if not isinstance(messages, list) or not messages or len(messages) > MESSAGES_MAX:
        raise refuse("messages", zh="必须是非空数组", en="it must be a non-empty array")
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise refuse(where, zh="必须是带 role 的对象", en="it must be an object with a role")
        check_content(message.get("content"), f"{where}.content", found)


def _check_stored(body: Fields) -> None:
    for name in OPERATORS_OWN:
        if body.get(name) is not None:
            raise stored_elsewhere(name)


def _check_edits(management: Any) -> None:
    if management is None:
        return
    if not isinstance(management, dict):
        raise refuse("context_management", zh="必须是对象", en="it must be an object")
    edits = management.get("edits")
    if edits is None:
        return
    if not isinstance(edits, list):
        raise refuse("context_management.edits", zh="必须是数组", en="it must be an array")
    for index, edit in enumerate(edits):
        kind = edit.get("type") if isinstance(edit, dict) else None
        if not isinstance(kind, str) or not kind.startswith(FREE_EDITS):
            raise unpriced(f"context_management.edits[{index}].type")


def _service_tier(body: Fields, found: Found) -> str | None:
    tier = body.get("service_tier")
    if tier in ORDINARY_TIERS:
        return None
    if not isinstance(tier, str) or not _TIER.fullmatch(tier):
        raise refuse("service_tier", zh="必须是服务等级的名称", en="it must be the name of a service tier")
    found.needs["service_tier"] = f"service_tier/{tier}"
    return tier


def _bounds(body: Fields, searches: int) -> dict[str, int]:
    """Searches, and the input that they add to what is counted here (three bytes a token, for want of a tokenizer)."""
    if not searches:
        return {}
    prompt_tokens = counting.count_messages(body, lambda text: len(text.encode("utf-8", "replace")) // 3 + 1)
    return {"web_search": searches, "input_token": search_input_tokens(searches, prompt_tokens)}
