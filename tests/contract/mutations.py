"""Recordings gone wrong: documents with other values in them, frames repeated, lost, swapped, and bytes flipped."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from tests.contract.answers import frames_of
from tests.contract.recordings import Recording

ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    10**12,
    10**13,
    2**63,
    -(10**30),
    1.5,
    1e308,
    "",
    "x",
    "0",
    "\ud83d",
    "\u2028",
    "你" * 50,
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"type": 7},
    [{"type": "text", "text": 7}],
    {"content": [{}]},
    "[DONE]",
]
FEW: list[Any] = [None, True, -1, 10**13, 1.5, "x", "\ud83d", [], {}, [None], {"type": 7}]
"""One of each kind."""
NAMES = ["type", "index", "usage", "error", "choices", "delta", "content", "message", "text", "finish_reason", "model"]
Path = tuple[Any, ...]


def places(document: Any, path: Path = ()) -> list[Path]:
    """Where something stands in a document, the whole first."""
    found = [path]
    children = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for name, child in children:
        found += places(child, (*path, name))
    return found


def put(document: Any, path: Path, value: Any) -> Any:
    """A copy of the document with another value there."""
    if not path:
        return value
    made = copy.deepcopy(document)
    holder = made
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = value
    return made


def without(document: Any, path: Path) -> Any:
    """A copy of the document without what stands there."""
    made = copy.deepcopy(document)
    holder = made
    for name in path[:-1]:
        holder = holder[name]
    del holder[path[-1]]
    return made


def nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> Any:
    """The document with one to four places changed, lost, doubled or joined by odd members."""
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(places(document)))
        match draw(st.integers(0, 4)):
            case 0 if path:
                document = without(document, path)
            case 1:
                donor = draw(st.sampled_from(places(document)))
                value = document
                for name in donor:
                    value = value[name]
                document = put(document, path, copy.deepcopy(value))
            case 2:
                document = put(document, path, draw(st.sampled_from([nested(3), nested(200), "z" * 300])))
            case 3:
                document = put(document, path, {draw(st.sampled_from(NAMES)): draw(st.sampled_from(ODD))})
            case _:
                document = put(document, path, draw(st.sampled_from(ODD)))
    return document


def dumped(document: Any) -> bytes:
    """JSON as a sloppy vendor writes it: NaN, halves of an emoji and all."""
    return json.dumps(document, ensure_ascii=True).encode()


@st.composite
def events(draw: st.DrawFn, recording: Recording) -> list[bytes]:
    """The data of a stream's events: some mutated, some lost, doubled or out of order, some no JSON at all."""
    made: list[bytes] = []
    for frame in frames_of(recording.data):
        match draw(st.integers(0, 9)):
            case 0:
                continue
            case 1:
                made += [frame.encode()] * 2
            case 2 | 3 | 4 if frame != "[DONE]":
                made.append(dumped(draw(mutated(json.loads(frame)))))
            case 5:
                made.insert(draw(st.integers(0, len(made))), frame.encode())
            case 6:
                data = frame.encode()
                at = draw(st.integers(0, len(data)))
                made.append(data[:at] + draw(st.binary(max_size=4)) + data[at + draw(st.integers(0, 5)) :])
            case _:
                made.append(frame.encode())
    return made


def odd_ones(document: Any, seen: set[Any]) -> Iterator[bytes]:
    """The document with each place in turn holding an odd value of each kind, or gone. `seen`: those that are done."""
    for path in places(document):
        shape = (document.get("type") if isinstance(document, dict) else None, path)
        if shape in seen:
            continue
        seen.add(shape)
        for odd in FEW:
            yield dumped(put(document, path, odd))
        if path:
            yield dumped(without(document, path))
