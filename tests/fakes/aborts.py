"""Callers who leave: after each piece of an answer, by FIN and by RST, on streams and plain answers, paid and free.

`run` knows a base_url, the upstream behind it, and a desk that makes keys and reads the ledger, so that the same table
can be made of any place where Farebox runs.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import urlsplit

from farebox.domain.accounts import Account
from tests.fakes.addresses import addresses
from tests.fakes.process import http
from tests.fakes.service import Funded
from tests.fakes.upstream import (
    DONE,
    Reset,
    ScriptedUpstream,
    Send,
    Step,
    WaitFor,
    chat_completion,
    chat_stream,
    head,
    json_answer,
    sse_head,
)

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
INPUT_TOKENS, OUTPUT_TOKENS = 10, 3
BODY = json.dumps(chat_completion("你好吗", prompt=INPUT_TOKENS, completion=OUTPUT_TOKENS)).encode()
NOTICE_S = 0.05
"""How long a server may take to see that its caller has left, before the upstream goes on."""
SETTLED_S = 15


def _stream_pieces() -> list[tuple[str, bytes]]:
    """One event is cut in the middle of a character."""
    first, *others, finish, usage, done = chat_stream("你", "好", "吗", prompt=INPUT_TOKENS, completion=OUTPUT_TOKENS)
    cut = first.index("你".encode()) + 1
    return [
        ("head", sse_head()),
        ("half of event 1", first[:cut]),
        ("event 1", first[cut:]),
        *((f"event {number}", event) for number, event in enumerate(others, start=2)),
        ("finish_reason", finish),
        ("usage", usage),
        ("[DONE]", done),
    ]


Pieces = tuple[tuple[str, bytes], ...]
STREAM = tuple(_stream_pieces())
PLAIN: Pieces = (
    ("head", head(content_length=str(len(BODY)))),
    ("half of the body", BODY[: len(BODY) // 2]),
    ("the body", BODY[len(BODY) // 2 :]),
)


@dataclass(frozen=True)
class Door:
    """What is called, and what the vendor behind it sends. `path`: behind /v1. `body`: JSON; chats say `stream` in it.

    `marks`: what the caller can have read once a piece has been sent. `content`: the first piece that completes some.
    `end`: a proper end with nothing in it. `ends`: whether the last piece is the end, which else the connection's is.
    `counted`: the least that we count for the input ourselves.
    """

    name: str
    path: str
    body: str
    stream: Pieces
    marks: tuple[tuple[str, bytes], ...]
    content: str
    end: bytes
    plain: Pieces = ()
    in_nano: int = 1050
    out_nano: int = 4200
    counted: int = INPUT_TOKENS
    ends: bool = True

    @property
    def cost_nano(self) -> int:
        return INPUT_TOKENS * self.in_nano + OUTPUT_TOKENS * self.out_nano


AT_CHAT = Door(
    "chat",
    "/chat/completions",
    json.dumps(CHAT),
    STREAM,
    (
        ("event 1", "你".encode()),
        ("event 2", "好".encode()),
        ("event 3", "吗".encode()),
        ("finish_reason", b'"finish_reason":"stop"'),
        ("[DONE]", b"data: [DONE]\n\n"),
    ),
    "event 1",
    DONE,
    PLAIN,
)


class Desk(Protocol):
    """Where keys are made and the ledger is read."""

    def new_key(self, kind: str = "paid", credit: str = "100") -> Funded: ...

    def receipts(self, account: str) -> list[dict[str, Any]]: ...

    def account(self, account: str) -> Account: ...


@dataclass(frozen=True)
class Case:
    """A caller who leaves once the upstream has sent `after` pieces; what the upstream does `then`."""

    kind: str
    stream: bool
    after: int
    way: str
    then: str = "the rest"
    door: Door = AT_CHAT

    @property
    def pieces(self) -> Pieces:
        return self.door.stream if self.stream else self.door.plain

    @property
    def sent_by_then(self) -> list[str]:
        return [name for name, _ in self.pieces[: self.after]]

    @property
    def left_after(self) -> str:
        return self.pieces[self.after - 1][0] if self.after else "nothing"

    @property
    def whole(self) -> bool:
        return self.after == len(self.pieces) and (self.door.ends or not self.stream)

    @property
    def content(self) -> bool:
        return self.then == "the rest" or (self.stream and self.door.content in self.sent_by_then)

    @property
    def outcome(self) -> str:
        """The receipt's word, by the outcome table."""
        if self.whole:
            return "completed"
        if self.then == "the rest":
            return "client_gone"
        if self.content:
            return "upstream_cut"
        return "failed" if self.then == "a reset" else "completed"

    def steps(self, gate: threading.Event) -> Iterable[Step]:
        sent = [data for _, data in self.pieces]
        yield from (Send(data) for data in sent[: self.after])
        yield WaitFor(gate)
        match self.then:
            case "the rest":
                yield from (Send(data) for data in sent[self.after :])
            case "a reset":
                yield Reset()
            case "the end alone":
                yield Send(self.door.end)


