"""OpenAI audio, read: POST /v1/audio/speech (JSON in, sound out), /transcriptions and /translations (forms in).

https://platform.openai.com/docs/api-reference/audio
"""

from __future__ import annotations

import math
from typing import Any

from farebox.dialects.ask import Ask, Count, Fields, flag, model_of, refuse, refuse_unpriced
from farebox.dialects.form import FilePart
from farebox.dialects.openai.audio_tap import SpeechTap, TranscriptTap
from farebox.dialects.openai.charges import stored_elsewhere
from farebox.dialects.openai.form_fields import fields_of, refuse_other_files
from farebox.dialects.wire import Incoming, Wire

SPOKEN_CHARS_MAX = 100_000
SPOKEN_MS_PER_CHARACTER = 600
"""Slower than anybody is made to speak at the ordinary speed: a hold's bound, never a bill's figure."""
SPEED_MIN = 0.25
"""The slowest that can be asked for."""
SPOKEN_FORMATS = frozenset({"mp3", "opus", "aac", "flac", "wav", "pcm"})
HEARD_FORMATS = frozenset({"json", "text", "srt", "vtt", "verbose_json", "diarized_json"})
FILE = frozenset({"file"})
READ = frozenset({"model", "stream", "prompt", "response_format", *FILE})
NEVER_STREAMS = "whisper"
"""Models of this name ignore `stream`, whatever it says."""
UNPRICED: dict[str, tuple[Any, ...]] = {
    # Sound besides the file, whose length nobody measures.
    "known_speaker_references": (),
    "known_speaker_references[]": (),
}
ELSEWHERE = ("file", "file_url", "file_id", "url", "audio_url", "audio")
"""Names under which vendors take sound that is not sent along."""


# ── Speech ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_speech(incoming: Incoming) -> Ask:
    """Raises InvalidRequest."""
    body = incoming.fields
    model = model_of(body)
    spoken, instructions = body.get("input"), body.get("instructions")
    if not isinstance(spoken, str) or not 0 < len(spoken) <= SPOKEN_CHARS_MAX:
        raise refuse(
            "input",
            zh=f"必须是 1 到 {SPOKEN_CHARS_MAX} 个字符的字符串",
            en=f"it must be a string of 1 to {SPOKEN_CHARS_MAX} characters",
        )
    if instructions is not None and not isinstance(instructions, str):
        raise refuse("instructions", zh="必须是字符串", en="it must be a string")
    voice = body.get("voice")
    if isinstance(voice, dict):  # made from somebody's samples, under the operator's account
        raise stored_elsewhere("voice")
    if voice is not None and not isinstance(voice, str):
        raise refuse("voice", zh="必须是音色名称", en="it must be the name of a voice")
    _known(body, "response_format", SPOKEN_FORMATS)
    _known(body, "stream_format", frozenset({"audio", "sse"}))

    def count_input(count: Count) -> int:
        return count(spoken) + (count(instructions) if instructions else 0)

    return Ask(
        model=model,
        stream=body.get("stream_format") == "sse",
        count_input=count_input,
        bounds={"character": len(spoken), "audio_ms": _spoken_ms_max(len(spoken), body.get("speed"))},
    )


def _spoken_ms_max(characters: int, speed: Any) -> int:
    """The longest that it takes to speak. Raises InvalidRequest."""
    if speed is not None and type(speed) not in (int, float):
        raise refuse("speed", zh="必须是数字", en="it must be a number")
    slowest = min(1.0, max(SPEED_MIN, 1.0 if speed is None else speed))
    return math.ceil(characters * SPOKEN_MS_PER_CHARACTER / slowest)


def tap_speech(_: Count, ask: Ask) -> SpeechTap:
    return SpeechTap(characters=ask.bounds.get("character", 0), stream=ask.stream)


SPEECH = Wire("audio.speech", "openai", frozenset({"speech"}), read=read_speech, tap=tap_speech, binary=True)


# ── Transcriptions, translations ────────────────────────────────────────────────────────────────────────────────────


def read_transcription(incoming: Incoming) -> Ask:
    """Raises InvalidRequest."""
    return _read_sound(incoming, streams=True)


def read_translation(incoming: Incoming) -> Ask:
    """Raises InvalidRequest."""
    return _read_sound(incoming, streams=False)


def tap_transcript(count: Count, ask: Ask) -> TranscriptTap:
    return TranscriptTap(count, stream=ask.stream)


def _wire(name: str, read: Any) -> Wire:
    return Wire(name, "openai", frozenset({"transcription"}), read=read, tap=tap_transcript, form=True)


TRANSCRIPTIONS = _wire("audio.transcriptions", read_transcription)
TRANSLATIONS = _wire("audio.translations", read_translation)


def _read_sound(incoming: Incoming, *, streams: bool) -> Ask:
    sound = _file(incoming)
    body = fields_of(incoming, READ)
    model = model_of(body)
    refuse_unpriced(body, UNPRICED)
    _known(body, "response_format", HEARD_FORMATS)
    prompt = body.get("prompt")
    if prompt is not None and not isinstance(prompt, str):
        raise refuse("prompt", zh="必须是字符串", en="it must be a string")
    wanted = flag(body, "stream")
    keywords = [text for name in ("keywords", "keywords[]") for text in _strings(body.get(name))]

    def count_input(count: Count) -> int:
        return sum(count(text) for text in (*_strings(prompt), *keywords))

    return Ask(
        model=model,
        stream=wanted and streams and not model.startswith(NEVER_STREAMS),
        count_input=count_input,
        sound=sound,
    )


def _file(incoming: Incoming) -> FilePart:
    """The one file that is to be heard; raises InvalidRequest."""
    refuse_other_files(incoming.files, FILE)
    for name in ELSEWHERE:
        if incoming.fields.get(name) is not None:
            raise refuse(name, zh="音频必须作为表单文件 file 上传", en="the sound must be the form's file 'file'")
    if len(incoming.files) != 1:
        raise refuse("file", zh="必须以表单上传一个音频文件", en="it must be one file of a form")
    return incoming.files[0]


def _known(body: Fields, name: str, known: frozenset[str]) -> None:
    value = body.get(name)
    if value is not None and not (isinstance(value, str) and value in known):
        words = ", ".join(sorted(known))
        raise refuse(name, zh=f"必须是 {words} 之一", en=f"it must be one of {words}")


def _strings(value: Any) -> list[str]:
    if isinstance(value, list):
        return [each for each in value if isinstance(each, str)]
    return [value] if isinstance(value, str) else []
