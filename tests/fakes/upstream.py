"""A scripted upstream on a real socket: any bytes at any pace, in a thread of its own.

    upstream.script = [Send(sse_head()), Send(b"data: …"), Sleep(0.1), Reset()]

Every request takes the script that stands at that moment, or the answer of `upstream.on_request`. What was sent to
it is kept in `upstream.requests`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Send:
    """Raw bytes onto the socket."""

    data: bytes


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Reset:
    """Breaks the connection with a TCP reset."""


@dataclass(frozen=True)
class WaitFor:
    """Waits until the test sets `event`."""

    event: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class WaitForLeave:
    """Waits until the other side closes the connection, and writes down when it did in `upstream.left_at`."""


Step = Send | Sleep | Reset | WaitFor | WaitForLeave


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def head(status: int = 200, content_type: str = "application/json", **headers: str) -> bytes:
    """A response head whose body ends with the connection."""
    lines = [f"HTTP/1.1 {status} X", f"content-type: {content_type}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def sse_head(**headers: str) -> bytes:
    return head(content_type="text/event-stream; charset=utf-8", **headers)


def json_answer(document: Any, status: int = 200, **headers: str) -> list[Step]:
    """A plain JSON answer."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return [Send(head(status, **headers, content_length=str(len(body))) + body)]


def sse_answer(events: Iterable[bytes], *, pause_s: float = 0.0) -> list[Step]:
    """A stream, one write per event."""
    steps: list[Step] = [Send(sse_head())]
    for event in events:
        steps.append(Send(event))
        if pause_s:
            steps.append(Sleep(pause_s))
    return steps


def chunk(content: str | None = None, *, finish: str | None = None, **more: Any) -> bytes:
    """One event of a chat stream, without usage."""
    delta = {} if content is None else {"content": content}
    document = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        **more,
    }
    return b"data: " + json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def usage_chunk(prompt: int, completion: int) -> bytes:
    document = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "m",
        "choices": [],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
    }
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def chat_stream(*contents: str, prompt: int = 10, completion: int | None = None) -> list[bytes]:
    """A whole well-behaved stream with usage."""
    used = len(contents) if completion is None else completion
    return [*(chunk(each) for each in contents), chunk(finish="stop"), usage_chunk(prompt, used), DONE]


def chat_completion(content: str = "hello", *, prompt: int = 10, completion: int = 5, **more: Any) -> dict[str, Any]:
    """A whole plain answer."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
        **more,
    }


class ScriptedUpstream:
    """Start it, set `script`, look at `requests`."""

    def __init__(self) -> None:
        self.script: list[Step] = json_answer(chat_completion())
        self.on_request: Callable[[Request], Iterable[Step]] | None = None
        self.requests: list[Request] = []
        self.sent_all = 0
        self.active = 0
        self.bytes_sent = 0
        self.writes_failed = 0
        self.left_at: list[float] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> ScriptedUpstream:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)
        return self

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def idle(self, within_s: float = 5) -> bool:
        """Waits until nobody is being answered: an earlier request's end must not count as a later one's."""
        end = time.monotonic() + within_s
        while self.active and time.monotonic() < end:
            time.sleep(0.005)
        return not self.active

    def reset(self) -> None:
        """Back to a plain answer, nothing remembered."""
        self.script, self.on_request = json_answer(chat_completion()), None
        self.requests.clear()
        self.left_at.clear()
        self.sent_all = self.bytes_sent = self.writes_failed = 0

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=16 * 1024 * 1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.active += 1
        try:
            request = await self._read(reader)
            self.requests.append(request)
            steps = self.on_request(request) if self.on_request else self.script
            for step in steps:
                await self._do(step, reader, writer)
            self.sent_all += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            self.writes_failed += 1
        finally:
            self.active -= 1
            writer.close()

    async def _do(self, step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match step:
            case Send(data):
                writer.write(data)
                await writer.drain()
                self.bytes_sent += len(data)
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case WaitFor(event):
                await asyncio.to_thread(event.wait, 30)
            case WaitForLeave():
                with suppress(ConnectionError):
                    await reader.read()
                self.left_at.append(time.monotonic())
            case Reset():
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Request(method, path, headers, body)
