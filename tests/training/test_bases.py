"""Every family of base models is trained on, and an adapter on it learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from adapter.families import FAMILIES
from llmdiff.language import LanguageModel
from llmdiff.progress import silent
from llmdiff.training import run
from llmdiff.training.objective import AdapterObjective
from llmdiff.training.processes import accelerator
from llmdiff.training.randomness import Streams
from llmdiff.training.recipe import Recipe
from llmdiff.training.trainer import LoopSettings, Trainer

Record = Callable[[str, object], None]
CAPTIONS = ["a red cup", "two", "a cat at noon", "blue"]


@pytest.fixture
def task(family: str, mode: str, tiny_llm: LanguageModel, tmp_path: Path, monkeypatch: Any) -> AdapterObjective:
    """A run that a recipe describes, made ready: base model and pictures are read from disk."""
    FAMILIES[family].build().save_pretrained(tmp_path / "base")
    (tmp_path / "data").mkdir()
    lines = []
    for i, caption in enumerate(CAPTIONS):
        Image.new("RGB", (20, 16), (60 * i, 200, 30)).save(tmp_path / "data" / f"{i}.png")
        lines.append(f'{{"file_name": "{i}.png", "text": "{caption}"}}')
    (tmp_path / "data" / "metadata.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr(LanguageModel, "load", lambda *_, **__: tiny_llm)
    recipe = Recipe.model_validate(
        {
            "folder": tmp_path / "run",
            "base": str(tmp_path / "base"),
            "mode": mode,
            "data": {"kind": "folder", "path": tmp_path / "data"},
            "caption_dropout": 0.3,
            "precision": "float32",
        }
    )
    return run.build(recipe, "1", False, accelerator(), silent)[0]


class Overfit:
    """The same batch, timesteps and noise in every step."""

    def __init__(self, task: AdapterObjective) -> None:
        self.task, self.module, self.groups = task, task.module, task.groups

    def loss(self, indices: np.ndarray, step: int, rng: Streams) -> Tensor:
        return self.task.loss(np.arange(4), 0, Streams(0, range(4)))


@pytest.mark.parametrize("mode", ["augment", "replace"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_overfitted_batch_is_learned(
    task: AdapterObjective, family: str, mode: str, tmp_path: Path, record_property: Record
) -> None:
    own = {id(p) for p in task.adapter.parameters()}
    frozen = {name: p.detach().clone() for name, p in task.base.denoiser.named_parameters() if id(p) not in own}
    losses: list[float] = []
    settings = LoopSettings(steps=20, learning_rate=3e-2, warmup=0, save_every=20, ema=0)
    Trainer(Overfit(task), settings, tmp_path / "run").run(lambda _, figures: losses.append(figures["loss"]))
    assert sum(losses[-5:]) < 0.99 * sum(losses[:5])
    assert losses[-1] < losses[0]
    after = dict(task.base.denoiser.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in frozen.items())
    record_property("matrix", (family, "training", mode, "works"))


@pytest.mark.parametrize("mode", ["augment", "replace"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_gives_the_same_gradients(
    task: AdapterObjective, family: str, mode: str, record_property: Record
) -> None:
    with torch.no_grad():
        for p in task.adapter.parameters():
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    gradients = []
    for enabled in (False, True):
        if enabled:
            task.base.denoiser.enable_gradient_checkpointing()
        task.adapter.zero_grad()
        task.loss(np.arange(4), 0, Streams(0, range(4))).backward()
        gradients.append({name: p.grad.clone() for name, p in task.adapter.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() == dict(task.adapter.named_parameters()).keys()
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradients[1][name], gradient, rtol=1e-3, atol=1e-6), name
    record_property("matrix", (family, "gradient checkpointing", mode, "works"))
