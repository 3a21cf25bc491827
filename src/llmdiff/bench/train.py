"""Throughput of adapter training beside its floor.

The floor is forward and backward pass of the frozen denoiser with the adapter on tensors that are ready in memory. Each
way to get them (no cache, latents cached, latents and terms cached) runs in a process of its own, as the whole loop:
data, loss, optimizer, averages, log. After each step the floor runs on that step's very tensors, so that both meet the
same machine and the same lengths of captions; the share of the floor is the median of the ratios of their times. A
compiled denoiser is measured beside a floor that is not compiled: there the share is what it gains. After the floor
comes the base model alone, forward and backward to its text features, of as many tokens: what the floor costs beside it
is the price of the adapter itself.

Letters in shapes: B batch, c latent channels, h and w height and width of the latents, S tokens.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.bench import shapes
from llmdiff.bench.measure import default_device, in_fresh_process, peak_memory, seconds
from llmdiff.data import captioned, captions_of
from llmdiff.generation import load_pipeline
from llmdiff.language import ExtractionConfig, LanguageModel
from llmdiff.precompute import CacheConfig, open_latents, open_terms
from llmdiff.precompute.terms import Batch
from llmdiff.progress import silent
from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.objective import AdapterObjective
from llmdiff.training.precision import (
    attention_kernels,
    autocast,
    compile_around_adapter,
    loss_scaler,
    product_dtype,
)
from llmdiff.training.randomness import Streams
from llmdiff.training.recipe import Recipe
from llmdiff.training.trainer import Trainer

CASES: dict[str, CacheConfig] = {
    "no cache": CacheConfig(latents=False, terms="none"),
    "latents cached": CacheConfig(latents=True, terms="none"),
    "latents and terms cached": CacheConfig(latents=True, terms="all"),
}
COMPILED = "all cached, compiled"
_WARM_UP = 2  # steps
_SIDE_ON_CPU = 32  # of the latents, for random models: more takes a CPU minutes for a step


@dataclass(frozen=True)
class TrainFigures:
    """The figures of one way of training.

    Attributes:
        base: the base model.
        case: what is cached.
        images_per_s: at the median time of a step.
        floor_images_per_s: the same of the floor, measured in turn.
        share: of the floor, the median of each step's.
        floor_of_base: what the floor takes of the base model's own forward and backward pass, the median.
        peak_memory: of the process, in bytes; on a GPU of the device.
    """

    base: str
    case: str
    images_per_s: float
    floor_images_per_s: float
    share: float
    floor_of_base: float
    peak_memory: int


@dataclass(frozen=True)
class Setting:
    """A setting that is measured: a base model, trained on drawn scenes with captions.

    Attributes:
        base: "embedded", a shape of `shapes.DENOISERS`, with random weights, or a folder.
        llm: a shape of `shapes.LLMS`, with random weights, or as in a recipe.
        side: of the latents; None takes that of the base, and of a random one on the CPU 32.
        batch_size: pictures of a step.
        steps: that count.
        captions: how many there are to cache.
        extraction: of the LLM.
    """

    base: str
    llm: str = "embedded"
    side: int | None = None
    batch_size: int = 8
    steps: int = 20
    captions: int = 64
    extraction: str = "llmdiff"


class Ready:
    """Latents and terms of one batch, in memory."""

    def __init__(self, latents: Tensor, terms: Batch) -> None:
        self.latents, self.terms = latents, terms

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, pictures: Sequence[int]) -> Tensor:
        """The latents (B, c, h, w), whichever pictures are meant."""
        return self.latents

    def batch(self, captions: Sequence[str], as_kept: bool = False) -> Batch:
        """The terms, whichever captions are meant."""
        return self.terms


class Turns:
    """Times steps of a loop, and after each one of its floor and of the base model alone on the same batch.

    Args:
        objective: of the loop.

    Attributes:
        steps: of the loop, in seconds.
        floor: of the floor, in seconds.
        base: of the base model alone, in seconds.
    """

    def __init__(self, objective: AdapterObjective) -> None:
        self.steps: list[float] = []
        self.floor: list[float] = []
        self.base: list[float] = []
        self._objective = objective
        self._began = self._now()

    def __call__(self, trainer: Trainer, figures: dict[str, float]) -> None:
        self.steps.append(self._now() - self._began)
        floor = _floor(self._objective, trainer.step - 1)
        with torch.compiler.set_stance("force_eager"):
            self.floor.append(seconds(partial(_step, floor, trainer.step - 1)))
            self.base.append(seconds(partial(_base_step, floor)))
        self._began = self._now()

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


def measure(setting: Setting, case: str) -> TrainFigures:
    """Runs one case beside the floor, in this process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        objective = _objective(setting, CASES.get(case, CacheConfig()), folder)
        if case == COMPILED:
            compile_around_adapter(objective.base.denoiser)
        steps = _WARM_UP + setting.steps
        loop = LoopSettings(steps=steps, batch_size=setting.batch_size, save_every=steps)
        scaler = loss_scaler(objective.precision, objective.device.type)
        accelerator = Accelerator(cpu=objective.device.type == "cpu")
        trainer = Trainer(objective, loop, folder / "run", accelerator, scaler)
        turns = Turns(objective)
        trainer.run(turns)
    size = setting.batch_size
    rounds = list(zip(turns.steps, turns.floor, turns.base, strict=True))[_WARM_UP:]
    step, floor, _ = (statistics.median(times) for times in zip(*rounds, strict=True))
    share = statistics.median(floor / step for step, floor, _ in rounds)
    of_base = statistics.median(floor / base for _, floor, base in rounds)
    return TrainFigures(setting.base, case, size / step, size / floor, share, of_base, peak_memory())


