"""The objective of an adapter: a frozen denoiser that is right about captioned pictures (docs/method.md section 4)."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.data import Batches, Captioned, Prefetcher, SizeConditioning, explained_worker_deaths
from llmdiff.language import Encoding
from llmdiff.precompute import Answers, Latents, LiveLatents, Terms, check_latents
from llmdiff.training.finiteness import explain
from llmdiff.training.layer_distillation import layer_errors
from llmdiff.training.noise import draw_noise, draw_timesteps, min_snr_weights, target
from llmdiff.training.precision import attention_kernels, autocast
from llmdiff.training.processes import local_shard
from llmdiff.training.randomness import Streams
from llmdiff.training.recipe import Recipe
from llmdiff.training.transfer import to_device

_SHUFFLE = 6  # sets the order of shuffled captions apart from what else is drawn with a seed


class AdapterObjective:
    """Denoising under the LLM's encodings; only the adapter trains.

    Args:
        adapter: Attached to the base model.
        base: The base model, frozen.
        latents: Scaled latents of the pictures: by a list of numbers B of them, (B, channels, height, width).
        data: Their captions, in the same order.
        terms: The LLM's block terms of all captions and of the empty one.
        recipe: Dropout of captions, timesteps, learning rate of the scalars, seed.
        precision: in which matrix products run.
        answers: the base model's predictions of other runs, if they are kept.

    Attributes:
        explains: whether each loss is looked at, to name what is not finite, for which a GPU has to be waited for: on
            one it begins as False.
    """

    def __init__(
        self,
        adapter: LLMDiffAdapter,
        base: ImageModel,
        latents: Latents | Tensor,
        data: Captioned,
        terms: Terms,
        recipe: Recipe,
        precision: torch.dtype,
        answers: Answers | None = None,
    ) -> None:
        self.answers = answers
        self.adapter, self.base, self.latents, self.data, self.terms = adapter, base, latents, data, terms
        self.recipe, self.settings, self.precision = recipe, recipe.objective, precision
        self.prefetcher: Prefetcher | None = None
        self._has_warned = False
        self.device: torch.device = self.base.denoiser.device
        self.explains = self.device.type == "cpu"
        loop, captions = recipe.loop, recipe.objective
        self.batches = Batches(data, loop.batch_size, loop.seed, captions.caption_dropout, captions.longest_captions)
        self._captions = shuffled(data.captions, loop.seed) if captions.shuffle_captions else data.captions
        self._parameters = dict(adapter.trainable_parameters())
        self.module: nn.Module = adapter
        if recipe.gradient_checkpointing:
            self.base.denoiser.enable_gradient_checkpointing()
        adapter.train()

    def groups(self) -> list[dict[str, Any]]:
        """Matrices, apart from them the gates and block weights, which learn faster and do not decay, and a LoRA."""
        lora = [p for name, p in self._parameters.items() if name.startswith("lora.")]
        matrices = [p for name, p in self._parameters.items() if p.ndim > 1 and not name.startswith("lora.")]
        vectors = [p for name, p in self._parameters.items() if p.ndim <= 1 and not _is_scalar(name)]
        scalars = [p for name, p in self._parameters.items() if p.ndim <= 1 and _is_scalar(name)]
        groups: list[dict[str, Any]] = [
            {"params": matrices},
            {"params": vectors, "weight_decay": 0.0},
            {"params": scalars, "weight_decay": 0.0, "rate": self.settings.scalar_rate},
        ]
        if self.recipe.lora:
            groups.append({"params": lora, "rate": self.recipe.lora.rate})
        return groups

    @contextmanager
    def prefetching(self, accelerator: Accelerator) -> Iterator[None]:
        """Within it, workers read this process's pictures of the coming steps, if the recipe wants workers.

        Raises:
            LLMDiffError: A worker has ended that should not have.
        """
        plain, workers = self.latents, self.recipe.cache.workers
        if not (workers and isinstance(plain, LiveLatents)):
            yield
            return
        batches = copy(self.batches)  # with an epoch of its own at hand

        def mine(step: int) -> list[int]:
            return [int(picture) for picture in local_shard(accelerator, batches.pictures(step))]

        self.prefetcher = Prefetcher(plain.data, mine, self.recipe.loop.steps, workers)
        self.latents = LiveLatents(plain.vae, self.prefetcher)
        try:
            with explained_worker_deaths():
                yield
        finally:
            self.latents, self.prefetcher = plain, None

    def loss(self, indices: np.ndarray, step: int, rng: Streams) -> Tensor:
        """The mean squared error of the denoiser's prediction, weighted as the recipe says.

        Raises:
            LLMDiffError: Latents of a picture, terms of a caption or a weight are not finite.
        """
        samples = [self.batches.sample(int(n)) for n in indices]
        pictures = [sample.picture for sample in samples]
        captions = [sample.text(self._captions) for sample in samples]
        sizes = [self.data.size_conditioning(i) for i in pictures] if self.base.uses_size_conditioning else None
        if self.prefetcher:
            self.prefetcher.go_to(step)
        z = self.latents[pictures]
        check_latents(z, pictures, self.data)
        z = to_device(z, self.device).float()
        schedule = self.base.schedule
        noise = to_device(draw_noise(z.shape, self.settings.noise_offset, rng), self.device)
        count = schedule.config.num_train_timesteps
        share = self.settings.high_noise_share
        t = to_device(draw_timesteps(self.settings.timesteps, count, rng, share), self.device)
        noisy = schedule.add_noise(z, noise, t)

        taught = [one.text(self.data.teacher_captions) for one in samples]

        def student() -> Tensor:
            return self.prediction(noisy, t, captions, rng, sizes)

        if step < self.settings.distil_layers:
            layers = [self.base.denoiser.get_submodule(path) for path in self.adapter.named_branches()]
            errors = layer_errors(self.base.denoiser, layers, lambda: self._ask_base(noisy, t, taught, sizes), student)
        else:
            distils = step < self.settings.distil
            wanted = self.base_prediction(noisy, t, taught, sizes) if distils else target(schedule, z, noise, t)
            errors = squared_errors(student(), wanted)
            if self.settings.min_snr is not None:
                errors = errors * min_snr_weights(schedule, t, self.settings.min_snr)
        if self.explains:
            self._warn_of(explain(errors, captions, self.adapter, self.base))
        return errors.mean()

    def _warn_of(self, sentence: str | None) -> None:
        """Warns of the first prediction that is not finite; the trainer counts the steps that are skipped for it."""
        if sentence and not self._has_warned:
            self._has_warned = True
            warnings.warn(sentence, stacklevel=3)

    def prediction(
        self,
        noisy: Tensor,
        t: Tensor,
        captions: list[str],
        rng: Streams | None = None,
        sizes: list[SizeConditioning] | None = None,
    ) -> Tensor:
        """The denoiser's prediction under the LLM's encodings, (B, channels, height, width).

        Args:
            noisy: (B, channels, height, width).
            t: (B,).
            captions: B of them.
            rng: of the encodings' noise; they have none without it.
            sizes: B of them, how the pictures were cut; whole ones of their own size if None.
        """
        encoding = self._encoding(captions, rng)
        text = self.base.encode(captions) if self.adapter.config.mode == "augment" else None
        with self._precision(noisy):
            return self.base.predict(noisy, t, self.adapter.denoiser_inputs(encoding, text), sizes)

    @torch.no_grad()
    def base_prediction(
        self, noisy: Tensor, t: Tensor, captions: list[str], sizes: list[SizeConditioning] | None = None
    ) -> Tensor:
        """The base model's own prediction: a target without the noise of single pictures."""
        if self.answers is not None and sizes is None:
            return self.answers.get(noisy, t, captions, lambda: self._ask_base(noisy, t, captions, None))
        return self._ask_base(noisy, t, captions, sizes)

    @torch.no_grad()
    def _ask_base(self, noisy: Tensor, t: Tensor, captions: list[str], sizes: list[SizeConditioning] | None) -> Tensor:
        """The same, for which the base model runs in any case."""
        with self._precision(noisy), self.adapter.disable_adapter():
            return self.base.predict(noisy, t, self.base.encode(captions), sizes)

    @contextmanager
    def _precision(self, noisy: Tensor) -> Iterator[None]:
        with autocast(self.precision, noisy.device.type), attention_kernels(noisy, self.base.denoiser):
            yield

    def _encoding(self, captions: list[str], rng: Streams | None) -> Encoding:
        terms = self.terms.batch(captions, as_kept=self.device.type != "cpu")
        start, stack, mask = (to_device(part, self.device) for part in terms)
        reader = self.adapter.text_encoding
        if rng is None or not reader.noisy:
            noise = torch.zeros_like(start, dtype=torch.float32)
        else:
            noise = to_device(rng.normal_where(terms[2], start.shape[-1]), self.device)
        return self.adapter.refine(Encoding(reader(start, stack, mask, noise=noise), mask))


def squared_errors(predicted: Tensor, target: Tensor) -> Tensor:
    """The mean squared error of each sample, (B, ...) to (B,)."""
    return (predicted.float() - target.float()).square().flatten(1).mean(1)


def shuffled(captions: Sequence[tuple[str, ...]], seed: int) -> list[tuple[str, ...]]:
    """The captions of each picture, those of another one: as many as its own, one of them more than once if need be.

    Args:
        captions: of each picture.
        seed: of the run.

    Example:
        >>> shuffled([("a cup",), ("a fox", "a red fox")], seed=0)
        [('a fox',), ('a cup', 'a cup')]
    """
    order = np.random.default_rng((seed, _SHUFFLE)).permutation(len(captions))
    found: list[tuple[str, ...]] = [()] * len(captions)
    for picture, other in zip(order, np.roll(order, 1), strict=True):
        texts = captions[other]
        found[picture] = tuple(texts[i % len(texts)] for i in range(len(captions[picture])))
    return found


def _is_scalar(name: str) -> bool:
    return ".gate." in name or name.split(".")[-1] in ("g", "raw_h", "logits", "mix")
