"""A folder of pictures: listed in its `metadata.jsonl`, or with a text file beside each."""

import json
from pathlib import Path
from typing import BinaryIO

from llmdiff.content import Source, file_source
from llmdiff.data.errors import Kind, PictureError
from llmdiff.data.store import SUFFIXES, Entry, entry, lines_of
from llmdiff.errors import LLMDiffError

_WANTED = '{"file_name": "1.png", "text": "…"}'


class Folder:
    """The pictures of a folder.

    `metadata.jsonl` has one line of JSON per picture; `text` may be a list of captions. Where there is no such file,
    every picture in the folder and its subfolders is taken, and `1.txt` has the captions of `1.png`, one a line.

    Raises:
        LLMDiffError: There is no such folder, it has no pictures, or the list cannot be read.
    """

    def __init__(self, path: Path) -> None:
        listing = path / "metadata.jsonl"
        if not path.is_dir():
            raise LLMDiffError(f"The folder of pictures {path} is not there; correct data.path.")
        rows = _listed(listing) if listing.exists() else _beside(path)
        self._paths = [picture for picture, _ in rows]
        self.entries = [one for _, one in rows]

    def open(self, index: int) -> BinaryIO:
        return self._paths[index].open("rb")

    def source(self, index: int) -> Source:
        return file_source(self._paths[index])


def _listed(listing: Path) -> list[tuple[Path, Entry]]:
    try:
        lines = listing.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LLMDiffError(f"{listing} cannot be read ({error}); it lists the pictures and their captions.") from error
    rows = [_row(listing, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise LLMDiffError(f"{listing} lists no pictures.")
    return rows


def _row(listing: Path, number: int, line: str) -> tuple[Path, Entry]:
    where = f"Line {number} of {listing}"
    try:
        row = json.loads(line)
        name, texts = row["file_name"], row.get("text")
        picture = listing.parent / name
        is_there = picture.is_file()
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return listing, Entry(where, fault=PictureError(Kind.ROW, f"{where} is not of the form {_WANTED}."))
    if not is_there:
        missing = PictureError(Kind.MISSING, f"{listing} lists {picture}, which is not a file; remove the line.")
        return picture, Entry(str(picture), fault=missing)
    return picture, entry(str(picture), texts, where)


def _beside(path: Path) -> list[tuple[Path, Entry]]:
    pictures = sorted(
        one
        for one in path.rglob("*")
        if one.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in one.relative_to(path).parts)
    )
    if not pictures:
        raise LLMDiffError(f"The folder {path} has no pictures, nor a metadata.jsonl that lists some.")
    return [(picture, _captioned_beside(picture)) for picture in pictures]


def _captioned_beside(picture: Path) -> Entry:
    text = picture.with_suffix(".txt")
    try:
        captions = lines_of(text.read_text(encoding="utf-8")) if text.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        return Entry(str(picture), fault=PictureError(Kind.ROW, f"{text} cannot be read ({error}); save it as UTF-8."))
    return entry(str(picture), captions, str(text))
