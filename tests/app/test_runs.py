"""Runs as they are read from their folders."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmdiff.app.runs import LOG, names_of_runs, read_run, stamp
from llmdiff.errors import LLMDiffError
from llmdiff.training.run_lock import LOCK, locked

ROWS = [
    {"step": 10, "loss": 0.5, "rate": 1e-3},
    {"step": 20, "loss": 0.4, "rate": 1e-3, "heldout/σ0.9/adapter": 0.3, "heldout/σ0.9/base": 0.6},
    {"step": 30, "loss": None, "heldout/σ0.1/adapter": 1.2, "heldout/σ0.1/base": 1.0},
    {"step": 40, "loss": 0.2, "heldout/σ0.9/adapter": 0.2, "heldout/σ0.9/base": 0.6},
]


def write_run(folder: Path, rows: list[dict[str, object]] = ROWS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOG).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_figures_of_a_run_are_those_of_its_log(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "fox" / "first")
    (folder / "recipe.json").write_text('{"loop": {"steps": 100}}')
    assert names_of_runs(tmp_path) == ["fox/first"]
    run = read_run(tmp_path, "fox/first")
    assert run.losses()[["step", "loss"]].values.tolist() == [[10, 0.5], [20, 0.4], [40, 0.2]]
    assert set(run.losses()["run"]) == {"fox/first"}
    assert run.validation().values.tolist() == [[30, 1.2, "σ 0.1"], [20, 0.3, "σ 0.9"], [40, 0.2, "σ 0.9"]]
    assert run.levels() == [("0.1", 1.2, 1.0), ("0.9", 0.2, 0.6)]
    assert run.state() == {"step": "40 of 100", "loss": "0.2000", "state": "not training", "adapter": "none yet"}


def test_long_curves_are_means_of_neighbours(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [{"step": n, "loss": float(n % 2)} for n in range(1, 2001)])
    losses = read_run(tmp_path, "run").losses()
    assert len(losses) <= 400
    assert losses["loss"].mean() == pytest.approx(0.5, abs=0.11)
    assert losses["step"].is_monotonic_increasing


def test_sample_sheets_come_newest_first(tmp_path: Path) -> None:
    samples = write_run(tmp_path / "run") / "samples"
    samples.mkdir()
    for name in ("000100.png", "001000.png", "000900.png", "notes.png", "000950.txt"):
        (samples / name).touch()
    assert [path.stem for path in read_run(tmp_path, "run").sheets()] == ["001000", "000900", "000100"]


def test_only_runs_below_the_folder_are_read(tmp_path: Path) -> None:
    write_run(tmp_path / "outside")
    root = tmp_path / "runs"
    write_run(root / "inside")
    (root / "link").symlink_to(tmp_path / "outside", target_is_directory=True)
    linked = root / "linked-log"
    linked.mkdir()
    (linked / LOG).symlink_to(tmp_path / "outside" / LOG)
    assert names_of_runs(root) == ["inside"]
    for name in ("link", "linked-log", "../outside", "", "/etc", "inside/../inside"):
        with pytest.raises(LLMDiffError, match="no such run"):
            read_run(root, name)
    assert names_of_runs(tmp_path / "not there") == []


def test_the_stamp_changes_when_a_run_goes_on(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    before = stamp(tmp_path, ["run"])
    assert stamp(tmp_path, ["run"]) == before
    with (folder / LOG).open("a") as log:
        log.write('{"step": 50, "loss": 0.1}\n')
    assert stamp(tmp_path, ["run"]) != before


def test_whether_a_run_is_alive_is_told_by_its_lock(tmp_path: Path) -> None:
    """And not by the file that a killed one has left."""
    folder = write_run(tmp_path / "run")
    found = [(read_run(tmp_path, "run").state()["state"], stamp(tmp_path, ["run"]))]
    with locked(folder):
        found.append((read_run(tmp_path, "run").state()["state"], stamp(tmp_path, ["run"])))
        left = (folder / LOCK).read_text()
    (folder / LOCK).write_text(left)
    found.append((read_run(tmp_path, "run").state()["state"], stamp(tmp_path, ["run"])))
    assert [state for state, _ in found] == ["not training", "training", "killed"]
    assert found[0][1] != found[1][1] != found[2][1], "the page looks again"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,step1loNaHu.σ/', max_size=60).map(str.encode))
def test_whatever_is_in_a_log_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    folder = write_run(tmp_path / "run")
    (folder / LOG).write_bytes(b'{"step": 1, "loss": 0.5}\n' + content)
    try:
        run = read_run(tmp_path, "run")
    except LLMDiffError:
        return
    run.losses(), run.validation(), run.levels(), run.state()
    assert run.losses()["step"].iloc[0] == 1
