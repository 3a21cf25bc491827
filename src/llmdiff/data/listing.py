"""Lists of pictures with their captions: `metadata.jsonl`, or `metadata.csv`, as `datasets` has them in its folders."""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from llmdiff.data.captions import caption_of
from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, readable, why_not
from llmdiff.structured_text import LARGEST_JSON, parse_json

LISTS = ("metadata.jsonl", "metadata.csv")
"""Names of lists; where a folder has both, the first is read."""

_WANTED = {".jsonl": '{"file_name": "1.png", "text": "…"}', ".csv": "file_name,text"}
_NAMES = ("file_name", "filename", "image", "path")
_LARGEST = 1_000_000_000  # bytes


class Row(NamedTuple):
    """A row of a list: the picture's name and its captions as they are written, or why it has none."""

    where: str
    """Its place, at the beginning of a sentence."""
    name: str = ""
    texts: object = None
    fault: str = ""


def rows_of(listing: Path) -> list[Row]:
    """The rows of a list, also those that are wrong.

    Raises:
        LLMDiffError: It cannot be read, or has no rows.
    """
    try:
        read = _csv_rows if listing.suffix == ".csv" else _json_rows
        rows = list(read(listing))
    except (OSError, UnicodeError, csv.Error) as error:
        why = str(error) if isinstance(error, csv.Error) else why_not(error)
        raise LLMDiffError(
            f"{listing} cannot be read ({why}); it lists the pictures and their captions, in UTF-8."
        ) from error
    if not rows:
        raise LLMDiffError(f"{listing} lists no pictures.")
    return rows


def _json_rows(listing: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(listing), 1):
        where = f"Line {number} of {listing}"
        if not line.strip():
            continue
        try:
            content = parse_json(line, where, f"write {_WANTED['.jsonl']}", finite=False)
        except LLMDiffError as error:
            yield Row(where, fault=str(error))
        else:
            yield _row(where, content, ".jsonl")


def _csv_rows(listing: Path) -> Iterator[Row]:
    """Rows of values between commas, under a line with the names of the columns."""
    reader = csv.DictReader(_lines(listing), strict=True)
    for row in reader:
        content = {name: value for name, value in row.items() if isinstance(name, str)}
        yield _row(f"Line {reader.line_num} of {listing}", content, ".csv")


def _row(where: str, content: Any, suffix: str) -> Row:
    name = next((content[key] for key in _NAMES if key in content), None) if isinstance(content, Mapping) else None
    if not isinstance(name, str) or not name:
        keys = f"; it has {', '.join(map(str, content))}"[:200] if isinstance(content, Mapping) else ""
        return Row(where, fault=f"{where} is not of the form {_WANTED[suffix]}{keys}.")
    return Row(where, name, caption_of(content))


def _lines(listing: Path) -> Iterator[str]:
    """The lines of a text in UTF-8, each with its end, none of which may be of any length."""
    with open_regular(listing) as file:
        if (size := file.seek(0, io.SEEK_END)) > _LARGEST:
            raise OSError(None, f"it has {readable(size)}")
        file.seek(0)
        first = True
        while line := file.readline(LARGEST_JSON + 1):
            if len(line) > LARGEST_JSON:
                raise OSError(None, f"it has a line of more than {readable(LARGEST_JSON)}")
            yield line.decode("utf-8-sig" if first else "utf-8")
            first = False
