"""Memory for decoding: told from a picture's header, and lent to all threads of a process from one budget.

A picture of 25 kB may have 180 million pixels; as many of those at once as there are threads fill any machine.
"""

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from llmdiff.data.errors import Kind, PictureError
from llmdiff.files import readable

BUDGET = 500_000_000
"""Bytes that all pictures that a process decodes at one time may take, and so each of them."""

_WORTH_RETURNING = 30_000_000  # bytes
_RGB = 4  # bytes of a pixel, as Pillow has it
_SMALL_MODES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # others have 4 bytes
_DECODERS = {"WEBP": 12, "AVIF": 12, "JPEG2000": 16, "HEIF": 12, "JXL": 16}
"""Bytes of a pixel that decoders need beside the result, where they make it in one piece."""
_PROGRESSIVE = 6  # bytes of a pixel of a progressive JPEG: its coefficients, which are in memory at any scale
_ROWS_PER_STRIP = 278  # the tag of a TIFF; each strip is decoded in one piece


class Budget:
    """A number of bytes that are lent to one thread or another.

    Args:
        size: of all that is lent at one time.
    """

    def __init__(self, size: int) -> None:
        self._size, self._free = size, size
        self._changed = threading.Condition()

    @contextmanager
    def lent(self, size: int) -> Iterator[None]:
        """Waits until so many bytes are free, at most all of them; they are taken within this context."""
        size = min(size, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            if size >= _WORTH_RETURNING:
                _return_to_system()
            with self._changed:
                self._free += size
                self._changed.notify_all()


@cache
def _trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None


def _return_to_system() -> None:
    """Gives back what is free: glibc keeps for each thread what that has freed, which another thread cannot use."""
    if trim := _trim():
        trim(0)


def fit(image: Image.Image, name: str, turned: bool) -> int:
    """The bytes that a picture takes while it is decoded, turned upright and made RGB.

    A JPEG that would take too many is set to be decoded at half, a quarter or an eighth of its size.

    Raises:
        PictureError: It takes more than the budget.
    """
    width, height = image.size
    for divisor in (1, 2, 4, 8) if image.format in ("JPEG", "MPO") else (1,):
        needed = _needed(image, divisor, turned)
        if needed <= BUDGET:
            if divisor > 1:
                image.draft(image.mode, (width // divisor, height // divisor))
            return needed
    size = f"{width} × {height} pixels, which take {readable(needed)} of memory"
    raise PictureError(Kind.BOMB, f"The picture {name} has {size}, more than {readable(BUDGET)}; make it smaller.")


def _needed(image: Image.Image, divisor: int, turned: bool) -> int:
    loaded = _SMALL_MODES.get(image.mode, 4)
    converted = 0 if image.mode == "RGB" else _RGB + 4 if image.mode.startswith("I;16") else _RGB
    own: float = _DECODERS.get(image.format or "", 0)
    if isinstance(image, TiffImageFile):
        own = _RGB * _rows_at_once(image) / image.height
    coefficients = _PROGRESSIVE if image.info.get("progressive") else 0
    each = coefficients + (loaded + max(converted, own, loaded if turned else 0)) / divisor**2
    return int(image.width * image.height * each)


def _rows_at_once(image: TiffImageFile) -> int:
    rows = image.tag_v2.get(_ROWS_PER_STRIP)
    return rows if isinstance(rows, int) and 0 < rows < image.height else image.height
