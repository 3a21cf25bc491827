"""A base model from a folder in the diffusers layout, one part after the other, each checked."""

import importlib
import inspect
import warnings
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin
from torch import nn

from llmdiff.base.checkpoint_kind import other_kind
from llmdiff.base.locate import INDEX
from llmdiff.base.scheduler_settings import check_scheduler
from llmdiff.base.weight_files import DIFFUSERS_STEM, TRANSFORMERS_STEM, choose_weights, held_by, weight_files
from llmdiff.declared_sizes import check_config, held_to
from llmdiff.errors import LLMDiffError
from llmdiff.headers import check_types, read_header
from llmdiff.structured_text import read_json
from llmdiff.tokenizer_files import check_tokenizer_files

UNNEEDED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts that a picture can be drawn without; they are often deleted."""
_EDITORS = {
    "Inpaint": "an inpainting model",
    "Img2Img": "an image-to-image model",
    "ControlNet": "a ControlNet pipeline",
    "Upscale": "an upscaler",
}


def load_folder(folder: Path, dtype: torch.dtype) -> Any:
    """The pipeline in a folder, parts that are not needed left out where they are missing.

    Missing text encoders are None too.

    Raises:
        LLMDiffError: It is no text-to-image model, or a part of it cannot be loaded.
    """
    index = read_json(folder / INDEX)
    kind = pipeline_class(folder, index)
    named = named_parts(folder, kind, index)
    _check_inputs(folder, named)
    parts = {name: load_part(folder / name, *of, dtype) for name, of in named.items()}
    given = {name: part for name, part in parts.items() if part is not None}
    options = {"requires_safety_checker": False} if "requires_safety_checker" in _parameters(kind.__init__) else {}
    return kind.from_pretrained(str(folder), **missing_parts(kind, named), **given, **options)


def pipeline_class(folder: Path, index: dict[str, Any]) -> type[DiffusionPipeline]:
    """The pipeline class that an index names.

    Raises:
        LLMDiffError: diffusers has no such class, or it does not draw pictures from a prompt alone.
    """
    name = index.get("_class_name")
    found = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not (isinstance(found, type) and issubclass(found, DiffusionPipeline)):
        raise LLMDiffError(
            f"The base model in {str(folder)!r} is a {name!r}, a pipeline class that diffusers {diffusers.__version__} "
            "does not have; code that a model brings is never run: give one of a stock class."
        )
    call = _parameters(found.__call__)
    if "prompt" not in call or "image" in call:
        what = next((what for word, what in _EDITORS.items() if word in str(name)), "a pipeline that needs a picture")
        if index.get("requires_aesthetics_score"):
            what = "an SDXL refiner, which finishes pictures of another model"
        raise LLMDiffError(
            f"The base model in {str(folder)!r} is {what} ({name}) and does not draw from a prompt alone: give a "
            "text-to-image base model."
        )
    if "num_frames" in call:
        raise LLMDiffError(
            f"The base model in {str(folder)!r} is a {name}, which makes videos: give a text-to-image base model."
        )
    return found


def named_parts(folder: Path, kind: type[DiffusionPipeline], index: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Library and class of every part that is to be loaded: those that the index names and the folder holds.

    Raises:
        LLMDiffError: A part that is needed is missing, or needs code that is neither diffusers' nor transformers'.
    """
    named = {}
    for name, of in index.items():
        if name not in _parameters(kind.__init__) or not isinstance(of, list) or len(of) != 2 or of[0] is None:
            continue
        if (folder / name).is_dir():
            named[name] = (str(of[0]), str(of[1]))
        elif not is_droppable(name):
            raise LLMDiffError(f"The base model in {str(folder)!r} lacks its {name}: fetch the folder {name} again.")
    if "safety_checker" in named and "feature_extractor" not in named:
        warnings.warn("The base model's safety checker lacks its feature_extractor and is left out.", stacklevel=5)
        del named["safety_checker"]
    return named


def missing_parts(kind: type[DiffusionPipeline], named: dict[str, tuple[str, str]]) -> dict[str, None]:
    """The parts of a pipeline class that are left out, as arguments."""
    return {name: None for name in _parameters(kind.__init__) if is_droppable(name) and name not in named}


def is_droppable(name: str) -> bool:
    """Whether a part may be missing when a pipeline is loaded: it is not needed, or only by some adapters."""
    return name in UNNEEDED or _reads_text(name)


def _reads_text(name: str) -> bool:
    return name.startswith(("text_encoder", "tokenizer"))


