"""Noise in training: the timesteps that are drawn, and the denoiser's target (docs/method.md section 4)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from llmdiff.base.schedule import FLOW, PREDICTIONS, coefficients
from llmdiff.errors import LLMDiffError
from llmdiff.training.randomness import Streams

Timesteps = Literal["uniform", "mid-range", "high"]

# Of the logits. At high noise it is decided what is where, and so there the text matters.
_CENTRE = {"mid-range": 0.0, "high": 0.8}
_HIGH_NOISE = 0.8  # where the timesteps begin at which it is decided what is where


def draw_timesteps(kind: Timesteps, count: int, rng: Streams, high_noise_share: float = 0.0) -> Tensor:
    """Timesteps (B,) of 0..count-1: all alike, or logit-normal (Esser et al., 2024, section 3.1) around a centre.

    The share `high_noise_share` of them comes evenly from the noisiest fifth instead, whose end even "high"
    seldom draws.
    """
    share = rng.uniform() if kind == "uniform" else torch.sigmoid(rng.normal() + _CENTRE[kind])
    if high_noise_share:
        chosen = rng.uniform() < high_noise_share
        share = torch.where(chosen, _HIGH_NOISE + (1 - _HIGH_NOISE) * rng.uniform(), share)
    return (share * count).long().clamp(0, count - 1)


def draw_noise(shape: Sequence[int], offset: float, rng: Streams) -> Tensor:
    """Noise for latents of `shape` (B, channels, height, width).

    With an offset, each channel's mean is shifted by it times a normal number of its own (Guttenberg, 2023: "Diffusion
    with offset noise"), so that a model learns to make pictures that are very dark or bright as a whole.
    """
    _, channels, height, width = shape
    noise = rng.normal(channels, height, width)
    return noise + offset * rng.normal(channels, 1, 1) if offset else noise


def min_snr_weights(schedule: Any, t: Tensor, gamma: float) -> Tensor:
    """Weights (B,) of squared errors at timesteps t, (B,): min-SNR-γ (Hang et al., 2023, section 3.4).

    The weight of an error in the picture is min(SNR, γ) with SNR = α²/σ². An error of the prediction makes one in the
    picture that is 1/SNR times as large, squared, for epsilon, and σ² times for v and for a flow's velocity.

    Args:
        schedule: as `training_schedule` gives it.
        gamma: γ > 0; the paper's is 5.
    """
    alpha, sigma = (value.square() for value in coefficients(schedule, t))
    kind = schedule.config.prediction_type
    if kind == "epsilon":
        return (gamma * sigma / alpha).clamp(max=1)
    if kind == "sample":
        return (alpha / sigma).clamp(max=gamma)
    return torch.minimum(alpha, gamma * sigma)


def target(scheduler: Any, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The denoiser's target for `z` noised with `noise` at timesteps `t`, in the scheduler's prediction type.

    Args:
        scheduler: As `training_schedule` gives it, or one with its interface.
        z: Latents (B, channels, height, width).
        noise: Like z.
        t: (B,).

    Raises:
        LLMDiffError: The prediction type is not epsilon, v_prediction, sample or flow_prediction.
    """
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return scheduler.get_velocity(z, noise, t)
    if kind == "sample":
        return z
    if kind == FLOW:
        return noise - z
    raise LLMDiffError(f"The base model predicts {kind!r}; training knows {', '.join(PREDICTIONS)} and {FLOW}.")
