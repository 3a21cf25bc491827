"""The cells of a data set's column of pictures: encoded pictures, perhaps in base64, or names of files with one."""

import re
from base64 import b64decode
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from llmdiff.data.config import DatasetData
from llmdiff.data.errors import Kind, PictureError
from llmdiff.errors import LLMDiffError
from llmdiff.files import is_there, open_regular

_LONGEST_NAME = 255  # characters; so short is no picture
_BASE64 = re.compile(r"(?:data:image/[\w.+-]{1,20};base64,)?\s*(/9j/|iVBORw0KGg|UklGR|R0lGOD|Qk|SUkq|TU0A|AAAA)")
"""How pictures begin in base64: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF."""
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


def _held(cell: Any) -> Any:
    return cell.get("bytes") if isinstance(cell, Mapping) else cell


def _is_base64(cell: Any) -> TypeGuard[str]:
    """Whether a text is a picture by its first letters, and no name of a file by its length."""
    return isinstance(cell, str) and len(cell) > _LONGEST_NAME and _BASE64.match(cell) is not None


def _decoded(text: str) -> bytes:
    """The bytes of a picture in base64; nothing of one that is damaged, as of an empty cell.

    White space between its letters and a missing end of padding are no damage.
    """
    letters = "".join(_BASE64.sub(r"\1", text, count=1).split()).rstrip("=")
    try:
        return b64decode(letters + "=" * (-len(letters) % 4), validate=True)
    except ValueError:
        return b""


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
        held = _held(cell)
        if isinstance(held, bytes | bytearray | memoryview):
            return BytesIO(held)
        if _is_base64(held):
            return BytesIO(_decoded(held))
        path = self.file(cell)
        return BytesIO() if path is None else open_regular(path)

    def file(self, cell: Any) -> Path | None:
        """The file that a cell names in the place of a picture, if it does.

        Raises:
            PictureError: It is an address, or a file that must not be read.
        """
        name = cell.get("path") if isinstance(cell, Mapping) and cell.get("bytes") is None else cell
        if not isinstance(name, str) or not name or _is_base64(name):
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
