"""The cells of a data set's column of pictures: encoded pictures, or the names of files with one in each."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmdiff.data.config import DatasetData
from llmdiff.data.errors import Kind, PictureError
from llmdiff.data.store import LARGEST_PICTURE_FILE
from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular, readable

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
        self._folder = (place if place.is_dir() else place.parent) if place.exists() else None
        self._data = data

    def content(self, cell: Any) -> bytes:
        """The encoded picture of a cell; nothing where it is empty.

        Raises:
            OSError: It names a file that cannot be read.
            PictureError: It names none, or one that must not be read.
        """
        found, name = (cell.get("bytes"), cell.get("path")) if isinstance(cell, Mapping) else (cell, None)
        if isinstance(found, str):
            found, name = None, found
        if isinstance(found, bytes | bytearray | memoryview):
            return bytes(found)
        return self._read(name) if isinstance(name, str) and name else b""

    def _read(self, name: str) -> bytes:
        where = f"The data set {self._data.path} names {name[:200]!r} in its column {self._data.image!r}"
        if "://" in name:
            raise PictureError(
                Kind.MISSING, f"{where}, an address; download the pictures first, with img2dataset for instance."
            )
        if self._folder is None:
            raise PictureError(Kind.OUTSIDE, f"{where}, a file that did not come with it; choose another column.")
        path = self._folder / name.replace("\\", "/")
        try:
            inside = self._data.outside or path.resolve().is_relative_to(self._folder.resolve())
        except (ValueError, RuntimeError):  # no possible path
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from None
        if not inside:
            raise PictureError(Kind.OUTSIDE, f"{where}, outside of its folder; copy it there, or set data.outside.")
        with open_regular(path) as file:
            content = file.read(LARGEST_PICTURE_FILE + 1)
        if len(content) > LARGEST_PICTURE_FILE:
            raise OSError(errno.EFBIG, f"it has more than {readable(LARGEST_PICTURE_FILE)}", name)
        return content
