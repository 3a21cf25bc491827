"""All that is in a folder and its subfolders: files to choose from, and what is passed over."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from llmdiff.data.errors import Kind, PassedOver

_SYSTEMS_OWN = frozenset(
    [
        "__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "thumbs.db",
        "ehthumbs.db", "desktop.ini", ".ds_store", ".appledouble", ".spotlight-v100", ".trashes", ".fseventsd",
    ]
)  # fmt: skip
"""Names, in lower case, of what Mac, Windows and NAS systems put beside their users' files."""


def special_kind(name: str) -> Kind | None:
    """The kind of a name that nobody gives to a picture: a system's own, or a hidden one; None of any other."""
    if name.lower() in _SYSTEMS_OWN or name.startswith("._"):
        return Kind.COMPANION
    return Kind.HIDDEN if name.startswith(".") else None


class Tree:
    """The files of a folder and its subfolders, which are found by their names however those are written.

    Args:
        root: the folder.
        outside: whether to go where links lead.

    Attributes:
        root: the folder, absolute.
        files: all of them, in order, but hidden ones and those that systems make for themselves.
        passed_over: those, and linked folders.
        unreadable: folders that could not be read.
    """

    def __init__(self, root: Path, outside: bool) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - as it is written, whatever is a link
        self._outside = outside
        self.passed_over: list[PassedOver] = []
        self.unreadable: list[tuple[Path, OSError]] = []
        self.files: list[Path] = sorted(self._walk())
        self._known = set(self.files)
        self._alike: defaultdict[tuple[str, str], list[Path]] = defaultdict(list)
        for path in self.files:
            self._alike[_likeness(path)].append(path)

    def find(self, path: Path) -> Path | None:
        """The file at a path, or that of the same name in another Unicode form or with `.JPG` for `.jpg`."""
        path = Path(os.path.normpath(self.root / path))
        if path in self._known:
            return path
        alike = self._alike.get(_likeness(path))
        if alike:
            return alike[0]
        return path if os.path.lexists(path) else None

    def leaves(self, path: Path) -> bool:
        """True if a path leads out of the folder, by `..` or by a link, where that is not asked for."""
        if self._outside or (path in self._known and not os.path.islink(path)):  # noqa: PTH114 - never raises
            return False
        try:
            return not path.resolve().is_relative_to(self.root.resolve())
        except (OSError, RuntimeError, ValueError):  # a circle of links, or no possible path: leads nowhere
            return False

    def _walk(self) -> Iterable[Path]:
        seen = {self.root.resolve()}
        for name, folders, files in os.walk(self.root, onerror=self._note_unreadable, followlinks=self._outside):
            place = Path(name)
            folders[:] = [one for one in folders if self._is_entered(place / one, seen)]
            for file in files:
                kind = special_kind(file)
                if kind is None:
                    yield place / file
                else:
                    self.passed_over.append(PassedOver(str(place / file), kind))

    def _is_entered(self, folder: Path, seen: set[Path]) -> bool:
        kind = special_kind(folder.name)
        if kind is None and folder.is_symlink() and not (self._outside and folder.resolve() not in seen):
            kind = Kind.LINKED
        if kind is not None:
            self.passed_over.append(PassedOver(str(folder), kind))
            return False
        if self._outside:
            seen.add(folder.resolve())
        return True

    def _note_unreadable(self, error: OSError) -> None:
        self.unreadable.append((Path(str(error.filename)), error))


def _likeness(path: Path) -> tuple[str, str]:
    stem, suffix = os.path.splitext(path)  # noqa: PTH122 - of any name
    return unicodedata.normalize("NFC", stem), suffix.lower()