def load_part(folder: Path, library: str, kind: str, dtype: torch.dtype) -> nn.Module | None:
    """A model of a pipeline from its folder; None for what is no model and left to diffusers.

    Raises:
        LLMDiffError: The class is unknown, or files are missing, damaged or pickles.
    """
    found = part_class(folder, library, kind)
    what = f"The part {str(folder)!r} of the base model"
    if not issubclass(found, nn.Module):
        _check_vocabulary(folder, found)
        if issubclass(found, SchedulerMixin):
            check_scheduler(folder, found)
        return None
    config = read_json(folder / "config.json")
    check_config(what, config)
    stem = DIFFUSERS_STEM if issubclass(found, ModelMixin) else TRANSFORMERS_STEM
    weights = choose_weights(folder, stem)
    if "quantization_config" not in config:
        check_types(map(read_header, weight_files(folder, weights, stem)))
    variant = {"variant": weights.variant} if weights.variant else {}
    host: Any = found  # of diffusers or transformers
    with held_to(what, lambda: held_by(folder, weights, stem)):
        model, info = host.from_pretrained(
            str(folder), use_safetensors=True, dtype=dtype, output_loading_info=True, **variant
        )
    if missing := sorted(info["missing_keys"]):
        raise LLMDiffError(
            f"The weights in {str(folder)!r} are of another model than its config: they lack {missing[0]}, and "
            f"{len(missing)} in all; fetch the folder again."
        )
    if issubclass(found, ModelMixin) and (unread := sorted(info["unexpected_keys"])):
        warnings.warn(
            f"The weights in {str(folder)!r} are of a larger model than its config: {unread[0]} is not read, and "
            f"{len(unread)} in all; if the folder was not made so, fetch it again.",
            stacklevel=5,
        )
    loaded: nn.Module = model
    return loaded


def part_class(folder: Path, library: str, kind: str) -> type:
    """A part's class by what a pipeline's index says of it: of diffusers, transformers, or one kind of pipeline.

    Raises:
        LLMDiffError: There is no such class there, or it would be code that the model brings.
    """
    if library in ("diffusers", "transformers"):
        module: Any = importlib.import_module(library)
    else:
        module = getattr(diffusers.pipelines, library, None)
    found = getattr(module, kind, None)
    if found is None and library == "transformers" and kind.endswith("FeatureExtractor"):
        return object  # diffusers knows their new names
    if not isinstance(found, type):
        raise LLMDiffError(
            f"The part {str(folder)!r} of the base model is a {kind!r} of {library!r}, which is neither in diffusers "
            "nor in transformers as installed; code that a model brings is never run."
        )
    return found


def check_text_encoders(pipe: Any, base: str) -> None:
    """Raises LLMDiffError if a pipeline lacks a text encoder or tokenizer, without which it cannot read prompts.

    A third one, of Stable Diffusion 3, may be missing.
    """
    missing = [name for name, part in pipe.components.items() if _reads_text(name) and part is None]
    if needed := [name for name in missing if not name.endswith("_3")]:
        raise LLMDiffError(
            f"The base model {base!r} lacks its {needed[0]}, which reads the prompt: fetch the folder {needed[0]} "
            "again; only an adapter in replace mode does without."
        )


def _check_inputs(folder: Path, named: dict[str, tuple[str, str]]) -> None:
    """Raises LLMDiffError if a U-Net takes more than latents, as those that inpaint do."""
    if "unet" not in named or not (folder / "unet/config.json").is_file():
        return
    config = read_json(folder / "unet/config.json")
    channels, given = (config.get(name, 4) for name in ("in_channels", "out_channels"))
    if isinstance(channels, int) and isinstance(given, int) and (other := other_kind(channels, given)) is not None:
        raise LLMDiffError(
            f"The base model in {str(folder)!r} is {other} (its U-Net takes {channels} channels): give a text-to-image "
            "base model."
        )


def _check_vocabulary(folder: Path, kind: type) -> None:
    """Raises LLMDiffError if a tokenizer lacks its vocabulary, in place of which transformers takes an empty one.

    So it does if a file of it is none that a tokenizer has.
    """
    files: dict[str, str] = getattr(kind, "vocab_files_names", {})
    if files:
        check_tokenizer_files(folder)
    if not files or (folder / "tokenizer.json").is_file():
        return
    names = [name for role, name in files.items() if role != "tokenizer_file"] or ["tokenizer.model"]
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise LLMDiffError(f"The tokenizer in {str(folder)!r} lacks {missing[0]}: fetch the folder again.")


def _parameters(of: Any) -> Any:
    return inspect.signature(of).parameters
