"""Models without weights: built from their configs on torch's meta device, where tensors have a shape and no content.

Only `*.json` files of the models are fetched.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import ModelMixin
from huggingface_hub import snapshot_download
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.adapter.config import AdapterConfig
from llmdiff.adapter.lora import complete
from llmdiff.base import ImageModel
from llmdiff.base.locate import INDEX, locate_base
from llmdiff.base.scheduler_settings import check_scheduler
from llmdiff.base.single_file import config_folder
from llmdiff.declared_sizes import Held, check_config, held_to
from llmdiff.errors import LLMDiffError
from llmdiff.language.blocks import find_stack
from llmdiff.language.loading import find_loader
from llmdiff.models import language_model
from llmdiff.sources import LOADING_FAULTS, local_folder, reason
from llmdiff.structured_text import read_json
from llmdiff.training.recipe import Recipe

_LARGEST = Held(tensors=200_000, numbers=2 * 10**12)
_CONFIGS = ["model_index.json", "config.json", "*/config.json", "scheduler/scheduler_config.json"]


def meta_base(name: str, config: str | None = None) -> Any:
    """The parts of a pipeline without their weights, as far as training asks for them.

    Args:
        name: of the base model, as in a recipe.
        config: of a single-file checkpoint, as in a recipe.
    """
    folder = _base_configs(name, config)
    try:
        index = read_json(folder / INDEX)
        parts = {
            key: part
            for key, of in index.items()
            if isinstance(of, list) and (part := _part(folder / key, *of)) is not None
        }
        with torch.device("cpu"):  # some schedulers copy their numbers, which meta tensors have none of
            kind = _class(*index["scheduler"])
            check_scheduler(folder / "scheduler", kind)
            scheduler = kind.from_pretrained(folder / "scheduler")
    except LOADING_FAULTS as error:
        raise LLMDiffError(f"The configs of the base model {name} cannot be used: {reason(error)}.") from error
    vae: Any = parts["vae"]
    factor = getattr(vae, "spatial_compression_ratio", None) or 2 ** (len(vae.config.block_out_channels) - 1)
    return SimpleNamespace(
        **parts, parts=parts, scheduler=scheduler, components=parts, config=index, vae_scale_factor=factor,
        name_or_path=name,
    )  # fmt: skip


def meta_llm(name: str) -> Any:
    """Width and number of blocks of an LLM, and how many weights it has, in all and in linear maps."""
    known = language_model(name)
    if known and not known.present:
        raise LLMDiffError(f"The config of {name} comes with its weights: run `llmdiff models pull {name}` first.")
    folder = known.locate() if known else _config_folder(name, "language model", "config.json")
    try:
        with _bounded(folder):
            config = AutoConfig.from_pretrained(folder)
            loader = find_loader(config)
            model = loader.from_config(config)
    except LOADING_FAULTS as error:
        raise LLMDiffError(f"The config of the language model {name} cannot be used: {reason(error)}.") from error
    numbers = sum(p.numel() for p in model.parameters())
    linear = sum(m.weight.numel() for m in find_stack(model).modules() if isinstance(m, nn.Linear))
    text = config.get_text_config()
    generates = loader in (AutoModelForCausalLM, AutoModelForImageTextToText)
    return SimpleNamespace(
        width=text.hidden_size,
        block_count=text.num_hidden_layers,
        numbers=numbers,
        linear_numbers=linear,
        generates=generates,
    )


def meta_adapter(recipe: Recipe, pipe: Any, llm: Any) -> LLMDiffAdapter:
    """The adapter of a recipe, without weights."""
    chosen = "extraction" in recipe.reading.model_fields_set or llm.generates
    model = ImageModel(pipe)
    config = AdapterConfig(
        mode=recipe.mode,
        reading=recipe.reading if chosen else recipe.reading.model_copy(update={"extraction": "last"}),
        llm={},
        base=model.describe(),
        refiner=recipe.refiner,
        lora=recipe.adapter_lora and complete(recipe.adapter_lora, model.denoiser),
        pooled_width=model.pooled_width if recipe.mode == "replace" else None,
    )
    return LLMDiffAdapter(config, llm)


def _part(folder: Path, library: str | None, kind: str | None) -> nn.Module | None:
    """A model of a pipeline without its weights; None for what is no model, or has no weights that training needs."""
    if library is None or kind is None or not (folder / "config.json").is_file():
        return None
    found = _class(library, kind)
    if not issubclass(found, nn.Module):
        return None
    with _bounded(folder):
        if issubclass(found, ModelMixin):
            return found.from_config(found.load_config(folder)).eval().to("meta")
        return found(found.config_class.from_pretrained(folder)).eval()


@contextmanager
def _bounded(folder: Path) -> Iterator[None]:
    """Within this context, the model of a folder's config may be as large as any, and no larger."""
    what = f"The model in {folder}"
    check_config(what, read_json(folder / "config.json"))
    with held_to(what, lambda: _LARGEST):
        yield


def _class(library: str, kind: str) -> Any:
    """A class by what a pipeline's index says of it: diffusers, transformers, or a kind of pipeline with its own."""
    if library in ("diffusers", "transformers"):
        return getattr(importlib.import_module(library), kind)
    return getattr(importlib.import_module(f"diffusers.pipelines.{library}"), kind)


def _base_configs(name: str, config: str | None) -> Path:
    """The folder of a base model's configs."""
    place = locate_base(name)
    if place is not None and place.is_file():
        return config_folder(place, config)
    return place or _config_folder(name, "base model", "model_index.json")


def _config_folder(name: str, what: str, marker: str) -> Path:
    """The folder of a model's configs; of one on the Hub they alone are fetched."""
    folder = local_folder(name, what, marker)
    if folder is not None:
        return folder
    try:
        return Path(snapshot_download(name, allow_patterns=_CONFIGS))
    except LOADING_FAULTS as error:
        raise LLMDiffError(
            f"The configs of the {what} {name!r} are neither here nor could they be fetched from the Hugging Face Hub: "
            f"check the name and the network ({reason(error)})."
        ) from error
