"""One exchange over sockets: what a scripted vendor plays, what a caller gets, what stands on the receipt."""

from __future__ import annotations

from typing import Any

import httpx

from farebox.domain.pricing import PRICED_AS
from tests.contract.recordings import TYPES, Recording
from tests.contract.routes import Asked
from tests.fakes.addresses import addresses
from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import Reset, Send, Sleep, Step, head

KEY_HEADERS = {"openai": "authorization", "anthropic": "x-api-key", "gemini": "x-goog-api-key"}
CANARY = "canary-5e1d"
CALLERS_OWN = {
    "user-agent": f"{CANARY}/1.0",
    "cookie": f"session={CANARY}",
    "openai-organization": CANARY,
    "openai-project": CANARY,
    "x-forwarded-proto": CANARY,
    "x-stainless-arch": CANARY,
    "x-goog-api-client": CANARY,
    "traceparent": CANARY,
    "x-request-id": CANARY,
}
"""Headers that tell who calls."""


def played(recording: Recording, *chunks: bytes, breaks: bool = False) -> list[Step]:
    """The recording as a vendor sends it, in these chunks or whole; its body ends with the connection, or breaks."""
    steps: list[Step] = [Send(head(200, TYPES[recording.suffix]))]
    for chunk in chunks or (recording.data,):
        steps.append(Send(chunk))
    return [*steps, Sleep(0.02), Reset()] if breaks else steps


def failed(data: bytes, status: int, **headers: str) -> list[Step]:
    """An error as a vendor tells it."""
    return [Send(head(status, content_length=str(len(data)), **headers) + data)]


def send(farebox: RunningFarebox, key: Funded, dialect: str, asked: Asked, **more: str) -> httpx.Response:
    """A caller's request, with the key where its dialect has it."""
    header = KEY_HEADERS[dialect]
    headers = {
        **CALLERS_OWN,
        header: f"Bearer {key.text}" if header == "authorization" else key.text,
        "content-type": asked.content_type,
        "x-forwarded-for": next(addresses),
        **more,
    }
    return http.post(farebox.url + asked.path, content=asked.body, headers=headers, timeout=30)


def receipt_of(farebox: RunningFarebox, key: Funded) -> dict[str, Any]:
    """The account's one receipt, which its wallet agrees with."""
    account = farebox.account(key.account)
    (receipt,) = farebox.receipts(key.account)
    assert (account.spent_nano, account.held_nano) == (receipt["cost_nano"], 0)
    return receipt


def usage_on(receipt: dict[str, Any]) -> dict[str, int]:
    """Unit → count, noughts left out."""
    return {unit: figure["count"] for unit, figure in receipt["usage"].items() if figure["count"]}


def cost_nano(farebox: RunningFarebox, model: str, usage: dict[str, int]) -> int:
    """By hand: each unit at its own price, or at that of what it is a part of."""
    found = farebox.services.catalog.get(model)
    assert found is not None
    rates, total = found.prices[-1].rates, 0
    for unit, count in usage.items():
        priced = unit
        while priced not in rates:
            priced = PRICED_AS[priced]
        total += count * rates[priced]
    return total
