"""The tap beside a chat's, a completion's or an embedding's answer: sees all of it once, keeps the little that counts.

It keeps the last usage object seen anywhere, whether content came, which choices have ended, and the text that would
have to be counted if no usage is reported (see waiting_text).
"""

from __future__ import annotations

from typing import Any

import msgspec

from farebox.dialects.ask import Count
from farebox.dialects.openai.usage import read_usage
from farebox.dialects.openai.waiting_text import WaitingText, any_json, texts_in
from farebox.domain.usage import Usage, tokens

CHOICES_MAX = 65_536
"""No request asks for more choices; of what an upstream numbers, no more is remembered."""
DONE = b"[DONE]"
MARKS = (b'"choices"', b'"usage"', DONE)
"""See Wire.marks, for chat and completions."""
PCM_BYTES_PER_TOKEN = 2400
"""A token of made sound is 50 ms; what is streamed has 24,000 samples a second of two bytes each."""

# Not `Raw | None`: msgspec takes that for null alone. A null arrives as b"null", an absent member as b"".
_ABSENT = msgspec.Raw()
_NOTHING = (b"", b"null")


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Audio(msgspec.Struct):
    data: str | None = None
    transcript: str | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    audio: _Audio | None = None


class _Choice(msgspec.Struct):
    index: int | None = None
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    usage: msgspec.Raw = _ABSENT


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    data: list[msgspec.Raw] | None = None  # embeddings
    usage: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT
    service_tier: str | None = None


_decode = msgspec.json.Decoder(_Chunk).decode


class OpenAITap:
    """Facts of one answer. `count`: text → tokens. `choices`: how many will come, if it is a stream.

    `web_searches`: how many are charged once there is an answer. Which ones the model made, a chat never tells.
    """

    def __init__(self, count: Count, *, choices: int = 1, stream: bool = True, web_searches: int = 0) -> None:
        self._text = WaitingText(count)
        self._choices = choices
        self._stream = stream
        self._web_searches = web_searches
        self._usage: Any = None
        self._ended: set[int] = set()
        self._audio_bytes = 0
        self.content_seen = False
        self.done = False
        self.error_seen = False
        self.service_tier: str | None = None

    @property
    def finished(self) -> bool:
        """Whether it reached its proper end: of a stream without [DONE], each choice must have said why it ended."""
        if self.error_seen:
            return False
        return self.done or len(self._ended) >= (self._choices if self._stream else 1)

    @property
    def heavy(self) -> bool:
        return self._text.heavy

    def see(self, data: bytes) -> bool:
        """One event's data, or a plain answer. True if it is nothing but the usage (no choices, usage an object)."""
        if data == DONE:
            self.done = True
            return False
        try:
            chunk = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._see_odd(data)
        if bytes(chunk.error) not in _NOTHING:
            self.error_seen = True
        if chunk.service_tier:
            self.service_tier = chunk.service_tier
        if chunk.data:
            self.content_seen = True
            self._see_finish(0)
        choices = chunk.choices or ()
        for choice in choices:
            self._see_choice(choice)
        return self._see_usage(chunk.usage) and not choices

    def count_waiting(self) -> None:
        self._text.count_waiting()

    def reported(self) -> Usage | None:
        return read_usage(self._usage, web_searches=self._searched())

    def sent(self) -> Usage | None:
        return None  # the two sides are reported together

    def counted(self) -> Usage:
        audio = -(-self._audio_bytes // PCM_BYTES_PER_TOKEN)
        return tokens(
            input_tokens=0,
            output_tokens=self._text.tokens() + audio,
            audio_output=audio,
            web_searches=self._searched(),
            source="counted",
        )

    def _searched(self) -> int:
        return self._web_searches if self.content_seen else 0

    def _see_odd(self, data: bytes) -> bool:
        """JSON of an unexpected shape, half an emoji in it, or no JSON at all: what can be read of it is metered."""
        chunk = any_json(data)
        if not isinstance(chunk, dict):
            return False  # the bytes pass through, there is nothing in them to meter
        self.error_seen = self.error_seen or bool(chunk.get("error"))
        tier = chunk.get("service_tier")
        self.service_tier = tier if isinstance(tier, str) and tier else self.service_tier
        choices = chunk.get("choices") or []
        for choice in choices if isinstance(choices, list) else [choices]:
            if isinstance(choice, dict):
                if choice.get("finish_reason") is not None:
                    self._see_finish(choice.get("index"))
                self._keep_usage(choice.get("usage"))
        for text in texts_in(choices):
            self._see_text(text)
        return self._keep_usage(chunk.get("usage")) and not choices

    def _see_choice(self, choice: _Choice) -> None:
        if choice.finish_reason is not None:
            self._see_finish(choice.index)
        self._see_usage(choice.usage)
        if choice.text:
            self._see_text(choice.text)
        delta = choice.delta or choice.message
        if delta is None:
            return
        for text in (delta.content, delta.refusal, delta.reasoning_content or delta.reasoning):
            if text:
                self._see_text(text)
        calls = [call.function for call in delta.tool_calls or ()]
        for function in (*calls, delta.function_call):
            if function is not None:
                self._see_text((function.name or "") + (function.arguments or ""))
        if delta.audio is not None:
            self._see_audio(delta.audio)

    def _see_audio(self, audio: _Audio) -> None:
        self.content_seen = True
        self._audio_bytes += len(audio.data or "") * 3 // 4
        if audio.transcript:
            self._see_text(audio.transcript)

    def _see_finish(self, index: Any) -> None:
        if len(self._ended) < CHOICES_MAX:
            self._ended.add(index if type(index) is int else 0)

    def _see_text(self, text: str) -> None:
        self.content_seen = True
        self._text.add(text)

    def _see_usage(self, raw: msgspec.Raw) -> bool:
        value = bytes(raw)
        return value.startswith(b"{") and self._keep_usage(any_json(value))

    def _keep_usage(self, value: Any) -> bool:
        if not isinstance(value, dict):
            return False
        self._usage = value
        return True
