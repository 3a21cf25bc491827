"""Files that are there whole or not at all."""

import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from llmdiff.files import DRAFTS, drafts, readable, share, written_whole


def test_the_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.bin"
    with written_whole(path) as draft:
        draft.write_bytes(b"whole")
        assert not path.exists()
        assert list(path.parent.glob(DRAFTS)) == [draft]
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def fail() -> None:
        with written_whole(path) as draft:
            draft.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_name_that_a_file_system_takes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 125 + ".png")
    with written_whole(path) as draft:
        draft.write_bytes(b"x")
    assert path.is_file()


def test_the_drafts_of_a_file_are_known_whoever_has_left_them(tmp_path: Path) -> None:
    mine, other = tmp_path / "x.bin", tmp_path / "y.bin"
    with written_whole(mine) as draft, written_whole(other) as foreign:
        draft.write_bytes(b"half")
        foreign.write_bytes(b"half")
        left = draft.with_name(draft.name.replace(f".{os.getpid()}.", ".99999999."))
        left.write_bytes(b"half")
        assert set(drafts(mine)) == {draft, left}


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (3.9e9, "3.9 GB"), (2e15, "2e+03 TB")]
)
def test_sizes_for_people(size: float, text: str) -> None:
    assert readable(size) == text


@pytest.mark.fault("umask")
@pytest.mark.parametrize("bits", [0o002, 0o022, 0o077])
def test_files_have_the_permissions_of_new_ones_whoever_writes_them(tmp_path: Path, bits: int) -> None:
    """Safetensors makes its files for their owner alone."""
    before = os.umask(bits)
    try:
        with written_whole(tmp_path / "x") as draft:
            draft.unlink()
            draft.write_bytes(b"whole")
            draft.chmod(0o600)
        save_file({"x": torch.ones(1)}, tmp_path / "y")
        share(tmp_path)
    finally:
        os.umask(before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~bits}
