"""Noise in training: which timesteps, and what the denoiser is asked for (method.md section 4)."""

from typing import Any, Literal

import torch
from torch import Tensor

from llmdiff.errors import LLMDiffError

Timesteps = Literal["uniform", "mid-range", "high"]

# Of the logits. At high noise it is decided what is where, and so there the text matters.
_CENTRE = {"mid-range": 0.0, "high": 0.8}


def draw_timesteps(kind: Timesteps, n: int, count: int, rng: torch.Generator) -> Tensor:
    """Timesteps (n,) of 0..count-1: all alike, or logit-normal (Esser et al., 2024, section 3.1) around a centre."""
    if kind == "uniform":
        return torch.randint(0, count, (n,), generator=rng)
    return (torch.sigmoid(torch.randn(n, generator=rng) + _CENTRE[kind]) * count).long().clamp(0, count - 1)


def target(scheduler: Any, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """What the denoiser should say of `z` noised with `noise` at timesteps `t`, in the scheduler's prediction type.

    Args:
        scheduler: A `DDPMScheduler` or one with its interface.
        z: Latents (B, channels, height, width).
        noise: Like z.
        t: (B,).

    Raises:
        LLMDiffError: The prediction type is not epsilon, v_prediction or sample.
    """
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return scheduler.get_velocity(z, noise, t)
    if kind == "sample":
        return z
    raise LLMDiffError(f"The base model predicts {kind!r}; training knows epsilon, v_prediction and sample.")
