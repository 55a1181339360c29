"""Parameters that OpenAI's operations share and that cost money, or keep text at the vendor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from farebox.dialects.ask import Fields, refuse, unpriced
from farebox.errors import InvalidRequest

ORDINARY_TIERS = frozenset({"auto", "default"})
CACHE_TTLS = frozenset({"30m"})
"""How long a cache entry can live at the ordinary price of writing it."""
OTHERS_FEES: dict[str, tuple[Any, ...]] = {
    "search_parameters": (),  # xAI live search: a fee per source
    "deferred": (False,),  # xAI: made all the same, and fetched later, by nobody
    "plugins": (),  # OpenRouter
    "models": (),  # OpenRouter: other models, at their own prices
    "route": (),
    "provider": (),  # OpenRouter: other sellers, at their own prices
    "preset": (),  # OpenRouter: any of the above, kept under the operator's account
    "fallbacks": ([],),  # LiteLLM
    "data_sources": ([],),  # Azure: searches what the operator's identity may read, and sends its key where it is told
    "dataSources": ([],),
    "enhancements": (),  # Azure: other services of the operator's
    "enable_search": (False,),  # Alibaba
    "enable_code_interpreter": (False,),
    "force_search_enhancement": (False,),  # Tencent
    "web_search": (False,),  # Baidu
    "extra_body": ({},),  # whatever some gateways unfold
}
"""Parameters of those who speak as OpenAI does that cost money of their own, with the values that do not."""
_TIER = re.compile(r"[a-z][a-z0-9_]{0,31}")


def service_tier(body: Fields) -> tuple[str | None, dict[str, str]]:
    """(the tier asked for, None for the ordinary one; what it needs, as Ask.needs has it). Raises InvalidRequest."""
    tier = body.get("service_tier")
    if tier is None or tier == "":
        return None, {}
    if not isinstance(tier, str) or not _TIER.fullmatch(tier):
        raise refuse("service_tier", zh="必须是服务等级的名称", en="it must be the name of a service tier")
    if tier in ORDINARY_TIERS:
        return None, {}
    return tier, {"service_tier": f"service_tier/{tier}"}


def stored_elsewhere(param: str) -> InvalidRequest:
    """Refusal of what the vendor keeps under the operator's account, where it belongs to no caller in particular."""
    return refuse(
        param,
        zh="此处不使用上游保存的内容，请随请求一并发送",
        en="nothing is kept at the upstream here; send the content with the request",
    )


def refuse_storage(body: Fields, *names: str) -> None:
    """Refuses each of these members unless it is absent, null or false."""
    for name in names:
        value: Any = body.get(name)
        if value is not None and value is not False:
            raise stored_elsewhere(name)


def refuse_long_cache(holder: Fields, member: str, param: str) -> None:
    """Refuses a longer life in the cache than the price of a cache write covers, a write without an answer that could
    be billed, and the id of another answer.

    `member` of `holder` may be an object with `ttl`; `param` names it to the caller.
    """
    options = holder.get(member)
    if not isinstance(options, Mapping):
        return
    ttl = options.get("ttl")
    if ttl is not None and (not isinstance(ttl, str) or ttl not in CACHE_TTLS):
        raise unpriced(f"{param}.ttl")
    if options.get("prewarm") not in (None, False):
        raise unpriced(f"{param}.prewarm")
    if options.get("comparison_response_id") is not None:
        raise stored_elsewhere(f"{param}.comparison_response_id")
