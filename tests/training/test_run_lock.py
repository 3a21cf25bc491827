"""One process at a time trains in a folder, and whoever holds the lock lets go of it by dying."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llmdiff.cli import main
from llmdiff.errors import LLMDiffError
from llmdiff.training import train
from llmdiff.training.run_lock import LOCK, is_locked, locked
from tiny_base import Places
from training.test_run import interrupted, write_recipe

HOLD = """
import sys, time
from pathlib import Path
from llmdiff.training.run_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the lock of a folder."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.fault("run lock")
def test_a_second_run_and_a_resume_beside_a_running_one_are_refused(
    tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until it is killed: what it leaves of the lock is in nobody's way."""
    recipe = write_recipe(tmp_path, places)
    interrupted(recipe, monkeypatch)
    files = sorted((tmp_path / "run").rglob("*"))
    process = holder(tmp_path / "run")
    try:
        for arguments in (["train", recipe], ["train", recipe, "--resume"]):
            capsys.readouterr()
            assert main(arguments) == 1
            said = f"Process {process.pid} on {os.uname().nodename} is training in {tmp_path / 'run'}: wait until it"
            assert said in capsys.readouterr().err
        assert sorted(path for path in (tmp_path / "run").rglob("*") if path.name != LOCK) == files
        assert is_locked(tmp_path / "run")
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "run" / LOCK).is_file(), "a killed process leaves it"
    assert not is_locked(tmp_path / "run")
    assert train(recipe, resume=True)["steps"] == 4
    assert not (tmp_path / "run" / LOCK).exists()


@pytest.mark.fault("run lock")
def test_the_lock_is_let_go_of_after_an_error(tmp_path: Path) -> None:
    lock = tmp_path / "runs" / "fox" / LOCK
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locked(lock.parent):
            _ = lock.is_file() / 0
    assert list(tmp_path.iterdir()) == [], "nothing is left where nothing was written"


@pytest.mark.fault("run lock")
def test_two_threads_or_objects_of_one_process_exclude_each_other_too(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(LLMDiffError, match=f"Process {os.getpid()} "), locked(tmp_path):
        pytest.fail("two hold it")
    with locked(tmp_path):
        pass


@pytest.mark.fault("run lock")
def test_other_runs_in_the_same_place_are_let_alone(tmp_path: Path) -> None:
    with locked(tmp_path / "a"), locked(tmp_path / "b"), locked(tmp_path):
        assert (tmp_path / "a" / LOCK).is_file()


@pytest.mark.fault("run lock")
def test_a_file_system_without_locks_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS without its lock daemon answers."""
    fcntl = pytest.importorskip("fcntl")

    def flock(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match=r"file system without locks \(.*No locks available"), locked(tmp_path):
        assert not is_locked(tmp_path), "it cannot be known"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("run lock")
def test_who_looks_whether_a_run_is_alive_keeps_none_from_starting(tmp_path: Path) -> None:
    """And changes nothing: neither what the file says of who holds it, nor that it is there."""
    stopped, looks = threading.Event(), [0]

    def look() -> None:
        while not stopped.is_set():
            is_locked(tmp_path)
            looks[0] += 1

    watchers = [threading.Thread(target=look) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(20):
            with locked(tmp_path):
                assert is_locked(tmp_path)
                assert (tmp_path / LOCK).read_text().startswith(f"Process {os.getpid()} on ")
            assert not is_locked(tmp_path)
    finally:
        stopped.set()
        for watcher in watchers:
            watcher.join()
    assert looks[0] > 20
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("run lock")
def test_a_file_of_that_name_that_is_no_lock_is_no_run(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "nowhere")
    (tmp_path / LOCK).write_text("Process 1 on elsewhere")
    assert not is_locked(tmp_path)
