"""From bytes to a plan: model, price, channel, bounds. What needs no store to be refused is refused here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson

from farebox.dialects import json_splice
from farebox.dialects.ask import Ask, refuse, unpriced
from farebox.domain.catalog import Catalog, Model, Price
from farebox.domain.pricing import price_of, upper_bound_nano_ca
from farebox.errors import InvalidRequest, ModelNotAllowed, ModelNotFound, PromptTooLong
from farebox.ports import Tokenizer
from farebox.relay.channels import Channel, Channels
from farebox.relay.endpoints import Endpoint

THREAD_BYTES_MIN = 64 * 1024
"""A longer body is counted in a thread: tiktoken lets the loop go on meanwhile."""
OUTPUT_TOKENS_MIN = 16
"""A wallet that affords fewer is short: an answer of a word or two helps nobody."""
INPUT_SLACK_TOKENS = 64
"""What a vendor may add to a prompt of its own accord (reply priming, hidden system text)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be sent where, and what it can cost. Token figures are whole-request figures.

    `input_tokens` is our count, `input_tokens_max` the bound above it, `output_tokens_max` the bound over all choices.
    """

    endpoint: Endpoint
    ask: Ask
    model: Model
    price: Price
    channel: Channel
    body: bytes
    input_tokens: int
    input_tokens_max: int
    output_tokens_max: int
    hold_nano: int
    free: bool

    def affordable_output_tokens(self, available_nano: int) -> int | None:
        """The output limit per choice that `available_nano` covers, or None where it does not cover a useful one."""
        rates = self.price.rates
        if not self.output_tokens_max:
            return None
        fixed_nano = self.hold_nano - self.output_tokens_max * price_of("output_token", rates)
        each_nano = self.ask.choices * price_of("output_token", rates)
        tokens = (available_nano - fixed_nano) // each_nano
        return tokens if tokens >= OUTPUT_TOKENS_MIN else None

    def lowered_to(self, tokens: int) -> Plan:
        """The same plan with at most `tokens` of output per choice: in the body, in the bound, in the hold."""
        output_tokens_max = tokens * self.ask.choices
        saved = (self.output_tokens_max - output_tokens_max) * price_of("output_token", self.price.rates)
        vendor = self.channel.vendor
        default = vendor.reasoning_limit_param if self.model.reasoning else "max_tokens"
        limits = {name: b"%d" % min(tokens, asked) for name, asked in self.ask.output_limits.items()}
        return replace(
            self,
            body=json_splice.splice(self.body, limits or {default: b"%d" % tokens}),
            output_tokens_max=output_tokens_max,
            hold_nano=self.hold_nano - saved,
        )


class Planner:
    """Makes plans from the catalog and the channels."""

    def __init__(self, catalog: Catalog, channels: Channels, tokenizer: Tokenizer, free_input_tokens_max: int) -> None:
        self._catalog = catalog
        self._channels = channels
        self._tokenizer = tokenizer
        self._free_input_tokens_max = free_input_tokens_max

    async def plan(self, endpoint: Endpoint, body: bytes, *, free: bool, now_ms: int) -> Plan:
        """Raises InvalidRequest, ModelNotFound, ModelNotAllowed, PromptTooLong."""
        ask = read(endpoint, body)
        model = self._model(ask.model, endpoint)
        if free and model.free_group is None:
            raise ModelNotAllowed
        channel = self._channels.pick(model.id, model.vendor)
        if channel is None:
            raise ModelNotFound
        if ask.images and model.image_tokens_max is None:
            raise unpriced("messages")
        output_tokens_max = _output_tokens_max(ask, model)
        input_tokens = await self._count(ask, model, body)
        images_tokens = ask.images * (model.image_tokens_max or 0)
        if free and input_tokens + images_tokens > self._free_input_tokens_max:
            raise PromptTooLong(limit_tokens=self._free_input_tokens_max)
        input_tokens_max = _with_margin(input_tokens, model.input_margin_percent) + images_tokens
        price = model.price_at(now_ms)
        hold_nano = upper_bound_nano_ca(
            input_tokens=input_tokens_max,
            output_tokens=output_tokens_max,
            images=ask.images,
            stream=ask.stream,
            rates=price.rates,
        )
        return Plan(
            endpoint=endpoint,
            ask=ask,
            model=model,
            price=price,
            channel=channel,
            body=_body_for(channel, ask, body),
            input_tokens=input_tokens,
            input_tokens_max=input_tokens_max,
            output_tokens_max=output_tokens_max,
            hold_nano=0 if free else hold_nano,
            free=free,
        )

    def counter(self, model: Model) -> Callable[[str], int]:
        """Text → tokens in the model's encoding."""
        return lambda text: self._tokenizer.count(model.tokenizer, text)

    def _model(self, name: str, endpoint: Endpoint) -> Model:
        model = self._catalog.get(name)
        if model is None or model.kind != endpoint.kind:
            raise ModelNotFound
        return model

    async def _count(self, ask: Ask, model: Model, body: bytes) -> int:
        if len(body) < THREAD_BYTES_MIN:
            return ask.count_input(self.counter(model))
        return await asyncio.to_thread(ask.count_input, self.counter(model))


def read(endpoint: Endpoint, body: bytes) -> Ask:
    """The body's JSON, checked. Raises InvalidRequest."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidRequest(zh="请求体不是有效的 JSON。", en="The body is not valid JSON.") from None
    if not isinstance(fields, dict):
        raise InvalidRequest(zh="请求体必须是 JSON 对象。", en="The body must be a JSON object.")
    if json_splice.has_duplicates(body, fields):
        raise InvalidRequest(zh="请求体含有重复的参数。", en="The body names a parameter twice.")
    return endpoint.read(fields)


def _output_tokens_max(ask: Ask, model: Model) -> int:
    """The bound over all choices; raises InvalidRequest for more than the model could ever give."""
    for name, asked in ask.output_limits.items():
        if asked > model.context_tokens:
            raise refuse(
                name,
                zh=f"超过该模型的上下文长度 {model.context_tokens}",
                en=f"it exceeds the model's context of {model.context_tokens} tokens",
            )
    return max(ask.output_limits.values(), default=model.output_tokens_max) * ask.choices


def _with_margin(input_tokens: int, margin_percent: int) -> int:
    return -(-input_tokens * (100 + margin_percent) // 100) + INPUT_SLACK_TOKENS


def _body_for(channel: Channel, ask: Ask, body: bytes) -> bytes:
    changes = dict(ask.changes) if channel.vendor.stream_options else {}
    renamed = channel.rename.get(ask.model)
    if renamed is not None:
        changes["model"] = orjson.dumps(renamed)
    return json_splice.splice(body, changes)
