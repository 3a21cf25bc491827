"""An objective that a loop trains in microseconds, and a run of it for processes that are killed."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.randomness import Streams
from llmdiff.training.trainer import Trainer


class Regression:
    """Fits a noisy line; noise and samples are functions of what the loop hands in.

    `bad` steps have no finite loss and `steep` ones no finite gradient; in the step that `interrupt` names a signal
    comes; memory is for `room` samples at once, and `full` is raised when there are more.
    """

    def __init__(self, bad: set[int] | None = None, pause: float = 0.0, seed: int = 0, width: int = 5) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.module = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))
        self.module[0].bias = nn.Parameter(torch.ones(width), requires_grad=False)
        self.bad, self.pause = bad or set(), pause
        self.steep: set[int] = set()
        self.seen: list[int] = []
        self.interrupt: tuple[int, int] | None = None
        self.room = 1000
        self.full: Exception = torch.OutOfMemoryError("CUDA out of memory.")

    def groups(self) -> list[dict[str, Any]]:
        matrices = [p for p in self.module.parameters() if p.ndim > 1]
        return [{"params": matrices}, {"params": [self.module[2].bias], "weight_decay": 0.0, "rate": 10.0}]

    def loss(self, indices: np.ndarray, step: int, rng: Streams) -> Tensor:
        time.sleep(self.pause)
        if self.interrupt and self.interrupt[0] == step:
            os.kill(os.getpid(), self.interrupt[1])
        if len(indices) > self.room:
            raise self.full
        self.seen += indices.tolist()
        x = torch.stack([torch.sin(torch.arange(1.0, 4.0) * (1 + n % 97)) for n in indices])
        y = x.sum(1, keepdim=True) + 0.1 * rng.normal(1)
        loss = (self.module(x) - y).square().mean()
        if step in self.steep:
            loss = loss + (0 * self.module[2].bias).abs().sqrt().sum()
        return loss * float("nan") if step in self.bad else loss


def settings(steps: int, **changes: Any) -> LoopSettings:
    values: dict[str, Any] = {"steps": steps, "batch_size": 4, "learning_rate": 1e-2, "warmup": 2, "log_every": 1}
    return LoopSettings(**values | {"ema": 0.9, "save_every": 5} | changes)


def train_slowly(folder: Path, steps: int, pause: float) -> None:
    """Goes on with the run in a folder, or begins it: every step takes some seconds, and is saved."""
    trainer = Trainer(Regression(pause=pause), settings(steps, save_every=1), folder)
    trainer.resume()
    trainer.run()
