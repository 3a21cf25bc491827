"""Fixtures of the base models' tests."""

import shutil
from pathlib import Path

import pytest

from adapter.tiny import build_sd


@pytest.fixture(scope="session")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a tiny Stable Diffusion; not to be changed."""
    folder = tmp_path_factory.mktemp("sd")
    build_sd().save_pretrained(folder)
    return folder


@pytest.fixture
def copy(sd: Path, tmp_path: Path) -> Path:
    """A folder of a tiny Stable Diffusion that a test may change."""
    return Path(shutil.copytree(sd, tmp_path / "base"))
