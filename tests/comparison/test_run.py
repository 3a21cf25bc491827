"""The grid: every cell once, whatever interrupts it, and again only where its own recipe or result has changed."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from llmdiff.comparison import ComparisonConfig, compare
from llmdiff.comparison import cells as cells_module
from llmdiff.comparison.cells import Cell, cells
from llmdiff.comparison.notes import read_note
from llmdiff.errors import LLMDiffError
from llmdiff.evaluation import evaluate_distance
from llmdiff.training import checkpoint
from llmdiff.training.objective import AdapterObjective
from llmdiff.training.run_lock import locked
from llmdiff.training.trainer import Interrupted, Trainer


@pytest.fixture
def copied(done: ComparisonConfig, tmp_path: Path) -> ComparisonConfig:
    """The comparison that has been run, free to be changed."""
    shutil.copytree(done.folder, tmp_path / "copy")
    return done.model_copy(update={"folder": tmp_path / "copy"})


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cells that are trained from now on."""
    names: list[str] = []
    run = cells_module.Cell.train

    def train(cell: Cell, *given: Any) -> None:
        names.append(f"{cell.condition} {cell.seed}")
        run(cell, *given)

    monkeypatch.setattr(cells_module.Cell, "train", train)
    return names


def results(config: ComparisonConfig) -> list[dict[str, Any]]:
    found = [read_note(cell.result) for cell in cells(config)]
    assert None not in found
    return [one for one in found if one]


def test_every_condition_of_a_seed_comes_before_the_next_seed(done):
    assert [(cell.condition, cell.seed) for cell in cells(done)] == [
        ("llmdiff", 0), ("last", 0), ("llmdiff", 1), ("last", 1),
    ]  # fmt: skip
    assert [(one["condition"], one["seed"]) for one in results(done)] == [
        (cell.condition, cell.seed) for cell in cells(done)
    ]


def test_a_result_is_what_the_adapter_scores_by_itself(done):
    for cell in cells(done):
        result = read_note(cell.result)
        rows = evaluate_distance(cell.recipe.base, str(cell.adapter), 2, (700,))
        rows = [row for row in rows if row["things"] != "all"]
        assert len(rows) == len(result["distances"])
        for row, kept in zip(rows, result["distances"], strict=True):
            assert (row["things"], row["wording"]) == (kept["things"], kept["wording"])
            assert np.mean(kept["distances"]) == pytest.approx(row["distance"], rel=2e-2, abs=2e-3)
        assert result["parameters"] == sum(w.numel() for w in load_file(cell.adapter / "adapter.safetensors").values())


def test_a_comparison_that_is_done_is_not_done_again(copied, trained):
    before = {path: path.stat().st_mtime_ns for path in copied.folder.rglob("*.json")}
    assert compare(copied) == {}
    assert trained == []
    assert {path: path.stat().st_mtime_ns for path in copied.folder.rglob("*.json")} == before
    assert not list(copied.folder.rglob("checkpoints"))


def test_a_changed_recipe_trains_its_own_cells_anew_and_no_others(copied, trained):
    condition = copied.conditions["last"]
    changed = copied.model_copy(
        update={
            "conditions": copied.conditions | {"last": condition.model_copy(update={"changes": {"mode": "augment"}})}
        }
    )
    before = {cell.result: cell.result.read_bytes() for cell in cells(copied)}
    assert compare(changed) == {}
    assert trained == ["last 0", "last 1"]
    assert {path: path.read_bytes() for path in before} == before
    compare(copied)
    assert trained == ["last 0", "last 1"]  # and what there was is there still


def test_where_files_lie_and_how_often_they_are_saved_changes_nothing(copied, make):
    recipe = dict(copied.recipe) | {"folder": "elsewhere", "samples": ["a cup"], "cache": {"check": True}}
    recipe["loop"] = recipe["loop"] | {"save_every": 7}
    other = copied.model_copy(update={"recipe": recipe})
    assert [cell.folder for cell in cells(other)] == [cell.folder for cell in cells(copied)]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"content": {}, "checksum": "00"}', None])
def test_a_damaged_result_is_named_and_computed_anew_without_training(copied, trained, damage):
    cell = cells(copied)[1]
    whole = cell.result.read_bytes()
    cell.result.write_bytes(whole.replace(b"0", b"1", 1) if damage is None else damage)
    with pytest.warns(UserWarning, match=f"{cell.result} is damaged .* computed anew"):
        assert compare(copied) == {}
    assert trained == []
    assert cell.result.read_bytes() == whole


def test_an_adapter_that_is_damaged_is_named_and_trained_anew(copied, trained):
    cell = cells(copied)[0]
    whole = cell.result.read_bytes()
    cell.result.unlink()
    (cell.adapter / "adapter.safetensors").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match=f"{cell.adapter} is trained anew"):
        compare(copied)
    assert trained == ["llmdiff 0"]
    assert cell.result.read_bytes() == whole


