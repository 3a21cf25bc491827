"""Lists of pictures with their captions: `metadata.jsonl`, or `metadata.csv`, as `datasets` has them in its folders.

A `metadata.json` is one too: an array of such rows, or an object with a picture's name before each, as other trainers
write it.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from llmdiff.data.captions import caption_of, value_of
from llmdiff.data.store import SUFFIXES
from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, read_text, readable, why_not
from llmdiff.structured_text import LARGEST_JSON, parse_json
from llmdiff.texts import decoded, is_blank

LISTS = ("metadata.jsonl", "metadata.csv", "metadata.json")
"""Names of lists; where a folder has several, the first is read."""

_ROW = '{"file_name": "1.png", "text": "…"}'
_WANTED = {".jsonl": _ROW, ".json": _ROW, ".csv": "file_name,text"}
_OBJECTS = f"mend it, or write lines of {_ROW} into a {LISTS[0]}"
_NAMES = (
    "file_name", "filename", "image", "path", "file", "file_path", "filepath", "image_file", "image_path", "img_path",
    "url", "image_url",
)  # fmt: skip
_LARGEST = 1_000_000_000  # bytes
_LINE_ENDS = re.compile("(?<=\n)")


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
        rows = list(_READERS[listing.suffix](listing))
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


def is_list(file: Path) -> bool:
    """Whether a file with the name of a list is one; a `metadata.json` may hold something else."""
    if file.suffix != ".json":
        return True
    try:
        content = _json_content(file)
    except (OSError, UnicodeError, LLMDiffError):
        return True  # which the reading of it tells
    if isinstance(content, Mapping):
        return any(_is_picture(name) or caption_of(row) is not None for name, row in content.items())
    return isinstance(content, list)


def _object_rows(listing: Path) -> Iterator[Row]:
    """The rows in an array, or after the names in an object."""
    content = _json_content(listing)
    if not isinstance(content, Mapping):
        for number, row in enumerate(content, 1):
            yield _row(f"Row {number} of {listing}", row, ".json")
        return
    for name, row in content.items():
        texts = caption_of(row) if isinstance(row, Mapping) else row
        yield Row(f"The row {name[:100]!r} of {listing}", _with_suffix(listing.parent, name), texts)


def _json_content(listing: Path) -> Any:
    return parse_json(read_text(open_regular(listing), 4 * LARGEST_JSON), str(listing), _OBJECTS, finite=False)


def _with_suffix(folder: Path, name: str) -> str:
    """A picture's name as it is in a folder, where the name was written without its ending."""
    if _is_picture(name) or not name or "\0" in name:
        return name
    return next((name + suffix for suffix in sorted(SUFFIXES) if (folder / (name + suffix)).is_file()), name)


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _csv_rows(listing: Path) -> Iterator[Row]:
    """Rows of values between commas, under a line with the names of the columns; rows of empty values are none."""
    reader = csv.DictReader(_lines(listing), strict=True, skipinitialspace=True)
    names = [name.strip().lower() for name in reader.fieldnames or ()]
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise csv.Error(f"the column {twice!r} stands twice")
    for row in reader:
        where = f"Line {reader.line_num} of {listing}"
        if None in row:
            yield Row(where, fault=f"{where} has more values than columns; put texts with commas in quotation marks.")
        elif not all(is_blank(value or "") for value in row.values()):
            yield _row(where, row, ".csv")


def _row(where: str, content: Any, suffix: str) -> Row:
    name, texts = value_of(content, _NAMES), caption_of(content)
    keys = ", ".join(map(str, content))[:200] if isinstance(content, Mapping) else ""
    if not isinstance(name, str):
        return Row(where, fault=f"{where} is not of the form {_WANTED[suffix]}{keys and f'; it has {keys}'}.")
    return Row(where if texts is not None else f"{where}, which has {keys}", name, texts)


def _lines(listing: Path) -> Iterator[str]:
    """The lines of a text in UTF-8, each with its end, none of which may be of any length."""
    with open_regular(listing) as file:
        if (size := file.seek(0, io.SEEK_END)) > _LARGEST:
            raise OSError(None, f"it has {readable(size)}")
        file.seek(0)
        while line := file.readline(LARGEST_JSON + 1):
            if len(line) > LARGEST_JSON:
                raise OSError(None, f"it has a line of more than {readable(LARGEST_JSON)}")
            yield from filter(None, _LINE_ENDS.split(decoded(line)))


_READERS = {".jsonl": _json_rows, ".csv": _csv_rows, ".json": _object_rows}
