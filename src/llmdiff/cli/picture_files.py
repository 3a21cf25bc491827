"""The files of an order of pictures: each is written as soon as it is drawn, under a name that nobody has."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmdiff.cli import console
from llmdiff.errors import LLMDiffError

if TYPE_CHECKING:
    from PIL import Image

    from llmdiff.generation import Document, Picture


class PictureFiles:
    """What `llmdiff generate` leaves.

    Args:
        out: the folder, or the one file.
        compare: whether the base model's picture is beside each, and all are on one sheet.
    """

    def __init__(self, out: Path, compare: bool) -> None:
        self.out, self.compare = out, compare
        self._rows: list[dict[str, Any]] = []
        self._compared: list[Picture] = []
        self._first: Path | None = None

    def add(self, picture: "Picture") -> None:
        """Write a picture, unless all go to one sheet."""
        path = self._write(picture)
        self._first = self._first or path
        self._rows.append({"path": path and str(path), "metadata": picture.metadata.model_dump(mode="json")})
        if self.compare:
            self._compared.append(picture)

    def finish(self, as_json: bool) -> None:
        """Lay out the sheet of the pictures that there are, also after an order that ended early, and print the paths.

        Of no pictures there is nothing to print.
        """
        sheet = None
        try:
            sheet = self._write_sheet() if self._compared else None
        finally:
            if as_json and self._rows:
                console.print_json({"pictures": self._rows, "sheet": sheet and str(sheet)})
            elif self._rows:
                for path in [row["path"] for row in self._rows] + [sheet]:
                    if path is not None:
                        console.print_line(path)

    def _write(self, picture: "Picture") -> Path | None:
        from llmdiff.generation import file_stem

        if not names_file(self.out):
            path = write_free(self.out, file_stem(picture.prompt, picture.seed), picture.image, picture.document())
            if picture.base is not None:
                write_free(self.out, f"{path.stem}-base", picture.base.image, picture.base.document())
            return path
        if self.compare:
            return None
        return write_file(self.out, picture.image, picture.document())

    def _write_sheet(self) -> Path:
        from llmdiff.generation import Document, comparison_sheet

        document = Document(kind="comparison", pictures=tuple(picture.metadata for picture in self._compared))
        sheet = comparison_sheet(self._compared)
        if self._first is not None:
            return write_free(self.out, f"{self._first.stem}-compare", sheet, document)
        return write_file(self.out, sheet, document)


def names_file(out: Path) -> bool:
    """Whether results go to one file, and not into a folder."""
    return out.suffix.lower() == ".png" and not out.is_dir()


def check_place(out: Path, results: int) -> None:
    """Raises LLMDiffError where the results cannot be written, before any time is spent on them."""
    place = out
    if names_file(out):
        if results > 1:
            raise LLMDiffError(f"One file, {str(out)!r}, cannot take {results} pictures: give --out a folder.")
        place = out.parent
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise LLMDiffError(f"There is a file {str(place)!r} where --out needs a folder: choose another place.")
    if not os.access(place, os.W_OK):
        raise LLMDiffError(f"No permission to write to {str(place)!r}: choose another place with --out.")


def write_file(path: Path, image: "Image.Image", document: "Document | None" = None, *, replace: bool = True) -> Path:
    """Write a picture, with a document or without one, and return its path; see `write_png`."""
    from llmdiff.generation import save_png, write_png

    if document is None:
        save_png(path, image, replace=replace)
    else:
        write_png(path, image, document, replace=replace)
    return path


def write_free(folder: Path, stem: str, image: "Image.Image", document: "Document | None" = None) -> Path:
    """Write to the first of stem.png, stem-2.png, ... that nobody has, and return it."""
    return first_free(folder, stem, lambda path: write_file(path, image, document, replace=False))


def first_free(folder: Path, stem: str, write: Callable[[Path], object]) -> Path:
    """The first of stem.png, stem-2.png, ... that nobody has, and to which `write` could write."""
    for number in itertools.count(1):
        path = folder / f"{stem}{f'-{number}' if number > 1 else ''}.png"
        if os.path.lexists(path):
            continue
        try:
            write(path)
        except FileExistsError:
            if not os.path.lexists(path):  # it is the folder that cannot be made
                raise
        else:
            return path
    raise AssertionError("numbers do not end")
