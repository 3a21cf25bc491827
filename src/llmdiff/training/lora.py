"""A LoRA on the image model's attention, trained with the adapter and saved beside it (Hu et al., 2022).

It is peft's, put in and saved by diffusers, so that `pipe.load_lora_weights` takes the file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import is_peft_available
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from llmdiff.base.layers import find_denoiser
from llmdiff.errors import LLMDiffError

FILE = "pytorch_lora_weights.safetensors"
_NAME = "llmdiff_lora"
_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]  # of every attention, whatever the family


class LoRASettings(BaseModel):
    """A LoRA on the image model's attention; its scale α / rank is 1."""

    model_config = ConfigDict(extra="forbid")

    rank: int = Field(8, ge=1)
    rate: float = Field(0.1, gt=0, description="learning-rate factor: the image model changes slower than the adapter")


def check_lora(pipe: Any) -> None:
    """Raises LLMDiffError unless a LoRA can be trained for a pipeline and loaded into it."""
    if not is_peft_available():
        raise LLMDiffError("Training a LoRA needs peft: install llmdiff-adapter[lora], or leave out the key lora.")
    if not hasattr(pipe, "load_lora_weights"):
        raise LLMDiffError(f"{type(pipe).__name__} cannot load a LoRA, so none can be trained; leave out the key lora.")


def add_lora(pipe: Any, settings: LoRASettings, seed: int) -> None:
    """Puts an untrained LoRA, which changes nothing, into the denoiser's attention; the rest of it is frozen."""
    from peft import LoraConfig

    denoiser: Any = find_denoiser(pipe)
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.rank, init_lora_weights="gaussian", target_modules=_TARGETS
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        denoiser.add_adapter(config, adapter_name=_NAME)


def lora_parameters(denoiser: nn.Module) -> list[nn.Parameter]:
    """The weights of the LoRA that `add_lora` put in."""
    return [p for name, p in denoiser.named_parameters() if f".{_NAME}." in name]


@contextmanager
def without_lora(denoiser: Any) -> Iterator[None]:
    """Within it, the denoiser calculates as if there were no LoRA."""
    if not lora_parameters(denoiser):
        yield
        return
    denoiser.disable_adapters()
    try:
        yield
    finally:
        denoiser.enable_adapters()


def save_lora(pipe: Any, folder: Path) -> None:
    """Writes the LoRA in diffusers' own layout."""
    from peft import get_peft_model_state_dict

    denoiser = find_denoiser(pipe)
    part = next(name for name, module in pipe.components.items() if module is denoiser)
    layers = get_peft_model_state_dict(denoiser, adapter_name=_NAME)
    type(pipe).save_lora_weights(folder, **{f"{part}_lora_layers": layers}, weight_name=FILE)
