"""The training loop, one for everything that trains here: the adapter, and the embedded base and its autoencoder.

Randomness is a function of (seed, sample), and a checkpoint holds all that a step reads, so a run that was interrupted
ends in the weights of one that was not, bit for bit; one that is cut into micro-batches, or runs in several processes,
does so to rounding.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.amp import GradScaler

from llmdiff.errors import LLMDiffError, is_out_of_memory
from llmdiff.finite import first_broken
from llmdiff.training import checkpoint, memory, optimizers
from llmdiff.training.interruption import Interruption
from llmdiff.training.loop_settings import LoopSettings, rate_factor
from llmdiff.training.metric_logging import MetricLogger
from llmdiff.training.precision import loss_scaler, restore_scaler
from llmdiff.training.processes import all_reduce_any, all_reduce_sum, local_shard
from llmdiff.training.randomness import Streams

_MOST_UNREAD = 10
"""Steps after which the figures of a device are read at the latest: so often it waits for the host."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP, answered: the step is finished and a checkpoint saved."""


class Objective(Protocol):
    """The module that a run trains, and its loss."""

    module: nn.Module
    """Holds every parameter that may train."""

    def loss(self, indices: np.ndarray, step: int, rng: Streams) -> Tensor:
        """The mean loss over samples of a step, named by their running numbers in the run, with a stream for each.

        They are the batch or a part of it: the loss of a sample must not depend on those beside it.
        """
        ...

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for the optimizer; `rate` in a group multiplies the learning rate."""
        ...


class Trainer:
    """Runs an objective to its end from its newest checkpoint, or from the start where there is none.

    Args:
        objective: module and loss to train, on the accelerator's device.
        settings: length, rates, and what is kept.
        folder: where checkpoints and logs go; several processes must share it.
        accelerator: the processes that train together; if None, this one on its CPU.
        scaler: of the loss, for gradients in float16; if None, the loss is not scaled.
        run: the identity of the run, which its checkpoints carry: those that carry another are passed over; None
            takes any.

    Attributes:
        step: finished steps.
        skipped: of them those whose loss or gradient was not finite.
        micro_batch: samples that go through the model at once in this process.
        most_unread: steps whose figures may be left on the device, so that nobody waits for it; 0 on a processor.

    Example:
        >>> trainer = Trainer(objective, LoopSettings(steps=1000), Path("runs/fox"))
        >>> trainer.resume()
        >>> trainer.run()
    """

    def __init__(
        self,
        objective: Objective,
        settings: LoopSettings,
        folder: Path,
        accelerator: Accelerator | None = None,
        scaler: GradScaler | None = None,
        run: str | None = None,
    ) -> None:
        self.objective, self.settings, self.folder, self._run = objective, settings, folder, run
        self.accelerator = accelerator or Accelerator(cpu=True)
        self.scaler = scaler or loss_scaler(torch.float32)
        self.optimizer = optimizers.make(objective.module, objective.groups(), settings)
        named = list(objective.module.named_parameters())  # once: to walk all modules takes time
        self._names: dict[Tensor, str] = {p: name for name, p in named}
        self._trained = [(name, p) for name, p in named if p.requires_grad]
        self.ema = {name: p.detach().clone() for name, p in self.trained()} if settings.ema else {}
        self.step = 0
        self.skipped = 0
        self.micro_batch = self._first_micro_batch()
        self.most_unread = 0 if self.accelerator.device.type == "cpu" else _MOST_UNREAD
        self._unread: list[Tensor] = []  # loss, norm and whether both are finite, of the steps that were done last
        self._bad_in_a_row = 0

    def resume(self) -> bool:
        """Goes back to the newest checkpoint that is whole; False where there is none.

        Raises:
            LLMDiffError: The checkpoint is of another model or further than the run is to go, or all are damaged.
        """
        found = checkpoint.load_newest(self.folder / "checkpoints", self._misfit)
        if found is None:
            return False
        tensors, info = found
        self._restore(tensors)
        self.step, self.skipped = info["step"], info["skipped"]
        restore_scaler(self.scaler, info.get("scale", {}))
        self.micro_batch = min(self.micro_batch, info.get("micro_batch", self.micro_batch))
        if self.step > self.settings.steps:
            raise LLMDiffError(f"{self.step:,} steps are done already: set loop.steps to as many or more.")
        return True

    def run(
        self,
        on_step: Callable[["Trainer", dict[str, float]], None] | None = None,
        evaluate: Callable[["Trainer"], dict[str, float]] | None = None,
    ) -> None:
        """Trains to the last step; Ctrl-C, SIGTERM or SIGHUP ends the step, saves, and raises `Interrupted`.

        Args:
            on_step: Called after every step with the figures of it (loss, rate, norm, images/s; skipped steps so
                far, if there are any) or, on a device, with those that were read last.
            evaluate: Called every `heldout_every` steps and after the last, in every process, with the averaged
                weights in place; what it returns joins the step's figures.

        Raises:
            LLMDiffError: Ten losses or gradients in a row were not finite, or memory does not suffice.
        """
        self._bad_in_a_row, figures, spent = 0, dict[str, float](), 0.0
        logger = MetricLogger(self.folder, self.step, self.accelerator, self.settings.model_dump())
        with Interruption() as interruption, logger:
            while self.step < self.settings.steps:
                started = time.perf_counter()
                self._one_step()
                due = self.step % self.settings.log_every == 0
                evaluates = evaluate is not None and self._is_due(self.settings.heldout_every)
                stops = interruption.requested and self.accelerator.num_processes == 1
                reads = due or evaluates or stops or not figures or self._is_due(self.settings.save_every)
                steps = len(self._unread)
                if reads := reads or steps > self.most_unread:
                    figures = self._read()
                spent += time.perf_counter() - started
                if reads:
                    figures["images_per_s"] = self.settings.batch_size * steps / spent
                    spent = 0.0
                if evaluate and evaluates:
                    with self.averaged():
                        figures |= evaluate(self)
                if due or evaluates:
                    logger.write(self.step, figures)
                if self._is_due(self.settings.save_every):
                    self.save()
                if on_step:
                    on_step(self, figures)
                if reads and all_reduce_any(self.accelerator, interruption.requested):
                    self.save()
                    raise Interrupted

    def save(self) -> None:
        """Writes a checkpoint of this moment, in the main process.

        Raises:
            LLMDiffError: The disk refused it, or a weight is not finite.
        """
        if not self.accelerator.is_main_process:
            return
        weights = {
            **checkpoint.prefixed("module", {name: p for name, p in self.trained()}),
            **checkpoint.prefixed("ema", self.ema),
        }
        if broken := first_broken(weights.items()):
            raise LLMDiffError(
                f"The weights are not finite after step {self.step}, so they are not saved ({broken} is one of them); "
                "--resume goes on from the last checkpoint, with a lower loop.learning_rate."
            )
        tensors = weights | checkpoint.optimizer_tensors(self.optimizer, self._names)
        info = {"skipped": self.skipped, "micro_batch": self.micro_batch, "scale": self.scaler.state_dict()}
        info |= {"run": self._run} if self._run else {}
        checkpoint.save(self.folder / "checkpoints", self.step, tensors, info)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it, the module has the averaged weights."""
        if not self.ema:
            yield
            return
        own = {name: p.detach().clone() for name, p in self.trained()}
        self._assign(self.ema)
        try:
            yield
        finally:
            self._assign(own)

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters that train, by name."""
        return iter(self._trained)

    def _is_due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.settings.steps

    def _first_micro_batch(self) -> int:
        processes = self.accelerator.num_processes
        if processes > self.settings.batch_size:
            raise LLMDiffError(
                f"{processes} processes cannot share a batch of {self.settings.batch_size}; set loop.batch_size to "
                f"{processes} or more."
            )
        share = -(-self.settings.batch_size // processes)
        return min(share, self.settings.micro_batch or share)

    def _one_step(self) -> None:
        """Runs a step, whose figures stay on the device."""
        self._set_rate()
        loss = self._gradients()
        gradients = [p.grad for _, p in self.trained() if p.grad is not None]
        all_reduce_sum(self.accelerator, [loss, *gradients])
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.get_total_norm(gradients)
        finite = loss.isfinite() & norm.isfinite()
        if self.most_unread == 0 and not finite:
            self._tell_skipped(loss)
        else:
            self._update(norm, finite)
        self.scaler.update()
        self.step += 1
        self._unread.append(torch.stack([loss, norm, finite.to(loss)]))

    def _update(self, norm: Tensor, finite: Tensor) -> None:
        """Changes weights and averages where `finite` is true, which the device knows and the host need not."""
        nn.utils.clip_grads_with_norm_([p for _, p in self.trained()], self.settings.clip, norm)
        optimizer: Any = self.optimizer
        optimizer.found_inf = (~finite).to(norm)  # by which torch's own scaler has the fused kernel leave a step out
        with memory.explained():
            optimizer.step()
        self._average(finite)

    def _read(self) -> dict[str, float]:
        """Waits for the device, counts the steps that it has skipped, and gives the figures of the last one.

        Raises:
            LLMDiffError: Ten in a row were not finite.
        """
        rows = torch.stack(self._unread).tolist()
        self._unread.clear()
        for number, (loss, _, finite) in enumerate(rows, self.step - len(rows)):
            self._bad_in_a_row = 0 if finite else self._bad_in_a_row + 1
            self.skipped += not finite
            if not finite and self.most_unread and self.skipped == 1 and not self.scaler.is_enabled():
                what = "the gradient" if isfinite(loss) else "the loss"
                warnings.warn(f"Step {number + 1} is skipped, because {what} is not finite.", stacklevel=3)
            if self._bad_in_a_row == 10:
                raise LLMDiffError(self._given_up())
        loss, norm, _ = rows[-1]
        figures = {"loss": loss, "norm": norm, "rate": self.optimizer.param_groups[0]["lr"]}
        return figures | ({"skipped": self.skipped} if self.skipped else {})

    def _tell_skipped(self, loss: Tensor) -> None:
        """Names what is not finite in the first step that is skipped, unless a scaler has yet to find its scale."""
        if self.skipped == 0 and not self.scaler.is_enabled():
            broken = first_broken((name, p.grad) for name, p in self.trained() if p.grad is not None)
            what = "the loss" if not loss.isfinite() else f"the gradient of {broken}" if broken else "the gradient"
            warnings.warn(f"Step {self.step + 1} is skipped, because {what} is not finite.", stacklevel=3)

    def _given_up(self) -> str:
        advice = "-o loop.learning_rate=" + f"{self.settings.learning_rate / 3:.1e}"
        half = ", or with precision bfloat16 or float32" if self.scaler.is_enabled() else ""
        return (
            "The loss or its gradient was not finite for ten steps in a row; lower the learning rate: --resume goes on "
            f"from the last checkpoint, with {advice} for instance{half}."
        )

    def _gradients(self) -> Tensor:
        """This process's part of the batch's gradients and mean loss, in as large micro-batches as memory allows."""
        while (loss := self._accumulated()) is None:
            self.optimizer.zero_grad(set_to_none=True)
            self.micro_batch = memory.halved(self.micro_batch)
            warnings.warn(
                f"Out of memory in step {self.step + 1}: going on with micro-batches of {self.micro_batch}, "
                "the batch stays as it is.",
                stacklevel=2,
            )
        return loss

    def _accumulated(self) -> Tensor | None:
        """The same in micro-batches of one size; None where memory does not suffice."""
        count = self.settings.batch_size
        mine = local_shard(self.accelerator, self.step * count + np.arange(count))
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.accelerator.device)
        try:
            for start in range(0, len(mine), self.micro_batch):
                part = mine[start : start + self.micro_batch]
                loss = self.objective.loss(part, self.step, Streams(self.settings.seed, part)) * (len(part) / count)
                self.scaler.scale(loss).backward()
                total += loss.detach()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        return total

    def _set_rate(self) -> None:
        optimizers.set_rate(self.optimizer, self.settings.learning_rate * rate_factor(self.step, self.settings))

    @torch.no_grad()
    def _average(self, finite: Tensor) -> None:
        # A shorter memory at first, so that the average forgets the start: min(decay, (1 + n) / (10 + n)).
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        if not self.ema:
            return
        averages: list[Tensor] = list(self.ema.values())
        weights: list[Tensor] = [p for _, p in self.trained()]
        if self.most_unread == 0:
            torch._foreach_lerp_(averages, weights, 1 - decay)
            return
        changes = torch._foreach_sub(weights, averages)
        torch._foreach_mul_(changes, (1 - decay) * finite)
        torch._foreach_add_(averages, changes)

    @torch.no_grad()
    def _assign(self, tensors: dict[str, Tensor]) -> None:
        for name, p in self.trained():
            p.copy_(tensors[name])

    def _misfit(self, path: Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> str | None:
        parameters: dict[str, Tensor] = dict(self.trained())
        shapes = {name: value.shape for name, value in checkpoint.under("module", tensors).items()}
        if shapes != {name: p.shape for name, p in parameters.items()}:
            return f"{path} belongs to another model or recipe; choose another output folder."
        if self._run and info.get("run") not in (None, self._run):
            return f"{path} is a checkpoint of another run than that of its folder, by the data.json there."
        groups = self.optimizer.param_groups
        by_muon = {self._names[p] for group in groups if group.get("muon") for p in group["params"]}
        return checkpoint.misfit(path, tensors, info, parameters, bool(self.ema), by_muon)

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        self._assign(checkpoint.under("module", tensors))
        averages = checkpoint.under("ema", tensors)
        self.ema = {name: averages[name].to(p.device, copy=True) for name, p in self.trained() if name in averages}
        checkpoint.restore_optimizer(self.optimizer, self._names, tensors)
