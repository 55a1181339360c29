"""Gemini's embedContent and batchEmbedContents at a vendor of OpenAI's embeddings."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.bridge import Terms
from farebox.dialects.bridges.embed_content_to_embeddings import BATCH_BRIDGE, BRIDGE
from farebox.errors import InvalidRequest

TERMS = Terms(
    model="public-name",
    upstream_model="text-embedding-3-small",
    stream=False,
    output_tokens_max=0,
    reasoning=False,
    limit_param="max_tokens",
    id="abc123",
    created_s=1_700_000_000,
)
CONTENT = {"parts": [{"text": "hi"}]}
SENT = {"model": "text-embedding-3-small", "input": "hi", "encoding_format": "float"}
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["parts", "text", "data", "embedding", "role", "content", "index"]), inner, max_size=3
        ),
    ),
    max_leaves=8,
)


def crossed(**body: Any) -> Any:
    return json.loads(BRIDGE.request(body, TERMS))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"content": CONTENT}, SENT),
        ({"content": {"parts": {"text": "hi"}, "role": "user"}, "model": "models/public-name"}, SENT),
        ({"content": {"parts": [{"text": "a"}, {"text": "b"}]}}, {**SENT, "input": "a\nb"}),
        ({"content": CONTENT, "outputDimensionality": 256}, {**SENT, "dimensions": 256}),
        ({"content": CONTENT, "output_dimensionality": 256}, {**SENT, "dimensions": 256}),
        ({"content": CONTENT, "taskType": "RETRIEVAL_DOCUMENT", "title": "t"}, SENT),
    ],
)
def test_a_text_crosses_and_what_tunes_only_geminis_embeddings_is_left_out(body: Any, expected: Any) -> None:
    assert crossed(**body) == expected


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "content"),
        ({"content": "secret"}, "content"),
        ({"content": {}}, "content.parts"),
        ({"content": {"parts": [{"text": ""}]}}, "content.parts"),
        ({"content": {"parts": "secret"}}, "content.parts"),
        ({"content": {"parts": [{"text": 5}]}}, "content.parts[0].text"),
        ({"content": {"parts": [{"inline_data": {"data": "secret"}}]}}, "content.parts[0].inlineData"),
        ({"content": CONTENT, "outputDimensionality": 0}, "outputDimensionality"),
        ({"content": CONTENT, "outputDimensionality": 1, "output_dimensionality": 2}, "outputDimensionality"),
        ({"content": CONTENT, "autoTruncate": True}, "autoTruncate"),
    ],
)
def test_what_is_no_text_is_refused_by_name(body: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        crossed(**body)

    assert caught.value.param == param
    assert "secret" not in caught.value.en + caught.value.zh


def test_every_number_stays_as_the_vendor_wrote_it() -> None:
    numbers = b"[-0.0069292834, 1e-05, 0.10000000149011612, -1E+2, 0]"
    said = b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":%s}],"usage":{}}' % numbers

    assert BRIDGE.answer(said, TERMS) == b'{"embedding":{"values":%s}}' % numbers


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"data":[]}',
        b'{"data":[{}]}',
        b'{"data":[{"embedding":null}]}',
        b'{"data":[{"embedding":"AAAA"}]}',
        b'{"data":[{"embedding":[]}]}',
        b'{"data":[{"embedding":["a"]}]}',
        b"\xff",
    ],
)
def test_what_is_no_embedding_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ValueError):
        BRIDGE.answer(data, TERMS)


@given(JSON, JSON)
def test_no_json_raises_anything_but_what_is_promised(content: Any, size: Any) -> None:
    with contextlib.suppress(InvalidRequest):
        assert crossed(content=content, outputDimensionality=size)["input"]
    with contextlib.suppress(ValueError):
        assert json.loads(BRIDGE.answer(json.dumps(content).encode(), TERMS))["embedding"]["values"]


def batch(*requests: Any, **body: Any) -> Any:
    return json.loads(BATCH_BRIDGE.request({"requests": list(requests), **body}, TERMS))


def test_a_batch_of_texts_is_one_request_with_one_size() -> None:
    one = {"model": "models/public-name", "content": CONTENT, "taskType": "CLUSTERING", "outputDimensionality": 8}
    two = {"content": {"parts": {"text": "ho"}}, "output_dimensionality": 8}

    assert batch(one, two) == {**SENT, "input": ["hi", "ho"], "dimensions": 8}
    assert batch({"content": CONTENT}) == {**SENT, "input": ["hi"]}


@pytest.mark.parametrize(
    ("requests", "param"),
    [
        ([], "requests"),
        ("secret", "requests"),
        (["secret"], "requests"),
        ([{"content": CONTENT}, {"content": "secret"}], "requests[1].content"),
        ([{"content": {"parts": [{"text": 5}]}}], "requests[0].content.parts[0].text"),
        ([{"content": CONTENT, "outputDimensionality": -1}], "requests[0].outputDimensionality"),
        ([{"content": CONTENT, "outputDimensionality": 1}, {"content": CONTENT}], "requests[1].outputDimensionality"),
        ([{"content": CONTENT, "autoTruncate": True}], "requests[0].autoTruncate"),
    ],
)
def test_what_is_no_text_in_a_batch_is_refused_by_name(requests: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        BATCH_BRIDGE.request({"requests": requests}, TERMS)

    assert caught.value.param == param
    assert "secret" not in caught.value.en + caught.value.zh


def test_a_batchs_vectors_come_in_the_order_of_its_requests() -> None:
    said = b'{"data":[{"index":1,"embedding":[2e0]},{"index":0,"embedding":[1.50]}]}'

    assert BATCH_BRIDGE.answer(said, TERMS) == b'{"embeddings":[{"values":[1.50]},{"values":[2e0]}]}'
    with pytest.raises(ValueError):
        BATCH_BRIDGE.answer(b'{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[]}]}', TERMS)


@given(JSON, JSON)
def test_no_batch_raises_anything_but_what_is_promised(requests: Any, data: Any) -> None:
    with contextlib.suppress(InvalidRequest):
        assert json.loads(BATCH_BRIDGE.request({"requests": requests}, TERMS))["input"]
    with contextlib.suppress(ValueError):
        assert json.loads(BATCH_BRIDGE.answer(json.dumps({"data": data}).encode(), TERMS))["embeddings"]


def test_embeddings_are_never_streamed() -> None:
    stream = BRIDGE.stream(TERMS)

    assert stream.feed(b"{}") == stream.end() == []
