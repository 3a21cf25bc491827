"""Files that are there whole or not at all, however the writing of them ends, and reading that always ends."""

import errno
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

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


def share(folder: Path) -> None:
    """Gives the files of a folder the permissions of new ones, where a library has made them for their owner alone."""
    probe = folder / ".mode"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for path in folder.iterdir():
        if path.is_file():
            path.chmod(mode)


def drafts(path: Path) -> Iterator[Path]:
    """The drafts of `path`: those being written, and those that killed processes have left."""
    return path.parent.glob(_draft_name(path, "*"))


def open_regular(path: Path) -> BinaryIO:
    """A file opened to be read; a folder, a FIFO or a device is refused, since reading one may never end.

    Raises:
        OSError: It cannot be read; `why_not` says why.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a device, a FIFO or a socket", str(path))
    return path.open("rb")


def read_text(path: Path, most: int) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        OSError: It cannot be read, or has more than `most` bytes.
        UnicodeDecodeError: It is not UTF-8.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {readable(most)}", str(path))
    return content.decode("utf-8-sig")


def why_not(error: OSError | UnicodeError) -> str:
    """Why a file cannot be read, in words for the one who owns it and without its name."""
    if isinstance(error, PermissionError):
        return "no permission"
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    return " ".join((error.strerror or str(error)).split()).rstrip(".")


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
