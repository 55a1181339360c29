"""/status: which channels there are and whether one of them is only a demo. Health figures come with the probes."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from farebox.relay.channels import Channel

DEMO_ZH = "演示上游：未配置任何渠道，回答由内置演示程序生成，并非真实模型。"
DEMO_EN = "Demo upstream: no channel is configured, answers come from a built-in demo and from no model."


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """What the page may tell: names, never hosts or keys."""

    channels: tuple[Channel, ...]


def status_document(facts: StatusFacts) -> dict[str, Any]:
    return {
        "demo": any(channel.demo for channel in facts.channels),
        "channels": [
            {"name": channel.name, "vendor": channel.vendor.name, "demo": channel.demo} for channel in facts.channels
        ],
    }


def status_html(facts: StatusFacts) -> str:
    rows = "".join(
        f"<tr><td>{escape(channel.name)}</td><td>{escape(channel.vendor.name)}</td>"
        f"<td>{'演示 demo' if channel.demo else '正式 live'}</td></tr>"
        for channel in facts.channels
    )
    demo = any(channel.demo for channel in facts.channels)
    notice = f'<p class="demo">{DEMO_ZH}<br>{DEMO_EN}</p>' if demo else ""
    return _PAGE.format(notice=notice, rows=rows)


_PAGE = """<!doctype html>
<html lang="zh"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Farebox · 状态 Status</title>
<style>
:root{{color-scheme:light dark}}
body{{font:16px/1.6 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}}
table{{border-collapse:collapse;width:100%}}th,td{{text-align:left;padding:.5rem;border-bottom:1px solid #8886}}
.demo{{border-left:4px solid #d97706;padding:.5rem 1rem;background:#d9770622}}
</style></head><body>
<h1>Farebox · 状态 Status</h1>
{notice}
<table><thead><tr><th>渠道 Channel</th><th>厂商 Vendor</th><th>类型 Kind</th></tr></thead><tbody>{rows}</tbody></table>
</body></html>"""
