"""The tokenizer and its rank files: exact, offline, and unharmed by any text."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest
import tiktoken
import tiktoken.load
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.adapters import tokenizer_tiktoken
from farebox.adapters.tokenizer_tiktoken import (
    COUNT_CHARS_MAX,
    ENCODINGS,
    RankFileError,
    TiktokenTokenizer,
    UnknownEncodingError,
    slices,
)

LAYER = Path(__file__).parents[2] / "layers/tiktoken"
RANKS = LAYER / "encodings"
TOKENIZER = TiktokenTokenizer(RANKS)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
WORDY = st.text(st.sampled_from("aZ é中。,'s1 \n\t\u3000/"), max_size=300)


def layer_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiktoken_layer_build", LAYER / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD: Any = layer_build()


def reference(encoding: str, text: str) -> int:
    """tiktoken itself, whole text at once, over the same loaded ranks."""
    TOKENIZER.load(encoding)
    return len(TOKENIZER._encodings[encoding].encode(text, disallowed_special=()))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whatever tried to reach out, by name; trying also fails."""
    tried: list[str] = []

    def refuse(name: str) -> Any:
        def call(*_: Any, **__: Any) -> NoReturn:
            tried.append(name)
            raise AssertionError(f"{name} was called")

        return call

    monkeypatch.setattr(socket.socket, "connect", refuse("connect"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse("getaddrinfo"))
    monkeypatch.setattr(tiktoken.load, "read_file", refuse("tiktoken.load.read_file"))
    return tried


# Counting


@pytest.mark.parametrize(
    ("encoding", "text", "tokens"),
    [
        ("o200k_base", "", 0),
        ("o200k_base", "hello world", 2),
        ("cl100k_base", "hello world", 2),
        ("cl100k_base", "お誕生日おめでとう", 9),  # the Cookbook's examples
        ("o200k_base", "お誕生日おめでとう", 8),
        ("cl100k_base", "2 + 2 = 4", 7),
        ("o200k_base", "antidisestablishmentarianism", 6),
    ],
)
def test_published_counts_hold(encoding: str, text: str, tokens: int) -> None:
    assert TOKENIZER.count(encoding, text) == tokens


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(text=ANY_TEXT)
def test_any_short_text_counts_as_tiktoken_counts_it(encoding: str, text: str) -> None:
    assert TOKENIZER.count(encoding, text) == reference(encoding, text)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_special_tokens_in_user_text_are_ordinary_text(encoding: str) -> None:
    assert TOKENIZER.count(encoding, "<|endoftext|>") == 7
    assert TOKENIZER.count(encoding, "a<|endofprompt|>b") > 3


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_lone_surrogate_counts_as_the_replacement_character(encoding: str) -> None:
    assert TOKENIZER.count(encoding, "a\ud83d b") == TOKENIZER.count(encoding, "a\ufffd b")
    assert TOKENIZER.count(encoding, "\ud83d\ude00") == TOKENIZER.count(encoding, "\U0001f600")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("run", [" ", "\n", " \t", "\u3000", "a", "中"], ids=repr)
def test_a_million_of_the_same_does_not_break_it(encoding: str, run: str) -> None:
    """tiktoken's regex engine gives up on 500,060 blanks, with an exception or a panic."""
    text = (run * 1_000_100)[:1_000_100] + "x"
    assert len(text) / 512 < TOKENIZER.count(encoding, text) < 2 * len(text)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_text_of_six_megabytes_is_exact(encoding: str) -> None:
    text = (
        "The quick brown fox, 12345 times; jumps over: don't you see?\n\n  def f(x):\n\treturn x\n中文也一样。" * 90_000
    )[:6_000_000]
    assert TOKENIZER.count(encoding, text) == reference(encoding, text)


def test_slices_are_bounded_and_lose_nothing() -> None:
    for text in ("", "a", "word " * 300_000, "中" * 600_000, " " * 1_000_001, "a" * COUNT_CHARS_MAX):
        pieces = list(slices(text))
        assert "".join(pieces) == text
        assert all(0 < len(piece) <= COUNT_CHARS_MAX for piece in pieces if text)


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(text=WORDY)
@settings(max_examples=300)
def test_a_cut_at_a_words_end_changes_no_count(encoding: str, text: str) -> None:
    for cut in tokenizer_tiktoken.CUT.finditer(text):
        left, right = text[: cut.start()], text[cut.start() :]
        assert reference(encoding, left) + reference(encoding, right) == reference(encoding, text)


def test_threads_share_one_loaded_encoding() -> None:
    fresh = TiktokenTokenizer(RANKS)
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: fresh.count("cl100k_base", "hello world"), range(64)))
    assert counts == [2] * 64


# Loading


