"""The record of a vendor: data first, never a class to inherit from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

Auth = Callable[[str], tuple[str, str]]
"""An upstream key → the header that carries it. Keys never stand in a URL."""


def bearer(key: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {key}")


def header(name: str) -> Auth:
    """A key that stands bare in a header of this name."""
    return lambda key: (name, key)


@dataclass(frozen=True, slots=True)
class Door:
    """One dialect that a vendor speaks, and where.

    `paths`: operation (see Wire.name) → path behind the channel's base_url, in which {model}, {method} and
    {api_version} stand for what they say; an operation that is not in it is not to be had. `headers`: sent with every
    request. `passed`: the caller's headers that reach the vendor, if the caller speaks this dialect.
    """

    dialect: str
    paths: Mapping[str, str]
    auth: Auth = bearer
    headers: Mapping[str, str] = field(default_factory=dict)
    passed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Vendor:
    """`base_url`: where a channel points unless it says otherwise; None: each channel must say.

    `doors`: the first one that can serve a request does. `sells`: whose models of the catalog it has, if not those
    of its own name. `stream_options`: does it accept them? `cancel_stops_billing`: whether leaving a stream ends what
    the vendor charges. `limit_param`, `reasoning_limit_param`: what it calls the output limit of a chat, and that of a
    model that reasons. `other_limits`: whether a chat's limit is obeyed by its other name too,
    max_completion_tokens. `api_version`: what stands for {api_version} unless the channel says otherwise.
    `key_refusals`: words in a 400 that mean our key or its credit, not the request.
    """

    name: str
    base_url: str | None
    doors: tuple[Door, ...]
    sells: str | None = None
    stream_options: bool = True
    cancel_stops_billing: bool = True
    reasoning_effort: bool = True
    limit_param: str = "max_tokens"
    reasoning_limit_param: str = "max_tokens"
    other_limits: bool = True
    api_version: str = ""
    key_refusals: tuple[bytes, ...] = ()


OPENAI_PATHS: Mapping[str, str] = MappingProxyType(
    {
        "chat.completions": "/chat/completions",
        "completions": "/completions",
        "responses": "/responses",
        "embeddings": "/embeddings",
        "moderations": "/moderations",
        "images.generations": "/images/generations",
        "images.edits": "/images/edits",
        "images.variations": "/images/variations",
        "audio.speech": "/audio/speech",
        "audio.transcriptions": "/audio/transcriptions",
        "audio.translations": "/audio/translations",
    }
)
"""Every operation of OpenAI's own door. Others speak a part of it."""


def openai_door(*operations: str, prefix: str = "") -> Door:
    """OpenAI's dialect, for these operations or for all."""
    wanted = operations or tuple(OPENAI_PATHS)
    return Door("openai", {name: prefix + OPENAI_PATHS[name] for name in wanted})
