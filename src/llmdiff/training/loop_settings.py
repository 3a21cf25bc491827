"""Length and speed of a run, and the learning rate of each step."""

import math
from typing import Literal

from pydantic import ConfigDict, Field

from llmdiff.settings import Settings

_MOST = 10**9  # steps


class LoopSettings(Settings):
    """Length and speed of training, and the files that are kept on the way."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    steps: int = Field(2000, ge=1, le=_MOST, description="optimizer steps in all")
    batch_size: int = Field(32, ge=1, le=2**20, description="samples per optimizer step, of all processes together")
    micro_batch: int | None = Field(
        None, ge=1, le=2**20, description="samples a process takes at once; by default all its own"
    )
    optimizer: Literal["adamw", "muon"] = Field("adamw", description="muon learns matrices in fewer steps")
    learning_rate: float = Field(3e-4, gt=0, le=100)
    warmup: int = Field(100, ge=0, le=_MOST, description="steps of linear warm-up")
    decay: float = Field(0.3, ge=0, le=1, description="last part of the run over which the rate falls to 0 by a cosine")
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights; 0 keeps none")
    seed: int = Field(0, ge=0)
    log_every: int = Field(20, ge=1)
    save_every: int = Field(500, ge=1)
    sample_every: int = Field(1000, ge=0, description="steps between sample sheets; 0 draws none")
    heldout_every: int = Field(500, ge=1, description="steps between losses on held-out data, if any is held out")
    trackers: list[str] = Field(default_factory=list, description="of accelerate, wandb say, beside TensorBoard")


def rate_factor(step: int, settings: LoopSettings) -> float:
    """Learning-rate factor in 0..1: linear warm-up, a plateau, a cosine to 0 over the last part."""
    tail = settings.steps * settings.decay
    into_tail = max(0.0, step - (settings.steps - tail))
    fall = 0.5 * (1 + math.cos(math.pi * into_tail / tail)) if tail else 1.0
    return min(1.0, (step + 1) / (settings.warmup + 1)) * fall
