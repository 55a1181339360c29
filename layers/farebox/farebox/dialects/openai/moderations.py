"""OpenAI moderations: POST /v1/moderations. The vendor makes them for nothing; what is counted is the request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from farebox.dialects.ask import Ask, Count, Fields, model_of, refuse, unpriced
from farebox.dialects.openai.waiting_text import any_json
from farebox.dialects.wire import Incoming, Wire
from farebox.domain.usage import Source, Usage

DEFAULT_MODEL = "omni-moderation-latest"
INPUTS_MAX = 2048
PARTS = frozenset({"text", "image_url"})


def read(incoming: Incoming) -> Ask:
    """Without a model it is OpenAI's own default. Raises InvalidRequest."""
    body = incoming.fields
    model = model_of(body) if body.get("model") is not None else DEFAULT_MODEL
    texts = list(_texts(body))

    def count_input(count: Count) -> int:
        return sum(count(text) for text in texts)

    return Ask(model=model, stream=False, count_input=count_input, bounds={"request": 1})


class ModerationTap:
    """Facts of one answer."""

    def __init__(self) -> None:
        self.content_seen = False
        self.done = False
        self.error_seen = False
        self.service_tier: str | None = None

    @property
    def finished(self) -> bool:
        return self.content_seen and not self.error_seen

    @property
    def heavy(self) -> bool:
        return False

    def see(self, data: bytes) -> bool:
        """The whole answer."""
        answer = any_json(data)
        if isinstance(answer, Mapping):
            self.error_seen = self.error_seen or bool(answer.get("error"))
            self.content_seen = self.content_seen or bool(answer.get("results"))
        return False

    def count_waiting(self) -> None:
        """There is no text."""

    def reported(self) -> Usage | None:
        return _one("upstream") if self.finished else None

    def sent(self) -> Usage | None:
        return None

    def counted(self) -> Usage:
        return _one("counted") if self.content_seen else Usage()


def tap(_: Count, __: Ask) -> ModerationTap:
    return ModerationTap()


MODERATIONS = Wire("moderations", "openai", frozenset({"moderation"}), read=read, tap=tap)


def _one(source: Source) -> Usage:
    return Usage({"request": 1}, {"request": source})


def _texts(body: Fields) -> Iterator[str]:
    """The texts to judge; raises InvalidRequest for what is neither text nor an image."""
    given: Any = body.get("input")
    if isinstance(given, str) and given:
        yield given
        return
    if not isinstance(given, list) or not given or len(given) > INPUTS_MAX:
        raise refuse("input", zh="必须是非空字符串或数组", en="it must be a non-empty string or array")
    for index, each in enumerate(given):
        where = f"input[{index}]"
        if isinstance(each, str):
            yield each
        elif not isinstance(each, dict) or not isinstance(each.get("type"), str):
            raise refuse(where, zh="必须是字符串或带 type 的对象", en="it must be a string or an object with a type")
        elif each["type"] not in PARTS:
            raise unpriced(f"{where}.type")
        elif isinstance(each.get("text"), str):
            yield each["text"]
