"""What an ended request costs, and the receipt that says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from farebox.dialects.wire import Tap
from farebox.domain.catalog import ANSWERED_AS
from farebox.domain.outcome import RULES, Ending
from farebox.domain.pricing import Line, lines_of, total_nano_ca
from farebox.domain.receipts import Receipt
from farebox.domain.usage import INPUT_TOKENS, Source, Usage
from farebox.relay.attempts import Attempt
from farebox.relay.bounds import PER_IMAGE, has_price, picture_unit
from farebox.relay.plan import Plan


class SoundTap(Protocol):
    """A tap that has kept what it heard."""

    def audio(self) -> tuple[bytes, str, str]:
        """The sound, a file name and a content type that fit it."""


HeardMs = Callable[[bytes, str, str], int | None]
"""Audio, its file name and its type → how long it plays."""


@dataclass(frozen=True, slots=True)
class Bill:
    """`cost_nano` never exceeds the hold; `overrun_nano` is what the house bears above it. `version`: of the price."""

    usage: Usage
    lines: tuple[Line, ...]
    cost_nano: int
    overrun_nano: int
    version: str


def usage_of(plan: Plan, tap: Tap, heard_ms: HeardMs) -> Usage:
    """What was used, in units that have a price: by tokens, or as the model's price wants it measured."""
    measured = MEASURES.get(plan.model.kind, _tokens)(plan, tap, heard_ms)
    priced = {unit: count for unit, count in measured.counts.items() if has_price(unit, plan.price.rates)}
    return Usage(priced, {unit: measured.sources[unit] for unit in priced})


def bill(plan: Plan, usage: Usage, ending: Ending, service_tier: str | None) -> Bill:
    """The arithmetic by the outcome table. `service_tier`: what the vendor says it served."""
    rated = plan.price.rates_for(input_tokens=usage.input_tokens, service_tier=_served(plan, service_tier))
    if not RULES[ending].billed:
        return Bill(Usage(), (), 0, 0, rated.version)
    if plan.free:
        return Bill(usage, (), 0, 0, rated.version)
    lines = lines_of(usage, rated.rates)
    total = total_nano_ca(lines)
    cost = min(total, plan.hold_nano)
    return Bill(usage, lines, cost, total - cost, rated.version)


def _served(plan: Plan, said: str | None) -> str | None:
    """The tier to charge: what the vendor says it served, if that was asked for. Nobody pays for an unasked one."""
    asked = plan.ask.service_tier
    if said is None or asked is None:
        return asked
    return said if said in (asked, ANSWERED_AS.get(asked)) else None


def cost_beforehand_nano(plan: Plan) -> int | None:
    """What any answer with content costs, where that is certain before it comes: speech by the character."""
    rates = plan.price.rates
    if plan.model.kind != "speech" or "character" not in rates or "audio_ms" in rates:
        return None
    return 0 if plan.free else plan.ask.bounds["character"] * rates["character"]


def receipt(
    plan: Plan,
    bill: Bill,
    ending: Ending,
    attempts: list[Attempt],
    *,
    request_id: str,
    account: str,
    key_id: str,
    at_ms: int,
    took_ms: int,
) -> Receipt:
    return Receipt(
        request_id=request_id,
        at_ms=at_ms,
        account=account,
        key_id=key_id,
        model=plan.model.id,
        channel=attempts[-1].channel if attempts else plan.ways[0].channel.name,
        endpoint=plan.wire.name,
        stream=plan.ask.stream,
        usage=_figures(bill.usage),
        price_version=bill.version,
        lines=bill.lines,
        cost_nano=bill.cost_nano,
        hold_nano=plan.hold_nano,
        overrun_nano=bill.overrun_nano,
        outcome=RULES[ending].outcome,
        took_ms=took_ms,
        attempts=tuple((each.channel, each.result, each.took_ms) for each in attempts),
    )


def _figures(usage: Usage) -> Mapping[str, Mapping[str, int | str]]:
    return {unit: {"count": count, "source": usage.sources[unit]} for unit, count in usage.counts.items()}


# ── How each kind of model is measured ──────────────────────────────────────────────────────────────────────────────


