"""Members of tar files, found once and then read where they lie; damage costs no more than the file is long."""

import errno
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from llmdiff.files import open_regular

FAULTS = (OSError, tarfile.TarError, ValueError, LookupError, TypeError, ArithmeticError, EOFError, RecursionError)
"""The errors of `tarfile` at damaged headers."""

_LONGEST_HEADER = 256_000  # bytes: of names and attributes
_MOST_PADDING = 2**20  # bytes: what tar puts behind the last member
_NO_NUMBER = re.compile(rb"\d{300}")  # tarfile takes the square of its length to find out


class Member(NamedTuple):
    """A part of a tar file, where its content lies."""

    shard: Path
    begin: int
    size: int
    name: str
    is_file: bool


def members_of(shard: Path) -> Iterator[Member]:
    """The members of a tar file but for its folders, up to where it is damaged.

    Raises:
        FAULTS: It is damaged there, or no tar file.
    """
    with open_regular(shard) as raw, tarfile.open(fileobj=cast(BinaryIO, _Bounded(raw)), mode="r:") as file:
        end = 0
        for member in file:
            if member.size < 0 or member.offset_data < end:
                raise tarfile.ReadError("a member begins before the end of the one before")
            end = member.offset_data
            vars(file)["members"].clear()  # which it would keep for random access
            if not member.isdir():
                whole = member.isreg() and not member.issparse()
                yield Member(shard, member.offset_data, member.size, member.name, whole)
        raw.seek(file.offset)
        if raw.read(_MOST_PADDING).strip(b"\0"):  # to tarfile damage is the end, too
            raise tarfile.ReadError("damaged, or several in one")


def opened(member: Member) -> BinaryIO:
    """A member as a file of its own, as far as it is there.

    Raises:
        OSError: It cannot be read, or is no file.
    """
    if not member.is_file:
        raise OSError(errno.EINVAL, "it is a link or a sparse file, not a plain one")
    return open_regular(member.shard, member.begin, member.size)


class _Bounded:
    """A file that gives `tarfile` headers only: no damaged length makes it read the rest of the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        found = self._file.read(size)
        if size > tarfile.BLOCKSIZE and _NO_NUMBER.search(found):
            raise tarfile.ReadError("a number of 300 digits")
        return found
