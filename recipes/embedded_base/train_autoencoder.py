"""Trains the embedded base's autoencoder on crops of scenes: `python -m embedded_base.train_autoencoder` in recipes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F

from embedded_base import data, modules
from embedded_base.progress import Progress
from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.precision import HAS_BF16, autocast
from llmdiff.training.randomness import Streams
from llmdiff.training.trainer import Trainer

_CROP = 32
_KL = 1e-4
_SEED = 11


class AutoencoderObjective:
    """Reconstruction of 32×32 crops (the network is convolutional, so crops are four times cheaper), and a light KL."""

    def __init__(self, vae: Any, precision: torch.dtype) -> None:
        self.precision = precision
        self.vae = vae.to(memory_format=torch.channels_last)
        self.module: nn.Module = vae

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.vae.parameters())}]

    def loss(self, indices: np.ndarray, step: int, rng: Streams) -> Tensor:
        x = _crops(data.pixels([data.scene(_SEED, int(i)) for i in indices]), rng)
        with autocast(self.precision):
            posterior = self.vae.encode(x).latent_dist
            noise = rng.normal(2, *posterior.mean.shape[1:]).flatten(0, 1)
            output = self.vae.decode(posterior.mean + posterior.std * noise).sample
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar)
        return F.mse_loss(output, x) + 0.1 * F.l1_loss(output, x) + _KL * kl.mean()


def _crops(x: Tensor, rng: Streams) -> Tensor:
    """Two random crops of each picture, one after the other: (B, 3, 64, 64) to (2B, 3, 32, 32)."""
    spots = rng.integers(x.shape[-1] - _CROP + 1, 2, 2).tolist()
    crops = [p[:, i : i + _CROP, j : j + _CROP] for p, pair in zip(x, spots, strict=True) for i, j in pair]
    return torch.stack(crops).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def latent_scale(vae: Any) -> float:
    """1 / standard deviation of the latents of 256 scenes: `scaling_factor` of the saved configuration."""
    x = data.pixels([data.scene(_SEED + 1, i) for i in range(256)])
    return 1 / vae.encode(x).latent_dist.mean.std().item()


def main(
    out: Path = Path("runs/base/vae"), steps: int = 2200, batch_size: int = 16, bf16: bool = HAS_BF16, seed: int = 0
) -> None:
    """Trains (or goes on training) the autoencoder and saves it to OUT/model."""
    torch.manual_seed(seed)
    objective = AutoencoderObjective(modules.autoencoder(), torch.bfloat16 if bf16 else torch.float32)
    settings = LoopSettings(
        steps=steps, batch_size=batch_size, learning_rate=1e-3, decay=0.6, save_every=500, seed=seed, ema=0.995
    )
    trainer = Trainer(objective, settings, out)
    trainer.resume()
    with Progress("autoencoder", steps) as progress:
        trainer.run(progress)
    with trainer.averaged():
        objective.vae.register_to_config(scaling_factor=latent_scale(objective.vae.eval()))
        objective.vae.save_pretrained(out / "model")


if __name__ == "__main__":
    typer.run(main)
