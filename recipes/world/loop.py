"""The recipe's training loop: a stage in slices, which end at a deadline and go on from the last checkpoint.

It differs from `llmdiff.training.trainer` in what a small network on a fast GPU needs: batches are made on the device,
no step waits for a number, and a step is one CUDA graph. Randomness is a function of (seed, step), and what a
checkpoint rounds is rounded in the run that goes on too, so on a CPU with one thread a run that was killed ends in the
weights of one that was not, bit for bit, if both save at the same steps.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from llmdiff.errors import LLMDiffError
from llmdiff.finite import first_broken
from llmdiff.training import checkpoint, optimizers
from llmdiff.training.interruption import Interruption
from llmdiff.training.loop_settings import LoopSettings, rate_factor
from llmdiff.training.metric_logging import MetricLogger
from world.handover import read_start
from world.machine import Machine
from world.step import Step


class Objective(Protocol):
    """What a stage trains, and its loss."""

    module: nn.Module
    figures: tuple[str, ...]
    """Names of what `loss` returns; the first is minimised."""

    def compile(self) -> None:
        """Has torch.compile make the networks faster, from the next batch on."""
        ...

    def batch(self, size: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """The arguments of `loss` for a batch, on the device, in shapes that never change."""
        ...

    def loss(self, *batch: Tensor) -> Tensor:
        """Figures (F,) of a batch: device work alone, which a CUDA graph can hold."""
        ...


class Loop:
    """Trains an objective, slice by slice.

    Args:
        objective: on the machine's device.
        settings: length, rates; `save_every` and `log_every` count steps.
        folder: of checkpoints and logs.
        machine: that runs it.
        save_minutes: a checkpoint is also written when so long has passed since the last.

    Attributes:
        step: finished steps.
        seconds: of training so far, in all slices.

    Example:
        >>> loop = Loop(objective, LoopSettings(steps=1000), Path("runs/world/things"), Machine.here())
        >>> loop.resume()
        >>> loop.run(deadline=time.monotonic() + 570)
    """

    def __init__(
        self, objective: Objective, settings: LoopSettings, folder: Path, machine: Machine, save_minutes: float = 10
    ) -> None:
        self.objective, self.settings, self.folder, self.machine = objective, settings, folder, machine
        self.save_minutes = save_minutes
        self.step, self.seconds, self._begun = 0, 0.0, 0
        self._named = {name: p for name, p in objective.module.named_parameters() if p.requires_grad}
        self._parameters = list(self._named.values())
        group = {"params": self._parameters}
        self._optimizer = optimizers.make(objective.module, [group], settings, machine.graphed)
        self._average = [p.detach().clone() for p in self._parameters]
        self._step = Step(objective.loss, self._parameters, self._optimizer, settings.clip, machine.graphed)
        self._rng = torch.Generator(machine.device)

    @property
    def is_done(self) -> bool:
        return self.step >= self.settings.steps

    def resume(self) -> bool:
        """Goes back to the newest whole checkpoint; False where there is none.

        Raises:
            LLMDiffError: There are checkpoints, and all are damaged or of another model.
        """
        found = checkpoint.load_newest(self.folder / "checkpoints", self._misfit)
        if found is None:
            return False
        self._restore(*found)
        return True

    def begin(self, start: Path) -> None:
        """Begins with weights of `write_start`, at the step that they are of, with a warm-up of its own.

        Raises:
            LLMDiffError: The file is damaged or of another model.
        """
        weights, step, seconds = read_start(start)
        if {name: w.shape for name, w in weights.items()} != {name: p.shape for name, p in self._named.items()}:
            raise LLMDiffError(f"{start} belongs to another model; choose another output folder.")
        _assign(self._parameters, [weights[name] for name in self._named])
        _assign(self._average, self._parameters)
        self.step = self._begun = step
        self.seconds = seconds

    def run(self, deadline: float, on_log: Callable[["Loop", dict[str, float]], None] | None = None) -> None:
        """Trains until the stage is done or the deadline (of `time.monotonic`) has come, and writes a checkpoint.

        SIGTERM and SIGINT end it likewise. Each `log_every` steps `on_log` gets the means since the last time.

        Raises:
            LLMDiffError: The loss is not finite, or the disk refuses a checkpoint.
        """
        logger = MetricLogger(self.folder, self.step, Accelerator(cpu=True), {})
        saved = time.monotonic()
        with Interruption() as interruption, logger:
            meter = _Meter(self)
            while not (self.is_done or interruption.requested or time.monotonic() >= deadline):
                meter.add(self._one_step())
                if self.step % self.settings.log_every == 0 or self.is_done:
                    figures = meter.read()
                    logger.write(self.step, figures)
                    if on_log:
                        on_log(self, figures)
                        meter.restart()
                late = time.monotonic() - saved > 60 * self.save_minutes
                if late or self.step % self.settings.save_every == 0:
                    self.save()
                    saved = time.monotonic()
            meter.read()
        self.save()
        if interruption.requested:
            raise KeyboardInterrupt

    def save(self) -> None:
        """Writes a checkpoint: 8 bytes a parameter, 10 of one that AdamW trains: averages and moments are halved.

        Raises:
            LLMDiffError: The disk refused it, or a weight is not finite.
        """
        weights = {name: p.detach() for name, p in self._named.items()}
        if broken := first_broken(weights.items()):
            raise LLMDiffError(f"{broken} is not finite after step {self.step}: go on from the last checkpoint.")
        kept = checkpoint.prefixed("module", weights) | checkpoint.prefixed("apart", self._rounded_averages())
        tensors = kept | self._rounded_moments()
        checkpoint.save(self.folder / "checkpoints", self.step, tensors, self._info())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it, the module has the averaged weights."""
        own = [p.detach().clone() for p in self._parameters]
        _assign(self._parameters, self._average)
        try:
            yield
        finally:
            _assign(self._parameters, own)

    def _info(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "begun": self._begun}

    def averages(self) -> dict[str, Tensor]:
        """The averaged weights by the names of the module's parameters."""
        return dict(zip(self._named, self._average, strict=True))

    def _one_step(self) -> Tensor:
        warm = min(1.0, (self.step - self._begun + 1) / (self.settings.warmup + 1))
        factor = min(warm, rate_factor(self.step, self.settings))
        optimizers.set_rate(self._optimizer, self.settings.learning_rate * factor)
        self._rng.manual_seed(int(np.random.SeedSequence((self.settings.seed, self.step)).generate_state(1)[0]))
        figures = self._step(self.objective.batch(self.settings.batch_size, self._rng))
        self.step += 1
        # A shorter memory at first, so that the average forgets the start.
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        get_ema_multi_avg_fn(decay)(self._average, self._parameters, self.step)
        return figures

    @torch.no_grad()
    def _rounded_averages(self) -> dict[str, Tensor]:
        """How far the averages are from the weights, in half precision: a small difference to nearly all their bits.

        Both these and the moments are rounded in the run that goes on too.
        """
        apart = {name: (a - p).bfloat16() for (name, p), a in zip(self._named.items(), self._average, strict=True)}
        _assign(self._average, [p + apart[name].float() for name, p in self._named.items()])
        return apart

    @torch.no_grad()
    def _rounded_moments(self) -> dict[str, Tensor]:
        """The optimizer's moments in half precision, and AdamW's steps."""
        moments = checkpoint.optimizer_tensors(self._optimizer, self._names())
        rounded = {name: v if name.endswith(".step") else v.bfloat16() for name, v in moments.items()}
        _assign(list(moments.values()), list(rounded.values()))
        return rounded

    @torch.no_grad()
    def _restore(self, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
        weights, apart = (checkpoint.under(kind, tensors) for kind in ("module", "apart"))
        for (name, p), average in zip(self._named.items(), self._average, strict=True):
            p.copy_(weights[name])
            average.copy_(p + apart[name].to(p.device).float())
        moments = {k: v.float() for k, v in tensors.items() if k.startswith("optimizer.")}
        checkpoint.restore_optimizer(self._optimizer, self._names(), moments)
        self.step, self.seconds, self._begun = info["step"], info["seconds"], info["begun"]

    def _names(self) -> dict[Tensor, str]:
        return {p: name for name, p in self._named.items()}

    def _misfit(self, path: Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> str | None:
        for kind in ("module", "apart"):
            shapes = {name: value.shape for name, value in checkpoint.under(kind, tensors).items()}
            if shapes != {name: p.shape for name, p in self._named.items()}:
                return f"{path} belongs to another model; choose another output folder."
        return None if {"step", "seconds", "begun"} <= info.keys() else f"{path} does not say its step."


@torch.no_grad()
def _assign(places: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for place, value in zip(places, values, strict=True):
        place.copy_(value)


class _Meter:
    """Means of a step's figures, and the speed, since it was read last; nothing waits for the device before that."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._sum: Tensor | None = None
        self.restart()

    def restart(self) -> None:
        """Leaves out the time since it was read."""
        self._start, self._first = time.monotonic(), self._loop.step

    def add(self, figures: Tensor) -> None:
        self._sum = figures.clone() if self._sum is None else self._sum.add_(figures)

    def read(self) -> dict[str, float]:
        """The means; empty where no step was made.

        Raises:
            LLMDiffError: The loss is not finite.
        """
        loop, steps = self._loop, self._loop.step - self._first
        if self._sum is None or not steps:
            return {}
        means = (self._sum.float() / steps).tolist()
        if not np.isfinite(means[0]):
            raise LLMDiffError(
                f"The loss is not finite before step {loop.step}: go on from the last checkpoint, with a lower rate."
            )
        seconds = time.monotonic() - self._start
        loop.seconds += seconds
        speed = steps * loop.settings.batch_size / seconds
        self._sum = None
        self.restart()
        return dict(zip(loop.objective.figures, means, strict=True)) | {"pictures_per_s": speed, "seconds": seconds}
