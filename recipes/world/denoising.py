"""The stages of the U-Net: single things on a small canvas, scenes, relations; the text encoder learns along.

Velocity prediction down to pure noise, high-noise timesteps favoured: where the noise is nearly all there is, it is
decided what is where. The text encoder goes on saying what captions state: without, it had lost every relation after
25,000 steps of scenes, for which the U-Net had no use before it could draw the things.
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
from world.settings import UNetSettings
from world.text import FactReadout

_DROP = 0.1  # share of captions dropped, for classifier-free guidance
_PLACES = 0.4  # weight of the readout's second loss beside its first
_STATED = 0.1  # weight of the text's own loss: it would forget what the U-Net does not use yet


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
        facts: readout of the text encoder, to train on.
        machine: that trains.

    Attributes:
        pool: that batches are drawn from, on the machine's device.
        settings: of the stage.
    """

    figures: tuple[str, ...] = ("loss", "velocity", "thing", "place", "stated")

    def __init__(self, unet: Any, text_encoder: CLIPTextModel, facts: FactReadout, machine: Machine) -> None:
        self.machine = machine
        self.unet = unet.to(machine.device, memory_format=torch.channels_last)
        self.text_encoder = text_encoder
        move(text_encoder, machine.device)
        self.facts = facts.to(machine.device)
        self.readout = ThingReadout(self.unet.config.block_out_channels[-1], len(NAMES)).to(machine.device)
        self.module: nn.Module = nn.ModuleDict(
            {"unet": self.unet, "text_encoder": self.text_encoder, "readout": self.readout, "facts": self.facts}
        )
        self.scheduler = modules.scheduler()
        self.pool: Pool | None = None
        self.settings: UNetSettings | None = None
        self._features: list[Tensor] = []
        self.unet.up_blocks[0].register_forward_hook(self._keep)
        empty = modules.token_ids(modules.tokenizer(), [""])
        self._empty = empty.to(machine.device, torch.int32)
        self._denoise = self._denoised

    def compile(self) -> None:
        """Compiles the U-Net and the text encoder, as one graph, at the next batch."""
        self._denoise = torch.compile(self._denoised, dynamic=False)

    def batch(self, size: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """Noisy latents, timesteps, token ids, velocities, what the cells show, and what the captions state."""
        assert self.pool is not None
        assert self.settings is not None
        draws, pool = BatchStream(size, rng), self.pool
        n, caption = draws.integers(len(pool.latents)), draws.integers(pool.ids.shape[1])
        told = draws.uniform(1) >= _DROP
        chosen = torch.where(told, pool.ids[n, caption], self._empty)
        stated = (pool.kinds[n, caption], pool.counts[n, caption] * told, pool.marks[n, caption])
        z = pool.latents[n].float()
        noise = draws.normal(*z.shape[1:])
        share = self.settings.noisiest
        t = draw_timesteps("high", self.scheduler.config.num_train_timesteps, draws, high_noise_share=share)
        noisy = self.scheduler.add_noise(z, noise, t).contiguous(memory_format=torch.channels_last)
        velocity = target(self.scheduler, z, noise, t)
        return noisy, t, chosen, velocity, pool.names[n], pool.spots[n], *stated, pool.places[n, caption] * told[:, 0]

    def loss(self, *batch: Tensor) -> Tensor:
        noisy, t, ids, velocity, names, spots, *stated = batch
        assert self.settings is not None
        with autocast(self.machine.precision, self.machine.device.type), attention_kernels(noisy, self.unet):
            predicted, features, context = self._denoise(noisy, t, ids)
            thing, place = self.readout(features, names, spots)
            said = self.facts(context, *stated).sum()
        error = F.mse_loss(predicted.float(), velocity)
        loss = error + self.settings.readout * (thing + _PLACES * place) + _STATED * said
        return torch.stack((loss, error, thing, place, said))

    def _denoised(self, noisy: Tensor, t: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Velocity (B, L, H, H), the U-Net's features after its coarsest level on the way up (B, C, H, H), and the
        text's states (B, S, W)."""
        context = self.text_encoder(ids).last_hidden_state
        velocity = self.unet(noisy, t, context).sample
        return velocity, self._features[0], context

    def _keep(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        self._features[:] = [output]
