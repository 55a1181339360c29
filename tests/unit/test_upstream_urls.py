"""Whatever a model is called upstream, it stays one segment of one path at one host."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from yarl import URL

from farebox.dialects.wires import WIRES
from farebox.relay.channels import Channel
from farebox.relay.ways import Way, door_for
from farebox.vendors import VENDORS

NAMES = st.one_of(
    st.text(min_size=1, max_size=40),
    st.text("./?#%&;=@:\\ \t\r\n2eEfF你", min_size=1, max_size=12),
    st.sampled_from(
        ["../../admin", "a/../b", "%2e%2e", "a?key=x", "a#b", "//evil.example", "a\r\nx: y", "..%2f", "．．"]
    ),
)
PLACES = [
    ("google", "generateContent"),
    ("google", "embedContent"),
    ("azure", "chat.completions"),
    ("openai", "responses"),
]


def way(vendor: str, operation: str, name: str) -> Way:
    channel = Channel("c", VENDORS[vendor], "http://upstream.example:81/base", ("k",), rename={"public": name})
    found = door_for(WIRES[operation], VENDORS[vendor])
    assert found is not None
    return Way(channel, *found)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("vendor", "operation"), PLACES)
@given(name=NAMES)
def test_a_models_name_changes_neither_host_nor_path_nor_query(
    vendor: str, operation: str, stream: bool, name: str
) -> None:
    assume(set(name) != {"."})  # settings refuse these
    assume(not any(0xD800 <= ord(letter) <= 0xDFFF for letter in name))
    plain = URL(way(vendor, operation, "NAME").url("public", stream=stream))
    sent = URL(way(vendor, operation, name).url("public", stream=stream))

    assert (sent.scheme, sent.raw_host, sent.port) == (plain.scheme, plain.raw_host, plain.port)
    assert (sent.raw_query_string, sent.raw_fragment, sent.user) == (plain.raw_query_string, "", None)
    assert len(sent.raw_parts) == len(plain.raw_parts)
    for ours, its in zip(plain.raw_parts, sent.raw_parts, strict=True):
        before, found, after = ours.partition("NAME")
        assert its.startswith(before)
        assert its.endswith(after)
        assert found or its == ours
    assert not set(sent.raw_path_qs) & set("\r\n\t #")
