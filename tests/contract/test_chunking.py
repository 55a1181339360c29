"""However a network cuts a stream: the same bytes, the same usage. And a stream says what a plain answer says."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.relay.upstream_errors import Cut
from tests.contract.answers import read, told_usage, valid
from tests.contract.conftest import Lead
from tests.contract.exchange import played, receipt_of, send, usage_on
from tests.contract.recordings import Recording
from tests.contract.routes import ANSWERS, BRIDGED, STREAMS, Route, answer_id, ask, channel
from tests.contract.stage import cuttings, play
from tests.fakes.service import RunningFarebox
from tests.fakes.upstream import ScriptedUpstream

CHAT = ("chat.completions", "messages", "generateContent")


@pytest.mark.parametrize(("route", "recording"), STREAMS, ids=answer_id)
def test_every_cutting_of_a_stream_gives_the_same_bytes_and_the_same_usage(route: Route, recording: Recording) -> None:
    whole = play(route, recording)
    assert (whole.failure, whole.words) == (None, ["answered"])

    for chunks in cuttings(recording.data):
        assert b"".join(chunks) == recording.data
        cut = play(route, recording, *filter(None, chunks))
        assert (cut.data, cut.usage, cut.words) == (whole.data, whole.usage, whole.words)


@given(st.sampled_from(STREAMS), st.lists(st.floats(0, 1), max_size=12), st.booleans())
def test_random_cuts_give_the_same_bytes_whether_usage_is_wished_or_not(
    answer: tuple[Route, Recording], cuts: list[float], include_usage: bool
) -> None:
    route, recording = answer
    edges = [0, *sorted(int(each * len(recording.data)) for each in cuts), len(recording.data)]
    chunks = [recording.data[start:end] for start, end in itertools.pairwise(edges) if start < end]
    cut = play(route, recording, *chunks, include_usage=include_usage)
    whole = play(route, recording, include_usage=include_usage)

    assert (cut.data, cut.usage) == (whole.data, whole.usage)


@pytest.mark.parametrize(("route", "recording"), ANSWERS, ids=answer_id)
def test_a_plain_answer_in_pieces_is_the_same_answer(route: Route, recording: Recording) -> None:
    data = recording.data
    whole = play(route, recording)
    pieces = play(route, recording, *(data[at : at + 5] for at in range(0, len(data), 5)))

    assert (pieces.data, pieces.usage, pieces.failure) == (whole.data, whole.usage, None)


@pytest.mark.parametrize(("route", "recording"), STREAMS, ids=answer_id)
def test_the_conclusion_is_on_record_before_the_end_is_seen(route: Route, recording: Recording) -> None:
    frames = recording.data.split(b"\n\n")
    result = play(route, recording, *(frame + b"\n\n" for frame in frames if frame))
    if route.bridge is None and recording.name == "chat.completions.endless.sse":
        assert result.sealed == []  # its end is that of the connection, which comes after the conclusion too
        return
    (before,) = result.sealed

    assert len(before) < len(result.data)
    if route.caller.name in CHAT:
        assert not read(route.caller.name, before, stream=True).ended


@pytest.mark.parametrize(("route", "recording"), STREAMS, ids=answer_id)
def test_what_breaks_behind_the_proper_end_breaks_nothing(route: Route, recording: Recording) -> None:
    whole = play(route, recording)
    broken = play(route, recording, breaks=Cut())

    assert (broken.data, broken.usage, broken.failure) == (whole.data, whole.usage, None)


PAIRS = [
    (route, recording, route.recording(case))
    for route, recording in STREAMS
    if route.caller.name in CHAT
    for case in [recording.name.removeprefix(f"{route.wire.name}.").replace("sse", "json")]
    if any(each.name == f"{route.wire.name}.{case}" for each in route.recordings)
]


@pytest.mark.parametrize(("route", "streamed", "plain"), PAIRS, ids=answer_id)
def test_a_stream_says_what_the_plain_answer_says(route: Route, streamed: Recording, plain: Recording) -> None:
    """Text, thoughts, calls, finish, usage: as the caller reads them, and as they are billed."""
    stream, answer = play(route, streamed), play(route, plain)
    operation = route.caller.name
    said = [read(operation, stream.data, stream=True), read(operation, answer.data, stream=False)]

    for each, recording in zip(said, (streamed, plain), strict=True):
        each.agrees_with(recording.facts, bridged=route.bridge is not None)
    if streamed.facts.usage == plain.facts.usage:
        assert stream.usage == answer.usage
        told = [told_usage(operation, each.usage) if each.usage else None for each in said]
        assert told[0] == told[1]


@pytest.mark.parametrize(("route", "recording"), BRIDGED, ids=answer_id)
def test_every_piece_of_a_bridged_stream_is_of_the_callers_own_types(route: Route, recording: Recording) -> None:
    valid(route.caller.name, play(route, recording).data, stream=recording.stream)


@pytest.mark.parametrize(
    ("route", "recording"), [each for each in STREAMS if each[1].name.endswith("text.sse")][::4], ids=answer_id
)
def test_single_bytes_and_random_cuts_over_a_socket(
    route: Route, recording: Recording, farebox: RunningFarebox, upstream: ScriptedUpstream, lead: Lead
) -> None:
    lead(channel(route.vendor, upstream.url, route.model(recording)))
    data, lots = recording.data, random.Random(5)
    at = sorted(lots.sample(range(1, len(data)), 20))
    cut = [data[start:end] for start, end in itertools.pairwise([0, *at, len(data)])]
    answers, usages = [], []
    for chunks in ([data], [data[each : each + 1] for each in range(len(data))], cut):
        upstream.script = played(recording, *chunks)
        key = farebox.new_key(credit="5")
        answers.append(send(farebox, key, route.caller.dialect, ask(route, recording)).content)
        usages.append(usage_on(receipt_of(farebox, key)))

    # Ids and times that a bridge gives where the vendor has none differ; what is said does not.
    said = [read(route.caller.name, answer, stream=True) for answer in answers] if route.bridge else answers
    assert said[0] == said[1] == said[2]
    assert usages[0] == usages[1] == usages[2]
