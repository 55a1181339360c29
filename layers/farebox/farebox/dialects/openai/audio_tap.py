"""The taps beside sound: speech that is made (binary, or base64 in events), and transcripts of what was heard."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import Any

from farebox.dialects.ask import Count
from farebox.dialects.openai.usage import read_io_usage
from farebox.dialects.openai.waiting_text import WaitingText, any_json
from farebox.domain.usage import Usage, tokens

AUDIO_BYTES_MAX = 64 * 1024 * 1024
HEAD_BYTES = 64
"""Whether a binary answer is sound is known when so much of it is here."""
SIGNATURES: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]"), "audio/mpeg"),
    (re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"), "audio/aac"),
    (re.compile(rb"OggS"), "audio/ogg"),
    (re.compile(rb"fLaC"), "audio/flac"),
    (re.compile(rb"RIFF"), "audio/wav"),
)
"""How sound begins → its content type. Of what speech can be made in only raw samples begin in no particular way."""
RAW = "audio/pcm"
_JSON = re.compile(rb'\s*\{\s*"\w+"\s*:')
_PAGE = re.compile(rb"\s*<(!doctype|html)", re.IGNORECASE)


class SpeechTap:
    """Facts of one answer of sound. `characters`: how many were to be spoken."""

    def __init__(self, *, characters: int, stream: bool = False) -> None:
        self._characters = characters
        self._stream = stream
        self._audio = bytearray()
        self._usage: Any = None
        self.content_seen = False
        self.done = False
        self.error_seen = False
        self.service_tier: str | None = None

    @property
    def finished(self) -> bool:
        """Of a binary answer: whether sound came at all. That it is whole, the transport knows."""
        return not self.error_seen and (self.done if self._stream else self.content_seen)

    @property
    def heavy(self) -> bool:
        return False

    def see(self, data: bytes) -> bool:
        """One event's data, or a chunk of a binary answer. Usage never comes alone here, so never True."""
        if self._stream:
            self._see_event(any_json(data))
        else:
            self._keep(data)
            self._judge()
        return False

    def audio(self) -> tuple[bytes, str, str]:
        """The sound so far, at most AUDIO_BYTES_MAX of it; its file name, which it lacks; its content type."""
        sound = bytes(self._audio)
        return sound, "", next((kind for begins, kind in SIGNATURES if begins.match(sound)), RAW)

    def count_waiting(self) -> None:
        """There is no text."""

    def reported(self) -> Usage | None:
        return read_io_usage(self._usage, made="audio_tokens")

    def sent(self) -> Usage | None:
        return None  # the two sides are reported together

    def counted(self) -> Usage:
        return Usage({"character": self._characters}, {"character": "counted"}) if self.content_seen else Usage()

    def _see_event(self, event: Any) -> None:
        if not isinstance(event, Mapping):
            return
        kind, audio = event.get("type"), event.get("audio")
        if kind == "error" or event.get("error"):
            self.error_seen = True
        elif kind == "speech.audio.done":
            self.done = True
            self._usage = event.get("usage")
        elif isinstance(audio, str) and audio:
            self.content_seen = True
            try:
                self._keep(binascii.a2b_base64(audio))
            except ValueError:
                return  # a client cannot hear it either

    def _keep(self, data: bytes) -> None:
        self._audio += data[: AUDIO_BYTES_MAX - len(self._audio)]

    def _judge(self) -> None:
        """Sound, or an error told as JSON? Raw samples may begin with any byte, so more than one is looked at."""
        if self.content_seen or self.error_seen:
            return
        head = bytes(self._audio[:HEAD_BYTES])
        if _JSON.match(head) or _PAGE.match(head):
            self.error_seen = True
        elif len(head) == HEAD_BYTES or head.lstrip()[:1] not in (b"", b"{", b"<"):
            self.content_seen = True


class TranscriptTap:
    """Facts of one transcript: JSON, plain text with or without times, or events. `count`: text → tokens."""

    def __init__(self, count: Count, *, stream: bool = False) -> None:
        self._text = WaitingText(count)
        self._stream = stream
        self._usage: Any = None
        self._whole = False
        self._deltas = False
        self.content_seen = False
        self.done = False
        self.error_seen = False
        self.service_tier: str | None = None

    @property
    def finished(self) -> bool:
        return self._whole and not self.error_seen

    @property
    def heavy(self) -> bool:
        return self._text.heavy

    def see(self, data: bytes) -> bool:
        """One event's data, or the whole transcript. Usage never comes alone here, so never True."""
        if self._stream:
            self._see_event(any_json(data))
        else:
            self._see_whole(data)
        return False

    def count_waiting(self) -> None:
        self._text.count_waiting()

    def reported(self) -> Usage | None:
        """The tokens. Of a transcript that is charged by its length the vendor reports rounded seconds: no usage."""
        usage = self._usage
        if isinstance(usage, Mapping) and usage.get("type", "tokens") == "tokens":
            return read_io_usage(usage)
        return None

    def sent(self) -> Usage | None:
        return None  # the two sides are reported together

    def counted(self) -> Usage:
        return tokens(input_tokens=0, output_tokens=self._text.tokens(), source="counted")

    def _see_event(self, event: Any) -> None:
        if not isinstance(event, Mapping):
            return
        kind = event.get("type")
        if kind == "error" or event.get("error"):
            self.error_seen = True
        elif kind == "transcript.text.delta":
            self._deltas = True
            self._see_text(event.get("delta"))
        elif kind == "transcript.text.segment" and not self._deltas:
            self._see_text(event.get("text"))
        elif kind == "transcript.text.done":
            self._see_answer(event, counted=self.content_seen)
            self.done = True

    def _see_whole(self, data: bytes) -> None:
        opens = data.lstrip()[:1]
        answer = any_json(data) if opens in (b"{", b"[") else None
        if isinstance(answer, Mapping):
            self._see_answer(answer, counted=False)
        elif opens == b"{" or answer is not None:
            pass  # JSON, or half of it, is no text; but a song may begin with "[Music]"
        elif not _PAGE.match(data):
            self.content_seen = self._whole = True  # also without a word: silence is heard as well
            self._see_text(data.decode("utf-8", "replace").strip())

    def _see_answer(self, answer: Mapping[str, Any], *, counted: bool) -> None:
        """A transcript with its usage. An empty text is an answer too: nothing was said."""
        self.error_seen = self.error_seen or bool(answer.get("error"))
        self._usage = answer.get("usage")
        if isinstance(answer.get("text"), str):
            self.content_seen = self._whole = True
            if not counted:
                self._see_text(answer["text"])
        elif self._stream:
            self._whole = True

    def _see_text(self, text: Any) -> None:
        if isinstance(text, str) and text:
            self.content_seen = True
            self._text.add(text)
