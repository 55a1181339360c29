"""The tap beside a Gemini answer: each event is a GenerateContentResponse, and so is a plain answer, or each of a list.

A stream has no end marker: it ends properly when each candidate has said why it finished.
https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from farebox.dialects.ask import Count
from farebox.dialects.gemini.usage import read_sent, read_usage
from farebox.dialects.json_text import json_text, listed
from farebox.dialects.openai.waiting_text import WaitingText, any_json
from farebox.domain.usage import Usage, tokens

CHOICES_MAX = 65_536
"""No request asks for more candidates; of what an upstream numbers, no more is remembered."""
UNSPECIFIED = "_UNSPECIFIED"
_ABSENT = msgspec.Raw()
_NOTHING = (b"", b"null")


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    function_call: msgspec.Raw = _ABSENT
    executable_code: msgspec.Raw = _ABSENT
    code_execution_result: msgspec.Raw = _ABSENT
    inline_data: msgspec.Raw = _ABSENT


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    index: int | None = None
    grounding_metadata: msgspec.Raw = _ABSENT


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Response(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: msgspec.Raw = _ABSENT
    prompt_feedback: _Feedback | None = None
    error: msgspec.Raw = _ABSENT


_decode = msgspec.json.Decoder(_Response).decode


class GeminiTap:
    """Facts of one answer. See wire.Tap. `count`: text → tokens. `choices`: how many candidates will come, if it is a
    stream. `web_searches`: how many are charged once the answer shows that there was one.
    """

    done = False

    def __init__(self, count: Count, *, choices: int = 1, stream: bool = True, web_searches: int = 0) -> None:
        self._text = WaitingText(count)
        self._choices = choices if stream else 1
        self._web_searches = web_searches
        self._searched = False
        self._usage: Any = None
        self._ended: set[int] = set()
        self._blocked = False
        self.content_seen = False
        self.error_seen = False

    @property
    def finished(self) -> bool:
        """Each candidate has said why it ended, or the prompt was blocked."""
        return not self.error_seen and (self._blocked or len(self._ended) >= self._choices)

    @property
    def heavy(self) -> bool:
        return self._text.heavy

    @property
    def service_tier(self) -> str | None:
        tier = _member(self._figures(), "serviceTier")
        return tier.lower() if isinstance(tier, str) and tier else None

    def see(self, data: bytes) -> bool:
        """One event's data, or a plain answer. Always False: usage is part of every answer, nobody asks for it."""
        try:
            response = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            for each in listed(any_json(data)):
                self._see_odd(each)
            return False
        if bytes(response.error) not in _NOTHING:
            self.error_seen = True
        if response.prompt_feedback is not None:
            self._see_block(response.prompt_feedback.block_reason)
        for candidate in response.candidates or ():
            for part in candidate.content.parts or () if candidate.content else ():
                self._see_part(part)
            self._see_finish(candidate.finish_reason, candidate.index)
            if self._web_searches and bytes(candidate.grounding_metadata) not in _NOTHING:
                self._see_grounding(any_json(bytes(candidate.grounding_metadata)))
        usage = bytes(response.usage_metadata)
        if usage.startswith(b"{"):
            self._usage = usage
        return False

    def count_waiting(self) -> None:
        self._text.count_waiting()

    def reported(self) -> Usage | None:
        return read_usage(self._figures(), web_searches=self._searches())

    def counted(self) -> Usage:
        return tokens(
            input_tokens=0, output_tokens=self._text.tokens(), web_searches=self._searches(), source="counted"
        )

    def sent(self) -> Usage | None:
        return read_sent(self._figures())

    def _figures(self) -> Any:
        """Running totals: the last ones count. Read only when they are asked for, since every event has them."""
        if isinstance(self._usage, bytes):
            self._usage = any_json(self._usage)
        return self._usage

    def _searches(self) -> int:
        return self._web_searches if self._searched else 0

    def _see_part(self, part: _Part) -> None:
        if part.text:
            self._say(part.text)
        for raw in (part.function_call, part.executable_code, part.code_execution_result):
            if bytes(raw) not in _NOTHING:
                self._say(_said(any_json(bytes(raw))))
        if bytes(part.inline_data) not in _NOTHING:
            self.content_seen = True

    def _see_odd(self, response: Any) -> None:
        """A response in a list, or one of an unexpected shape: what can be read of it is metered."""
        if not isinstance(response, Mapping):
            return
        self.error_seen = self.error_seen or bool(response.get("error"))
        self._see_block(_member(response.get("promptFeedback"), "blockReason"))
        for candidate in listed(response.get("candidates")):
            for part in listed(_member(_member(candidate, "content"), "parts")):
                self._see_odd_part(part)
            self._see_finish(_member(candidate, "finishReason"), _member(candidate, "index"))
            self._see_grounding(_member(candidate, "groundingMetadata"))
        if isinstance(response.get("usageMetadata"), Mapping):
            self._usage = response["usageMetadata"]

    def _see_odd_part(self, part: Any) -> None:
        if not isinstance(part, Mapping):
            self._say(json_text(part) if part else "")
            return
        if part.get("text"):
            self._say(json_text(part["text"]))
        for name in ("functionCall", "executableCode", "codeExecutionResult"):
            if part.get(name):
                self._say(_said(part[name]))
        if part.get("inlineData"):
            self.content_seen = True

    def _see_finish(self, reason: Any, index: Any) -> None:
        if _is_reason(reason) and len(self._ended) < CHOICES_MAX:
            self._ended.add(index if type(index) is int else 0)

    def _see_block(self, reason: Any) -> None:
        self._blocked = self._blocked or _is_reason(reason)

    def _see_grounding(self, grounding: Any) -> None:
        self._searched = self._searched or bool(_member(grounding, "webSearchQueries"))

    def _say(self, text: str) -> None:
        if text:
            self.content_seen = True
            self._text.add(text)


def _is_reason(reason: Any) -> bool:
    return bool(reason) and not (isinstance(reason, str) and reason.endswith(UNSPECIFIED))


def _member(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else None


def _said(value: Any) -> str:
    """What the model wrote of a call or of code: the values, without ids."""
    if not isinstance(value, Mapping):
        return json_text(value)
    return "".join(json_text(each) for name, each in value.items() if name != "id" and each not in (None, ""))
