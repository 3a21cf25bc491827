"""Fixtures of the tests of data."""

from pathlib import Path

import pytest

from data.folders import picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture(tmp_path / "data" / "a.png", "a")
    return tmp_path / "data"
