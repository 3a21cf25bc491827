"""Stored pictures are identified by their bytes: whatever their place and times are, and whatever holds them."""

import io
import os
import pickle
import shutil
import sqlite3
import tarfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llmdiff import content
from llmdiff.content import ContentHashes, file_source, stamp
from llmdiff.data import Captioned, captioned
from llmdiff.data.config import DatasetData, FolderData, ShardData
from llmdiff.errors import LLMDiffError

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture(autouse=True)
def _old_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of this very moment are always read: here they count as settled, so that hints are what is tested."""
    monkeypatch.setattr(content, "_FRESH", 0)


def encoded(colour: tuple[int, int, int]) -> bytes:
    """A bitmap: those of one size have as many bytes."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "BMP")
    return file.getvalue()


def write_folder(place: Path, colours: list[tuple[int, int, int]]) -> Captioned:
    place.mkdir(exist_ok=True)
    for number, colour in enumerate(colours):
        (place / f"{number}.bmp").write_bytes(encoded(colour))
        (place / f"{number}.txt").write_text(f"picture {number}")
    return open_folder(place)


def open_folder(place: Path) -> Captioned:
    return captioned(FolderData(kind="folder", path=place), 8)


def write_shard(place: Path, colours: list[tuple[int, int, int]]) -> Captioned:
    place.mkdir(exist_ok=True)
    with tarfile.open(place / "0.tar", "w") as file:
        for number, colour in enumerate(colours):
            for name, data in ((f"{number}.bmp", encoded(colour)), (f"{number}.txt", b"a picture")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    return open_shard(place)


def open_shard(place: Path) -> Captioned:
    return captioned(ShardData(kind="webdataset", path=str(place)), 8)


def write_table(place: Path, colours: list[tuple[int, int, int]]) -> Captioned:
    """A parquet file with two columns of pictures: the second has them in the opposite order."""
    datasets = pytest.importorskip("datasets")
    place.mkdir(exist_ok=True)
    cells = [{"bytes": encoded(colour), "path": None} for colour in colours]
    columns = {"image": cells, "other": cells[::-1], "text": ["a"] * len(cells)}
    kinds = {"image": datasets.Image(), "other": datasets.Image(), "text": datasets.Value("string")}
    rows = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
    rows.to_parquet(str(place / "0.parquet"))
    return open_table(place)


def open_table(place: Path, **settings: Any) -> Captioned:
    return captioned(DatasetData.model_validate({"kind": "dataset", "path": str(place), **settings}), 8)


@pytest.fixture(params=["folder", "shard", "table", "table file", "stream"])
def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """A function that writes data and one that opens it."""
    monkeypatch.setenv("LLMDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    if "table" in request.param or request.param == "stream":
        datasets = pytest.importorskip("datasets")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    stream = {"streaming": True, "limit": 9}
    return {
        "folder": (write_folder, open_folder),
        "shard": (write_shard, open_shard),
        "table": (write_table, open_table),
        "table file": (write_table, lambda place: open_table(place / "0.parquet")),
        "stream": (write_table, lambda place: open_table(place, **stream)),
    }[request.param]


def identities(data: Captioned) -> list[str]:
    return [data.identity(i) for i in range(len(data))]


def pixels(data: Captioned) -> list[list[float]]:
    return [data.pixels(i)[:, 4, 4].tolist() for i in range(len(data))]


def set_times(place: Path, seconds: int) -> None:
    for path in place.rglob("*"):
        os.utime(path, (seconds, seconds))


@pytest.mark.fault("identity")
def test_what_is_written_over_with_equal_size_and_time_is_other_data(kind: tuple[Any, Any], tmp_path: Path) -> None:
    write, opened = kind
    place = tmp_path / "data"
    write(place, [RED, BLUE])
    set_times(place, 1000)
    before, seen = identities(opened(place)), pixels(opened(place))
    sizes = {path.name: path.stat().st_size for path in place.rglob("*")}
    write(place, [BLUE, RED])
    set_times(place, 1000)
    assert {path.name: path.stat().st_size for path in place.rglob("*")} == sizes
    assert identities(opened(place)) == before[::-1]
    assert pixels(opened(place)) == seen[::-1]


@pytest.mark.fault("identity")
@pytest.mark.parametrize(("write", "moved"), [(write_folder, False), (write_folder, True), (write_shard, False)])
def test_a_picture_that_changes_during_a_run_is_not_trained_on(write: Any, moved: bool, tmp_path: Path) -> None:
    """Whose latents are not kept, say, and which is read again and again; copies with new times are the same."""
    data = write(tmp_path / "data", [RED, BLUE])
    set_times(tmp_path / "data", 1000)
    assert len(set(identities(data))) == 2
    before = pixels(data)
    if moved:
        (tmp_path / "data").rename(tmp_path / "old")
        shutil.copytree(tmp_path / "old", tmp_path / "data")
    set_times(tmp_path / "data", 2000)
    assert pixels(data) == before
    write(tmp_path / "data", [BLUE, RED])
    set_times(tmp_path / "data", 2000)
    with pytest.raises(LLMDiffError, match="has changed since the run began"):
        pixels(data)


@pytest.mark.fault("identity")
def test_data_that_is_copied_moved_or_has_other_times_is_the_same(kind: tuple[Any, Any], tmp_path: Path) -> None:
    write, opened = kind
    place = tmp_path / "data"
    write(place, [RED, BLUE])
    before = identities(opened(place))
    shutil.copytree(place, tmp_path / "copy")
    assert identities(opened(tmp_path / "copy")) == before
    set_times(place, 5)
    assert identities(opened(place)) == before
    place.rename(tmp_path / "moved")
    assert identities(opened(tmp_path / "moved")) == before


@pytest.mark.fault("identity")
def test_pictures_that_are_swapped_by_renaming_are_swapped(tmp_path: Path) -> None:
    place = tmp_path / "data"
    data = write_folder(place, [RED, BLUE])
    set_times(place, 1000)
    before = identities(data)
    (place / "0.bmp").rename(place / "x")
    (place / "1.bmp").rename(place / "0.bmp")
    (place / "x").rename(place / "1.bmp")
    assert identities(data) == identities(open_folder(place)) == before[::-1]


@pytest.mark.fault("identity")
def test_another_column_or_split_of_a_table_is_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    place = tmp_path / "data"
    before = identities(write_table(place, [RED, BLUE]))
    for _ in range(2):
        assert identities(open_table(place, image="other")) == before[::-1]
        assert identities(open_table(place, split="train[1:]")) == before[1:]
        assert identities(open_table(place)) == before


@pytest.mark.fault("identity")
def test_a_file_that_a_cell_names_is_what_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    picture = tmp_path / "0.bmp"
    picture.write_bytes(encoded(RED))
    cells = [{"bytes": None, "path": str(picture)}, {"bytes": encoded(BLUE), "path": "1.bmp"}]
    table = tmp_path / "0.parquet"
    parquet.write_table(pyarrow.table({"image": cells, "text": ["a", "b"]}), table)
    before = identities(open_table(table))
    picture.write_bytes(encoded(BLUE))
    after = identities(open_table(table))
    assert before[0] != after[0] == after[1] == before[1]


def test_what_has_not_changed_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, path = tmp_path / "home" / "hashes", tmp_path / "file"
    path.write_bytes(b"one")
    read: list[object] = []
    plain = content._read
    monkeypatch.setattr(content, "_read", lambda source: read.append(source) or plain(source))
    sources = [file_source(path)]
    found = ContentHashes(database).of(sources)
    assert ContentHashes(database).of([file_source(path)]) == found
    assert len(read) == 1
    path.write_bytes(b"two")
    assert ContentHashes(database).of([file_source(path)]) != found
    assert len(read) == 2


@pytest.mark.fault("identity")
@pytest.mark.parametrize("damage", ["garbage", "empty", "flipped", "folder", "read-only"])
def test_a_damaged_database_of_hints_never_lies(tmp_path: Path, damage: str) -> None:
    database, path = tmp_path / "hashes", tmp_path / "file"
    path.write_bytes(b"one")
    (right,) = ContentHashes(database).of([file_source(path)])
    whole = database.read_bytes()
    digest = whole.index(str(right).encode())
    contents = {"garbage": [b"x" * 5000], "empty": [b""], "flipped": [], "folder": [], "read-only": [whole]}[damage]
    if damage == "flipped":
        contents = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in (digest, digest + 63, digest - 3)]
    for one in contents or [None]:
        if one is None:
            database.unlink()
            database.mkdir()
        else:
            database.write_bytes(one)
        if damage == "read-only":
            database.chmod(0o400)
        assert ContentHashes(database).of([file_source(path)]) == [right]


def test_a_damaged_database_is_begun_anew_and_a_locked_one_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "_PATIENCE", 0.1)
    database, path = tmp_path / "hashes", tmp_path / "one"
    path.write_bytes(b"one")
    database.write_bytes(b"garbage" * 999)
    found = ContentHashes(database).of([file_source(path)])
    with monkeypatch.context() as patch:
        patch.setattr(content, "_read", lambda source: pytest.fail("it is read again"))
        assert ContentHashes(database).of([file_source(path)]) == found
    with closing(sqlite3.connect(database)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        assert ContentHashes(database).of([file_source(path)]) == found


def test_a_file_of_this_moment_has_no_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert stamp(path) is not None
    monkeypatch.setattr(content, "_FRESH", 10**10)
    assert stamp(path) is None
    assert stamp(path, is_settled=True) is not None


def test_a_worker_process_gets_pictures_without_what_shows_progress(tmp_path: Path) -> None:
    write_folder(tmp_path, [RED, BLUE])
    shown: list[float] = []
    data = captioned(FolderData(kind="folder", path=tmp_path), 8, lambda title, share: shown.append(share))
    assert identities(pickle.loads(pickle.dumps(data))) == identities(data)
    assert shown == [0]


@pytest.mark.slow
@pytest.mark.fault("identity")
def test_a_folder_of_10000_pictures_that_was_moved_is_known_within_a_minute(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", [(n % 256, n // 256, 0) for n in range(10_000)])
    before = identities(open_folder(tmp_path / "data"))
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    shutil.rmtree(tmp_path / "data")
    started = time.perf_counter()
    assert identities(open_folder(tmp_path / "copy")) == before
    assert time.perf_counter() - started < 60
