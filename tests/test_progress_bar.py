"""Progress on stderr, where that is a terminal and where it is a file."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from llmdiff import progress_bar as module
from llmdiff.cli import main
from llmdiff.progress_bar import progress_bar
from tiny_base import Places
from training.test_run import write_recipe

Err = Callable[[], str]


@pytest.fixture
def err(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Err:
    """What has been printed on stderr, which is a file, by a line every 20 ms."""
    monkeypatch.setattr(module, "_SOONEST", 0.02)
    monkeypatch.setattr(module, "_LATEST", 0.02)
    return lambda: capfd.readouterr().err


def wait_for(err: Err, *words: str) -> str:
    """What was printed until all these words were."""
    end, seen = time.monotonic() + 20, ""
    while not all(word in seen for word in words):
        assert time.monotonic() < end, seen
        time.sleep(0.01)
        seen += err()
    return seen


def test_a_file_gets_lines_without_anything_that_steers_a_terminal(err: Err) -> None:
    with progress_bar() as progress:
        progress("Reading\x1b[2J, [bold]1[/] of 4", 0.25)
        time.sleep(0.05)
        progress("Reading\x1b[2J, [bold]2[/] of 4", 0.5)
        time.sleep(0.05)
        progress("Reading\x1b[2J, [bold]3[/] of 4", 0.75)
        seen = wait_for(err, "75 %, 0:00:01 left")
    assert "progress: Reading�[2J, [bold]3[/] of 4, 75 %, 0:00:01 left\n" in seen
    assert all(line.isprintable() for line in seen.splitlines())


def test_a_stage_that_reports_nothing_is_seen_to_go_on(err: Err) -> None:
    with progress_bar() as progress:
        progress("Loading the models", 0.0)
        assert wait_for(err, "Loading").count("\n") >= 1
        assert wait_for(err, "Loading").count("\n") >= 1


def test_what_is_done_within_other_work_speaks_for_it(err: Err) -> None:
    with progress_bar() as outer:
        outer("Loading", 0.0)
        with progress_bar() as inner:
            inner("Downloading", 0.5)
            wait_for(err, "Downloading")
            wait_for(err, "Downloading")
            time.sleep(0.1)
            assert "Loading" not in err()
        wait_for(err, "Loading")


def test_the_time_that_is_left_is_by_the_pace_of_the_stage(err: Err) -> None:
    """A run that goes on from its middle has not come there in the seconds since it was started."""
    with progress_bar() as progress:
        progress("Loading the models", 0.0)
        time.sleep(0.1)
        for step in range(500, 504):
            progress(f"Training, step {step} of 1,000, loss 0.{step}", step / 1000)
            time.sleep(0.1)
        seen = wait_for(err, "step 503")
    assert any(f"step 503 of 1,000, loss 0.503, 50 %, 0:00:{seconds} left" in seen for seconds in range(48, 60)), seen


def test_short_work_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        progress("Drawing", 0.5)
    assert capfd.readouterr() == ("", "")


def test_only_the_first_of_several_processes_speaks(err: Err, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with progress_bar() as progress:
        progress("Drawing", 0.5)
        time.sleep(0.2)
    assert err() == ""


def test_a_terminal_gets_a_bar(err: Err, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(module, "errors", Console(file=terminal, force_terminal=True, width=80, _environ={}))
    with progress_bar() as progress:
        progress("Drawing", 0.5)
        time.sleep(0.2)
    assert "Drawing" in terminal.getvalue()
    assert "50%" in terminal.getvalue()
    assert err() == ""


def test_a_run_whose_output_goes_into_a_file(err: Err, tmp_path: Path, places: Places) -> None:
    assert main(["train", write_recipe(tmp_path, places), "-o", "samples=[]", "-o", "loop.steps=8"]) == 0
    seen = err()
    assert "progress: Training, step " in seen
    assert " of 8, loss " in seen
    assert all(line.isprintable() for line in seen.splitlines())
