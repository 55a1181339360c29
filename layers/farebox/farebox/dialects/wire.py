"""One operation of one dialect: how its requests are read and its answers metered. A record, never a base class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from farebox.dialects import sse
from farebox.dialects.ask import Ask, Count, Fields
from farebox.dialects.form import FilePart, Form
from farebox.domain.usage import Usage


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request's content. `fields`: the JSON object's members, or a form's texts (repeated ones as a list).

    `body`: all its bytes as received. `files`: a form's files, as spans of `body`. `model`, `stream`: from the path,
    where a dialect has them there (Gemini), else None. `form`: the form, if the body is one.
    """

    fields: Fields
    body: bytes = b""
    files: tuple[FilePart, ...] = ()
    form: Form | None = None
    model: str | None = None
    stream: bool | None = None


class Tap(Protocol):
    """Stands beside one answer, sees everything once, changes nothing, and keeps the little that metering needs.

    `content_seen`: something came that a user would see or hear, thoughts included. `done`: the dialect's explicit
    end of a stream has come, and nothing follows it. `finished`: asked when no more comes: was it the proper end?
    `error_seen`: an error came in place of content. `heavy`: so much text waits to be counted that `count_waiting`
    should be called, in a thread.
    """

    content_seen: bool
    done: bool
    error_seen: bool

    @property
    def finished(self) -> bool: ...

    @property
    def heavy(self) -> bool: ...

    def see(self, data: bytes) -> bool:
        """One event's data, a whole plain answer, or a chunk of a binary one. Never raises, whatever it is.

        True if it carries nothing but the usage, so that it can be withheld from a caller who did not ask for it.
        """

    def count_waiting(self) -> None:
        """Counts the text that has come since the last count, and lets it go."""

    def reported(self) -> Usage | None:
        """The vendor's own figures, in disjoint units of the catalog; None where there are none, or absurd ones."""

    def counted(self) -> Usage:
        """Our own count of what came back (never of what was sent)."""

    def sent(self) -> Usage | None:
        """The vendor's figures for what was sent, where it gave those alone before a stream died; else None."""

    @property
    def service_tier(self) -> str | None:
        """The tier that the vendor says it served; None where it does not say."""


def openai_error_event(envelope: bytes) -> bytes:
    """An error in a stream as OpenAI's SDKs raise it."""
    return sse.event(envelope)


COMMENT_PING = b": keep-alive\n\n"
"""The only keep-alive that OpenAI's SDKs bear. Google's do not bear it."""


@dataclass(frozen=True, slots=True)
class Wire:
    """`name`: as receipts name the operation. `dialect`: "openai", "anthropic" or "gemini". `kinds`: of models.

    `read` raises InvalidRequest. `tap` makes the tap for one answer: a count of tokens, and what was asked.
    `error_event`: the dialect's JSON error envelope → the bytes that end a broken stream with it. `ping`: what keeps
    a caller's connection alive before content. `form`: whether requests may be multipart/form-data. `binary`: whether a
    plain answer may be passed on while it still comes. `end_marker`: whether a stream says its end, else it just ends.
    `limit_param`: where a caller may limit the output (see Ask.output_limits), None where nothing can be limited.
    `marks`: one of these stands in the data of every event of a stream. What has none may be an error of any shape,
    or a page, and nobody but the tap sees it.
    """

    name: str
    dialect: str
    kinds: frozenset[str]
    read: Callable[[Incoming], Ask]
    tap: Callable[[Count, Ask], Tap]
    error_event: Callable[[bytes], bytes] = openai_error_event
    ping: bytes = COMMENT_PING
    form: bool = False
    binary: bool = False
    end_marker: bool = True
    limit_param: str | None = None
    marks: tuple[bytes, ...] = ()
