"""What files hold, as a hash, remembered so that what has not changed since then is not read again.

Data is identified by its bytes alone, wherever it lies and whenever it was written. Size, times and inode are a hint
that saves reading: the time of change (ctime) is set by the system and by no program, so a file that was written over,
or replaced by one of the same size and time, is read again.
"""

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from llmdiff.files import open_regular
from llmdiff.home import home

_FRESH = 2_000_000_000  # ns: within the resolution of a file system's clock, another change would have the same time
_AT_ONCE = 2**20  # bytes
_TABLE = "CREATE TABLE IF NOT EXISTS hashes (place BLOB PRIMARY KEY, entry TEXT) WITHOUT ROWID"
_INSERT = "INSERT OR REPLACE INTO hashes VALUES (?, ?)"
_PATIENCE = 2  # seconds, with another process that writes


class Source(NamedTuple):
    """Bytes to be hashed.

    Attributes:
        place: where they lie: a path, and what part of that file they are.
        stamp: of the files that they are read from, see `stamp`; None has them read every time.
        open: opens them.
    """

    place: str
    stamp: str | None
    open: Callable[[], BinaryIO]


def stamp(path: Path, is_settled: bool = False) -> str | None:
    """A text that is another one once a file has changed; None of a file that has changed this very moment.

    Args:
        path: of the file.
        is_settled: True of a file that nobody changes once it is there.

    Raises:
        OSError: There is no such file.
    """
    status = path.stat()
    if not is_settled and status.st_ctime_ns > time.time_ns() - _FRESH:
        return None
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def file_source(path: Path) -> Source:
    """A whole file.

    Raises:
        OSError: There is no such file.
    """
    return Source(str(path.absolute()), stamp(path), lambda: open_regular(path))


class ContentHashes:
    """SHA-256 hashes of sources, kept in a database that is a hint: without it, or with a damaged one, all is read.

    Args:
        database: its file, made on the first use; None keeps nothing.

    Example:
        >>> Path("fox.txt").write_bytes(b"a red fox")
        9
        >>> [found] = ContentHashes(None).of([file_source(Path("fox.txt"))])
        >>> found == hashlib.sha256(b"a red fox").hexdigest()
        True
    """

    def __init__(self, database: Path | None) -> None:
        self._database = database
        self._reads = self._writes = True
        self._known: dict[bytes, tuple[str, str]] = {}  # stamp and hash by place

    def of(self, sources: Sequence[Source]) -> list[str | OSError]:
        """The hash of each source, in hexadecimal; of one that cannot be read, the reason."""
        keys = [_key(source.place) for source in sources]
        self._recall([key for key in keys if key not in self._known])
        unknown = [n for n, source in enumerate(sources) if not self._is_known(keys[n], source)]
        read: dict[int, str | OSError] = {}
        if unknown:
            with ThreadPoolExecutor() as pool:  # hashing lets go of the interpreter
                read = dict(zip(unknown, pool.map(lambda n: _read(sources[n]), unknown), strict=True))
        new = {
            keys[n]: (stamp, digest)
            for n, digest in read.items()
            if isinstance(digest, str) and (stamp := sources[n].stamp) is not None
        }
        self._known |= new
        self._keep(new)
        return [read[n] if n in read else self._known[key][1] for n, key in enumerate(keys)]

    def _is_known(self, key: bytes, source: Source) -> bool:
        return source.stamp is not None and self._known.get(key, ("", ""))[0] == source.stamp

    def _recall(self, keys: Sequence[bytes]) -> None:
        """Takes what the database has into memory; one that cannot be read is left alone from then on."""
        if not keys or not self._reads or self._database is None or not self._database.is_file():
            return
        self._reads = self._use(lambda connection: self._known.update(_found(connection, keys)))

    def _keep(self, new: dict[bytes, tuple[str, str]]) -> None:
        """Writes into the database; one that cannot be written is only read from then on."""
        if not new or not self._writes or self._database is None:
            return
        rows = [(key, _written(key, *entry)) for key, entry in new.items()]
        with suppress(OSError):
            self._database.parent.mkdir(parents=True, exist_ok=True)
            self._database.touch()  # with the user's umask, which SQLite does not ask
        self._writes = self._use(lambda connection: connection.executemany(_INSERT, rows))

    def _use(self, work: Callable[[sqlite3.Connection], object]) -> bool:
        """Does some work in a transaction; False if the database cannot be used. A damaged one is begun anew."""
        assert self._database is not None
        try:
            with closing(sqlite3.connect(self._database, timeout=_PATIENCE)) as connection, connection:
                connection.execute(_TABLE)
                work(connection)
        except (sqlite3.OperationalError, OSError, ValueError):
            return False
        except sqlite3.DatabaseError:
            with suppress(OSError):
                self._database.unlink()
        return True


def content_hashes() -> ContentHashes:
    """The hashes that are kept in llmdiff's home."""
    try:
        return _kept_in(home() / "hashes.sqlite")
    except RuntimeError:  # there is no home
        return ContentHashes(None)


@cache
def _kept_in(database: Path) -> ContentHashes:
    return ContentHashes(database)


def _found(connection: sqlite3.Connection, keys: Sequence[bytes]) -> Iterator[tuple[bytes, tuple[str, str]]]:
    for key in keys:
        row = connection.execute("SELECT entry FROM hashes WHERE place = ?", (key,)).fetchone()
        if row is not None and (entry := _parsed(key, row[0])) is not None:
            yield key, entry


def _read(source: Source) -> str | OSError:
    try:
        with source.open() as file:
            digest = hashlib.sha256()
            while part := file.read(_AT_ONCE):
                digest.update(part)
            return digest.hexdigest()
    except OSError as error:
        return error


def _key(place: str) -> bytes:
    return hashlib.blake2b(place.encode(errors="surrogatepass"), digest_size=16).digest()


def _written(key: bytes, stamp: str, digest: str) -> str:
    """An entry with a checksum of its own, which SQLite does not keep."""
    text = f"{stamp}/{digest}"
    return f"{text}/{hashlib.blake2b(key + text.encode(), digest_size=8).hexdigest()}"


def _parsed(key: bytes, entry: object) -> tuple[str, str] | None:
    """Stamp and hash of an entry; None if it is not as it was written."""
    match str(entry).split("/"):
        case [stamp, digest, _] if _written(key, stamp, digest) == entry:
            return stamp, digest
    return None
