"""Loading the base model: a stock diffusers pipeline from a folder, the Hub, or the package itself."""

import os
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from safetensors import SafetensorError

from llmdiff.errors import LLMDiffError
from llmdiff.models import EMBEDDED, shipped_base

# A stock diffusers pipeline. Its base class declares neither the components nor the call that all of them have.
Pipeline = Any

# What diffusers, transformers, safetensors and huggingface_hub raise for files that they cannot use.
_LOADING_FAULTS = (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, ImportError, SafetensorError)


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
    source = shipped_base() if str(base) == EMBEDDED else _local_folder(str(base))
    try:
        pipe = DiffusionPipeline.from_pretrained(str(source or base), dtype=dtype, use_safetensors=True)
    except _LOADING_FAULTS as error:
        raise LLMDiffError(_explain(str(base), source, error)) from error
    pipe.set_progress_bar_config(disable=True)
    try:
        return pipe.to(device)
    except (RuntimeError, AssertionError) as error:
        raise LLMDiffError(f"The base model cannot be moved to device {str(device)!r}: {_reason(error)}.") from error


def default_device() -> str:
    """The fastest device of this machine: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _local_folder(base: str) -> Path | None:
    """The folder that `base` names, or None if it can only be a Hub id."""
    path = Path(base).expanduser()
    if path.is_file():
        raise LLMDiffError(
            f"The base model {base!r} is a single file: give a folder in the diffusers layout "
            "(StableDiffusionPipeline.from_single_file(...).save_pretrained(...) makes one)."
        )
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise LLMDiffError(f"The folder {base!r} holds no diffusers pipeline: it has no model_index.json.")
        return path
    if not _could_be_hub_id(base):
        raise LLMDiffError(f"There is no base model at {base!r}: give an existing folder or a Hugging Face Hub id.")
    return None


def _could_be_hub_id(base: str) -> bool:
    return bool(base) and not base.startswith((".", "~", os.sep)) and base.count("/") <= 1 and "\\" not in base


def _explain(base: str, folder: Path | None, error: Exception) -> str:
    if folder is None:
        return (
            f"The base model {base!r} is neither a folder here nor could it be fetched from the Hugging Face Hub: "
            f"check the name and the network ({_reason(error)})."
        )
    return f"The base model in {str(folder)!r} cannot be loaded, a file of it is missing or damaged: {_reason(error)}."


def _reason(error: Exception) -> str:
    """The first sentence of a host library's message, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    return first.split(". ")[0].split(" (")[0].rstrip(".:")[:300]
