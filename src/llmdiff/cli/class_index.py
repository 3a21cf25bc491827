"""transformers' index of its classes, which it makes from the text of all its modules at each start, kept on disk."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from llmdiff.errors import LLMDiffError
from llmdiff.files import written_whole
from llmdiff.home import home

Index = dict[frozenset[str], dict[str, set[str]]]
"""Names of classes by their module, by the libraries that they need."""

_FILE = "transformers_classes.json"
_LARGE = 100  # modules: to read fewer of them takes no time


def keep_index(host: ModuleType) -> None:
    """Has `transformers.utils.import_utils` take its index from disk, as long as no file has changed since it was made.

    Whatever is wrong with that file, it is made anew.
    """
    make: Callable[..., Index] = host.define_import_structure

    def kept(module_path: str, prefix: str | None = None) -> Index:
        path = Path(module_path)
        files = list(_files(path if path.is_dir() else path.parent))
        if len(files) < _LARGE:
            return make(module_path, prefix=prefix)
        key = hashlib.sha256(repr((str(path), prefix, sorted(files))).encode()).hexdigest()
        index = _read(key)
        if index is None:
            index = make(module_path, prefix=prefix)
            _write(key, index)
        return index

    vars(host)["define_import_structure"] = kept


def _files(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Path, time and size of each Python file in a folder and its folders."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                status = entry.stat()
                yield entry.path, status.st_mtime_ns, status.st_size
            elif entry.name != "__pycache__" and entry.is_dir():
                yield from _files(Path(entry.path))


def _read(key: str) -> Index | None:
    try:
        content = json.loads((home() / _FILE).read_bytes())
        if content["key"] != key:
            return None
        return {
            frozenset(needs): {name: set(classes) for name, classes in of.items()} for needs, of in content["index"]
        }
    except (OSError, LLMDiffError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _write(key: str, index: Index) -> None:
    rows: list[Any] = [
        [sorted(needs), {name: sorted(names) for name, names in of.items()}] for needs, of in index.items()
    ]
    with suppress(OSError, LLMDiffError), written_whole(home() / _FILE) as draft:
        draft.write_text(json.dumps({"key": key, "index": rows}), encoding="utf-8")