@dataclass(frozen=True)
class Row:
    """What became of a case. `wrong`: what should have been otherwise."""

    case: Case
    receipts: tuple[dict[str, Any], ...]
    held_nano: int
    spent_nano: int
    units_taken: int | None
    drained: bool
    wrong: tuple[str, ...]


def cases(
    door: Door = AT_CHAT, kinds: Iterable[str] = ("paid", "free"), ways: Iterable[str] = ("FIN", "RST")
) -> list[Case]:
    """Every way to leave a door's answers, with these kinds of keys."""
    found = [
        Case(kind, stream, after, way, door=door)
        for kind in kinds
        for stream, pieces in ((True, door.stream), (False, door.plain))
        for after in range(len(pieces) + bool(pieces))
        for way in ways
    ]
    odd = ((0, "a reset"), (1, "the end alone"), (1, "a reset"), (4, "a reset"))
    found += [Case(kind, True, after, "FIN", then, door) for kind in kinds for after, then in odd]
    return found


def run(base_url: str, upstream: ScriptedUpstream, desk: Desk, wanted: Iterable[Case]) -> list[Row]:
    """Plays each case on an account of its own; then looks at all ledgers once more."""
    played = [(case, *_play(base_url, upstream, desk, case)) for case in wanted]
    rows = []
    for case, key, row in played:
        entries = len(desk.receipts(key.account)) - (case.kind == "free")  # the probe for the unit has one of its own
        rows.append(row if entries == 1 else replace(row, wrong=(*row.wrong, f"{entries} entries in the end")))
    return rows


def _play(base_url: str, upstream: ScriptedUpstream, desk: Desk, case: Case) -> tuple[Funded, Row]:
    upstream.idle(within_s=2)
    upstream.reset()
    key, gate = desk.new_key(case.kind), threading.Event()
    upstream.on_request = lambda _: case.steps(gate)
    headers = {"authorization": f"Bearer {key.text}", "x-forwarded-for": next(addresses)}
    _leave(base_url, upstream, case, headers)
    time.sleep(NOTICE_S)
    gate.set()
    end = time.monotonic() + SETTLED_S
    while not (receipts := desk.receipts(key.account)) and time.monotonic() < end:
        time.sleep(0.01)
    while not (upstream.sent_all or upstream.writes_failed) and time.monotonic() < end:
        time.sleep(0.01)  # the last byte may be settled before its sender has seen it leave
    drained = upstream.sent_all == 1 and not upstream.writes_failed
    account = desk.account(key.account)
    taken = _units_taken(base_url, upstream, headers) if case.kind == "free" else None
    row = Row(case, tuple(receipts), account.held_nano, account.spent_nano, taken, drained, ())
    return key, replace(row, wrong=tuple(_wrong(row)))


