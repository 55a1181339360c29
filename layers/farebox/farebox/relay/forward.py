"""Sends a planned request upstream, at one place after another until one answers; brings the answer back as it comes.

What one place did wrong stays here as long as the caller has had no content: there is one hold, one receipt and one
bill, whatever it took.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from farebox.dialects import json_splice
from farebox.dialects.wire import Tap
from farebox.errors import FareboxError, InvalidRequest
from farebox.ports import Answer, Clock, Randomness, Upstream
from farebox.relay import setbacks
from farebox.relay.attempts import Attempts, Try
from farebox.relay.channels import Channels
from farebox.relay.passage import PLAIN_BYTES_MAX, BinaryPassage, Passage, Seal
from farebox.relay.plan import Plan
from farebox.relay.relayed import ANSWERED, REFUSED, Relayed
from farebox.relay.request import JSON
from farebox.relay.setbacks import BAD_KEY, CALLERS_FAULT, Setback
from farebox.relay.upstream_errors import Cut, Empty, ErrorAnswer, Stalled, UpstreamFailure

ERROR_BYTES_MAX = 64 * 1024
AGAIN_AFTER_MS_MAX = 300
IDENTITY = "identity"
PARAM_CHARS_MAX = 64
ONE_MAY_SAY_NOTHING = frozenset({"chat", "completion"})
"""Kinds of models of which another one may have more to say. Silence, transcribed, is silence."""
_NO_SOUND = re.compile(r"\s*(?:application/json|application/problem|text/)", re.IGNORECASE)
_PARAM = re.compile(r"([A-Za-z0-9_]+)[A-Za-z0-9_.\[\]]*")


@dataclass(frozen=True, slots=True)
class Forwarder:
    """Makes the attempts of one request after another."""

    channels: Channels
    upstream: Upstream
    clock: Clock
    random: Randomness

    async def forward(self, plan: Plan, relayed: Relayed, new_tap: Callable[[Try], Tap], seal: Seal) -> None:
        """Fills `relayed`. Never raises for what an upstream does: the last setback stands in it as its failure."""
        attempts = Attempts(plan.ways, self.channels)
        current: Try | None = attempts.first()
        while current is not None:
            if current.again:
                await asyncio.sleep(self.random.below(AGAIN_AFTER_MS_MAX) / 1000)
                if relayed.cancelled:
                    return  # before anybody was asked again
            relayed.tap = new_tap(current)
            one = _One(self.upstream, plan, current, relayed, seal)
            relayed.current = (current.way.channel.name, self.clock.now_ms())
            setback = await one.make()
            relayed.over(setback.word if setback else REFUSED if relayed.refused else ANSWERED, self.clock.now_ms())
            if setback is None:
                return
            last, current = current, None
            if not await _is_over(relayed):
                current = attempts.after(last, setback)
            if current is None:
                await _give_up(relayed, setback, one.empty)


@dataclass(slots=True)
class _One:
    """One attempt. `empty`: what it brought, if that was a proper answer with nothing in it."""

    upstream: Upstream
    plan: Plan
    current: Try
    relayed: Relayed
    seal: Seal
    empty: Passage | None = None

    async def make(self) -> Setback | None:
        """None if it settles the matter: an answer, or the vendor's word that the request is wrong."""
        plan, way = self.plan, self.current.way
        request = plan.request
        try:
            body = plan.body_for(way)
            headers = way.headers(self.current.key, request.read_as, request.passed, stream=plan.ask.stream)
            url = way.url(plan.model.id, stream=plan.ask.stream)
            async with asyncio.timeout(way.channel.first_content_s) as patience:
                async with self.upstream.post(url, headers, body) as answer:
                    if answer.status == 200:
                        await self._bring(answer, patience)
                    elif answer.status in CALLERS_FAULT:
                        return self._blamed(await _error_body(answer))
                    else:
                        return setbacks.of_status(answer.status, answer.headers)
        except TimeoutError:
            if not patience.expired():
                raise
            return setbacks.of_failure(Stalled())
        except UpstreamFailure as failure:
            # What comes after the proper end changes nothing any more.
            if not self.relayed.finished:
                return setbacks.of_failure(failure)
        return None

    def _blamed(self, body: bytes) -> Setback | None:
        """The vendor blames the request; or our key, in a status that blames the request."""
        if any(words in body for words in self.current.way.channel.vendor.key_refusals):
            return BAD_KEY
        self.relayed.refused = True
        self.relayed.failure = _refusal(body, self.plan)
        return None

    async def _bring(self, answer: Answer, patience: asyncio.Timeout) -> None:
        way, plan, relayed = self.current.way, self.plan, self.relayed
        if answer.headers.get("content-encoding", IDENTITY) != IDENTITY:
            raise ErrorAnswer  # nobody asked for that, and nobody here could read it
        if plan.ask.stream:
            bridge = way.bridge.stream(plan.terms) if way.bridge else None
            passage = Passage(answer, plan, way, relayed, self.seal, bridge, patience)
            try:
                await passage.run()
            except Empty:
                self.empty = passage
                raise
        elif way.wire.binary and _NO_SOUND.match(answer.headers.get("content-type", "")):
            raise ErrorAnswer  # whatever it says, it is nothing to be heard
        elif way.wire.binary and "content-length" not in answer.headers:
            await BinaryPassage(answer, relayed, self.seal, patience).run()
        else:
            await self._plain(answer)
        relayed.finished = True

    async def _plain(self, answer: Answer) -> None:
        relayed, way = self.relayed, self.current.way
        body = await answer.body(PLAIN_BYTES_MAX)
        is_json = answer.headers.get("content-type", JSON).startswith(JSON)
        if is_json:
            body = body.lstrip(b"\r\n \t")  # DeepSeek queues with empty lines
        if not body and (is_json or answer.headers.get("content-length") != "0"):
            raise Cut  # the subtitles of silence are empty on purpose, and say so
        tap = relayed.tap
        tap.see(body)
        if tap.error_seen or not tap.finished:
            raise ErrorAnswer
        headers = dict(answer.headers)
        if way.bridge is not None:
            try:
                body = way.bridge.answer(body, self.plan.terms)
            except ValueError:
                raise ErrorAnswer from None
            headers["content-type"] = JSON
        relayed.body = body
        relayed.headers = await relayed.delivery.headers(headers)
        if self.plan.model.kind in ONE_MAY_SAY_NOTHING and not tap.content_seen and not _output_tokens(tap):
            raise Empty