def test_other_settings_of_the_screen_score_anew_without_training(copied, trained):
    other = copied.model_copy(update={"screen": copied.screen.model_copy(update={"timesteps": (300,)})})
    compare(other)
    assert trained == []
    assert {row["timestep"] for one in results(other) for row in one["distances"]} == {300}


@pytest.mark.parametrize("step", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_a_cell_that_is_stopped_goes_on_from_its_checkpoint_to_the_same_result(make, done, monkeypatch, step):
    config = make(seeds=[0])
    save, loss = Trainer.save, AdapterObjective.loss

    def stop(trainer: Trainer) -> None:
        save(trainer)
        if trainer.step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save", stop)
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        compare(config)
    first = cells(config)[0]
    assert checkpoint.newest(first.recipe.folder / "checkpoints") is not None
    assert not first.result.exists()
    monkeypatch.setattr(Trainer, "save", save)
    steps: list[int] = []
    monkeypatch.setattr(
        AdapterObjective, "loss", lambda self, indices, n, rng: steps.append(n) or loss(self, indices, n, rng)
    )
    assert compare(config) == {}
    assert steps[: 3 - step] == list(range(step, 3))
    assert_same(config, done)


@pytest.mark.slow
def test_a_comparison_that_is_killed_again_and_again_ends_with_the_same_results(make, done):
    config = make(seeds=[0])
    path = config.folder.parent / "study.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json")))
    command = [sys.executable, "-m", "llmdiff", "compare", str(path), "--screen"]
    for files in (1, 4, 9, 5):
        with subprocess.Popen(command) as process:
            wait_for(config.folder, process, files)
            assert process.poll() is None
            process.kill()
    assert read_note(cells(config)[-1].result) is None
    assert subprocess.run(command, check=False).returncode == 0
    assert_same(config, done)


def wait_for(folder: Path, process: "subprocess.Popen[bytes]", more: int) -> None:
    """Until so many files more are there, wherever in its work that is, or it has ended."""
    before = set(folder.rglob("*"))
    while process.poll() is None and len(set(folder.rglob("*")) - before) < more:
        time.sleep(0.01)


def assert_same(config: ComparisonConfig, done: ComparisonConfig) -> None:
    """Results and adapters of a comparison are those of the same cells of one that nobody has stopped."""
    theirs = {(cell.condition, cell.seed): cell for cell in cells(done)}
    for cell in cells(config):
        other = theirs[cell.condition, cell.seed]
        assert read_note(cell.result) == read_note(other.result)
        mine, expected = (load_file(one.adapter / "adapter.safetensors") for one in (cell, other))
        assert all(torch.equal(mine[name], expected[name]) for name in expected)


def test_a_condition_that_cannot_be_trained_is_told_and_the_others_go_on(make):
    conditions = {
        "llmdiff": {},
        "broken": {"changes": {"llm": "/nowhere"}},
        "last": {"changes": {"reading.extraction": "last"}},
    }
    config = make(conditions=conditions, seeds=[0])
    with pytest.warns(UserWarning, match="broken, seed 0"):
        failed = compare(config)
    assert list(failed) == ["broken, seed 0"]
    assert [read_note(cell.result) is None for cell in cells(config)] == [False, True, False]


def test_one_process_at_a_time(copied):
    with locked(copied.folder), pytest.raises(LLMDiffError, match="wait until it has ended"):
        compare(copied)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"reference": "mine"}, "no condition 'mine'"),
        ({"seeds": [1, 1]}, "different whole numbers"),
        ({"conditions": {"a/b": {}, "llmdiff": {}}}, "the name 'a/b'"),
        ({"conditions": {"base": {}, "llmdiff": {}}}, "'base' is the base model"),
        ({"screen": {"scenes": 1}}, "screen.scenes"),
        ({"claims": [{"say": "", "better": "llmdiff", "than": "x"}]}, "no condition 'x'"),
    ],
)
def test_a_comparison_that_will_not_do_is_told(make, changes, sentence):
    with pytest.raises(LLMDiffError, match=sentence):
        make(**changes)


def test_a_change_that_no_recipe_has_names_its_condition(make):
    odd = {"changes": {"reading.extractor": "last"}}
    config = make(conditions={"llmdiff": {}, "odd": odd}, claims=[])
    with pytest.raises(LLMDiffError, match=r"condition 'odd' is not valid: there is no key 'reading.extractor'"):
        cells(config)


def test_the_file_of_a_comparison_is_read(tmp_path, make):
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(make().model_dump(mode="json")))
    assert ComparisonConfig.read(path) == make()
    path.write_text("- a")
    with pytest.raises(LLMDiffError, match="has no settings"):
        ComparisonConfig.read(path)
    with pytest.raises(LLMDiffError, match="cannot be read"):
        ComparisonConfig.read(tmp_path / "none.yaml")