def test_importing_the_adapter_does_not_import_tiktoken() -> None:
    code = (
        "import sys, farebox.adapters.tokenizer_tiktoken as adapter; adapter.TiktokenTokenizer('x');"
        "sys.exit('tiktoken' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_loading_needs_no_environment_and_no_network(no_network: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")  # tiktoken itself would take this as: do not cache, download
    for encoding in ENCODINGS:
        TiktokenTokenizer(RANKS).load(encoding)
    assert no_network == []


def test_what_is_loaded_is_tiktokens_own_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(RANKS))
    for encoding in ENCODINGS:
        own = tiktoken.get_encoding(encoding)
        TOKENIZER.load(encoding)
        ours = TOKENIZER._encodings[encoding]
        assert ours._mergeable_ranks == own._mergeable_ranks
        assert (ours.name, ours._pat_str, ours._special_tokens) == (own.name, own._pat_str, own._special_tokens)


def test_a_missing_rank_file_is_named_with_its_folder(tmp_path: Path, no_network: list[str]) -> None:
    with pytest.raises(RankFileError) as caught:
        TiktokenTokenizer(tmp_path / "nowhere").count("o200k_base", "hello")
    assert str(tmp_path / "nowhere") in str(caught.value)
    assert "fb374d419588a4632f3f557e76b4b70aebbca790" in str(caught.value)
    assert no_network == []


def test_a_corrupted_rank_file_is_refused_and_left_alone(tmp_path: Path, no_network: list[str]) -> None:
    """tiktoken would delete it and download another."""
    name = BUILD.ENCODINGS["cl100k_base"].cache_name
    corrupted = (RANKS / name).read_bytes()[:-1]
    (tmp_path / name).write_bytes(corrupted)
    with pytest.raises(RankFileError, match="SHA-256") as caught:
        TiktokenTokenizer(tmp_path).load("cl100k_base")
    assert str(tmp_path) in str(caught.value)
    assert (tmp_path / name).read_bytes() == corrupted
    assert no_network == []


def test_a_failed_load_is_tried_again(tmp_path: Path) -> None:
    tokenizer = TiktokenTokenizer(tmp_path)
    with pytest.raises(RankFileError):
        tokenizer.load("cl100k_base")
    name = BUILD.ENCODINGS["cl100k_base"].cache_name
    shutil.copy(RANKS / name, tmp_path / name)
    assert tokenizer.count("cl100k_base", "hello world") == 2


def test_an_unknown_encoding_is_refused_before_anything_is_read(no_network: list[str]) -> None:
    with pytest.raises(UnknownEncodingError, match="p50k_base"):
        TOKENIZER.count("p50k_base", "hello")
    assert no_network == []


# The rank files


def test_the_build_knows_the_encodings_that_the_tokenizer_offers() -> None:
    assert tuple(BUILD.ENCODINGS) == ENCODINGS
    rules = (LAYER / "rules.mk").read_text(encoding="utf-8")
    assert all(ranks.cache_name in rules for ranks in BUILD.ENCODINGS.values())


def test_the_installed_tiktoken_expects_the_committed_hashes() -> None:
    registry = BUILD.installed_registry()
    assert registry is not None
    BUILD.compare_with_tiktoken(registry)
    assert len(BUILD.expected_by_tiktoken(registry)) >= 4


def test_building_twice_gives_the_same_read_only_bytes(tmp_path: Path) -> None:
    command = [sys.executable, str(LAYER / "build.py"), "--out"]
    for out in ("one", "two", "one"):
        subprocess.run([*command, str(tmp_path / out)], check=True)
    for ranks in BUILD.ENCODINGS.values():
        one, two = (tmp_path / out / "tiktoken" / ranks.cache_name for out in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        assert hashlib.sha256(one.read_bytes()).hexdigest() == ranks.sha256
        assert one.stat().st_mode & 0o777 == 0o444
    assert len(os.listdir(tmp_path / "one" / "tiktoken")) == len(ENCODINGS)


@pytest.mark.parametrize("damage", ["absent", "altered"])
def test_a_package_that_is_not_the_expected_one_builds_nothing(tmp_path: Path, damage: str) -> None:
    source = tmp_path / "source"
    shutil.copytree(BUILD.SOURCE, source)
    victim = source / "cl100k_base.tiktoken"
    victim.chmod(0o644)
    victim.unlink() if damage == "absent" else victim.write_bytes(b"IQ== 1\n")
    with pytest.raises(BUILD.BuildError, match="cl100k_base"):
        BUILD.build(tmp_path / "out", source=source)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("446a9538cb6c", "000000000000"),
        ("o200k_base.tiktoken", "o200k_base_v2.tiktoken"),
        ("def o200k_base", "def gone"),
    ],
    ids=["another hash", "another file", "no such encoding"],
)
def test_a_tiktoken_that_expects_something_else_stops_the_build(tmp_path: Path, old: str, new: str) -> None:
    registry = BUILD.installed_registry()
    with pytest.raises(BUILD.BuildError, match="o200k_base"):
        BUILD.build(tmp_path / "out", registry=registry.replace(old, new))
    assert not (tmp_path / "out").exists()