def _output_tokens(tap: Tap) -> int:
    reported = tap.reported()
    return reported.output_tokens if reported is not None else 0


async def _is_over(relayed: Relayed) -> bool:
    """Whether nobody waits for another attempt: there was content, or its owner stopped it, or the caller has left."""
    return relayed.delivery.content or relayed.cancelled or await relayed.delivery.caller.is_gone()


async def _give_up(relayed: Relayed, setback: Setback, empty: Passage | None) -> None:
    """The last word is a failure, or an answer with nothing in it."""
    if empty is not None and not relayed.cancelled:
        await empty.end_empty()
    elif relayed.body is not None and setback.word == "empty":
        relayed.finished = True
    else:
        relayed.body = None
        relayed.failure = setback.told()


async def _error_body(answer: Answer) -> bytes:
    """What an error says; nothing, if it is too long or breaks off: the status has said the rest."""
    try:
        return await answer.body(ERROR_BYTES_MAX)
    except UpstreamFailure:
        return b""


def _refusal(body: bytes, plan: Plan) -> FareboxError:
    """The request is wrong. Of the vendor's text only a parameter's name survives, if the request has it."""
    param = _param_of(body, plan)
    return InvalidRequest(
        param=param,
        zh=f"上游拒绝了该请求{f'（参数 {param}）' if param else ''}，本次请求未计费。",
        en=f"The upstream refused this request{f' (parameter {param})' if param else ''}. It costs nothing.",
    )


def _param_of(body: bytes, plan: Plan) -> str | None:
    """The parameter that an error names. Only one of the caller's own: any other word might be a host or an account."""
    try:
        param = orjson.loads(body)["error"]["param"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    named = _PARAM.fullmatch(param) if isinstance(param, str) and len(param) <= PARAM_CHARS_MAX else None
    if named is None or named[1] not in _names(plan):
        return None
    return named[0]


def _names(plan: Plan) -> set[str]:
    if plan.incoming.form is not None:
        return {*plan.incoming.fields, *(file.field for file in plan.incoming.files)}
    return {member.name for member in json_splice.members(plan.request.body)}
