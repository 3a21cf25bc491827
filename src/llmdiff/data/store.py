"""Encoded pictures with their captions, as they are kept somewhere: in a folder, a table or tar files."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, Protocol, TypeVar

from llmdiff.content import Source
from llmdiff.data.errors import Kind, PictureError
from llmdiff.progress import Progress

T = TypeVar("T")
R = TypeVar("R")

SUFFIXES = frozenset(
    [".avif", ".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".jxl", ".png", ".ppm", ".tif", ".tiff", ".webp"]
)
"""Of files that are taken for pictures, also where Pillow cannot read them: then they are named as bad."""

_AT_ONCE = 512


@dataclass(frozen=True)
class Entry:
    """A picture's name for the user, its captions, and what is wrong with its row, if anything is."""

    name: str
    captions: tuple[str, ...] = ()
    fault: PictureError | None = None


class Store(Protocol):
    """A list of encoded pictures; several threads may read it."""

    @property
    def entries(self) -> Sequence[Entry]:
        """Name, captions and fault of each picture, known without reading it."""
        ...

    def open(self, index: int) -> BinaryIO:
        """The encoded picture number `index`, whose entry has no fault."""
        ...

    def source(self, index: int) -> Source:
        """The encoded picture number `index`, to be identified by its bytes; raises OSError if it has gone."""
        ...


def entry(name: str, texts: object, where: str) -> Entry:
    """A picture and its caption or captions; one that has none is at fault.

    Args:
        name: of the picture, for the user.
        texts: a string or a list of them; blank ones do not count.
        where: what should hold the caption, at the beginning of a sentence.
    """
    listed = [] if texts is None else [texts] if isinstance(texts, str) else texts
    if not isinstance(listed, list | tuple) or not all(isinstance(text, str) for text in listed):
        return Entry(name, fault=PictureError(Kind.ROW, f"{where}: the caption of {name} is not text or a list of it."))
    captions = tuple(text.strip() for text in listed if text.strip())
    if not captions:
        sentence = f"{where}: the picture {name} has no caption; write one or remove the picture."
        return Entry(name, fault=PictureError(Kind.CAPTION, sentence))
    return Entry(name, captions)


def lines_of(text: str) -> list[str]:
    """The captions in a text file, one a line."""
    return [line for line in text.lstrip("\ufeff").split("\n") if line.strip()]


def in_threads(work: Callable[[T], R], items: Sequence[T], title: str, report: Progress) -> Iterator[R]:
    """The results of `work` in the order of `items`; Pillow decodes outside of Python's lock."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(items), _AT_ONCE):
            report(title, start / len(items))
            yield from pool.map(work, items[start : start + _AT_ONCE])
