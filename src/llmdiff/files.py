"""Files that are there whole or not at all, however the writing of them ends, and reading that always ends."""

import errno
import io
import os
import secrets
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from llmdiff.errors import LLMDiffError
from llmdiff.texts import decoded

DRAFTS = ".*.part"
"""Pattern of the names of drafts: what a killed process may leave behind."""


@contextmanager
def written_whole(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """A draft beside `path`, to be written within this context; it takes the place of `path` once it is on the disk.

    If the context ends in an error, the draft is gone and `path` is as it was. Its folder is made if need be. The file
    has the permissions of any new one, by the user's umask, also where a library has written it for its owner alone.

    Args:
        path: the file.
        replace: whether it may take the place of another file.

    Raises:
        FileExistsError: there is such a file by then, whoever made it, and it is not to be replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / _draft_name(path, f"{os.getpid()}-{secrets.token_hex(4)}")
    try:
        draft.touch()
        mode = stat.S_IMODE(draft.stat().st_mode)
        yield draft
        draft.chmod(mode)
        with draft.open("r+b") as file:
            os.fsync(file.fileno())
        if not replace:
            path.open("x").close()  # takes the name, or fails if somebody else has it
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


def drop_oldest(folder: Path, limit: int) -> None:
    """Removes the files of a folder that were not used for longest, until those that stay have at most `limit` bytes.

    A killed process's drafts are among them. Several processes may do so at once.
    """
    files = sorted(_last_uses(folder))
    total = sum(size for _, size, _ in files)
    for _, size, path in files:
        if total <= limit:
            return
        path.unlink(missing_ok=True)
        total -= size


def _last_uses(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """The time of each file's last use, its size and its path."""
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):  # another process has dropped it
            status = entry.stat()
            yield status.st_mtime, status.st_size, Path(entry.path)


def open_regular(path: Path, begin: int = 0, size: int | None = None) -> BinaryIO:
    """A file, or a part of one, opened to be read; a folder, a FIFO or a device, reading which may never end, is not.

    However many bytes are asked for, memory is taken for those only that are there.

    Args:
        path: of the file.
        begin: the first byte of the part.
        size: the bytes of the part; None is all that follow.

    Raises:
        OSError: It cannot be read; `why_not` says why.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a device, a FIFO or a socket", str(path))
    left = max(0, status.st_size - begin)
    size = left if size is None else min(size, left)
    file = io.FileIO(path)
    return _Reader(_Part(file, begin, size) if begin or size < left else file, size)


class _Reader(io.BufferedReader):
    """Python's, which else takes memory for all that it is asked for."""

    def __init__(self, raw: io.RawIOBase, size: int) -> None:
        super().__init__(raw)
        self._size = size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


class _Part(io.RawIOBase):
    """Some of the bytes of a file as a file."""

    def __init__(self, file: io.FileIO, begin: int, size: int) -> None:
        self._file, self._begin, self._size, self._place = file, begin, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if place < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._place = place
        return place

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._begin + self._place)
        wanted = memoryview(buffer)[: max(0, self._size - self._place)]
        count = self._file.readinto(wanted) if len(wanted) else 0
        self._place += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def is_there(path: Path) -> bool:
    """True if a path leads anywhere.

    Raises:
        LLMDiffError: That cannot be known, for lack of a permission say.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        raise LLMDiffError(f"{path} cannot be read ({why_not(error)}); check its permissions and its name.") from error
    return True


def read_text(file: BinaryIO, most: int) -> str:
    """The text of a file, which is closed, as `decoded` has it.

    Raises:
        OSError: It cannot be read, or has more than `most` bytes.
        UnicodeError: It is not UTF-8.
    """
    with file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {readable(most)}")
    return decoded(content)


def why_not(error: OSError | UnicodeError) -> str:
    """Why a file cannot be read, in words for the one who owns it and without its name."""
    if isinstance(error, PermissionError):
        return "no permission"
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, UnicodeError):
        return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
    return " ".join((error.strerror or str(error)).split()).rstrip(".")


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
