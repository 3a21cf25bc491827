"""Validation: pictures that are never trained on, and the losses on them, level of noise by level of noise."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from llmdiff.base.schedule import coefficients
from llmdiff.data import Captioned, SizeConditioning
from llmdiff.errors import LLMDiffError
from llmdiff.hashing import text_hash
from llmdiff.training.noise import target
from llmdiff.training.objective import AdapterObjective, squared_errors
from llmdiff.training.processes import all_reduce_sum, local_shard
from llmdiff.training.randomness import Streams
from llmdiff.training.recipe import HeldOutSettings
from llmdiff.training.trainer import Trainer


class Part:
    """Some of the pictures of a data set, as a data set."""

    def __init__(self, data: Captioned, indices: Sequence[int]) -> None:
        self.data, self.indices = data, indices
        self.captions = [data.captions[i] for i in indices]
        self.teacher_captions = [data.teacher_captions[i] for i in indices]
        self.weights = [data.weights[i] for i in indices]
        self.skipped = data.skipped

    def __len__(self) -> int:
        return len(self.indices)

    def size(self, index: int) -> tuple[int, int]:
        return self.data.size(self.indices[index])

    def size_conditioning(self, index: int) -> SizeConditioning:
        return self.data.size_conditioning(self.indices[index])

    def identity(self, index: int) -> str:
        return self.data.identity(self.indices[index])

    def pixels(self, index: int) -> Tensor:
        return self.data.pixels(self.indices[index])


def split(data: Captioned, share: float, seed: int) -> tuple[Captioned, Captioned | None]:
    """The pictures to train on, and those that are held out, if any are.

    Captions are held out, with all pictures of which they are the first one: the share of them with the lowest hashes,
    so that few change sides when pictures are added.

    Raises:
        LLMDiffError: Nothing would be left to train on.
    """
    if not share:
        return data, None
    captions = sorted({texts[0] for texts in data.captions}, key=lambda text: text_hash(f"{seed} {text}"))
    held = set(captions[: max(1, round(share * len(captions)))])
    if len(held) == len(captions):
        raise LLMDiffError(
            f"heldout.share = {share} leaves nothing to train on of {len(captions)} captions; lower it, or set it to 0."
        )
    sides = [[i for i, texts in enumerate(data.captions) if (texts[0] in held) == side] for side in (False, True)]
    return Part(data, sides[0]), Part(data, sides[1])


class Validation:
    """The losses of adapter and base model on held-out pictures, at a few levels of noise and with fixed noise.

    A level is σ, the noise's coefficient; the timestep nearest to it is taken.

    Args:
        objective: what trains.
        latents: scaled latents of the pictures.
        data: the pictures.
        settings: how many levels and pictures.
        accelerator: the processes among which the pictures are divided.
    """

    def __init__(
        self,
        objective: AdapterObjective,
        latents: Any,
        data: Captioned,
        settings: HeldOutSettings,
        accelerator: Accelerator,
    ) -> None:
        self.objective, self.latents, self.data, self.accelerator = objective, latents, data, accelerator
        self.levels = [(k + 0.5) / settings.levels for k in range(settings.levels)]
        self.count = min(settings.pictures, len(data))
        self._base: dict[str, float] = {}

    def losses(self, trainer: Trainer) -> dict[str, float]:
        """`heldout/σ…/adapter` and `heldout/σ…/base`: mean squared errors of the predictions, now."""
        adapter = self.objective.adapter
        adapter.eval()
        try:
            if not self._base:  # it is frozen
                self._base = self._of("base", trainer.micro_batch)
            return self._of("adapter", trainer.micro_batch) | self._base
        finally:
            adapter.train()

    @torch.no_grad()
    def _of(self, who: str, micro_batch: int) -> dict[str, float]:
        sums = torch.zeros(len(self.levels), device=self.objective.device)
        for indices in self._batches(micro_batch):
            for number, level in enumerate(self.levels):
                sums[number] += self._errors(who, indices, level).sum()
        all_reduce_sum(self.accelerator, [sums])
        means = (sums / self.count).tolist()
        return {f"heldout/σ{level:.3g}/{who}": mean for level, mean in zip(self.levels, means, strict=True)}

    def _batches(self, micro_batch: int) -> list[list[int]]:
        """This process's pictures; those in a batch have one size."""
        by_size: dict[tuple[int, int], list[int]] = {}
        for i in local_shard(self.accelerator, np.arange(self.count)).tolist():
            by_size.setdefault(self.data.size(i), []).append(i)
        return [same[n : n + micro_batch] for same in by_size.values() for n in range(0, len(same), micro_batch)]

    def _errors(self, who: str, indices: list[int], level: float) -> Tensor:
        """Squared errors (B,) at a level of noise."""
        objective, schedule = self.objective, self.objective.base.schedule
        z = self.latents[indices].to(objective.device).float()
        noise = Streams(objective.recipe.loop.seed, indices).normal(*z.shape[1:]).to(z)
        t = torch.full((len(z),), timestep_of(schedule, level), device=z.device)
        noisy, wanted = schedule.add_noise(z, noise, t), target(schedule, z, noise, t)
        sizes = [self.data.size_conditioning(i) for i in indices] if objective.base.uses_size_conditioning else None
        if who == "base":
            predicted = objective.base_prediction(noisy, t, [self.data.teacher_captions[i][0] for i in indices], sizes)
        else:
            predicted = objective.prediction(noisy, t, [self.data.captions[i][0] for i in indices], sizes=sizes)
        return squared_errors(predicted, wanted)


def timestep_of(schedule: Any, level: float) -> int:
    """The timestep whose σ is nearest to a level of noise, 0 … 1."""
    _, sigmas = coefficients(schedule, torch.arange(schedule.config.num_train_timesteps))
    return int((sigmas - level).abs().argmin())
