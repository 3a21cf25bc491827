"""A LoRA that belongs to an adapter: drawn, trained, saved and detached with it, on every attention of the denoiser."""

import copy
import pickle
import threading

import pytest
import torch
from torch import Tensor

from adapter.changes import LORA, distance, load_lora
from adapter.families import AUGMENTED, FAMILIES
from adapter.test_gradients import gradients, train_mode, training_encoding
from adapter.tiny import CONTEXT_WIDTH, build_pixart, build_sana, build_sd, draw, perturb
from llmdiff.adapter import LLMDiffAdapter, LoRAConfig
from llmdiff.base import ImageModel
from llmdiff.base.layers import find_denoiser
from llmdiff.errors import LLMDiffError

RANK_2 = LoRAConfig(rank=2)
ALL = FAMILIES | AUGMENTED


def lora_alone(adapter: LLMDiffAdapter) -> LLMDiffAdapter:
    """Changes the LoRA as training would, and nothing else: in augment mode the branches add nothing yet."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for lora in adapter.named_loras().values():
            lora.up += 0.3 * torch.randn(lora.up.shape, generator=generator)
    return adapter


def merged(adapter: LLMDiffAdapter, denoiser: torch.nn.Module, scale: float = 1.0) -> None:
    """Adds ``up · down`` to the denoiser's own weights, as nothing here does."""
    with torch.no_grad():
        for path, lora in adapter.named_loras().items():
            denoiser.get_submodule(path).weight += scale * lora.up @ lora.down


@pytest.mark.parametrize("family", ALL)
def test_every_attention_projection_of_every_family_is_changed_as_if_its_weight_were(family, make_adapter):
    pipe, other = ALL[family].build(), ALL[family].build()
    adapter = lora_alone(make_adapter(pipe, lora=RANK_2))
    names = {n for n, m in find_denoiser(pipe).named_modules() if n.endswith(LORA)}
    assert adapter.named_loras().keys() == names
    merged(adapter, find_denoiser(other), scale=0.5)
    adapter.attach(pipe).scale = 0.5
    picture = ALL[family].draw(pipe, "a red cup")
    assert torch.allclose(picture, ALL[family].draw(other, "a red cup"), atol=2e-4)
    assert distance(picture, ALL[family].draw(ALL[family].build(), "a red cup")) > 1e-3
