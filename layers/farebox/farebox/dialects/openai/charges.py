"""Parameters that OpenAI's operations share and that cost money, or keep text at the vendor."""

from __future__ import annotations

import re
from typing import Any

from farebox.dialects.ask import Fields, refuse
from farebox.errors import InvalidRequest

ORDINARY_TIERS = frozenset({"auto", "default"})
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
