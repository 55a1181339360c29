"""Sends a planned request upstream and brings the answer back, as it comes; says how it ended."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import orjson

from farebox.dialects import json_splice, sse
from farebox.dialects.openai.tap import OpenAITap
from farebox.errors import (
    FareboxError,
    InvalidRequest,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from farebox.ports import Answer, Caller, Upstream
from farebox.relay.channels import Channel
from farebox.relay.conclusion import Drawn
from farebox.relay.plan import Plan
from farebox.relay.running import Running
from farebox.relay.upstream_errors import Cut, Stalled, TooLarge, Unreachable, UpstreamFailure

PLAIN_BYTES_MAX = 64 * 1024 * 1024
STREAM_BYTES_MAX = 200 * 1024 * 1024
"""A longer stream is cut. Lambda streams no more either."""
ERROR_BYTES_MAX = 64 * 1024
LINGER_S = 0.05
"""How long to wait for a clean end after [DONE], so that the connection can be used again."""
RETRY_AFTER_S_MAX = 60
PARAM_CHARS_MAX = 64
_PARAM = re.compile(r"([A-Za-z0-9_]+)[A-Za-z0-9_.\[\]]*")
_SECONDS = re.compile(r"[0-9]{1,9}")
_USAGE_NULL = b',"usage":null'

FAILURES: dict[type[UpstreamFailure], type[Unavailable]] = {
    Unreachable: UpstreamUnavailable,
    Stalled: UpstreamTimeout,
    Cut: UpstreamError,
    TooLarge: UpstreamError,
}
STATUSES: dict[int, type[Unavailable]] = {
    408: UpstreamTimeout,
    429: UpstreamUnavailable,
    503: UpstreamUnavailable,
    504: UpstreamTimeout,
    529: UpstreamUnavailable,
}
"""Every other status that is not the caller's fault is an UpstreamError."""
CALLERS_FAULT = frozenset({400, 413, 422})


@dataclass(slots=True)
class Relayed:
    """What came of it. `failure` is for the caller, who has had a status if `started`, and had left if `gone`.

    `late`: our own time was up. `delivered`: the end of the stream has been sent. `running`: where it can be cancelled.
    `sealed`: the conclusion, once it is on record.
    """

    tap: OpenAITap
    finished: bool = False
    refused: bool = False
    started: bool = False
    gone: bool = False
    late: bool = False
    delivered: bool = False
    running: Running | None = None
    sealed: Drawn | None = None
    failure: FareboxError | None = None
    body: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def cancelled(self) -> bool:
        """Its owner stopped it before its end was sent."""
        return self.running is not None and self.running.cancelled and not self.delivered


Seal = Callable[[], Awaitable[None]]
Headers = Callable[[Mapping[str, str]], Awaitable[list[tuple[bytes, bytes]]]]


async def forward(
    plan: Plan, key: str, *, relayed: Relayed, upstream: Upstream, caller: Caller, headers: Headers, seal: Seal
) -> Relayed:
    """Fills `relayed` as the answer comes. Never raises for what an upstream does: failures stand in the result.

    `headers` makes the caller's headers from the upstream's. `seal` puts the conclusion on record before a stream's end
    is sent. A plain answer is returned whole and not sent yet.
    """
    tap = relayed.tap
    url = plan.channel.base_url + plan.endpoint.upstream_path
    try:
        async with upstream.post(url, _request_headers(plan.channel, key, stream=plan.ask.stream), plan.body) as answer:
            if answer.status != 200:
                await _refused(answer, plan.body, relayed)
            elif plan.ask.stream:
                await _Passage(answer, plan, relayed, caller, headers, seal).run()
            else:
                await _plain(answer, relayed, headers)
    except UpstreamFailure as failure:
        if not _at_its_end(plan, tap):
            relayed.failure = FAILURES[type(failure)]()
    relayed.finished = relayed.failure is None and _at_its_end(plan, tap)
    if not relayed.finished and relayed.failure is None:
        relayed.failure = UpstreamError()
    return relayed


def _at_its_end(plan: Plan, tap: OpenAITap) -> bool:
    """Whether the answer is whole: of a stream that ends without [DONE], each of its choices must have ended."""
    if not plan.ask.stream or tap.done:
        return tap.finished
    return tap.finished and tap.choices_finished >= plan.ask.choices


