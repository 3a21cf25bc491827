"""Noise in training: the timesteps that are drawn, and the denoiser's target (method.md section 4)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from diffusers import DDPMScheduler
from diffusers.configuration_utils import FrozenDict
from torch import Tensor

from llmdiff.errors import LLMDiffError
from llmdiff.training.randomness import Streams

Timesteps = Literal["uniform", "mid-range", "high"]

PREDICTIONS = ("epsilon", "v_prediction", "sample")
FLOW = "flow_prediction"

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


class FlowSchedule:
    """Straight paths from pictures to noise, z_σ = (1 - σ) z + σ ε, with the interface of a `DDPMScheduler`.

    Timestep t of 0..count-1 is σ = s u / (1 + (s - 1) u) at u = (t + 1) / count, where s shifts paths to high noise
    (Esser et al., 2024, section 5.3.2).

    Args:
        config: of the base model's scheduler.
    """

    def __init__(self, config: Any) -> None:
        self.config: Any = FrozenDict(num_train_timesteps=config["num_train_timesteps"], prediction_type=FLOW)
        self.shift = float(config.get("flow_shift") or config.get("shift") or 1.0)

    def sigmas(self, t: Tensor) -> Tensor:
        """σ at timesteps, (B,)."""
        u = (t.float() + 1) / self.config.num_train_timesteps
        return self.shift * u / (1 + (self.shift - 1) * u)

    def add_noise(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Latents (B, channels, height, width) on their way to noise."""
        return torch.lerp(z, noise, self.sigmas(t).to(z).view(-1, 1, 1, 1))


def training_schedule(scheduler: Any) -> Any:
    """How latents are noised for a base model that draws with this scheduler."""
    return FlowSchedule(scheduler.config) if _is_flow(scheduler) else DDPMScheduler.from_config(scheduler.config)


def can_schedule(scheduler: Any) -> bool:
    """Whether `training_schedule` and `target` know how a base model with this scheduler was trained."""
    config = scheduler.config
    plain = config.get("prediction_type") in PREDICTIONS and "beta_schedule" in config and "sigma_data" not in config
    return plain or _is_flow(scheduler)


def told_times(schedule: Any, t: Tensor) -> Tensor:
    """What a denoiser is told of timesteps t, (B,): themselves, or the share of noise in a flow, of as many."""
    return schedule.sigmas(t) * schedule.config.num_train_timesteps if isinstance(schedule, FlowSchedule) else t


def coefficients(schedule: Any, t: Tensor) -> tuple[Tensor, Tensor]:
    """α and σ at timesteps t, each (B,): the noised latents are α z + σ ε."""
    if isinstance(schedule, FlowSchedule):
        sigma = schedule.sigmas(t)
        return 1 - sigma, sigma
    alpha_bar = schedule.alphas_cumprod.to(t.device)[t]
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


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


def _is_flow(scheduler: Any) -> bool:
    """Schedulers that are for flows alone do not say what is predicted."""
    config = scheduler.config
    return config.get("prediction_type", FLOW) == FLOW and ("flow_shift" in config or "shift" in config)


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
