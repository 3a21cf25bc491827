"""Files that are there whole or not at all, however the writing of them ends."""

import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DRAFTS = ".*.part"
"""Pattern of the names of drafts: what a killed process may leave behind."""


@contextmanager
def written_whole(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """A draft beside `path`, to be written within this context; it takes the place of `path` once it is on the disk.

    If the context ends in an error, the draft is gone and `path` is as it was. Its folder is made if need be.

    Args:
        path: the file.
        replace: whether it may take the place of another file.

    Raises:
        FileExistsError: there is such a file by then, whoever made it, and it is not to be replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / _draft_name(path, f"{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield draft
        with draft.open("r+b") as file:
            os.fsync(file.fileno())
        if not replace:
            path.open("x").close()  # takes the name, or fails if somebody else has it
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def drafts(path: Path) -> Iterator[Path]:
    """The drafts of `path`: those being written, and those that killed processes have left."""
    return path.parent.glob(_draft_name(path, "*"))


def readable(size: float) -> str:
    """A number of bytes for people: 3.9 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _draft_name(path: Path, writer: str) -> str:
    """Short, whatever the name: a name that a file system just takes must not be too long with an ending."""
    return f".{writer}.{zlib.crc32(path.name.encode(errors='replace')):08x}.part"
