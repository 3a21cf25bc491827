"""The lock of a run's folder, which one process at a time holds; the system lets go of it when that process dies."""

import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from llmdiff.errors import LLMDiffError
from llmdiff.sources import reason

LOCK = "run.lock"
"""The lock's file: it tells who holds it, and is gone when a run has ended and not been killed."""


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


def _acquire(lock: FileLock, folder: Path) -> None:
    path = Path(lock.lock_file)
    try:
        lock.acquire(blocking=False)
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
        return
    with suppress(OSError):  # it is held all the same
        path.write_text(f"Process {os.getpid()} on {socket.gethostname()}")
