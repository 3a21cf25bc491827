"""A folder of pictures: listed in a file of metadata, or with a text file beside each."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from llmdiff.content import Source, file_source
from llmdiff.data.captions import CAPTION_SUFFIXES, entry_of
from llmdiff.data.config import FolderData
from llmdiff.data.errors import Kind, PassedOver, PictureError, kind_of
from llmdiff.data.listing import LISTS, Row, is_list, rows_of
from llmdiff.data.store import SUFFIXES, Entry, entry, of_sane_size
from llmdiff.data.tree import Tree
from llmdiff.errors import LLMDiffError
from llmdiff.files import is_there, open_regular, why_not


class Folder:
    """The pictures of a folder and its subfolders.

    A `metadata.jsonl`, one JSON object per picture, a `metadata.csv` or a `metadata.json` lists those of its own folder
    and the folders below it. Elsewhere every picture is taken, and `1.txt`, `1.caption`, `1.json` or `1.png.txt` has
    the captions of `1.png`. What is neither is passed over, and noted.

    Raises:
        LLMDiffError: There is no such folder, it has no pictures, or a list cannot be read.
    """

    def __init__(self, data: FolderData) -> None:
        if not is_there(data.path) or not data.path.is_dir():
            raise LLMDiffError(f"The folder of pictures {data.path} is not there; correct data.path.")
        self._data, self._tree = data, Tree(data.path, data.outside)
        self._used: set[Path] = set()
        lists = _topmost(self._tree)
        rows = [*self._unreadable(), *(row for listing in lists for row in self._listed(listing))]
        rows += self._beside({listing.parent for listing in lists})
        if not rows:
            names = f"{', '.join(LISTS[:-1])} or {LISTS[-1]}"
            raise LLMDiffError(
                f"The folder {data.path} has no pictures, nor a {names} that lists some{self._instead()}."
            )
        self._paths = [picture for picture, _ in rows]
        self.entries = [one for _, one in rows]
        self.passed_over = self._passed_over()
        del self._tree, self._used

    def open(self, index: int) -> BinaryIO:
        return open_regular(self._paths[index])

    def source(self, index: int) -> Source:
        return file_source(of_sane_size(self._paths[index]))

    def _unreadable(self) -> Iterator[tuple[Path, Entry]]:
        for folder, error in self._tree.unreadable:
            sentence = f"The folder {folder} cannot be read ({why_not(error)}); allow it, or move it elsewhere."
            yield folder, Entry(str(folder), fault=PictureError(kind_of(error), sentence))

    def _listed(self, listing: Path) -> Iterator[tuple[Path, Entry]]:
        self._used.add(listing)
        if fault := self._refused(listing):
            raise fault
        for row in rows_of(listing):
            yield self._picture(listing, row)

    def _picture(self, listing: Path, row: Row) -> tuple[Path, Entry]:
        if row.fault:
            return listing, Entry(row.where, fault=PictureError(Kind.ROW, row.fault))
        written = listing.parent / row.name
        picture = self._tree.find(written) or self._tree.find(listing.parent / row.name.replace("\\", "/"))
        if fault := self._refused(picture or written):
            return written, Entry(str(written), fault=fault)
        if picture is None or picture.is_dir():
            return written, Entry(str(written), fault=_missing(listing, written, row))
        self._used.add(picture)
        return picture, entry(str(picture), row.texts, row.where)

    def _beside(self, listed: set[Path]) -> Iterator[tuple[Path, Entry]]:
        """The pictures that no list is responsible for."""
        for picture in self._tree.files:
            if picture.suffix.lower() in SUFFIXES and listed.isdisjoint(picture.parents):
                self._used.add(picture)
                fault = self._refused(picture)
                yield picture, Entry(str(picture), fault=fault) if fault else self._captioned(picture)

    def _captioned(self, picture: Path) -> Entry:
        names = [*(picture.with_suffix(suffix) for suffix in CAPTION_SUFFIXES), Path(f"{picture}.txt")]
        found = next(filter(None, map(self._tree.find, names)), None)
        if found is None:
            return entry(str(picture), None, str(names[0]))
        self._used.add(found)
        if fault := self._refused(found):
            return Entry(str(picture), fault=fault)
        return entry_of(str(picture), lambda: open_regular(found), str(found), self._data.caption_per)

    def _refused(self, path: Path) -> PictureError | None:
        """The fault of a path that leads out of the folder, where that is not asked for."""
        if not self._tree.leaves(path):
            return None
        sentence = f"{path} leads out of the folder {self._data.path}; copy it there, or set data.outside to true."
        return PictureError(Kind.OUTSIDE, sentence)

    def _passed_over(self) -> list[PassedOver]:
        unused = (path for path in self._tree.files if path not in self._used)
        found = [PassedOver(str(path), _kind_of_unused(path)) for path in unused]
        return [*self._tree.passed_over, *found]

    def _instead(self) -> str:
        """What else is there, for the one who has given another folder than the one that was meant."""
        names = [path.name for path in self._tree.files[:3]]
        return f" (but {', '.join(names)})" if names else ""


def _topmost(tree: Tree) -> list[Path]:
    """The lists of a folder: one of each subfolder that has any, unless a folder above it has one."""
    found: dict[Path, Path] = {}  # by their folders
    lists = [path for path in tree.files if path.name in LISTS]
    for listing in sorted(lists, key=lambda path: (len(path.parts), LISTS.index(path.name))):
        if found.keys().isdisjoint(listing.parents) and (tree.leaves(listing) or is_list(listing)):
            found[listing.parent] = listing
    return sorted(found.values())


def _missing(listing: Path, picture: Path, row: Row) -> PictureError:
    if "://" in row.name:
        return PictureError(
            Kind.MISSING, f"{row.where} has the address {row.name}; download the picture and write its file's name."
        )
    sentence = f"{listing} lists {picture}, which is not a file; correct its name, from the list's folder on, or remove"
    return PictureError(Kind.MISSING, f"{sentence} the line.")


def _kind_of_unused(path: Path) -> Kind:
    if path.suffix.lower() in SUFFIXES:
        return Kind.UNLISTED
    return Kind.SPARE if path.suffix.lower() in CAPTION_SUFFIXES else Kind.UNKNOWN
