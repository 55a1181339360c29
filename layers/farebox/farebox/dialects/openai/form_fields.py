"""A form's texts as the JSON members that they stand for, so that one reader serves both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from farebox.dialects.ask import Fields, refuse
from farebox.dialects.form import FilePart
from farebox.dialects.wire import Incoming

NUMBERS = frozenset({"n", "partial_images", "frame_count"})
FLAGS: Mapping[str, bool] = {"true": True, "false": False}
FLAG_NAMES = frozenset({"stream"})
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


def fields_of(incoming: Incoming, read: frozenset[str]) -> Fields:
    """The members of either body. What is no number or no flag stays a text, for the reader to refuse.

    `read`: the names that matter here. Upstream's parser might take "n[]" or "n[0]" for "n", so those are refused.
    """
    if not incoming.files and incoming.form is None:
        return incoming.fields
    for name in incoming.fields:
        stem, bracket, _ = name.partition("[")
        if bracket and stem in read:
            raise refuse(name, zh="此参数不能带方括号", en="this parameter takes no brackets")
    return {name: _value(name, text) for name, text in incoming.fields.items()}


def refuse_other_files(files: tuple[FilePart, ...], names: frozenset[str]) -> None:
    """Raises InvalidRequest for the first file whose field is none of `names`."""
    for file in files:
        if file.field not in names:
            raise refuse(file.field, zh="此处不接受文件", en="no file is taken here")


def _value(name: str, text: Any) -> Any:
    if not isinstance(text, str):
        return text
    if name in NUMBERS and _NUMBER.fullmatch(text):
        return int(text)
    return FLAGS.get(text, text) if name in FLAG_NAMES else text
