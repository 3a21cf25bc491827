"""The cells of a data set's column of pictures: encoded pictures, or the names of files with one in each."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from llmdiff.data.config import DatasetData
from llmdiff.data.errors import Kind, PictureError
from llmdiff.errors import LLMDiffError
from llmdiff.files import is_there, open_regular

_OF_PICTURES = ("binary", "large_binary", "string", "large_string")


def check_column(features: Mapping[str, Any] | None, data: DatasetData) -> None:
    """Raises LLMDiffError if the column of pictures has values that can be none; a stream may not know of what kind."""
    feature = (features or {}).get(data.image)
    kind = getattr(feature, "dtype", None) or type(feature).__name__
    if feature is None or kind in _OF_PICTURES or type(feature).__name__ == "Image":
        return
    if isinstance(feature, Mapping) and "bytes" in feature:
        return
    raise LLMDiffError(
        f"The column {data.image!r} of {data.path} has no pictures but values of type {kind}: set data.image to a "
        "column of pictures, of encoded bytes, or of names of files."
    )


class CellFiles:
    """The encoded pictures in cells.

    Args:
        data: the data set; the files that cells name are found from its folder on, and have to be in it.
    """

    def __init__(self, data: DatasetData) -> None:
        place = Path(data.path)
        self._folder = (place if place.is_dir() else place.parent) if is_there(place) else None
        self._data = data

    def open(self, cell: Any) -> BinaryIO:
        """The encoded picture of a cell; nothing where it is empty.

        Raises:
            OSError: It names a file that cannot be read.
            PictureError: It names none, or one that must not be read.
        """
        held = cell.get("bytes") if isinstance(cell, Mapping) else cell
        if isinstance(held, bytes | bytearray | memoryview):
            return BytesIO(held)
        path = self.file(cell)
        return BytesIO() if path is None else open_regular(path)

    def file(self, cell: Any) -> Path | None:
        """The file that a cell names in the place of a picture, if it does.

        Raises:
            PictureError: It is an address, or a file that must not be read.
        """
        name = cell.get("path") if isinstance(cell, Mapping) and cell.get("bytes") is None else cell
        if not isinstance(name, str) or not name:
            return None
        where = f"The data set {self._data.path} names {name[:200]!r} in its column {self._data.image!r}"
        if "://" in name:
            raise PictureError(
                Kind.MISSING, f"{where}, an address; download the pictures first, with img2dataset for instance."
            )
        if self._folder is None:
            raise PictureError(Kind.OUTSIDE, f"{where}, a file that did not come with it; choose another column.")
        path = self._folder / name.replace("\\", "/")
        try:
            is_inside = self._data.outside or path.resolve().is_relative_to(self._folder.resolve())
        except (OSError, ValueError, RuntimeError):  # no possible path, or a circle of links
            raise PictureError(Kind.MISSING, f"{where}, which is not a file; correct the name.") from None
        if not is_inside:
            raise PictureError(
                Kind.OUTSIDE, f"{where}, outside of its folder; copy it there, or set data.outside to true."
            )
        return path
