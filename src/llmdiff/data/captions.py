"""Captions in the files that people keep them in: text beside a picture, JSON, or a row of a list."""

import re
from collections.abc import Mapping
from typing import Any

from llmdiff.data.config import CaptionPer
from llmdiff.structured_text import parse_json

CAPTION_SUFFIXES = (".txt", ".caption", ".json")
"""Of files that have a picture's captions; where there are several, the first is read."""
LONGEST_CAPTIONS = 4_000_000
"""Bytes of such a file at most."""

_KEYS = ("text", "caption", "prompt")
_PARAGRAPHS = re.compile(r"\S[^\n]*\n[ \t\r]*\n\s*\S")


def captions_in(text: str, suffix: str, per: CaptionPer, what: str) -> object:
    """The caption or captions in a file of one of `CAPTION_SUFFIXES`, not yet known to be texts.

    Args:
        text: of the file.
        suffix: of its name, in lower case.
        per: what is one caption, a line of a text or all of it.
        what: names the file at the beginning of an error's sentence.

    Raises:
        LLMDiffError: It is no usable JSON.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if suffix == ".json":
        return caption_of(parse_json(text, what, finite=False))
    return text if per == "file" else text.split("\n")


def caption_of(row: Any) -> object:
    """The caption or captions under the first of the keys text, caption and prompt; None where a row has none."""
    return next((row[key] for key in _KEYS if key in row), None) if isinstance(row, Mapping) else None


def has_paragraphs(text: str) -> bool:
    """True of a text with an empty line between others: it may be meant as one caption."""
    return _PARAGRAPHS.search(text) is not None
