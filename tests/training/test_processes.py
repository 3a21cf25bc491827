"""Several processes train what one does: slices, sums, and a run under `accelerate launch`."""

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.errors import LLMDiffError
from llmdiff.generation import load_pipeline
from llmdiff.language import LanguageModel
from llmdiff.training import checkpoint, train
from llmdiff.training.processes import all_reduce_any, all_reduce_sum, local_shard
from llmdiff.training.trainer import Trainer
from tiny_base import Places
from training.regression import Regression, settings
from training.test_run import interrupted, write_recipe

LAUNCH = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"]
LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no"]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_slices_are_the_batch(count: int) -> None:
    samples = np.arange(40, 47)
    slices = [local_shard(SimpleNamespace(num_processes=count, process_index=i), samples) for i in range(count)]
    assert np.concatenate(slices).tolist() == samples.tolist()
    assert max(map(len, slices)) - min(map(len, slices)) <= 1


def test_one_process_is_its_own_sum() -> None:
    alone = SimpleNamespace(num_processes=1, process_index=0, device=torch.device("cpu"))
    value = torch.tensor([1.0, 2.0])
    all_reduce_sum(alone, [value])
    assert value.tolist() == [1, 2]
    assert all_reduce_any(alone, True)
    assert not all_reduce_any(alone, False)


def test_more_processes_than_samples_are_told(tmp_path: Path) -> None:
    many = SimpleNamespace(num_processes=5, process_index=0, device=torch.device("cpu"), is_main_process=True)
    with pytest.raises(LLMDiffError, match=r"5 processes cannot share a batch of 4; set loop\.batch_size to 5 or more"):
        Trainer(Regression(), settings(3), tmp_path, many)


def rows(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "images_per_s"} for line in lines]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_processes_train_what_one_does(tmp_path: Path, places: Places) -> None:
    """Losses, on held-out pictures too, and weights to rounding; every parameter of the adapter moves, and no other is
    there to move; the main process alone writes and speaks."""
    loop = {"steps": 5, "batch_size": 5, "log_every": 1, "save_every": 2, "warmup": 1, "heldout_every": 2}
    keys = {"loop": loop, "heldout": {"share": 0.4, "levels": 2}, "objective": {"min_snr": 5.0}}
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    train(write_recipe(folders[0], places, **keys))
    recipe = write_recipe(folders[1], places, **keys)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH, "-m", "llmdiff", "train", recipe]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    one, two = (folder / "run" for folder in folders)
    assert done.stdout.strip() == str(two / "adapter")
    assert rows(two) == [pytest.approx(row, rel=1e-3, abs=1e-5) for row in rows(one)]
    assert len(list((two / "tensorboard").iterdir())) == 1
    found = [checkpoint.load(checkpoint.newest(run / "checkpoints"))[0] for run in (one, two)]
    assert found[0].keys() == found[1].keys()
    assert [name for name in found[0] if not torch.allclose(found[0][name], found[1][name], rtol=1e-2, atol=1e-4)] == []
    fresh = LLMDiffAdapter.create(load_pipeline(places.base), LanguageModel.load(str(places.llm)), mode="replace")
    before, after = fresh.state_dict(), checkpoint.under("module", found[1])
    assert before.keys() == after.keys()
    assert [name for name in before if torch.equal(before[name], after[name])] == []


def documented(rank: int, port: int, recipe: str, *options: str) -> subprocess.Popen[str]:
    """The documented command on one of two machines."""
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text().replace("\\\n", " ")
    (line,) = [
        line for line in text.splitlines() if line.startswith("accelerate launch") and "--num_machines 2" in line
    ]
    changes = {"0": str(rank), "29500": str(port), "fox.yaml": recipe}
    words = [changes.get(word, word) for word in shlex.split(line)[2:]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-m", "accelerate.commands.launch", *words, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_goes_on_on_two_machines_and_back_on_one(
    tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the losses of a run that one process trains without a stop; the lock is held by one of them."""
    loop = {"steps": 4, "batch_size": 5, "log_every": 1, "save_every": 2, "decay": 0.0, "sample_every": 0}
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    train(write_recipe(folders[0], places, loop=loop), ["loop.steps=6"])
    recipe = write_recipe(folders[1], places, loop=loop)
    interrupted(recipe, monkeypatch)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    machines = [documented(rank, port, recipe, "--resume", "-o", "loop.steps=5") for rank in (0, 1)]
    for machine in machines:
        _, told = machine.communicate(timeout=600)
        assert machine.returncode == 0, told
    assert train(recipe, ["loop.steps=6"], resume=True)["steps"] == 6
    losses = [[row["loss"] for row in rows(folder / "run")] for folder in folders]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
