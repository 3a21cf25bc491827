"""Loading the base model: a stock diffusers pipeline from a folder, a single file, the Hub, or the package itself."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llmdiff import folder_checksums
from llmdiff.base.folder import check_text_encoders, load_folder
from llmdiff.base.hub import fetch_base
from llmdiff.base.locate import locate_base
from llmdiff.base.single_file import load_single_file
from llmdiff.errors import LLMDiffError
from llmdiff.models import EMBEDDED
from llmdiff.sources import LOADING_FAULTS, reason, with_classes
from llmdiff.tokenizer_files import check_growth

# A stock diffusers pipeline. Its base class declares neither the components nor the call that all of them have.
Pipeline = Any


def load_pipeline(
    base: str | Path = EMBEDDED,
    *,
    config: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    needs_text_encoders: bool = True,
) -> Pipeline:
    """Load a base model, weights from safetensors only and without any code from its repository.

    Of a folder, each part's plain weights are taken, or those of a variant (``fp16``, ``bf16``, ``non_ema``, ...)
    where there are no plain ones. A safety checker, feature extractor or image encoder that is missing is None. A
    safety checker that is there stays in place; `Renderer.draw` says so when it blacks out a picture.

    Args:
        base: "embedded" for the shipped miniature, "embedded-world" for that of real things, a local folder
            in the diffusers layout, a single-file checkpoint (``.safetensors``), or a Hub id.
        config: for a single-file checkpoint, the folder or Hub id of a pipeline of the same shape, of which index,
            configs and tokenizers are used; None takes those on the Hub of the model that it looks like.
        dtype: number type of all weights.
        device: where the pipeline runs.
        needs_text_encoders: whether missing text encoders are an error, or None in the pipeline: an adapter in replace
            mode does without.

    Raises:
        LLMDiffError: no such model, not a text-to-image model of diffusers, unreadable or missing weights, the Hub
            cannot be reached, or there is no such device.

    Example:
        >>> pipe = load_pipeline("./sd15.safetensors", config="./sd15", dtype=torch.float16, device="cuda")
    """
    check_device(device)
    place = locate_base(base)
    if config is not None and not (place is not None and place.is_file()):
        warnings.warn(f"The base model {str(base)!r} brings its own configs: those given are not used.", stacklevel=2)
    if place is not None and place.is_dir():
        folder_checksums.check(place, f"fetch it again or, if you have changed it, delete its {folder_checksums.NAME}")
    try:
        with with_classes():
            pipe = _load(str(base), place, config, dtype)
        _check_complete(str(base), pipe)
        for part, module in pipe.components.items():
            check_growth(module, f"The {part} of the base model {str(base)!r}")
    except LOADING_FAULTS as error:
        raise LLMDiffError(
            f"The base model {str(base)!r} cannot be loaded, a file of it is missing or damaged or of another model: "
            f"{reason(error)}."
        ) from error
    if needs_text_encoders:
        check_text_encoders(pipe, str(base))
    pipe.register_to_config(_name_or_path=str(place or base))
    pipe.set_progress_bar_config(disable=True)
    try:
        return pipe.to(device)
    except (RuntimeError, AssertionError) as error:
        raise LLMDiffError(f"The base model cannot be moved to device {str(device)!r}: {reason(error)}.") from error


def check_device(device: str | torch.device) -> None:
    """Raises LLMDiffError unless numbers can be put on a device and got back, which "meta" for one does not do."""
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise LLMDiffError(
            f"Nothing can be computed on the device {str(device)!r} here ({reason(error)}): choose cpu, cuda or mps."
        ) from error


def default_device() -> str:
    """The fastest device of this machine: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _load(base: str, place: Path | None, config: str | Path | None, dtype: torch.dtype) -> Pipeline:
    if place is not None and place.is_file():
        return load_single_file(place, config, dtype)
    return load_folder(place or fetch_base(base), dtype)


def _check_complete(base: str, pipe: Pipeline) -> None:
    """Raises LLMDiffError if weights are missing, for which diffusers leaves empty places."""
    for part, module in pipe.components.items():
        if isinstance(module, nn.Module) and any(weight.is_meta for weight in module.state_dict().values()):
            raise LLMDiffError(f"The base model {base!r} cannot be used: the weight file of its {part} lacks weights.")