def bench_train(setting: Setting, case: str) -> list[TrainFigures]:
    """Measures one case of a setting in a fresh process, whose peak memory is then its own.

    Raises:
        LLMDiffError: a model cannot be loaded, or there is no room for it.
    """
    return [in_fresh_process(measure, setting, case)]


def _objective(setting: Setting, config: CacheConfig, folder: Path) -> AdapterObjective:
    pipe, llm = _models(setting)
    base = ImageModel(pipe)
    side = _latent_side(setting, base) * pipe.vae_scale_factor
    data = {"kind": "scenes", "captions": setting.captions, "pictures": 1}
    loop = {"batch_size": setting.batch_size}
    recipe = Recipe.model_validate({"mode": "replace", "data": data, "loop": loop, "folder": folder})
    pictures: Any = _Scaled(captioned(recipe.data, side), side)
    reading = ExtractionConfig(extraction=setting.extraction)
    adapter = LLMDiffAdapter.create(pipe, llm, mode="replace", reading=reading)
    latents = open_latents(config, folder, pipe.vae.eval(), pictures, silent)
    terms = open_terms(config, folder, [*captions_of(pictures), ""], llm, adapter.config.reading, silent)
    adapter.attach(pipe)
    precision = product_dtype("auto", "no", pipe.device)
    return AdapterObjective(adapter, base.freeze(), latents, pictures, terms, recipe, precision)


def _latent_side(setting: Setting, base: ImageModel) -> int:
    if setting.side is None and setting.base in shapes.DENOISERS and base.device.type == "cpu":
        return _SIDE_ON_CPU
    return setting.side or int(base.denoiser.config.sample_size)


def _models(setting: Setting) -> tuple[Any, LanguageModel]:
    """The pipeline and the LLM of a setting, on a GPU if there is one."""
    device = default_device()
    if setting.base in shapes.DENOISERS:
        pipe = shapes.pipeline(setting.base, device)
    else:
        pipe = load_pipeline(setting.base).to(device)
    if setting.llm in shapes.LLMS:
        return pipe, shapes.llm(setting.llm, device, torch.float32)
    return pipe, LanguageModel.load(setting.llm, device=device)


class _Scaled:
    """Drawn scenes at another size."""

    def __init__(self, data: Any, side: int) -> None:
        self._data, self._side = data, side

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def __len__(self) -> int:
        return len(self._data)

    def size(self, index: int) -> tuple[int, int]:
        return self._side, self._side

    def identity(self, index: int) -> str:
        return f"{self._data.identity(index)} {self._side}"

    def pixels(self, index: int) -> Tensor:
        pixels = self._data.pixels(index)[None]
        return torch.nn.functional.interpolate(pixels, (self._side, self._side))[0]


def _floor(objective: AdapterObjective, step: int) -> AdapterObjective:
    """The same objective on the tensors of a step, ready in memory."""
    size = objective.recipe.loop.batch_size
    samples = [objective.batches.sample(step * size + n) for n in range(size)]
    captions = [sample.text(objective.data.captions) for sample in samples]
    latents = objective.latents[[sample.picture for sample in samples]].to(objective.device).float()
    start, stack, mask = objective.terms.batch(captions)
    ready: Any = Ready(latents, (start.to(objective.device), stack.to(objective.device), mask))
    floor = copy(objective)
    floor.latents = floor.terms = ready
    return floor


def _step(objective: AdapterObjective, number: int) -> None:
    size = objective.recipe.loop.batch_size
    samples = number * size + np.arange(size)
    objective.module.zero_grad(set_to_none=True)
    objective.loss(samples, number, Streams(0, samples)).backward()


def _base_step(ready: AdapterObjective) -> None:
    """Forward and backward pass of the base model alone, to text features (B, S, width) of chance."""
    latents, mask = ready.latents[[]], ready.terms.batch([])[2]
    base = ready.base
    text = torch.randn(*mask.shape, base.text_width, device=latents.device, requires_grad=True)
    inputs: dict[str, Any] = {"encoder_hidden_states": text}
    if base.pooled_width:
        inputs["added_cond_kwargs"] = {"text_embeds": latents.new_zeros(len(latents), base.pooled_width)}
    t = torch.full((len(latents),), 500, device=latents.device)
    kernels = attention_kernels(latents, base.denoiser)
    with ready.adapter.disable_adapter(), autocast(ready.precision, latents.device.type), kernels:
        predicted = base.predict(latents, t, inputs)
    predicted.square().mean().backward()