def _leave(base_url: str, upstream: ScriptedUpstream, case: Case, headers: dict[str, str]) -> None:
    """Sends the request, reads all that can have come by then, and leaves."""
    parts = urlsplit(base_url)
    tls = parts.scheme == "https"
    connection: socket.socket = socket.create_connection(
        (parts.hostname or "", parts.port or (443 if tls else 80)), timeout=20
    )
    if tls:
        connection = ssl.create_default_context().wrap_socket(connection, server_hostname=parts.hostname)
    with connection:
        said = {"stream": case.stream} if "?" not in case.door.path else {}  # Gemini has it in the path
        data = json.dumps({**json.loads(case.door.body), **said}).encode()
        lines = [
            f"POST {parts.path}{case.door.path} HTTP/1.1",
            f"host: {parts.netloc}",
            f"content-length: {len(data)}",
        ]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + data)
        received = b""
        while not _has_come(case, received):
            piece = connection.recv(65536)
            assert piece, f"closed after {received!r}"
            received += piece
        end = time.monotonic() + 10
        while not upstream.requests:
            assert time.monotonic() < end, "the request never reached the upstream"
            time.sleep(0.005)
        if case.way == "RST":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _has_come(case: Case, received: bytes) -> bool:
    if not case.stream:
        return not case.whole or BODY[-12:] in received
    return all(mark in received for name, mark in case.door.marks if name in case.sent_by_then)


def _units_taken(base_url: str, upstream: ScriptedUpstream, headers: dict[str, str]) -> int | None:
    """How many units of the day the request kept, from what one more request is told of the rest."""
    upstream.on_request, upstream.script = None, json_answer(chat_completion())
    told = http.post(f"{base_url}/chat/completions", json=CHAT, headers=headers, timeout=20).headers
    if "x-ratelimit-limit-requests" not in told:
        return None
    return int(told["x-ratelimit-limit-requests"]) - int(told["x-ratelimit-remaining-requests"]) - 1


def _wrong(row: Row) -> Iterable[str]:
    case = row.case
    if len(row.receipts) != 1:
        yield f"{len(row.receipts)} ledger entries"
        return
    receipt = row.receipts[0]
    cost_nano = case.door.cost_nano if case.kind == "paid" and case.content else 0
    counted = case.then != "the rest"
    if counted and cost_nano:
        cost_nano = receipt["cost_nano"]
        if (
            not case.door.counted * case.door.in_nano
            <= cost_nano
            < case.door.cost_nano + INPUT_TOKENS * case.door.in_nano
        ):
            yield f"an odd cost: {cost_nano}"
    expected = {"outcome": case.outcome, "cost_nano": cost_nano, "stream": case.stream}
    yield from (f"{name} is {receipt[name]}" for name, value in expected.items() if receipt[name] != value)
    if case.content and not counted:
        figures = {unit: (figure["count"], figure["source"]) for unit, figure in receipt["usage"].items()}
        if figures != {"input_token": (INPUT_TOKENS, "upstream"), "output_token": (OUTPUT_TOKENS, "upstream")}:
            yield f"usage is {figures}"
    if not row.drained:
        yield "the upstream was not heard out"
    if row.held_nano:
        yield f"held is {row.held_nano}"
    if row.spent_nano != cost_nano:
        yield f"spent is {row.spent_nano}"
    if case.kind == "free" and row.units_taken != int(case.content):
        yield f"{row.units_taken} units taken"


def table(rows: Iterable[Row]) -> str:
    """All cases as a table in Markdown."""
    lines = [
        "| # | door | key | answer | left after | by | then sent | outcome | entries | nano-CA | held | unit | |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for number, row in enumerate(rows, start=1):
        case = row.case
        outcome = "/".join(receipt["outcome"] for receipt in row.receipts)
        unit = "" if case.kind == "paid" else {0: "back", 1: "kept"}.get(row.units_taken or 0, "?")
        cells = [
            str(number),
            case.door.name,
            case.kind,
            "stream" if case.stream else "plain",
            case.left_after,
            case.way,
            "nothing more" if case.whole else case.then,
            outcome,
            str(len(row.receipts)),
            str(row.spent_nano),
            str(row.held_nano),
            unit,
            "; ".join(row.wrong) or "as it should be",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
