"""Callers of the service: a plain one, and one with a socket in its hand that can leave at any byte."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

import httpx

from tests.fakes.addresses import addresses
from tests.fakes.process import http
from tests.fakes.service import Funded, RunningFarebox

CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
STREAM = {**CHAT, "stream": True}
CHAT_PATH = "/v1/chat/completions"
INPUT_NANO, OUTPUT_NANO = 1050, 4200
"""What a token of gpt-4o-mini costs."""


def headers_of(key: Funded, address: str | None = None) -> dict[str, str]:
    """The key, and the address that the caller comes from."""
    return {"authorization": f"Bearer {key.text}", "x-forwarded-for": address or next(addresses)}


def ask(
    farebox: RunningFarebox, key: Funded, body: Any = CHAT, path: str = CHAT_PATH, **headers: str
) -> httpx.Response:
    """One request, read to its end. `body`: bytes as they are, anything else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return http.post(farebox.url + path, content=data, headers={**headers_of(key), **headers}, timeout=30)


def problem(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer; its envelope is OpenAI's, its message Chinese, then English."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    document = answer.json()
    assert list(document) == ["error"]
    error: dict[str, Any] = document["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert "\u4e00" <= error["message"][0] <= "\u9fff" or any(
        "\u4e00" <= letter <= "\u9fff" for letter in error["message"]
    )
    assert error["message"][-1] == "."
    return error


class RawCaller:
    """A connection of its own. Leaving the `with` closes it."""

    def __init__(self, farebox: RunningFarebox) -> None:
        host, port = farebox.url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=20)
        self.received = b""

    def __enter__(self) -> RawCaller:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def post(self, key: Funded, body: Any, path: str = CHAT_PATH) -> None:
        """A whole request. The answer's body comes in chunked coding."""
        data = json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", "host: farebox", f"content-length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in headers_of(key).items()]
        self.send("\r\n".join([*lines, "", ""]).encode() + data)

    def read_until(self, wanted: bytes) -> bytes:
        """Reads until `wanted` has come; all that has."""
        while wanted not in self.received:
            piece = self._socket.recv(65_536)
            assert piece, f"closed after {self.received!r}"
            self.received += piece
        return self.received

    def skip_until(self, wanted: bytes) -> int:
        """Reads on until `wanted` has come, keeping next to nothing; how many bytes that was."""
        size, tail = 0, b""
        while wanted not in tail:
            piece = self._socket.recv(1 << 20)
            assert piece, "closed"
            size, tail = size + len(piece), tail[-len(wanted) :] + piece
        return size

    def read_all(self) -> bytes:
        """Reads until the other side closes; all that came."""
        while piece := self._socket.recv(65_536):
            self.received += piece
        return self.received

    def reset(self) -> None:
        """Leaves at once, as a killed process does."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
