"""Data sets that Hugging Face `datasets` loads: parquet files of one's own, or the Hub's, whole or their first rows."""

import json
import logging
import os
import tarfile
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from llmdiff.content import Source, content_hashes, file_source, stamp
from llmdiff.data.cells import CellFiles, check_column
from llmdiff.data.config import DatasetData
from llmdiff.data.errors import PassedOver
from llmdiff.data.store import LARGEST_PICTURE_FILE, SUFFIXES, entry, of_sane_size
from llmdiff.errors import LLMDiffError
from llmdiff.files import is_there, written_whole
from llmdiff.hashing import json_hash, lines_hash
from llmdiff.home import home
from llmdiff.progress import Progress


class Table:
    """The rows of a data set.

    Raises:
        LLMDiffError: `datasets` is not installed, it cannot load the data set, or a column is not there.
    """

    def __init__(self, data: DatasetData) -> None:
        rows = _load(data)
        rows = rows.take(min(data.limit, len(rows))) if data.limit else rows
        self._column, self._files = data.image, CellFiles(data)
        self._images = _encoded(rows.select_columns([data.image]), data.image)
        texts = rows.select_columns(_text_columns(data))
        self.entries = [
            entry(f"row {number} of {data.path}", _texts(data, row), f"Row {number} of {data.path}")
            for number, row in enumerate(texts)
        ]
        if not self.entries:
            raise LLMDiffError(f"The data set {data.path} has no rows in its split {data.split}.")
        self.passed_over: list[PassedOver] = []
        files = [Path(file["filename"]) for file in rows.cache_files]
        self._place = f"{data.image} of {data.split} of {' '.join(map(str, files))}"
        self._stamp = " ".join(str(stamp(file, is_settled=True)) for file in files) or None
        self._outside = _rows_without_bytes(self._images, data.image)

    def open(self, index: int) -> BinaryIO:
        return self._files.open(self._images[index][self._column])

    def source(self, index: int) -> Source:
        if index in self._outside and (path := self._files.file(self._images[index][self._column])):
            return file_source(of_sane_size(path))
        return Source(f"{index} {self._place}", self._stamp, lambda: self.open(index))


def copied(data: DatasetData, report: Progress) -> Path:
    """A WebDataset shard in llmdiff's home with the first rows of a data set, fetched once and no others.

    A stream can only be read in order, and training reads in any order, again and again.

    Raises:
        LLMDiffError: As for `Table`, or the disk refuses the copy.
    """
    shard = home() / "datasets" / f"{_key(data)}.tar"
    if shard.exists():  # perhaps where nothing may be written
        return shard
    try:
        shard.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{shard}.lock"):  # of several processes that train together one copies
            if not shard.exists():
                _copy(data, shard, report)
    except OSError as error:
        raise LLMDiffError(f"The rows of {data.path} cannot be copied to {shard} ({error}).") from error
    return shard


def _copy(data: DatasetData, shard: Path, report: Progress) -> None:
    rows, limit, files = _load(data), data.limit or 0, CellFiles(data)
    with written_whole(shard) as draft, tarfile.open(draft, "w") as file:
        for number, row in enumerate(_explained(_encoded(rows, data.image).take(limit), data)):
            report(f"Copying rows of {data.path}", number / limit)
            _add(
                file, f"{number:09d}{_suffix(row[data.image])}", files.open(row[data.image]).read(LARGEST_PICTURE_FILE)
            )
            _add(file, f"{number:09d}.json", json.dumps({"text": _texts(data, row)}, default=repr).encode())


