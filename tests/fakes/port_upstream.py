"""Stand-ins for the relay's two other ends without sockets: an upstream by script, and a caller that remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from farebox.relay.upstream_errors import Cut, Stalled, Unreachable
from tests.fakes.faulty_db import Life

Hook = Callable[[], Awaitable[None]]


@dataclass
class Script:
    """One upstream answer: its chunks, what is done before the chunk of that number, the usage that it reports.

    `tail`: how many of the chunks at its end a whole answer can do without. `words`: its pieces of content, as they
    stand in any dialect. `used`: unit → count, where that is not tokens.
    """

    chunks: list[bytes]
    status: int = 200
    stream: bool = False
    breaks: type[Exception] | None = None
    prompt: int = 0
    completion: int = 0
    hooks: dict[int, Hook] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    tail: int = 0
    used: dict[str, int] | None = None
    content_type: str = ""

    @property
    def units(self) -> dict[str, int]:
        return self.used or {"input_token": self.prompt, "output_token": self.completion}


class Trouble(StrEnum):
    """What an upstream does to its call."""

    UNREACHABLE = "unreachable"
    REFUSES = "answers 400"
    FAILS = "answers 500"
    CUT = "cut before the chunk"
    STALL = "stall before the chunk"
    CRASH = "our process dies before the chunk"


@dataclass
class UpstreamFault:
    """`call`: which upstream call of the run, and `calls`: how many from there; `at`: before which of its chunks."""

    trouble: Trouble
    call: int
    at: int = 0
    calls: int = 1


@dataclass
class Post:
    """A call that reached the upstream: whose it was, which channel's, and how many chunks it gave."""

    request_id: str
    script: Script
    channel: str = ""
    given: int = 0


@dataclass
class Answered:
    status: int
    headers: Mapping[str, str]
    give: Callable[[], AsyncIterator[bytes]]

    def chunks(self) -> AsyncIterator[bytes]:
        return self.give()

    async def body(self, limit_bytes: int) -> bytes:
        return b"".join([chunk async for chunk in self.give()])


@dataclass
class PortUpstream:
    """See ports.Upstream. `whose` says which request is being sent and what it gets; `on_post` may look around."""

    life: Life
    posts: list[Post]
    fault: UpstreamFault | None
    whose: Callable[[], tuple[str, Script]]
    on_post: Callable[[str], Awaitable[None]]
    hits: list[UpstreamFault]

    @asynccontextmanager
    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> AsyncIterator[Answered]:
        self.life.check()
        request_id, script = self.whose()
        post = Post(request_id, script, urlsplit(url).hostname or "")
        self.posts.append(post)
        fault = self.fault
        if fault is not None and not fault.call <= len(self.posts) < fault.call + fault.calls:
            fault = None
        await self.on_post(request_id)
        status = script.status
        match fault.trouble if fault else None:
            case Trouble.UNREACHABLE:
                self._hit(fault)
                raise Unreachable
            case Trouble.REFUSES:
                self._hit(fault)
                status = 400
            case Trouble.FAILS:
                self._hit(fault)
                status = 500
        if status != 200:
            script = Script([b'{"error":{"message":"no","param":"messages"}}'], status)
        content_type = script.content_type or ("text/event-stream" if script.stream else "application/json")
        yield Answered(status, {"content-type": content_type}, lambda: self._give(script, post, fault))

    async def _give(self, script: Script, post: Post, fault: UpstreamFault | None) -> AsyncIterator[bytes]:
        for index in range(len(script.chunks) + 1):
            if index in script.hooks:
                await script.hooks[index]()
            for _ in range(3):  # a cancellation has its chance
                await asyncio.sleep(0)
            if fault is not None and fault.at == index:
                self._break(fault)
            self.life.check()
            if index < len(script.chunks):
                post.given += 1
                yield script.chunks[index]
        if script.breaks is not None:
            raise script.breaks

    def _break(self, fault: UpstreamFault) -> None:
        if fault.trouble in (Trouble.CUT, Trouble.STALL, Trouble.CRASH):
            self._hit(fault)
        match fault.trouble:
            case Trouble.CUT:
                raise Cut
            case Trouble.STALL:
                raise Stalled
            case Trouble.CRASH:
                self.life.end()

    def _hit(self, fault: UpstreamFault | None) -> None:
        assert fault is not None
        self.hits.append(fault)


class MemoryCaller:
    """See ports.Caller. Leaves after `gone_after` writes, if that is not None; `on_asked` is done when it is asked
    whether it has left. `ends`, `last`: what a whole answer has in it, and in its last bytes (see Operation).

    `offered` is all that was written to it, whether or not it was still there.
    """

    def __init__(
        self,
        life: Life,
        gone_after: int | None = None,
        *,
        ends: tuple[bytes, ...] = (b"data: [DONE]", b'"finish_reason":"stop"'),
        last: bytes = b"data: [DONE]",
    ) -> None:
        self._life = life
        self._gone_after = gone_after
        self._writes = 0
        self._ends, self._last = ends, last
        self.on_asked: Callable[[], None] | None = None
        self.left = False
        self.offered = b""
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.data = b""
        self.finished = False

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._life.check()
        if not self._gone:
            self.status, self.headers = status, {name.decode(): value.decode() for name, value in headers}

    async def send(self, data: bytes) -> None:
        self._life.check()
        self._writes += 1
        self.offered += data
        if not self._gone:
            self.data += data

    async def finish(self) -> None:
        self._life.check()
        self.finished = True

    async def is_gone(self) -> bool:
        if self.on_asked is not None:
            self.on_asked()
        self._life.check()
        return self._gone

    @property
    def _gone(self) -> bool:
        return self.left or (self._gone_after is not None and self._writes >= self._gone_after)

    @property
    def saw_the_last_byte(self) -> bool:
        if not self._ends:
            return self.status == 200 and self.data.endswith(self._last)
        return self.saw_an_end and ("content-length" in self.headers or self._last in self.data)

    @property
    def saw_an_end(self) -> bool:
        """Whether what came looks like a whole answer."""
        if self.status != 200 or b'"error"' in self.data:
            return False
        length = self.headers.get("content-length")
        if length is not None:
            return len(self.data) == int(length)
        if not self._ends:
            return self.finished and bool(self.data)
        return any(end in self.data for end in self._ends)

    @property
    def heard_more(self) -> bool:
        """Whether an error came after the end."""
        _, marker, after = self.data.partition(self._last) if self._last else (b"", b"", b"")
        return bool(marker) and b'"error"' in after
