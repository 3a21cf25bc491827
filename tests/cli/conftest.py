"""Fixtures of the command line's tests."""

from pathlib import Path

import pytest

from cli.running import Result, Run
from llmdiff.cli import main


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `llmdiff` in an empty folder with an empty home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMDIFF_HOME", str(tmp_path / "home"))

    def call(*arguments: object) -> Result:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        return Result(status, *capfd.readouterr())

    return call
