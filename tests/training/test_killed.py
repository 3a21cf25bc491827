"""SIGKILL, which no handler sees: a run goes on from its newest whole checkpoint and ends in the same bits."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from llmdiff.training import checkpoint, train
from llmdiff.training.trainer import Trainer
from tiny_base import Places
from training import killing
from training.test_run import write_recipe

KILL = """
import os, signal, sys
from llmdiff.training import train

def kill(stage, share):
    if stage.startswith("Training") and share >= float(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

train(sys.argv[1], progress=kill)
"""
STEPS = 8
CASES = {
    "mid-epoch": {"save_every": 2, "killed": 5},
    "end of an epoch": {"save_every": 3, "killed": 6},
    "accumulation": {"save_every": 2, "killed": 5, "micro_batch": 3},
    "no cache": {"save_every": 2, "killed": 5, "cache": {"latents": False, "terms": "none"}},
    "workers": {"save_every": 2, "killed": 5, "cache": {"latents": False, "workers": 2}},
    "workers, end of an epoch, accumulation, no cache": {
        "save_every": 3,
        "killed": 6,
        "micro_batch": 3,
        "cache": {"latents": False, "terms": "none", "workers": 2},
    },
    "LoRA": {"save_every": 2, "killed": 3, "lora": {"rank": 2}},
}


def python(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Another process, with the same packages."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def final(folder: Path) -> dict[str, torch.Tensor]:
    path = checkpoint.newest(folder / "checkpoints")
    assert path is not None
    return checkpoint.load(path)[0]


def log(folder: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows]


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path, places: Places, case: str) -> None:
    """Adapter, optimizer, average and losses; twelve pictures in batches of four make epochs of three steps.

    The run that is not killed has no workers.
    """
    keys = dict(CASES[case])
    killed = keys.pop("killed")
    loop = {"steps": STEPS, "batch_size": 4, "log_every": 1, "warmup": 1, "save_every": keys.pop("save_every")}
    loop |= {"micro_batch": keys.pop("micro_batch", None)}
    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    train(write_recipe(tmp_path / "whole", places, loop=loop, samples=[], **keys), ["cache.workers=0"])
    recipe = write_recipe(tmp_path / "halves", places, loop=loop, samples=[], **keys)
    assert python("-c", KILL, recipe, killed / STEPS).returncode == -9
    assert train(recipe, resume=True)["steps"] == STEPS
    whole, halves = tmp_path / "whole" / "run", tmp_path / "halves" / "run"
    assert_same(final(whole), final(halves))
    assert log(whole) == log(halves)
    for path in (whole / "adapter").glob("*.safetensors"):
        assert path.read_bytes() == (halves / "adapter" / path.name).read_bytes(), path.name


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_leave_a_checkpoint_that_loads_and_the_same_run(tmp_path: Path) -> None:
    done = python(killing.__file__, tmp_path / "killed", 20)
    assert done.returncode == 0, done.stderr
    rounds = json.loads(done.stdout)
    steps = [found["step"] for found in rounds]
    assert len(rounds) == 20
    assert all(a < b for a, b in pairwise(steps)), "every child went on from where the last one was killed"
    assert sum(found["draft"] for found in rounds) >= 5, "some were killed inside a save"
    end = steps[-1] + 2
    resumed = Trainer(killing.objective(), killing.plan(end), tmp_path / "killed")
    assert resumed.resume()
    assert resumed.step == steps[-1]
    resumed.run()
    assert len(list((tmp_path / "killed" / "checkpoints").iterdir())) == 2, "nothing half written is left"
    Trainer(killing.objective(), killing.plan(end).model_copy(update={"save_every": end}), tmp_path / "whole").run()
    assert_same(final(tmp_path / "whole"), final(tmp_path / "killed"))
    assert log(tmp_path / "whole") == log(tmp_path / "killed")
