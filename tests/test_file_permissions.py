"""Files have the permissions that the user's umask gives."""

import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from llmdiff.files import share, written_whole


@pytest.mark.fault("umask")
@pytest.mark.parametrize("bits", [0o002, 0o022, 0o077])
def test_files_have_the_permissions_of_new_ones_whoever_writes_them(tmp_path: Path, bits: int) -> None:
    """Safetensors makes its files for their owner alone."""
    before = os.umask(bits)
    try:
        with written_whole(tmp_path / "x") as draft:
            save_file({"x": torch.ones(1)}, draft)
        save_file({"x": torch.ones(1)}, tmp_path / "y")
        share(tmp_path)
    finally:
        os.umask(before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~bits}
