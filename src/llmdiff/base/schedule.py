"""The noising of an image model's latents, by its scheduler's config (docs/method.md section 4).

Letters in shapes: B batch.
"""

from typing import Any

import torch
from diffusers import DDPMScheduler
from diffusers.configuration_utils import FrozenDict
from torch import Tensor

PREDICTIONS = ("epsilon", "v_prediction", "sample")
FLOW = "flow_prediction"


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
    """The noise schedule of a base model that draws with this scheduler."""
    return FlowSchedule(scheduler.config) if _is_flow(scheduler) else DDPMScheduler.from_config(scheduler.config)


def can_schedule(scheduler: Any) -> bool:
    """True if it is known how a base model with this scheduler was trained."""
    config = scheduler.config
    plain = config.get("prediction_type") in PREDICTIONS and "beta_schedule" in config and "sigma_data" not in config
    return plain or _is_flow(scheduler)


def model_timesteps(schedule: Any, t: Tensor) -> Tensor:
    """The ``timestep`` argument of a denoiser for timesteps t, (B,): themselves or, in a flow, σ times their count."""
    return schedule.sigmas(t) * schedule.config.num_train_timesteps if isinstance(schedule, FlowSchedule) else t


def coefficients(schedule: Any, t: Tensor) -> tuple[Tensor, Tensor]:
    """α and σ at timesteps t, each (B,): the noised latents are α z + σ ε."""
    if isinstance(schedule, FlowSchedule):
        sigma = schedule.sigmas(t)
        return 1 - sigma, sigma
    alpha_bar = schedule.alphas_cumprod.to(t.device)[t]
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def _is_flow(scheduler: Any) -> bool:
    """Schedulers that are for flows alone do not state what is predicted."""
    config = scheduler.config
    return config.get("prediction_type", FLOW) == FLOW and ("flow_shift" in config or "shift" in config)
