"""Encoded pictures with their captions, as they are kept somewhere: in a folder, a table or tar files."""

import errno
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from llmdiff.content import Source
from llmdiff.data.errors import WHY_PASSED_OVER, Kind, PassedOver, PictureError
from llmdiff.files import readable
from llmdiff.progress import Progress
from llmdiff.texts import is_blank

T = TypeVar("T")
R = TypeVar("R")

_TYPES = "avif bmp gif heic heif jfif jpe jpeg jpg jxl png ppm tif tiff webp"
SUFFIXES = frozenset(f".{one}" for one in _TYPES.split())
"""Of files that are taken for pictures, also where Pillow cannot read them: then they are named as bad."""

LARGEST_PICTURE_FILE = 500_000_000
"""Bytes of an encoded picture at most: some decoders read all of it at once."""

_AT_ONCE = 512


@dataclass(frozen=True)
class Entry:
    """A picture's name for the user, its captions, and what is wrong with its row or unusual in it, if anything is."""

    name: str
    captions: tuple[str, ...] = ()
    fault: PictureError | None = None
    notes: tuple[Kind, ...] = ()


class Store(Protocol):
    """A list of encoded pictures; several threads may read it."""

    @property
    def entries(self) -> Sequence[Entry]:
        """Name, captions and fault of each picture, known without reading it."""
        ...

    @property
    def passed_over(self) -> Sequence[PassedOver]:
        """What is among the pictures and not trained on."""
        ...

    def open(self, index: int) -> BinaryIO:
        """The encoded picture number `index`, whose entry has no fault."""
        ...

    def source(self, index: int) -> Source:
        """The encoded picture number `index`, to be identified by its bytes; raises OSError if it has gone."""
        ...


def entry(name: str, texts: object, where: str, notes: tuple[Kind, ...] = ()) -> Entry:
    """A picture and its caption or captions; one that has none is at fault.

    Args:
        name: of the picture, for the user.
        texts: a string or a list of them; blank ones do not count.
        where: what should hold the caption, at the beginning of a sentence.
        notes: of what is unusual in its row.
    """
    listed = [] if texts is None else [texts] if isinstance(texts, str) else texts
    if not isinstance(listed, list | tuple) or not all(isinstance(text, str) for text in listed):
        return Entry(name, fault=PictureError(Kind.ROW, f"{where}: the caption of {name} is not text or a list of it."))
    captions = tuple(text.strip() for text in listed if not is_blank(text))
    if any("\0" in text for text in captions):
        return Entry(name, fault=PictureError(Kind.ROW, f"{where}: the caption of {name} has NUL characters; mend it."))
    if not captions:
        sentence = f"{where}: the picture {name} has no caption; write one or remove the picture."
        return Entry(name, fault=PictureError(Kind.CAPTION, sentence))
    return Entry(name, captions, notes=notes)


def of_sane_size(path: Path) -> Path:
    """The path of a picture's file that is to be read whole.

    Raises:
        OSError: It has more bytes than such a file may have, or is not there.
    """
    if (size := path.stat().st_size) > LARGEST_PICTURE_FILE:
        raise OSError(errno.EFBIG, f"it has {readable(size)}", str(path))
    return path


def counted(passed_over: Sequence[PassedOver]) -> str:
    """How many of what are passed over: "3 hidden files …; 1 linked folders …"."""
    counts = Counter(kind for _, kind in passed_over)
    return "; ".join(f"{count:,} {WHY_PASSED_OVER[kind]}" for kind, count in counts.items())


def in_threads(work: Callable[[T], R], items: Sequence[T], title: str, report: Progress) -> Iterator[R]:
    """The results of `work` in the order of `items`; Pillow decodes outside of Python's lock."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(items), _AT_ONCE):
            report(title, start / len(items))
            yield from pool.map(work, items[start : start + _AT_ONCE])
