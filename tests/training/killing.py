"""Trains in a child that is killed, goes on in the next, and so on: `python killing.py FOLDER ROUNDS`.

Every other round ends at a random moment, the others while a checkpoint is being written. Prints as JSON, of each
round, the newest checkpoint's step and whether a half-written one was left behind. Children are forked, so that the
libraries are imported once.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from llmdiff.training import checkpoint
from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.trainer import Trainer
from training.regression import Regression, settings

WIDTH = 50_000  # a checkpoint of 3 MB, so that a good part of the time goes into saving
ENDLESS = 1_000_000


def objective() -> Regression:
    return Regression(width=WIDTH)


def plan(steps: int) -> LoopSettings:
    """Every step is saved, and none depends on how many there will be."""
    return settings(steps, save_every=1, warmup=0, decay=0, log_every=7)


def train_until_killed(folder: Path) -> None:
    trainer = Trainer(objective(), plan(ENDLESS), folder)
    trainer.resume()
    trainer.run()


def wait_for_a_draft(folder: Path) -> None:
    before = set(checkpoint.leftovers(folder))
    while not set(checkpoint.leftovers(folder)) - before:
        time.sleep(0.0005)


def one_round(folder: Path, number: int, rng: random.Random) -> dict[str, int | bool]:
    child = os.fork()
    if child == 0:
        train_until_killed(folder)
    checkpoints = folder / "checkpoints"
    first = checkpoint.newest(checkpoints)
    while checkpoint.newest(checkpoints) == first:  # it has begun to train
        time.sleep(0.01)
    if number % 2:
        wait_for_a_draft(checkpoints)
    else:
        time.sleep(rng.uniform(0, 0.3))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    path = checkpoint.newest(checkpoints)
    assert path is not None
    return {"step": checkpoint.load(path)[1]["step"], "draft": bool(checkpoint.leftovers(checkpoints))}


if __name__ == "__main__":
    chance = random.Random(0)
    print(json.dumps([one_round(Path(sys.argv[1]), number, chance) for number in range(int(sys.argv[2]))]))
