"""Every family of base models is trained on: what its denoiser is told and asked, and that an adapter on it learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from adapter.families import FAMILIES, REFUSED
from llmdiff.data import SizeConditioning
from llmdiff.errors import LLMDiffError
from llmdiff.language import LanguageModel
from llmdiff.progress import silent
from llmdiff.training import run
from llmdiff.training.base import BaseModel, check_trainable
from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.objective import AdapterObjective
from llmdiff.training.processes import accelerator
from llmdiff.training.randomness import Streams
from llmdiff.training.recipe import Recipe
from llmdiff.training.trainer import Trainer

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
    return run.build(recipe, False, accelerator(), silent)[0]


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


@pytest.mark.parametrize("family", FAMILIES)
def test_the_denoiser_is_told_in_training_what_it_is_told_in_a_call(family: str) -> None:
    """Text, mask, pooled vector and sizes; a dropped caption is the negative prompt of a call without one."""
    pipe = FAMILIES[family].build()
    base = BaseModel(pipe)
    told: list[dict[str, Any]] = []
    base.denoiser.register_forward_pre_hook(
        lambda _, args, kwargs: told.append({"sample": args[0], **kwargs}), with_kwargs=True
    )
    pipe(["a red cup"], num_inference_steps=1, output_type="latent", **PLAIN_CALL.get(family, {}))
    base.predict(told[0]["sample"], torch.zeros(2).long(), base.text(["", "a red cup"]))
    called, trained = (_tensors(inputs) for inputs in told)
    assert trained.keys() - {"timestep"} == called.keys() - {"timestep"}
    for name in trained.keys() - {"timestep"}:
        assert torch.allclose(trained[name].float(), called[name].float(), rtol=1e-5, atol=1e-6), name


BINNING = {"use_resolution_binning": False}
PLAIN_CALL = {"PixArt": BINNING, "Sana": BINNING | {"height": 32, "width": 32}}


def _tensors(inputs: dict[str, Any]) -> dict[str, Tensor]:
    """Everything that a denoiser is told, in one layer."""
    inputs = {**inputs, **(inputs.get("added_cond_kwargs") or {})}
    return {name: value for name, value in inputs.items() if isinstance(value, Tensor)}


def test_pixart_that_asks_for_sizes_is_told_them() -> None:
    pipe = FAMILIES["PixArt"].build()
    pipe.transformer.use_additional_conditions = True
    noisy = torch.zeros(3, 4, 6, 8)
    told = BaseModel(pipe)._size(noisy, None)
    assert told["resolution"].tolist() == [[12, 16]] * 3
    assert told["aspect_ratio"].tolist() == [[0.75]] * 3


@pytest.mark.parametrize(
    "change",
    [
        {"addition_embed_type": "image"},
        {"encoder_hid_dim_type": "image_proj"},
        {"sample_size": [8, 16]},
        {"in_channels": 9},
    ],
)
def test_a_base_model_that_wants_more_is_refused(change: dict[str, Any]) -> None:
    pipe = FAMILIES["SD 1.x"].build()
    check_trainable(pipe)
    pipe.unet.register_to_config(**change)
    with pytest.raises(LLMDiffError, match="cannot be trained on yet"):
        check_trainable(pipe)


def test_the_refusal_names_every_family_that_is_trained_on() -> None:
    pipe = FAMILIES["SD 1.x"].build()
    pipe.unet.register_to_config(in_channels=9)
    with pytest.raises(LLMDiffError) as refused:
        check_trainable(pipe)
    names = {"SD 1.x": "Stable Diffusion 1.x", "SD 2.x": "2.x", "SDXL": "XL"}
    assert [family for family in FAMILIES if names.get(family, family) not in str(refused.value)] == []


@pytest.mark.parametrize("family", REFUSED)
def test_families_that_no_adapter_fits_are_refused(family: str) -> None:
    with pytest.raises(LLMDiffError, match="has no cross-attention layer"):
        check_trainable(REFUSED[family]())


def test_sdxl_is_told_how_each_picture_was_cut() -> None:
    """Original size, the crop's top left corner, and the size: as diffusers' pipeline orders them in `time_ids`."""
    pipe = FAMILIES["SDXL"].build()
    base = BaseModel(pipe)
    told: list[dict[str, Any]] = []
    base.denoiser.register_forward_pre_hook(lambda _, args, kwargs: told.append(kwargs), with_kwargs=True)
    noisy = torch.zeros(2, base.denoiser.config.in_channels, 8, 8)
    frames = [SizeConditioning((20, 40), (0, 8), (16, 16)), SizeConditioning((16, 16), (0, 0), (16, 16))]
    base.predict(noisy, torch.zeros(2).long(), base.text(["", "a red cup"]), frames)
    ids = told[0]["added_cond_kwargs"]["time_ids"]
    assert ids.tolist() == [[20, 40, 0, 8, 16, 16], [16, 16, 0, 0, 16, 16]]
    ordered = pipe._get_add_time_ids((20, 40), (0, 8), (16, 16), ids.dtype, pipe.text_encoder_2.config.projection_dim)
    assert torch.equal(ids[:1], ordered)
