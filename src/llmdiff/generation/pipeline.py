"""Loading the base model: a stock diffusers pipeline from a folder, the Hub, or the package itself."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn

from llmdiff.errors import LLMDiffError
from llmdiff.models import EMBEDDED, shipped_base
from llmdiff.sources import LOADING_FAULTS, local_folder, reason

# A stock diffusers pipeline. Its base class declares neither the components nor the call that all of them have.
Pipeline = Any


def load_pipeline(
    base: str | Path = EMBEDDED, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> Pipeline:
    """Load a base model, weights from safetensors only and without any code from its repository.

    Args:
        base: "embedded" for the shipped miniature, a local folder in the diffusers layout, or a Hub id.
        dtype: number type of all weights.
        device: where the pipeline runs.

    A base model's own safety checker stays in place; `Renderer.draw` says so when it blacks out a picture.

    Raises:
        LLMDiffError: no such folder, not a diffusers pipeline, unreadable weights, or the Hub cannot be reached.
    """
    source = shipped_base() if str(base) == EMBEDDED else local_folder(str(base), "base model", "model_index.json")
    try:
        pipe = DiffusionPipeline.from_pretrained(str(source or base), dtype=dtype, use_safetensors=True)
    except LOADING_FAULTS as error:
        raise LLMDiffError(_explain(str(base), source, error)) from error
    _check_complete(str(base), pipe)
    pipe.set_progress_bar_config(disable=True)
    try:
        return pipe.to(device)
    except (RuntimeError, AssertionError) as error:
        raise LLMDiffError(f"The base model cannot be moved to device {str(device)!r}: {reason(error)}.") from error


def default_device() -> str:
    """The fastest device of this machine: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _check_complete(base: str, pipe: Pipeline) -> None:
    """Raises LLMDiffError if a weight file lacks weights, for which diffusers leaves empty places."""
    for part, module in pipe.components.items():
        if isinstance(module, nn.Module) and any(weight.is_meta for weight in module.parameters()):
            raise LLMDiffError(f"The base model {base!r} cannot be used: the weight file of its {part} lacks weights.")


def _explain(base: str, folder: Path | None, error: Exception) -> str:
    if folder is None:
        return (
            f"The base model {base!r} is neither a folder here nor could it be fetched from the Hugging Face Hub: "
            f"check the name and the network ({reason(error)})."
        )
    return f"The base model in {str(folder)!r} cannot be loaded, a file of it is missing or damaged: {reason(error)}."
