"""Tensors of many entries on disk, computed once: the files that latents and block terms are kept in.

A store is a folder; its name says what all entries depend on. Its files are chunks in the safetensors format, of many
entries each: tensors whose rows are the entries' one after the other, and an index in the metadata with every entry's
key, number of rows and hash. A chunk is there whole or not at all, so a killed process loses no more than the chunk
that it was at. Processes that fill one store at the same time share the chunks between them by file locks.

Chunks are mapped into memory. An entry's hash is checked when a process first reads it: the cost is in proportion to
what is read, and a run over terabytes starts at once. `Store.check` reads everything.

Letters in shapes: R rows of an entry, N rows of a chunk.
"""

import json
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from llmdiff.errors import LLMDiffError
from llmdiff.files import drafts, open_regular, readable, written_whole
from llmdiff.hashing import exact_hash, json_hash, text_hash

_INDEX = "index"  # one name, because the format does not keep the order of several, and equal chunks are equal files
_DAMAGE = (OSError, SafetensorError, ValueError, KeyError, TypeError)
Rows = dict[str, Tensor]


class Chunk(NamedTuple):
    """The entries of some keys together: tensors (N, ...) by name, and the number of rows of each key."""

    tensors: Rows
    lengths: list[int]


class _Place(NamedTuple):
    path: Path
    begin: int
    end: int
    digest: str


class Store:
    """Entries by key.

    Args:
        folder: made when the first chunk is written. A chunk in it that cannot be read is named in a warning and left
            out, so that its entries are computed anew.

    Example:
        >>> store = Store(Path("cache/squares"))
        >>> store.fill([["2", "3"]], lambda keys: Chunk({"x": torch.tensor([[4], [9]])}, [1, 1]), print)
        >>> store.get("3")["x"]
        tensor([[9]])
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[str, _Place] = {}
        self._tensors: dict[Path, Rows] = {}
        self._checked: set[str] = set()
        for path in self._chunks():
            self._add(path)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those keys, each once and in their order, of which there is no entry yet."""
        return [key for key in dict.fromkeys(keys) if key not in self._places]

    def get(self, key: str) -> Rows:
        """The tensors (R, ...) of an entry, mapped into memory and not to be changed.

        Raises:
            LLMDiffError: They are not what was written.
        """
        place = self._places[key]
        rows = self._rows(place)
        if key not in self._checked:
            if _hash(rows) != place.digest:
                raise LLMDiffError(
                    f"The cache file {place.path} is damaged at {key!r}: delete it, and it is computed anew."
                )
            self._checked.add(key)
        return rows

    def check(self) -> list[Path]:
        """Reads every entry, and deletes the chunks in which one is not what was written; returns their paths."""
        bad = {place.path for place in self._places.values() if _hash(self._rows(place)) != place.digest}
        for path in bad:
            path.unlink(missing_ok=True)
            self._tensors.pop(path)
            warnings.warn(f"The cache file {path} is damaged and is computed anew.", stacklevel=2)
        self._places = {key: place for key, place in self._places.items() if place.path not in bad}
        return sorted(bad)

    def fill(
        self, chunks: Sequence[Sequence[str]], compute: Callable[[Sequence[str]], Chunk], done: Callable[[int], None]
    ) -> None:
        """Writes one chunk for each list of keys; those that another process is at are waited for in the end.

        Args:
            chunks: keys that belong together. Runs that are to share the work must divide it alike.
            compute: from the keys of a chunk to what they have.
            done: called before every chunk with the number that are there already.

        Raises:
            LLMDiffError: The files cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._forget_locks()
            waiting = deque((keys, False) for keys in chunks)
            while waiting:
                done(len(chunks) - len(waiting))
                keys, patient = waiting.popleft()
                if not self._write(keys, compute, patient):
                    waiting.append((keys, True))
        except (OSError, SafetensorError) as error:
            raise LLMDiffError(
                f"The cache {self.folder} cannot be written ({error}): free disk space, or set cache.folder."
            ) from error

    def _write(self, keys: Sequence[str], compute: Callable[[Sequence[str]], Chunk], patient: bool) -> bool:
        """Sees to it that a chunk is there; False if another process is at it and this one is not patient."""
        path = self.folder / f"{json_hash(list(keys))[:16]}.safetensors"
        try:
            with _locked(path, patient):
                if not (path.exists() and self._add(path)):
                    for left in drafts(path):
                        left.unlink()
                    _save(path, keys, compute(keys))
                    self._add(path)
        except Timeout:
            return False
        return True

    def _forget_locks(self) -> None:
        """Deletes the locks of chunks that are there: a process was killed between the two."""
        for path in {place.path for place in self._places.values()}:
            with suppress(OSError):  # of a lock that is another user's
                path.with_suffix(".lock").unlink(missing_ok=True)

    def _chunks(self) -> Iterator[Path]:
        return iter(sorted(self.folder.glob("*.safetensors")))

    def _add(self, path: Path) -> bool:
        """Takes a chunk's entries into the index; False if it is damaged."""
        try:
            entries = _read_index(path)
        except PermissionError as error:
            raise LLMDiffError(_no_permission(path)) from error
        except _DAMAGE as error:
            warnings.warn(f"The cache file {path} is damaged ({error}) and is computed anew.", stacklevel=2)
            return False
        begin = 0
        for key, length, digest in entries:
            self._places[key] = _Place(path, begin, begin + length, digest)
            begin += length
        return True

    def _rows(self, place: _Place) -> Rows:
        if place.path not in self._tensors:
            self._tensors[place.path] = _mapped(place.path)
        return {name: tensor[place.begin : place.end] for name, tensor in self._tensors[place.path].items()}


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raises LLMDiffError unless the disk that a folder is or will be on has room for so many bytes."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise LLMDiffError(
            f"The {what} take {readable(needed)}, and {there} has {readable(free)} left: set cache.folder to another "
            "disk, or keep fewer with cache.terms or cache.latents."
        )


