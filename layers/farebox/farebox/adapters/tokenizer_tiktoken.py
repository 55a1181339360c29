"""The tokenizer: tiktoken over rank files that lie in a folder, never over the network.

tiktoken's own loader deletes a cached file whose hash is wrong and then downloads it. Here the file is read and
checked by us, and tiktoken's table of encodings is asked for the rest (pattern, special tokens, expected hash)
with our loader in place of its own, so that no path to the network is left.

Costs, measured with tiktoken 0.14 on one slow core: importing this module loads nothing; the first use of o200k_base
takes 0.3 s and 76 MB, cl100k_base 0.1 s and 42 MB; 400 characters of English take 10 to 25 µs, of Chinese 40 to 60.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import threading
from binascii import a2b_base64
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tiktoken

ENCODINGS = ("o200k_base", "cl100k_base")
"""The encodings whose rank files `layers/tiktoken/build.py` makes."""

COUNT_CHARS_MAX = 250_000
"""Longest slice that tiktoken is given, in characters. Its regex engine gives up on 500,060 blanks in a row (measured,
0.14.0; spaces and tabs alternating), and a slice bounds the memory of its token list."""
CUT_WINDOW_CHARS = 10_000
CUT = re.compile(r"(?<=[^\W\d_])(?=[\s.,;:!?，。、；：！？])")
"""Between a letter and a blank or a mark both encodings always start a new piece, so a cut there changes no count."""


class RankFileError(RuntimeError):
    """A rank file is absent, unreadable or not the one that tiktoken expects. Says which, in which folder."""


class UnknownEncodingError(ValueError):
    """The encoding is not one of ENCODINGS."""


class TiktokenTokenizer:
    """Counts tokens exactly; loads an encoding on first use; safe to share between threads.

    `cache_dir` holds rank files under the names of tiktoken's cache. Nothing is read before `load` or `count`.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._encodings: dict[str, tiktoken.Encoding] = {}
        self._loading = threading.Lock()

    def load(self, encoding: str) -> None:
        """Loads an encoding now, once. Raises RankFileError, UnknownEncodingError."""
        self._encoding(encoding)

    def count(self, encoding: str, text: str) -> int:
        """Tokens of `text`; special tokens in it are ordinary text, a lone surrogate is U+FFFD. Errors: as `load`.

        Exact for any text up to COUNT_CHARS_MAX characters, and for longer ones that have a word's end in the last
        CUT_WINDOW_CHARS of each slice; otherwise a cut may add a token or two.
        """
        loaded = self._encoding(encoding)
        return sum(len(loaded.encode(piece, disallowed_special=())) for piece in slices(text))

    def _encoding(self, name: str) -> tiktoken.Encoding:
        loaded = self._encodings.get(name)
        if loaded is None:
            with self._loading:
                loaded = self._encodings.get(name) or _load(name, self._cache_dir)
                self._encodings[name] = loaded
        return loaded


def slices(text: str) -> Iterator[str]:
    """The text in slices of at most COUNT_CHARS_MAX characters, cut at a word's end where there is one."""
    start = 0
    while len(text) - start > COUNT_CHARS_MAX:
        limit = start + COUNT_CHARS_MAX
        window = max(limit - CUT_WINDOW_CHARS, start + 1)
        cuts = [match.start() for match in CUT.finditer(text, window, limit)]
        end = cuts[-1] if cuts else limit
        yield text[start:end]
        start = end
    yield text[start:] if start else text


def _load(name: str, cache_dir: Path) -> tiktoken.Encoding:
    if name not in ENCODINGS:
        raise UnknownEncodingError(
            f"There are no rank files for the encoding {name!r}, only for {', '.join(ENCODINGS)}"
        )
    # Imported here: tiktoken costs 30 to 60 ms, which a cold start that counts nothing should not pay.
    import tiktoken

    registry = importlib.import_module("tiktoken_ext.openai_public")
    constructor = registry.ENCODING_CONSTRUCTORS[name]

    def load_ranks(url: str, expected_hash: str | None = None) -> dict[bytes, int]:
        cache_name = hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
        return _ranks(_verified(cache_dir / cache_name, name, expected_hash))

    # A copy of tiktoken's constructor in which the name of its loader means ours: nothing global is changed.
    names: dict[str, Any] = {**constructor.__globals__, "load_tiktoken_bpe": load_ranks}
    return tiktoken.Encoding(**FunctionType(constructor.__code__, names)())


def _verified(path: Path, name: str, sha256: str | None) -> bytes:
    """The rank file's content. Never deletes or repairs it. Raises RankFileError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RankFileError(
            f"The rank file {path.name} of {name} cannot be read from {path.parent} ({error.strerror}): "
            "`make setup` builds it, or layers/tiktoken/build.py"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise RankFileError(
            f"The rank file {path.name} of {name} in {path.parent} has SHA-256 {found}, tiktoken expects {sha256}: "
            "build it anew with layers/tiktoken/build.py"
        )
    return content


def _ranks(content: bytes) -> dict[bytes, int]:
    """Lines of `base64 rank` → token → rank. Three times as fast as tiktoken's own loop over the same lines."""
    words = content.split()
    return dict(zip(map(a2b_base64, words[::2]), map(int, words[1::2]), strict=True))
