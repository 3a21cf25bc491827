"""The first stage: an autoencoder that keeps things sharp."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmdiff.training.precision import autocast
from world import modules
from world.data import CELL, SINGLE, SIZE, Stream
from world.machine import Machine
from world.pool import as_model_input

_KL = 1e-2  # strong: what hardly shows in pictures has little variance in the latents, and the U-Net is spared it
_EDGES = 0.5
_SEED = 11


class AutoencoderObjective:
    """Reconstruction of pictures, and a strong KL.

    Squared and absolute errors of the pixels, and of the differences between neighbours, which are what blur loses.

    Args:
        vae: to train.
        pictures: uint8 (N, P, P, 3), on the machine's device; the network is convolutional, so small ones do.
        machine: that trains. Few channels gain nothing by half precision on a CPU.
    """

    figures: tuple[str, ...] = ("loss", "squares", "kl")

    def __init__(self, vae: Any, pictures: Tensor, machine: Machine) -> None:
        self.pictures, self.machine = pictures, machine
        self._precision = torch.float32 if machine.device.type == "cpu" else machine.precision
        self.vae = vae.to(machine.device, memory_format=torch.channels_last)
        self.module: nn.Module = vae
        self._reconstruct = self._decoded

    def compile(self) -> None:
        """Compiles the network at its next batch."""
        self._reconstruct = torch.compile(self._decoded, dynamic=False)

    def batch(self, size: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """Pictures uint8 (B, P, P, 3) and the noise of their latents (B, L, P / 8, P / 8)."""
        device, cells = self.machine.device, self.pictures.shape[1] // CELL
        chosen = torch.randint(len(self.pictures), (size,), generator=rng, device=device)
        noise = torch.randn(size, modules.LATENT_CHANNELS, cells, cells, generator=rng, device=device)
        return self.pictures[chosen], noise

    def loss(self, *batch: Tensor) -> Tensor:
        pictures, noise = batch
        x = as_model_input(pictures)
        with autocast(self._precision, self.machine.device.type):
            output, mean, logvar = self._reconstruct(x.contiguous(memory_format=torch.channels_last), noise)
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        error = output.float() - x
        edges = (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2
        squares = error.square().mean()
        return torch.stack((squares + 0.2 * error.abs().mean() + _EDGES * 0.2 * edges + _KL * kl, squares, kl))

    def _decoded(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        posterior = self.vae.encode(x).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        return self.vae.decode(mean + (0.5 * logvar).exp() * noise).sample, mean, logvar


def pictures(count: int, things: int) -> Tensor:
    """Single things, and in every fourth picture a window of a scene, on the grid: uint8 (count, 64, 64, 3)."""
    singles, scenes = Stream(_SEED, SINGLE, things), Stream(_SEED, SIZE, things)
    return torch.from_numpy(np.stack([_window(scenes, i) if i % 4 == 0 else singles.picture(i) for i in range(count)]))


def _window(stream: Stream, index: int) -> np.ndarray:
    corners = np.random.default_rng((_SEED, index, 2)).integers((SIZE - SINGLE) // CELL + 1, size=2)
    top, left = (corners * CELL).tolist()
    return stream.picture(index)[top : top + SINGLE, left : left + SINGLE]


@torch.no_grad()
def latent_scale(vae: Any, pictures: Tensor) -> float:
    """1 / standard deviation of the latents of pictures: `scaling_factor` of the saved configuration."""
    return 1 / vae.encode(as_model_input(pictures)).latent_dist.mean.std().item()


@torch.no_grad()
def decibels(vae: Any, pictures: Tensor) -> float:
    """Peak signal-to-noise ratio of what comes back of pictures uint8 (B, P, P, 3)."""
    x = as_model_input(pictures)
    back = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
    return -10 * torch.log10(F.mse_loss(back, x) / 4).item()