@contextmanager
def _locked(path: Path, patient: bool) -> Iterator[None]:
    """Within it, no other process is at this chunk; raises Timeout if one is, and this one is not patient.

    The lock's file goes while it is held, when the chunk is there: who comes later finds the chunk.
    """
    lock = FileLock(path.with_suffix(".lock"))
    with lock.acquire(blocking=patient):
        try:
            yield
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)


def _save(path: Path, keys: Sequence[str], chunk: Chunk) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in chunk.tensors.items()}
    parts = {name: tensor.split(chunk.lengths) for name, tensor in tensors.items()}
    hashes = [_hash({name: part[i] for name, part in parts.items()}) for i in range(len(keys))]
    index = json.dumps(list(zip(keys, chunk.lengths, hashes, strict=True)))
    with written_whole(path) as draft:
        save_file(tensors, draft, metadata={_INDEX: f"{text_hash(index)} {index}"})


def _read_index(path: Path) -> list[tuple[str, int, str]]:
    open_regular(path).close()  # safetensors takes a lack of permission for a lack of the file, and waits for a FIFO
    with safe_open(path, "pt") as file:
        expected, _, index = (file.metadata() or {})[_INDEX].partition(" ")
    if text_hash(index) != expected:
        raise ValueError("its index is not what was written")
    return [(key, length, digest) for key, length, digest in json.loads(index)]


def _mapped(path: Path) -> Rows:
    """A chunk's tensors, whose bytes are read from the disk when they are looked at."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except PermissionError as error:
        raise LLMDiffError(_no_permission(path)) from error
    except _DAMAGE as error:
        raise LLMDiffError(
            f"The cache file {path} cannot be read ({error}): run it again to compute it anew."
        ) from error


def _no_permission(path: Path) -> str:
    return (
        f"There is no permission to read the cache file {path}: ask its owner for it, or set cache.folder to another "
        "path."
    )


def _hash(rows: Rows) -> str:
    return exact_hash(sorted(rows.items()))[:32]
