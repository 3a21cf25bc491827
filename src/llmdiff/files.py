"""Files that are there whole or not at all, however the writing of them ends."""

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DRAFTS = ".*.part"
"""Pattern of the names of drafts: what a killed process may leave behind."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A draft beside `path`, to be written within this context; it takes the place of `path` once it is on the disk.

    If the context ends in an error, the draft is gone and `path` is as it was. Its folder is made if need be. The file
    has the permissions of any new one, by the user's umask, also where a library has written it for its owner alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / _draft_name(path, str(os.getpid()))
    try:
        draft.touch()
        mode = stat.S_IMODE(draft.stat().st_mode)
        yield draft
        draft.chmod(mode)
        with draft.open("r+b") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def drafts(path: Path) -> Iterator[Path]:
    """The drafts of `path`: those being written, and those that killed processes have left."""
    return path.parent.glob(_draft_name(path, "*"))


def share(folder: Path) -> None:
    """Gives the files of a folder the permissions of new ones, where a library has made them for their owner alone."""
    probe = folder / ".mode"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for path in folder.iterdir():
        if path.is_file():
            path.chmod(mode)


def readable(size: float) -> str:
    """A number of bytes for people: 3.9 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _draft_name(path: Path, process: str) -> str:
    """Short, whatever the name: a name that a file system just takes must not be too long with an ending."""
    return f".{process}.{zlib.crc32(path.name.encode(errors='replace')):08x}.part"
