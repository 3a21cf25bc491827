"""Chunks on disk: what is written comes back, damage is found and named, and processes that meet share the work."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmdiff.errors import LLMDiffError
from llmdiff.files import written_whole
from llmdiff.precompute.store import Chunk, Store, check_room
from new_processes import NEW

CHUNKS = [[f"{n}.{i}" for i in range(1 + n % 3)] for n in range(12)]
KEYS = [key for chunk in CHUNKS for key in chunk]


def value(key: str) -> Tensor:
    """One to four rows of numbers that belong to a key alone."""
    rng = torch.Generator().manual_seed(sum(map(ord, key)) * 31 + len(key))
    return torch.randn(1 + len(key) % 4, 3, generator=rng)


def compute(keys: Sequence[str]) -> Chunk:
    values = [value(key) for key in keys]
    return Chunk({"x": torch.cat(values).half(), "norm": torch.cat(values).norm(dim=1)}, [len(v) for v in values])


def ignore(done: int) -> None:
    """Tells nobody."""


def filled(folder: Path) -> Store:
    store = Store(folder)
    store.fill(CHUNKS, compute, ignore)
    return store


def assert_right(store: Store) -> None:
    for key in KEYS:
        rows = store.get(key)
        assert torch.equal(rows["x"], value(key).half())
        assert torch.equal(rows["norm"], value(key).norm(dim=1))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_written_comes_back_here_and_in_another_store(tmp_path):
    told: list[int] = []
    store = Store(tmp_path / "s")
    assert store.missing([*KEYS, KEYS[0]]) == KEYS
    store.fill(CHUNKS, compute, told.append)
    assert told == list(range(12))
    assert_right(store)
    again = Store(tmp_path / "s")
    assert again.missing([*KEYS, "new"]) == ["new"]
    assert_right(again)
    assert {path.suffix for path in (tmp_path / "s").iterdir()} == {".safetensors"}


def test_entries_are_mapped_and_not_read(tmp_path):
    store = filled(tmp_path)
    store.get(KEYS[0])
    assert str(tmp_path) in Path("/proc/self/maps").read_text()


def complaint_at(store: Store, key: str) -> str:
    """What is said of a damaged entry; nothing of a good one."""
    try:
        store.get(key)
    except LLMDiffError as error:
        return str(error)
    return ""


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_flipped_byte_is_found_and_named(tmp_path):
    chunk = sorted(filled(tmp_path).folder.iterdir())[3]
    flip(chunk, chunk.stat().st_size - 1)
    complaints = {key: complaint for key in KEYS if (complaint := complaint_at(Store(tmp_path), key))}
    assert len(complaints) == 1
    for key, text in complaints.items():
        assert text == f"The cache file {chunk} is damaged at {key!r}: delete it, and it is computed anew."
    chunk.unlink()
    assert_right(filled(tmp_path))


@pytest.mark.filterwarnings("ignore:The cache file")
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_whichever_byte_is_flipped_nothing_wrong_comes_back(tmp_path, share):
    chunk = sorted(filled(tmp_path).folder.glob("*.safetensors"))[0]
    whole = chunk.read_bytes()
    flip(chunk, int(share * len(whole)))
    store = Store(tmp_path)
    for key in KEYS:
        if key in store:
            complaint = complaint_at(store, key)
            assert str(chunk) in complaint if complaint else torch.equal(store.get(key)["x"], value(key).half())
    chunk.write_bytes(whole)


def test_a_full_check_deletes_what_is_damaged_and_it_is_computed_anew(tmp_path):
    before = contents(filled(tmp_path).folder)
    chunks = sorted(tmp_path.iterdir())
    for n in (2, 7):
        flip(chunks[n], chunks[n].stat().st_size - 3)
    store = Store(tmp_path)
    with pytest.warns(UserWarning, match="is damaged and is computed anew"):
        assert store.check() == [chunks[2], chunks[7]]
    assert 2 <= len(store.missing(KEYS)) <= 6
    assert_right(filled(tmp_path))
    assert contents(tmp_path) == before
    assert Store(tmp_path).check() == []


@pytest.mark.parametrize("size", [0, 5, 100])
def test_a_chunk_that_was_cut_short_is_told_and_computed_anew(tmp_path, size):
    before = contents(filled(tmp_path).folder)
    chunk = sorted(tmp_path.iterdir())[0]
    chunk.write_bytes(chunk.read_bytes()[:size])
    with pytest.warns(UserWarning, match=f"{chunk} is damaged"):
        assert Store(tmp_path).missing(KEYS)
    with pytest.warns(UserWarning, match=f"{chunk} is damaged"):
        filled(tmp_path)
    assert contents(tmp_path) == before


def test_an_error_while_computing_leaves_what_is_there_and_no_more(tmp_path):
    def fail(keys: Sequence[str]) -> Chunk:
        if keys == CHUNKS[3]:
            raise OSError(28, "No space left on device")
        return compute(keys)

    with pytest.raises(LLMDiffError, match=r"cannot be written .*No space left.* set cache\.folder\.$"):
        Store(tmp_path).fill(CHUNKS, fail, ignore)
    assert len(list(tmp_path.iterdir())) == 3
    assert_right(filled(tmp_path))


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path):
    check_room(tmp_path / "not" / "there", 1, "latents")
    with pytest.raises(LLMDiffError, match=r"The latents take 1e\+06 TB, and .* has .* left: set cache\.folder"):
        check_room(tmp_path / "not" / "there", 10**18, "latents")
    assert list(tmp_path.iterdir()) == []


def _fill_slowly(folder: str, pause: float) -> None:
    """What a second process does: every chunk that it computes leaves a line in a file of its own."""

    def slow(keys: Sequence[str]) -> Chunk:
        time.sleep(pause)
        with Path(folder).with_suffix(f".{os.getpid()}").open("a") as file:
            file.write(f"{keys[0]}\n")
        return compute(keys)

    Store(Path(folder)).fill(CHUNKS, slow, ignore)


def _computed(folder: Path) -> list[list[str]]:
    return [path.read_text().split() for path in folder.parent.glob(f"{folder.name}.*")]


def test_two_processes_share_the_chunks_and_corrupt_nothing(tmp_path):
    folder, alone = tmp_path / "shared", tmp_path / "alone"
    processes = [NEW.Process(target=_fill_slowly, args=(str(folder), 0.2)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    shares = _computed(folder)
    assert sorted(key for share in shares for key in share) == sorted(chunk[0] for chunk in CHUNKS)
    assert contents(folder) == contents(filled(alone).folder)


def test_what_a_killed_process_was_at_is_computed_by_the_next_to_the_same_bytes(tmp_path):
    folder, alone = tmp_path / "killed", tmp_path / "alone"
    process = NEW.Process(target=_fill_slowly, args=(str(folder), 0.3))
    process.start()
    while len(list(folder.glob("*.safetensors"))) < 3:
        assert process.is_alive()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    there = len(list(folder.glob("*.safetensors")))
    assert 3 <= there < 12
    computed: list[Sequence[str]] = []

    def counted(keys: Sequence[str]) -> Chunk:
        computed.append(keys)
        return compute(keys)

    Store(folder).fill(CHUNKS, counted, ignore)
    assert len(computed) == 12 - there
    assert contents(folder) == contents(filled(alone).folder)


def test_the_draft_of_a_killed_process_is_cleared_away(tmp_path):
    before = contents(filled(tmp_path).folder)
    chunk = sorted(tmp_path.iterdir())[0]
    with written_whole(chunk) as draft:
        draft.write_bytes(chunk.read_bytes())
        left = draft.with_name(draft.name.replace(f".{os.getpid()}.", ".99999999."))
        left.write_bytes(b"half")
    chunk.unlink()
    assert_right(filled(tmp_path))
    assert contents(tmp_path) == before
