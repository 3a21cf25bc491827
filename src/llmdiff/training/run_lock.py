"""The lock of a run's folder, which one process at a time holds; the system lets go of it when that process dies."""

import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from llmdiff.errors import LLMDiffError
from llmdiff.files import open_regular
from llmdiff.sources import reason

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "run.lock"
"""The lock's file: it tells who holds it, and is gone when a run has ended and not been killed."""
_LOOK = 0.3  # seconds, far longer than `is_locked` takes, after which a lock is held by a process that trains


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within it, no other process trains in a folder, which is made if need be and goes again if it stays empty.

    Args:
        folder: of a run; machines that share it see each other's locks where the file system knows any.

    Raises:
        LLMDiffError: Another process holds the lock, or the folder cannot be written.

    Example:
        >>> with locked(Path("runs/fox")):
        ...     Path("runs/fox/run.lock").exists()
        True
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _acquire(lock, folder)
    except PermissionError as error:
        raise LLMDiffError(f"There is no permission to write to {folder}: set folder to another path.") from error
    except OSError as error:
        raise LLMDiffError(f"The folder {folder} cannot be written ({reason(error)}).") from error
    try:
        yield
    finally:
        if lock.is_locked:
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # of those that are not empty
            for place in made:
                place.rmdir()


def is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of a folder now; the file that a killed one has left says nothing.

    Example:
        >>> with locked(Path("runs/fox")):
        ...     is_locked(Path("runs/fox"))
        True
        >>> is_locked(Path("runs/fox"))
        False
    """
    path = folder / LOCK
    try:
        if fcntl is None:
            return path.exists() and _is_refused(path)
        with open_regular(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # which closing it lets go of
    except BlockingIOError:
        return True
    except OSError:  # it is not there, or the file system has no locks
        return False
    return False


def _is_refused(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def _acquire(lock: FileLock, folder: Path) -> None:
    path = Path(lock.lock_file)
    try:
        lock.acquire(timeout=_LOOK, poll_interval=_LOOK / 10)
    except Timeout as error:
        holder = path.read_text(errors="replace").strip() or "another process"
        raise LLMDiffError(
            f"{holder} is training in {folder}: wait until it has ended, or set folder to another path."
        ) from error
    except OSError as error:
        if isinstance(error, PermissionError) or not path.exists():
            raise
        warnings.warn(
            f"{folder} is on a file system without locks ({reason(error)}): see to it that no other process trains "
            "there.",
            stacklevel=4,
        )
        path.unlink(missing_ok=True)  # it would look like one that a killed process has left
        return
    with suppress(OSError):  # it is held all the same
        path.write_text(f"Process {os.getpid()} on {socket.gethostname()}")
