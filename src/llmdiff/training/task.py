"""What an adapter learns: to make the frozen denoiser right about captioned pictures (method.md section 4)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.language import Encoding
from llmdiff.training.base import BaseModel, Inputs
from llmdiff.training.data import Captioned
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
        data: Their captions, in the same order.
        terms: The LLM's block terms of all captions and of the empty one.
        recipe: Dropout of captions, timesteps, learning rate of the scalars, seed.
        bf16: Whether matrix products run in bfloat16.
    """

    def __init__(
        self,
        adapter: LLMDiffAdapter,
        pipe: Any,
        latents: Tensor,
        data: Captioned,
        terms: BlockTerms,
        recipe: Recipe,
        bf16: bool,
    ) -> None:
        self.adapter, self.pipe, self.latents, self.data, self.terms = adapter, pipe, latents, data, terms
        self.recipe, self.bf16 = recipe, bf16
        self.module: nn.Module = adapter
        self.base = BaseModel(pipe)
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
        dropped = [self._is_dropped(int(n)) for n in indices]
        captions = _worded(self.data.captions, pictures, dropped)
        z = self.latents[pictures].float()
        noise = torch.randn(z.shape, generator=rng)
        schedule = self.base.schedule
        t = draw_timesteps(self.recipe.timesteps, len(z), schedule.config.num_train_timesteps, rng)
        noisy = schedule.add_noise(z, noise, t)
        encoding = self._encoding(captions, rng)
        with autocast(self.bf16), attention_kernels(z, self.base.denoiser):
            if step < self.recipe.distil:
                wanted = self._base_prediction(noisy, t, _worded(self.data.base_captions, pictures, dropped))
            else:
                wanted = target(schedule, z, noise, t)
            with self.adapter.conditioned(encoding):
                said = self.base.predict(noisy, t, self._text(captions, encoding))
        return F.mse_loss(said, wanted)

    @torch.no_grad()
    def _base_prediction(self, noisy: Tensor, t: Tensor, captions: list[str]) -> Tensor:
        """What the base model says by itself: a target without the noise of single pictures."""
        with self.adapter.asleep():
            return self.base.predict(noisy, t, self.base.text(captions))

    def _encoding(self, captions: list[str], rng: torch.Generator) -> Encoding:
        start, stack, mask = self.terms.batch(captions)
        return Encoding(self.adapter.text_encoding(start, stack, mask, rng), mask)

    def _text(self, captions: list[str], encoding: Encoding) -> Inputs:
        """What the base's own branch reads in augment mode; in replace mode the adapter puts φ(c) in its place."""
        if self.adapter.config.mode == "augment":
            return self.base.text(captions)
        width = self.adapter.config.base.context_width
        return {"encoder_hidden_states": encoding.embeds.new_zeros(len(captions), 1, width)}

    def _picture(self, n: int) -> int:
        epoch, place = divmod(n, len(self.data))
        return int(_order(self.recipe.loop.seed, epoch, len(self.data))[place])

    def _is_dropped(self, n: int) -> bool:
        return bool(np.random.default_rng((self.recipe.loop.seed, 1, n)).random() < self.recipe.caption_dropout)


def _worded(captions: list[str], pictures: list[int], dropped: list[bool]) -> list[str]:
    return ["" if empty else captions[picture] for picture, empty in zip(pictures, dropped, strict=True)]


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
