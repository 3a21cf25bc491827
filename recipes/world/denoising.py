"""The stages of the U-Net: single things on a small canvas, then scenes; the text encoder learns along.

Velocity prediction down to pure noise, high-noise timesteps favoured: where the noise is nearly all there is, it is
decided what is where.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel

from llmdiff.language.loading import move
from llmdiff.training.noise import draw_timesteps, target
from llmdiff.training.precision import attention_kernels, autocast
from llmdiff.training.randomness import Streams
from llmdiff.world.things import NAMES
from world import modules
from world.machine import Machine
from world.pool import Pool
from world.readout import ThingReadout

_DROP = 0.1  # share of captions dropped, for classifier-free guidance
_NOISIEST = 0.2  # share of timesteps that come from the noisiest fifth beside those of "high"
_NAMES, _PLACES = 0.05, 0.02  # weights of the readout's losses beside the velocity's


class BatchStream(Streams):
    """One stream of random numbers for a whole batch, on its device."""

    def __init__(self, size: int, rng: torch.Generator) -> None:
        self._size, self._rng = size, rng

    def __len__(self) -> int:
        return self._size

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self._size, *shape, generator=self._rng, device=self._rng.device)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(self._size, *shape, generator=self._rng, device=self._rng.device)

    def integers(self, end: int, *shape: int) -> Tensor:
        return torch.randint(end, (self._size, *shape), generator=self._rng, device=self._rng.device)


class DenoisingObjective:
    """Denoising of a pool's latents under its captions.

    Args:
        unet, text_encoder: to train.
        machine: that trains.

    Attributes:
        pool: that batches are drawn from, on the machine's device.
    """

    figures: tuple[str, ...] = ("loss", "velocity", "thing", "place")

    def __init__(self, unet: Any, text_encoder: CLIPTextModel, machine: Machine) -> None:
        self.machine = machine
        self.unet = unet.to(machine.device, memory_format=torch.channels_last)
        self.text_encoder = text_encoder
        move(text_encoder, machine.device)
        self.readout = ThingReadout(self.unet.config.block_out_channels[-1], len(NAMES)).to(machine.device)
        self.module: nn.Module = nn.ModuleDict(
            {"unet": self.unet, "text_encoder": self.text_encoder, "readout": self.readout}
        )
        self.scheduler = modules.scheduler()
        self.pool: Pool | None = None
        self._features: list[Tensor] = []
        self.unet.up_blocks[0].register_forward_hook(self._keep)
        empty = modules.token_ids(modules.tokenizer(), [""])
        self._empty = empty.to(machine.device, torch.int32)
        self._denoise = self._denoised

    def compile(self) -> None:
        """Compiles the U-Net and the text encoder, as one graph, at the next batch."""
        self._denoise = torch.compile(self._denoised, dynamic=False)

    def batch(self, size: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """Noisy latents, timesteps, token ids, velocities, and what the cells show."""
        assert self.pool is not None
        draws, (latents, ids, names, spots) = BatchStream(size, rng), self.pool
        n, caption = draws.integers(len(latents)), draws.integers(ids.shape[1])
        chosen = torch.where(draws.uniform(1) < _DROP, self._empty, ids[n, caption])
        z = latents[n].float()
        noise = draws.normal(*z.shape[1:])
        t = draw_timesteps("high", self.scheduler.config.num_train_timesteps, draws, high_noise_share=_NOISIEST)
        noisy = self.scheduler.add_noise(z, noise, t).contiguous(memory_format=torch.channels_last)
        return noisy, t, chosen, target(self.scheduler, z, noise, t), names[n], spots[n]

    def loss(self, *batch: Tensor) -> Tensor:
        noisy, t, ids, velocity, names, spots = batch
        with autocast(self.machine.precision, self.machine.device.type), attention_kernels(noisy, self.unet):
            predicted, features = self._denoise(noisy, t, ids)
            thing, place = self.readout(features, names, spots)
        error = F.mse_loss(predicted.float(), velocity)
        return torch.stack((error + _NAMES * thing + _PLACES * place, error, thing, place))

    def _denoised(self, noisy: Tensor, t: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity (B, L, H, H), and the U-Net's features after its coarsest level on the way up (B, C, H, H)."""
        context = self.text_encoder(ids).last_hidden_state
        velocity = self.unet(noisy, t, context).sample
        return velocity, self._features[0]

    def _keep(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        self._features[:] = [output]
