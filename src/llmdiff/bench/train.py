"""Throughput of adapter training beside its floor.

The floor is forward and backward pass of the frozen denoiser with the adapter on tensors that are ready in memory. Each
way to get them (no cache, latents cached, latents and terms cached) runs in a process of its own, its steps in turn
with steps of the floor, so that both meet the same machine; the share of the floor is the ratio of their median times.
A compiled denoiser is measured beside a floor that is not compiled: there the share is what it gains.

Letters in shapes: B batch, c latent channels, h and w height and width of the latents.
"""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
from llmdiff.training.objective import AdapterObjective
from llmdiff.training.precision import compile_around_adapter, product_dtype
from llmdiff.training.randomness import Streams
from llmdiff.training.recipe import Recipe

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
        share: of the floor.
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

    def batch(self, captions: Sequence[str]) -> Batch:
        """The terms, whichever captions are meant."""
        return self.terms


def measure(setting: Setting, case: str) -> TrainFigures:
    """Runs one case beside the floor, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        objective = _objective(setting, CASES.get(case, CacheConfig()), Path(folder))
        floor = _floor(objective)
        if case == COMPILED:
            compile_around_adapter(objective.base.denoiser)
        times: dict[str, list[float]] = {"case": [], "floor": []}
        for n in range(_WARM_UP + setting.steps):
            times["case"].append(seconds(partial(_step, objective, n)))
            with torch.compiler.set_stance("force_eager"):
                times["floor"].append(seconds(partial(_step, floor, n)))
    case_time, floor_time = (statistics.median(times[name][_WARM_UP:]) for name in ("case", "floor"))
    size = setting.batch_size
    return TrainFigures(setting.base, case, size / case_time, size / floor_time, floor_time / case_time, peak_memory())


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


def _floor(objective: AdapterObjective) -> AdapterObjective:
    """The same objective on one batch that is ready."""
    pictures = list(range(min(len(objective.data), objective.recipe.loop.batch_size)))
    pictures += [0] * (objective.recipe.loop.batch_size - len(pictures))
    captions = [objective.data.captions[i][0] for i in pictures]
    ready = Ready(objective.latents[pictures].to(objective.device).float(), objective.terms.batch(captions))
    return AdapterObjective(
        objective.adapter, objective.base, ready, objective.data, ready, objective.recipe, objective.precision
    )


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
