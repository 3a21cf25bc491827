"""An objective of four captioned random latents on a tiny real Stable Diffusion, for tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.data import SceneData, Size, SizeConditioning
from llmdiff.language import ExtractionConfig, LanguageModel
from llmdiff.precompute import BlockTerms
from llmdiff.training.objective import AdapterObjective
from llmdiff.training.recipe import ObjectiveSettings, Recipe
from tiny_base import build_base

CAPTIONS = ["a red cup", "two blue cups", "a cat", "a cat at noon"]
Make = Callable[..., AdapterObjective]


class Listed:
    """The captions, which the base model's own text encoder gets in upper case."""

    def __init__(self) -> None:
        self.captions = [(text,) for text in CAPTIONS]
        self.teacher_captions = [(text.upper(),) for text in CAPTIONS]
        self.weights = [1.0] * len(CAPTIONS)
        self.skipped = ()

    def __len__(self) -> int:
        return len(CAPTIONS)

    def size(self, index: int) -> Size:
        return 16, 16

    def size_conditioning(self, index: int) -> SizeConditioning:
        return SizeConditioning((20, 16), (2, 0), (16, 16))

    def identity(self, index: int) -> str:
        return str(index)

    def pixels(self, index: int) -> Tensor:
        raise NotImplementedError


def maker(llm: LanguageModel, folder: Path) -> Make:
    """Makes such objectives; what is given beside prediction type and reading are keys of the recipe
    or of its objective."""

    def make(
        prediction: str = "v_prediction", reading: ExtractionConfig | None = None, **changes: Any
    ) -> AdapterObjective:
        objective = {key: changes.pop(key) for key in [*changes] if key in ObjectiveSettings.model_fields}
        data, reading = SceneData(kind="scenes"), reading or ExtractionConfig()
        recipe = Recipe(data=data, folder=folder, reading=reading, objective=objective, **changes)
        pipe = build_base()
        pipe.scheduler.register_to_config(prediction_type=prediction)
        terms = BlockTerms.of([*CAPTIONS, ""], llm, recipe.reading, folder, lambda *_: None)
        latents = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1)).half()
        lora = recipe.adapter_lora
        adapter = LLMDiffAdapter.create(pipe, llm, mode=recipe.mode, reading=recipe.reading, lora=lora, seed=0)
        adapter.attach(pipe)
        return AdapterObjective(
            adapter, ImageModel(pipe).freeze(), latents, Listed(), terms, recipe, precision=torch.float32
        )

    return make
