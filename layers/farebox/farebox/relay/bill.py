"""What an ended request costs, and the receipt that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from farebox.dialects.openai.tap import OpenAITap
from farebox.dialects.openai.usage import read_usage
from farebox.domain.outcome import RULES, Ending
from farebox.domain.pricing import Line, lines_of, total_nano_ca
from farebox.domain.receipts import Receipt
from farebox.domain.usage import Usage, tokens
from farebox.relay.plan import Plan

PER_IMAGE = "image_when_streaming"


@dataclass(frozen=True, slots=True)
class Bill:
    """`cost_nano` never exceeds the hold; `overrun_nano` is what the house bears above it."""

    usage: Usage
    lines: tuple[Line, ...]
    cost_nano: int
    overrun_nano: int


def usage_of(plan: Plan, tap: OpenAITap) -> Usage:
    """The upstream's figures where it reports believable ones, else our own count of what went and came."""
    reported = read_usage(tap.usage, output_tokens_max=plan.output_tokens_max, text_seen=_text_seen(plan, tap))
    if reported is not None and reported.input_tokens > max(plan.model.context_tokens, plan.input_tokens_max):
        reported = None
    per_image = plan.ask.images if plan.ask.stream and PER_IMAGE in plan.price.rates else 0
    if reported is not None and not per_image:
        return reported
    counted = tokens(input_tokens=plan.input_tokens, output_tokens=tap.output_tokens(), source="counted")
    if not per_image:
        return counted
    # The seed's note 3: a streamed image has a price of its own, so its tokens are not charged as text as well.
    output = reported or counted
    return Usage(
        {"input_token": plan.input_tokens, "output_token": output.output_tokens, PER_IMAGE: per_image},
        {"input_token": "counted", "output_token": output.sources["output_token"], PER_IMAGE: "counted"},
    )


def bill(plan: Plan, usage: Usage, ending: Ending) -> Bill:
    """The arithmetic by the outcome table."""
    if not RULES[ending].billed:
        return Bill(Usage(), (), 0, 0)
    if plan.free:
        return Bill(usage, (), 0, 0)
    lines = lines_of(usage, plan.price.rates)
    total = total_nano_ca(lines)
    cost = min(total, plan.hold_nano)
    return Bill(usage, lines, cost, total - cost)


def receipt(
    plan: Plan, bill: Bill, ending: Ending, *, request_id: str, account: str, key_id: str, at_ms: int, took_ms: int
) -> Receipt:
    return Receipt(
        request_id=request_id,
        at_ms=at_ms,
        account=account,
        key_id=key_id,
        model=plan.model.id,
        channel=plan.channel.name,
        endpoint=plan.endpoint.name,
        stream=plan.ask.stream,
        usage=_figures(bill.usage),
        price_version=plan.price.version,
        lines=bill.lines,
        cost_nano=bill.cost_nano,
        hold_nano=plan.hold_nano,
        overrun_nano=bill.overrun_nano,
        outcome=RULES[ending].outcome,
        took_ms=took_ms,
    )


def _figures(usage: Usage) -> Mapping[str, Mapping[str, int | str]]:
    return {unit: {"count": count, "source": usage.sources[unit]} for unit, count in usage.counts.items()}


def _text_seen(plan: Plan, tap: OpenAITap) -> bool:
    return tap.content_seen and plan.endpoint.kind != "embedding"
