"""What an adapter learns: to make the frozen denoiser right about captioned pictures (method.md section 4)."""

from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding
from llmdiff.training.noise import draw_timesteps, target
from llmdiff.training.precision import attention_kernels, autocast
from llmdiff.training.precompute import BlockTerms
from llmdiff.training.recipe import Recipe


class AdapterTask:
    """Denoising under the LLM's encodings; only the adapter trains.

    Args:
        adapter: Attached to `pipe`.
        pipe: The base model, frozen here.
        latents: Scaled latents of the pictures, (pictures, channels, height, width).
        captions: Their captions.
        terms: The LLM's block terms of all captions and of the empty one.
        recipe: Dropout of captions, timesteps, learning rate of the scalars, seed.
        bf16: Whether matrix products run in bfloat16.
    """

    def __init__(
        self,
        adapter: LLMDiffAdapter,
        pipe: Any,
        latents: Tensor,
        captions: list[str],
        terms: BlockTerms,
        recipe: Recipe,
        bf16: bool,
    ) -> None:
        self.adapter, self.pipe, self.latents, self.captions, self.terms = adapter, pipe, latents, captions, terms
        self.recipe, self.bf16 = recipe, bf16
        self.module: nn.Module = adapter
        self.scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
        for part in (pipe.unet, pipe.vae, pipe.text_encoder):
            if part is not None:
                part.requires_grad_(False).eval()
        self._parameters = dict(adapter.trainable_parameters())
        adapter.train()

    def groups(self) -> list[dict[str, Any]]:
        """Matrices, and apart from them the gates and block weights, which learn faster and do not decay."""
        matrices = [p for p in self._parameters.values() if p.ndim > 1]
        vectors = [p for name, p in self._parameters.items() if p.ndim <= 1 and not _is_scalar(name)]
        scalars = [p for name, p in self._parameters.items() if p.ndim <= 1 and _is_scalar(name)]
        return [
            {"params": matrices},
            {"params": vectors, "weight_decay": 0.0},
            {"params": scalars, "weight_decay": 0.0, "rate": self.recipe.scalar_rate},
        ]

    def loss(self, indices: np.ndarray, step: int, rng: torch.Generator) -> Tensor:
        """The mean squared error of the denoiser's prediction."""
        pictures = [self._picture(int(n)) for n in indices]
        captions = [self._caption(int(n), picture) for n, picture in zip(indices, pictures, strict=True)]
        z = self.latents[pictures].float()
        noise = torch.randn(z.shape, generator=rng)
        t = draw_timesteps(self.recipe.timesteps, len(z), self.scheduler.config.num_train_timesteps, rng)
        noisy = self.scheduler.add_noise(z, noise, t)
        encoding = self._encoding(captions, rng)
        with autocast(self.bf16), attention_kernels(z), self.adapter.conditioned(encoding):
            said = self.pipe.unet(noisy, t, encoder_hidden_states=self._base_context(captions, encoding)).sample
        return F.mse_loss(said.float(), target(self.scheduler, z, noise, t))

    def _encoding(self, captions: list[str], rng: torch.Generator) -> Encoding:
        start, stack, mask = self.terms.batch(captions)
        return Encoding(self.adapter.text_encoding(start, stack, mask, rng), mask)

    @torch.no_grad()
    def _base_context(self, captions: list[str], encoding: Encoding) -> Tensor:
        """What the base's own branch reads in augment mode; in replace mode the adapter puts φ(c) in its place."""
        if self.adapter.config.mode == "replace":
            return encoding.embeds.new_zeros(len(captions), 1, self.adapter.config.base.context_width)
        original = type(self.pipe).encode_prompt  # not the adapter's own, which stands on the instance
        return original(self.pipe, captions, self.pipe.device, 1, False)[0]

    def _picture(self, n: int) -> int:
        epoch, place = divmod(n, len(self.captions))
        return int(_order(self.recipe.loop.seed, epoch, len(self.captions))[place])

    def _caption(self, n: int, picture: int) -> str:
        dropped = np.random.default_rng((self.recipe.loop.seed, 1, n)).random() < self.recipe.caption_dropout
        return "" if dropped else self.captions[picture]


def check_trainable(pipe: Any) -> None:
    """Raises LLMDiffError unless a base model is of the kind that `AdapterTask` knows: a U-Net fed by text alone."""
    unet = getattr(pipe, "unet", None)
    if unet is None or unet.config.get("addition_embed_type") or not isinstance(unet.config.sample_size, int):
        raise LLMDiffError(
            f"{type(pipe).__name__} cannot be trained on yet: give a base model of the Stable Diffusion 1.x kind."
        )


def _is_scalar(name: str) -> bool:
    return ".gate." in name or name.split(".")[-1] in ("g", "raw_h", "logits")


_orders: dict[tuple[int, int, int], np.ndarray] = {}


def _order(seed: int, epoch: int, length: int) -> np.ndarray:
    """The order of the pictures in one epoch, a function of (seed, epoch)."""
    key = (seed, epoch, length)
    if key not in _orders:
        _orders.clear()
        _orders[key] = np.random.default_rng((seed, 2, epoch)).permutation(length)
    return _orders[key]
