"""From bytes to a plan: model, price, ways, bounds. What needs no store to be refused is refused here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import orjson

from farebox.dialects import json_splice
from farebox.dialects.ask import Ask
from farebox.dialects.bridge import Terms
from farebox.dialects.form import replace_text
from farebox.dialects.wire import Incoming, Wire
from farebox.domain.catalog import Catalog, Model, Price
from farebox.domain.pricing import upper_bound_nano_ca
from farebox.errors import InvalidRequest, ModelNotAllowed, ModelNotFound, PromptTooLong
from farebox.ports import AudioMeter, Tokenizer
from farebox.relay import bounds, output_limits
from farebox.relay.channels import Channels
from farebox.relay.output_limits import limit_param
from farebox.relay.request import Request, read_body
from farebox.relay.ways import Way, ways

THREAD_BYTES_MIN = 64 * 1024
"""A longer body is counted in a thread: tiktoken lets the loop go on meanwhile."""
OUTPUT_TOKENS_MIN = 16
"""A wallet that affords fewer is short: an answer of a word or two helps nobody."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be sent, whither it may go, and what it can cost. Token figures are whole-request figures.

    `input_tokens` is our count of the text, `images_tokens` that of the images, `input_tokens_max` the bound above
    both, `output_tokens_max` the bound over all choices;
    `bounds` has every priced unit's. `ways`: in the order in which to try them. `terms`: for their bridges.
    """

    request: Request
    ask: Ask
    incoming: Incoming
    model: Model
    price: Price
    ways: tuple[Way, ...]
    terms: Terms
    input_tokens: int
    images_tokens: int
    input_tokens_max: int
    output_tokens_max: int
    sound_ms: int
    bounds: Mapping[str, int]
    hold_nano: int
    free: bool

    @property
    def wire(self) -> Wire:
        return self.request.wire

    def body_for(self, way: Way) -> bytes:
        """What this way's vendor is sent. Raises InvalidRequest where its dialect cannot express it."""
        return body_for(way, self)

    def affordable_output_tokens(self, available_nano: int) -> int | None:
        """The output limit per choice that `available_nano` covers, or None where it does not cover a useful one."""
        most = self.bounds.get("output_token", 0)
        if not most or not output_limits.can_be_set(self.ask, self.wire):
            return None
        without = {unit: count for unit, count in self.bounds.items() if unit not in OUTPUT_UNITS}
        fixed_nano = upper_bound_nano_ca(self.price, without, service_tier=self.ask.service_tier)
        # The bound is convex in the output, so its chord lies above it.
        tokens = (available_nano - fixed_nano) * most // max(1, self._bound_nano - fixed_nano) // self.ask.choices
        return min(tokens, most // self.ask.choices) if tokens >= OUTPUT_TOKENS_MIN else None

    def lowered_to(self, tokens: int) -> Plan:
        """The same plan with at most `tokens` of output per choice: in the body, in the bound, in the hold."""
        output_tokens_max = tokens * self.ask.choices
        lowered = {unit: output_tokens_max if unit in OUTPUT_UNITS else count for unit, count in self.bounds.items()}
        changes = output_limits.lowered(self.ask, self.wire, self.terms, self.incoming.fields, tokens)
        body = json_splice.splice(self.request.body, changes)
        incoming = replace(self.incoming, fields=orjson.loads(body), body=body)
        return replace(
            self,
            request=replace(self.request, body=body),
            incoming=incoming,
            output_tokens_max=output_tokens_max,
            bounds=lowered,
            hold_nano=0 if self.free else upper_bound_nano_ca(self.price, lowered, service_tier=self.ask.service_tier),
        )

    @property
    def _bound_nano(self) -> int:
        return upper_bound_nano_ca(self.price, self.bounds, service_tier=self.ask.service_tier)


OUTPUT_UNITS = ("output_token", "audio_output_token")


class Planner:
    """Makes plans from the catalog and the channels."""

    def __init__(
        self,
        catalog: Catalog,
        channels: Channels,
        tokenizer: Tokenizer,
        audio_meter: AudioMeter,
        free_input_tokens_max: int,
    ) -> None:
        self._catalog = catalog
        self._channels = channels
        self._tokenizer = tokenizer
        self._audio_meter = audio_meter
        self._free_input_tokens_max = free_input_tokens_max

    async def plan(self, request: Request, *, free: bool, now_ms: int, unique_id: str) -> Plan:
        """Raises InvalidRequest, ModelNotFound, ModelNotAllowed, PromptTooLong."""
        incoming = read_body(request)
        ask = replace(request.wire.read(incoming), json_array=request.json_array)
        model = self.model(ask.model, request.wire)
        if free and model.free_group is None:
            raise ModelNotAllowed
        found = self.ways(request.wire, model)
        if not found:
            raise ModelNotFound
        price = model.price_at(now_ms)
        bounds.check_priced(ask, price)
        images_tokens = bounds.image_tokens_of(ask, model)
        input_tokens = await self._count(ask, model, request.body)
        if input_tokens > model.context_tokens > 0:
            raise _too_long(model)
        if free and input_tokens + images_tokens > self._free_input_tokens_max:
            raise PromptTooLong(limit_tokens=self._free_input_tokens_max)
        output_tokens_max = bounds.output_tokens_max(ask, model)
        sound_ms = await self._sound_ms(ask, request.body)
        text_tokens_max = bounds.with_margin(input_tokens, model.input_margin_percent)
        most = bounds.bounds_of(
            ask,
            model,
            price,
            text_tokens=text_tokens_max,
            images_tokens=images_tokens,
            output_tokens=output_tokens_max,
            sound_ms=sound_ms,
        )
        plan = Plan(
            request=request,
            ask=ask,
            incoming=incoming,
            model=model,
            price=price,
            ways=found,
            terms=_terms(ask, model, found[0], now_ms, unique_id),
            input_tokens=input_tokens,
            images_tokens=images_tokens,
            input_tokens_max=text_tokens_max + images_tokens + ask.bounds.get("input_token", 0),
            output_tokens_max=output_tokens_max,
            sound_ms=sound_ms,
            bounds=most,
            hold_nano=0 if free else upper_bound_nano_ca(price, most, service_tier=ask.service_tier),
            free=free,
        )
        return replace(plan, ways=_able(plan))

    def ways(self, wire: Wire, model: Model) -> tuple[Way, ...]:
        """The ways to serve this operation of this model, in the order in which to try them."""
        return ways(wire, self._channels.candidates(model.id, model.vendor))

    def counter(self, model: Model) -> Callable[[str], int]:
        """Text → tokens in the model's encoding."""
        return lambda text: self._tokenizer.count(model.tokenizer, text)

    def heard_ms(self, data: bytes, filename: str, content_type: str) -> int | None:
        """How long a piece of audio plays; None where that cannot be told."""
        return self._audio_meter.duration_ms(data, filename, content_type)

    def model(self, name: str, wire: Wire) -> Model:
        """The model of this name. Raises ModelNotFound, also where the operation is for other kinds of models."""
        model = self._catalog.get(name)
        if model is None or model.kind not in wire.kinds:
            raise ModelNotFound
        return model

    async def _count(self, ask: Ask, model: Model, body: bytes) -> int:
        if len(body) < THREAD_BYTES_MIN:
            return ask.count_input(self.counter(model))
        return await asyncio.to_thread(ask.count_input, self.counter(model))

    async def _sound_ms(self, ask: Ask, body: bytes) -> int:
        """The length of the file that is to be heard; 0 where there is none. Raises InvalidRequest."""
        if ask.sound is None:
            return 0
        sound = ask.sound
        data = memoryview(body)[sound.start : sound.end]
        found = await asyncio.to_thread(self._audio_meter.duration_ms, data, sound.filename, sound.content_type)
        if not found:
            raise InvalidRequest(
                param=sound.field,
                zh="无法从该音频文件读出时长，因而无法计价。请转换为 mp3、m4a、wav、webm、ogg 或 flac。",
                en="The length of this audio cannot be told, so it has no price. Convert it to mp3, m4a, wav, webm, "
                "ogg or flac.",
            )
        return found


def body_for(way: Way, plan: Plan) -> bytes:
    """The caller's own bytes with the few members changed that must be, or the bridge's."""
    vendor, request = way.channel.vendor, plan.request
    upstream_model = way.channel.upstream_name(plan.model.id)
    if way.bridge is not None:
        terms = replace(
            plan.terms,
            upstream_model=upstream_model,
            limit_param=limit_param(way, plan.model),
            reasoning=plan.model.reasoning and vendor.reasoning_effort,
        )
        return way.bridge.request(plan.incoming.fields, terms)
    renamed = upstream_model != plan.ask.model and request.model is None
    if (form := plan.incoming.form) is not None:
        return replace_text(request.body, form, "model", upstream_model.encode()) if renamed else request.body
    changes = {name: value for name, value in plan.ask.changes.items() if vendor.stream_options or name != OPTIONS}
    if not vendor.other_limits and plan.wire.name == "chat.completions":
        changes |= output_limits.by_its_name(plan.incoming.fields, vendor.limit_param)
    if renamed:
        changes["model"] = orjson.dumps(upstream_model)
    return json_splice.splice(request.body, changes)


OPTIONS = "stream_options"


def _too_long(model: Model) -> InvalidRequest:
    """The vendor would refuse it, or charge a long context that has no price here."""
    return InvalidRequest(
        zh=f"输入超过该模型的上下文长度 {model.context_tokens} tokens。",
        en=f"The input exceeds the model's context of {model.context_tokens} tokens.",
    )


def _able(plan: Plan) -> tuple[Way, ...]:
    """The ways that can express the request. Raises the first one's InvalidRequest if none can."""
    refusals: list[InvalidRequest] = []
    able: list[Way] = []
    for way in plan.ways:
        try:
            if way.bridge is not None:
                body_for(way, plan)
            able.append(way)
        except InvalidRequest as refusal:
            refusals.append(refusal)
    if not able:
        raise refusals[0]
    return tuple(able)


def _terms(ask: Ask, model: Model, first: Way, now_ms: int, unique_id: str) -> Terms:
    return Terms(
        model=ask.model,
        upstream_model=model.id,
        stream=ask.stream,
        output_tokens_max=model.output_tokens_max,
        reasoning=model.reasoning and first.channel.vendor.reasoning_effort,
        limit_param=limit_param(first, model),
        id=unique_id,
        created_s=now_ms // 1000,
        include_usage=ask.stream and not ask.strip_usage,
    )