def _load(data: DatasetData) -> Any:
    """The `Dataset` of a split, or the `IterableDataset` where it is to be streamed."""
    try:
        from datasets import config, load_dataset
    except ImportError as error:
        raise LLMDiffError(
            "Data of kind dataset needs one more package: pip install 'llmdiff-adapter[data]'."
        ) from error
    logging.getLogger("datasets").setLevel(logging.CRITICAL)  # of errors, which it raises too
    _check_files(Path(data.path))
    options: dict[str, Any] = {"split": data.split, "streaming": data.streaming}
    if not data.streaming and (content := _local_content(data)):
        options["cache_dir"] = str(Path(config.HF_DATASETS_CACHE) / f"llmdiff-{content[:16]}")
    try:
        if Path(data.path).is_file():
            rows = load_dataset("parquet", data_files=data.path, **options)
        else:
            rows = load_dataset(data.path, data.name, revision=data.revision, **options)
    except Exception as error:  # those of `datasets`, of pyarrow and of the file systems that they read
        raise _refused(data, error) from error
    missing = {data.image, *_text_columns(data)} - set(rows.column_names or [])
    if missing:
        raise LLMDiffError(
            f"The data set {data.path} has no column {sorted(missing)[0]!r}; its columns are "
            f"{', '.join(rows.column_names or [])}: set data.image and data.text."
        )
    check_column(rows.features, data)
    return rows


def _check_files(place: Path) -> None:
    """Raises LLMDiffError unless every parquet file at a path is one: `datasets` would wait for a FIFO for ever."""
    found = place.rglob("*.parquet") if os.path.isdir(place) else [place] if is_there(place) else []  # noqa: PTH112 - never raises
    for path in found:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise LLMDiffError(f"{path} is a device, a FIFO or a socket, not a parquet file; remove it.")


def _explained(rows: Iterable[dict[str, Any]], data: DatasetData) -> Iterable[dict[str, Any]]:
    """The rows of a stream, with every error on the way as one sentence."""
    try:
        yield from rows
    except Exception as error:  # those of `datasets`, of pyarrow and of the file systems that they read
        raise _refused(data, error) from error


def _refused(data: DatasetData, error: Exception) -> LLMDiffError:
    first: BaseException = error
    while first.__cause__ is not None:  # `datasets` says of most errors no more than that there was one
        first = first.__cause__
    why = " ".join(str(first).split()).rstrip(".")[:300]
    return LLMDiffError(f"The data set {data.path} cannot be loaded ({why}).")


def _text_columns(data: DatasetData) -> list[str]:
    return [data.text] if isinstance(data.text, str) else data.text


def _texts(data: DatasetData, row: Mapping[str, Any]) -> list[Any]:
    """All captions of a row, from every column of them."""
    values = [row[column] for column in _text_columns(data)]
    return [text for value in values for text in (value if isinstance(value, list) else [value]) if text is not None]


def _encoded(rows: Any, column: str) -> Any:
    """The rows with pictures as they are stored: our own decoder says what is wrong with one."""
    from datasets import Image

    is_picture = isinstance((rows.features or {}).get(column), Image)
    return rows.cast_column(column, Image(decode=False)) if is_picture else rows


def _rows_without_bytes(rows: Any, column: str) -> frozenset[int]:
    """The rows whose cells hold no picture themselves, and may name a file; no cell that holds one is read."""
    from pyarrow import compute, types

    cells = rows.with_format("arrow")[:][column]
    if types.is_string(cells.type) or types.is_large_string(cells.type):
        return frozenset(range(len(cells)))
    if not types.is_struct(cells.type):
        return frozenset()
    return frozenset(compute.indices_nonzero(compute.is_null(compute.struct_field(cells, "bytes"))).to_pylist())


def _local_content(data: DatasetData) -> str | None:
    """A hash of all files of a data set on this machine; None of one on the Hub.

    What `datasets` has made of files is found by it, which itself goes by their names and times.
    """
    place = Path(data.path)
    if not is_there(place):
        return None
    files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    hashes = content_hashes().of([file_source(path) for path in files])
    if unread := next((one for one in hashes if isinstance(one, OSError)), None):
        raise _refused(data, unread)
    return lines_hash([str(path.relative_to(place)), digest] for path, digest in zip(files, hashes, strict=True))


def _suffix(value: Any) -> str:
    own = Path(str(value.get("path") or "")).suffix.lower() if isinstance(value, Mapping) else ""
    return own if own in SUFFIXES else ".jpg"


def _key(data: DatasetData) -> str:
    """A name by all that the copied rows depend on."""
    wanted = data.model_dump(include={"name", "split", "revision", "image", "text", "limit"})
    wanted["path"] = _local_content(data) or data.path
    if data.outside:
        wanted["outside"] = True
    return json_hash(wanted)[:16]


def _add(file: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    file.addfile(member, BytesIO(content))