@dataclass(frozen=True, slots=True)
class _Passage:
    """One stream on its way through."""

    answer: Answer
    plan: Plan
    relayed: Relayed
    caller: Caller
    headers: Headers
    seal: Seal

    async def run(self) -> None:
        if not self.answer.headers.get("content-type", "").startswith("text/event-stream"):
            raise Cut  # a success without a stream is no answer to a request for one
        framer = sse.Framer()
        chunks = self.answer.chunks()
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > STREAM_BYTES_MAX:
                raise TooLarge
            try:
                frames = framer.feed(chunk)
            except sse.FrameTooLarge:
                raise TooLarge from None
            await self._pass_on(frames)
            if self.relayed.tap.heavy:
                await asyncio.to_thread(self.relayed.tap.count_waiting)  # other streams go on meanwhile
            if self.relayed.failure is not None:
                return
            if self.relayed.tap.done:
                await _linger(chunks)
                return
        rest = framer.flush().rstrip(b"\r\n")
        if rest:  # the last event lacks its blank line, without which a client would lose it
            await self._pass_on([rest + b"\n\n"])

    async def _pass_on(self, frames: list[bytes]) -> None:
        """Shows each frame to the tap and sends on what the caller should see, in one write per chunk."""
        seen = self._seen_by_caller(frames)
        if not seen or self.relayed.cancelled:
            return  # a cancelled stream that is still heard out is heard out for its usage alone
        if not self.relayed.started:
            await self.caller.start(200, await self.headers(self.answer.headers))
            self.relayed.started = True
        if self.relayed.tap.done and self.relayed.failure is None:
            # Asked before the end is sent: whoever leaves after it has left with a complete answer.
            self.relayed.gone = await self.caller.is_gone()
            self.relayed.finished = self.relayed.delivered = True
            await self.seal()
        await self.caller.send(b"".join(seen))

    def _seen_by_caller(self, frames: list[bytes]) -> list[bytes]:
        tap, strip = self.relayed.tap, self.plan.ask.strip_usage
        seen: list[bytes] = []
        for frame in frames:
            data = sse.data_of(frame)
            if not data:
                if frame.startswith(b":"):
                    seen.append(frame)  # a comment keeps connections alive; an event without data breaks SDKs
                continue
            only_usage = tap.see(data)
            if tap.error_seen:
                self.relayed.failure = UpstreamError()
                break
            if not (strip and only_usage):
                seen.append(frame.replace(_USAGE_NULL, b"") if strip else frame)
            if tap.done:
                break
        return seen


async def _linger(chunks: AsyncIterator[bytes]) -> None:
    with suppress(TimeoutError, StopAsyncIteration, UpstreamFailure):
        await asyncio.wait_for(anext(chunks), LINGER_S)


async def _plain(answer: Answer, relayed: Relayed, headers: Headers) -> None:
    relayed.body = (await answer.body(PLAIN_BYTES_MAX)).lstrip(b"\r\n \t")  # DeepSeek queues with empty lines
    relayed.headers = await headers(answer.headers)
    relayed.tap.see(relayed.body)
    if relayed.tap.error_seen or not relayed.tap.finished:
        relayed.failure = UpstreamError()


async def _refused(answer: Answer, sent: bytes, relayed: Relayed) -> None:
    """An answer with an error status. Of its text only the name of a parameter survives, if the request has it."""
    if answer.status in CALLERS_FAULT:
        param = _param_of(await answer.body(ERROR_BYTES_MAX), sent)
        relayed.refused = True
        relayed.failure = InvalidRequest(
            param=param,
            zh=f"上游拒绝了该请求{f'（参数 {param}）' if param else ''}，本次请求未计费。",
            en=f"The upstream refused this request{f' (parameter {param})' if param else ''}. It costs nothing.",
        )
        return
    retry_after = answer.headers.get("retry-after", "")
    retry_after_s = min(int(retry_after), RETRY_AFTER_S_MAX) if _SECONDS.fullmatch(retry_after) else None
    relayed.failure = STATUSES.get(answer.status, UpstreamError)(retry_after_s=retry_after_s)


def _param_of(body: bytes, sent: bytes) -> str | None:
    """The parameter that an error names. Only one of the caller's own: any other word might be a host or an account."""
    try:
        param = orjson.loads(body)["error"]["param"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    named = _PARAM.fullmatch(param) if isinstance(param, str) and len(param) <= PARAM_CHARS_MAX else None
    if named is None or named[1] not in {member.name for member in json_splice.members(sent)}:
        return None
    return named[0]


def _request_headers(channel: Channel, key: str, *, stream: bool) -> dict[str, str]:
    """All that an upstream learns besides the body: nothing of the caller's."""
    name, value = channel.vendor.auth(key)
    return {
        name: value,
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
        "accept-encoding": "identity",
        "user-agent": "farebox",
    }
