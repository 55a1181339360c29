"""What a newcomer gets on the first run: a free key, a paid key, and a line to paste."""

from __future__ import annotations

from dataclasses import dataclass

from farebox.bootstrap import Services, issuer
from farebox.domain import keys
from farebox.domain.money import NANO_PER_CA, format_ca
from farebox.errors import NotFound
from farebox.local.data_dir import DataDir
from farebox.service.issue_key import KeyWish

FILE = "first-run.json"
PAID_CREDIT_NANO = 10 * NANO_PER_CA


@dataclass(frozen=True, slots=True)
class DemoKeys:
    free: str
    paid: str


async def demo_keys(services: Services, data: DataDir) -> DemoKeys:
    """The keys of the first run. They are made once, and again if the store no longer knows them."""
    kept = data.read(FILE)
    if kept is not None and await _known(services, kept["free"]) and await _known(services, kept["paid"]):
        return DemoKeys(**kept)
    made = DemoKeys(free=await _make(services, "free", 0), paid=await _make(services, "paid", PAID_CREDIT_NANO))
    data.write(FILE, {"free": made.free, "paid": made.paid})
    return made


def banner(url: str, services: Services, made: DemoKeys | None) -> str:
    """What `farebox serve` prints when it answers."""
    lines = [
        f"farebox ready on {url}",
        f"  base_url      {url}/v1",
        f"  Anthropic     ANTHROPIC_BASE_URL={url}",
        f"  Gemini        GOOGLE_GEMINI_BASE_URL={url}",
    ]
    if any(channel.demo for channel in services.channels.all):
        lines.append("  upstream      演示 DEMO: 未配置渠道，由内置演示程序回答，并非真实模型")
        lines.append("                no channel is configured, a built-in demo answers (no real model)")
    if made is not None:
        body = '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"你好"}]}'
        curl = (
            f"curl {url}/v1/chat/completions -H 'Authorization: Bearer {made.paid}' -H 'Content-Type: application/json'"
        )
        lines += [
            f"  free key      {made.free}",
            f"  paid key      {made.paid}   ({format_ca(PAID_CREDIT_NANO)} CA)",
            f"  admin token   {services.settings.admin_token}",
            "",
            f"{curl} -d '{body}'",
            "",
        ]
    return "\n".join(lines) + "\n"


async def _make(services: Services, kind: str, credit_nano: int) -> str:
    return (await issuer(services).issue(KeyWish(kind=kind, credit_nano=credit_nano, name="first run"))).text


async def _known(services: Services, text: str) -> bool:
    key = keys.parse(text)
    if key is None:
        return False
    try:
        await services.accounts.key(key.account, key.number)
    except NotFound:
        return False
    return True