def _tokens(plan: Plan, tap: Tap, _: HeardMs) -> Usage:
    """The upstream's figures where it reports believable ones, else our own count of what went and came."""
    reported = tap.reported()
    if reported is not None and not _believable(reported, plan, tap):
        reported = None
    per_image = plan.bounds.get(PER_IMAGE, 0)
    if reported is not None and not per_image:
        return reported
    counted = reported or tap.counted()
    sent = None if per_image else tap.sent()
    if sent is None or sent.input_tokens > max(plan.model.context_tokens, plan.input_tokens_max):
        sent = _sent(plan, images_tokens=0 if per_image else plan.images_tokens)
    came = {unit: count for unit, count in counted.counts.items() if unit not in INPUT_TOKENS}
    usage = Usage({**sent.counts, **came}, {**sent.sources, **{unit: counted.sources[unit] for unit in came}})
    if not per_image:
        return usage
    # The seed's note 3: a streamed image has a price of its own, so its tokens are not charged as text as well.
    return Usage({**usage.counts, PER_IMAGE: per_image}, {**usage.sources, PER_IMAGE: "counted"})


def _sent(plan: Plan, *, images_tokens: int) -> Usage:
    """Our own count of what went. An image of unknown size (a link is never followed) is taken for the largest."""
    sized = all(image.width for image in plan.ask.images)
    unit = "image_input_token" if "image_input_token" in plan.price.rates else "input_token"
    counts = {"input_token": plan.input_tokens}
    counts[unit] = counts.get(unit, 0) + images_tokens
    sources: dict[str, Source] = dict.fromkeys(counts, "counted")
    if images_tokens and not sized:
        sources[unit] = "estimated"
    return Usage(counts, sources)


def _believable(reported: Usage, plan: Plan, tap: Tap) -> bool:
    """Whether figures can be those of this request: no more than was possible, no output of nought beside content."""
    if reported.input_tokens > max(plan.model.context_tokens, plan.input_tokens_max):
        return False
    if plan.model.kind == "embedding":
        return not reported.output_tokens
    if reported.output_tokens > max(plan.output_tokens_max, plan.bounds.get("image_output_token", 0)):
        return False
    return reported.output_tokens > 0 or not tap.content_seen


def _pictures(plan: Plan, tap: Tap, heard_ms: HeardMs) -> Usage:
    if plan.ask.pictures is None or not plan.price.images:
        return _tokens(plan, tap, heard_ms)
    unit = picture_unit(plan.ask.pictures, plan.price)
    made = min(tap.counted().of("image"), plan.ask.pictures.count)
    return Usage({unit: made}, {unit: "counted"})


def _speech(plan: Plan, tap: Tap, heard_ms: HeardMs) -> Usage:
    """By the character, or by the minute that came back and the tokens that went."""
    if not tap.content_seen:
        return Usage()
    if "audio_ms" not in plan.price.rates:
        return Usage({"character": plan.ask.bounds["character"]}, {"character": "counted"})
    audio, filename, content_type = cast(SoundTap, tap).audio()
    milliseconds = heard_ms(audio, filename, content_type)
    if milliseconds is None:
        # A cut or unknown file: what is certain is the size, and nobody speaks at less than 8 kbit/s.
        return Usage(
            {"input_token": plan.input_tokens, "audio_ms": min(len(audio), plan.bounds["audio_ms"])},
            {"input_token": "counted", "audio_ms": "estimated"},
        )
    return Usage(
        {"input_token": plan.input_tokens, "audio_ms": milliseconds}, {"input_token": "counted", "audio_ms": "counted"}
    )


def _sound(plan: Plan, tap: Tap, heard_ms: HeardMs) -> Usage:
    """By the length of what was heard, which is known beforehand, whatever the vendor reports."""
    if "audio_ms" not in plan.price.rates:
        return _tokens(plan, tap, heard_ms)
    return Usage({"audio_ms": plan.sound_ms}, {"audio_ms": "counted"}) if tap.content_seen else Usage()


def _request(_: Plan, tap: Tap, __: HeardMs) -> Usage:
    return Usage({"request": 1}, {"request": "counted"}) if tap.content_seen else Usage()


MEASURES: Mapping[str, Callable[[Plan, Tap, HeardMs], Usage]] = {
    "image": _pictures,
    "speech": _speech,
    "transcription": _sound,
    "moderation": _request,
}
"""Kind of model → how it is measured; every other kind by tokens."""
