"""Captions in the files that people keep them in: text beside a picture, JSON, or a row of a list."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

from llmdiff.data.config import CaptionPer
from llmdiff.data.errors import Kind, PictureError, kind_of
from llmdiff.data.store import Entry, entry
from llmdiff.errors import LLMDiffError
from llmdiff.files import read_text, why_not
from llmdiff.structured_text import parse_json

CAPTION_SUFFIXES = (".txt", ".caption", ".json")
"""Of files that have a picture's captions; where there are several, the first is read."""

_LONGEST = 4_000_000  # bytes of such a file
_KEYS = ("text", "caption", "prompt")
_PARAGRAPHS = re.compile(r"\n[ \t]*\n")
"""An empty line: between others, all of them may be meant as one caption."""


def entry_of(name: str, open_captions: Callable[[], BinaryIO], what: str, per: CaptionPer) -> Entry:
    """A picture with the captions of a file; one that has none that can be read is at fault.

    Args:
        name: of the picture.
        open_captions: opens the file.
        what: the name of the file, one of `CAPTION_SUFFIXES` at its end.
        per: what is one caption, a line of a text or all of it.
    """
    is_json = what.lower().endswith(".json")
    try:
        text = read_text(open_captions(), _LONGEST)
        texts = caption_of(parse_json(text, what, finite=False)) if is_json else _captions_in(text, per)
    except (OSError, UnicodeError) as error:
        sentence = f"{what} cannot be read ({why_not(error)}); it should have the captions of {name}."
        return Entry(name, fault=PictureError(kind_of(error), sentence))
    except LLMDiffError as error:
        return Entry(name, fault=PictureError(Kind.ROW, str(error)))
    is_divided = per == "line" and not is_json and _PARAGRAPHS.search(text.strip())
    return entry(name, texts, what, (Kind.PARAGRAPHS,) if is_divided else ())


def caption_of(row: Any) -> object:
    """The caption or captions under the first of the keys text, caption and prompt; None where a row has none."""
    return value_of(row, _KEYS)


def value_of(row: Any, keys: Sequence[str]) -> object:
    """The value of the first of some keys, however they are written, that has any; None where none has."""
    if not isinstance(row, Mapping):
        return None
    values = {key.strip().lower(): value for key, value in row.items() if isinstance(key, str)} | dict(row)
    return next((values[key] for key in keys if values.get(key) not in (None, "", [])), None)


def _captions_in(text: str, per: CaptionPer) -> list[str]:
    return [text] if per == "file" else text.split("\n")
