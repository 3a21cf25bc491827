"""Throughput of adapter training beside its floor.

The floor is forward and backward pass of the frozen denoiser with the adapter on tensors that are ready in memory. Each
way to get them (no cache, latents cached, latents and terms cached) runs in a process of its own, as the whole loop:
data, loss, optimizer, averages, log. After each step the floor runs on that step's very tensors, so that both meet the
same machine and the same lengths of captions; the share of the floor is the median of the ratios of their times. A
compiled denoiser is measured beside a floor that is not compiled: there the share is what it gains.

Letters in shapes: B batch, c latent channels, h and w height and width of the latents.
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
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.bench.measure import in_fresh_process, peak_memory, seconds
from llmdiff.data import captioned, captions_of
from llmdiff.generation import load_pipeline
from llmdiff.language import LanguageModel
from llmdiff.precompute import CacheConfig, open_latents, open_terms
from llmdiff.precompute.terms import Batch
from llmdiff.progress import silent
from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.objective import AdapterObjective
from llmdiff.training.precision import compile_around_adapter, loss_scaler, product_dtype
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
_SD15_SIDE = 256  # pixels of the pictures that a random model of SD 1.5's shape is trained on


@dataclass(frozen=True)
class TrainFigures:
    """The figures of one way of training.

    Attributes:
        base: the base model.
        case: what is cached.
        images_per_s: at the median time of a step.
        floor_images_per_s: the same of the floor, measured in turn.
        share: of the floor, the median of each step's.
        peak_memory: of the process, in bytes; on a GPU of the device.
    """

    base: str
    case: str
    images_per_s: float
    floor_images_per_s: float
    share: float
    peak_memory: int


@dataclass(frozen=True)
class Setting:
    """A setting that is measured: a base model, trained on drawn scenes with captions.

    Attributes:
        base: "embedded", "sd15" for a random U-Net and VAE of that shape at 256 px, or a folder.
        llm: as in a recipe.
        batch_size: pictures of a step.
        steps: that count.
        captions: how many there are to cache.
    """

    base: str
    llm: str = "embedded"
    batch_size: int = 8
    steps: int = 20
    captions: int = 64


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
    """Times steps of a loop, and after each one of its floor on the same batch.

    Args:
        objective: of the loop.

    Attributes:
        steps: of the loop, in seconds.
        floor: of the floor, in seconds.
    """

    def __init__(self, objective: AdapterObjective) -> None:
        self.steps: list[float] = []
        self.floor: list[float] = []
        self._objective = objective
        self._began = self._now()

    def __call__(self, trainer: Trainer, figures: dict[str, float]) -> None:
        self.steps.append(self._now() - self._began)
        floor = _floor(self._objective, trainer.step - 1)
        with torch.compiler.set_stance("force_eager"):
            self.floor.append(seconds(partial(_step, floor, trainer.step - 1)))
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
    pairs = list(zip(turns.steps, turns.floor, strict=True))[_WARM_UP:]
    step, floor = (statistics.median(times) for times in zip(*pairs, strict=True))
    share = statistics.median(floor / step for step, floor in pairs)
    return TrainFigures(setting.base, case, size / step, size / floor, share, peak_memory())


def bench_train(settings: Sequence[Setting], cases: Sequence[str] = tuple(CASES)) -> list[TrainFigures]:
    """Every case of every setting, each in a fresh process, whose peak memory is then its own."""
    rows = []
    for setting in settings:
        for case in cases:
            rows.append(in_fresh_process(measure, setting, case))
    return rows


def _objective(setting: Setting, config: CacheConfig, folder: Path) -> AdapterObjective:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = _pipeline(setting.base).to(device)
    side = _SD15_SIDE if setting.base == "sd15" else ImageModel(pipe).resolution
    data = {"kind": "scenes", "captions": setting.captions, "pictures": 1}
    loop = {"batch_size": setting.batch_size}
    recipe = Recipe.model_validate({"mode": "replace", "data": data, "loop": loop, "folder": folder})
    pictures: Any = _Scaled(captioned(recipe.data, side), side)
    llm = LanguageModel.load(setting.llm, device=device)
    adapter = LLMDiffAdapter.create(pipe, llm, mode="replace")
    latents = open_latents(config, folder, pipe.vae.eval(), pictures, silent)
    terms = open_terms(config, folder, [*captions_of(pictures), ""], llm, adapter.config.reading, silent)
    adapter.attach(pipe)
    return AdapterObjective(
        adapter, ImageModel(pipe).freeze(), latents, pictures, terms, recipe, product_dtype("auto", "no", pipe.device)
    )


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


def _pipeline(base: str) -> Any:
    """The base model; "sd15" is the embedded one with random U-Net and VAE of Stable Diffusion 1.5's shapes."""
    if base != "sd15":
        return load_pipeline(base)
    pipe = load_pipeline()
    unet: Any = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=_SD15_SIDE // 8)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae: Any = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, **blocks)
    pipe.register_modules(unet=unet.eval(), vae=vae.eval())
    pipe.vae_scale_factor = 8
    return pipe
