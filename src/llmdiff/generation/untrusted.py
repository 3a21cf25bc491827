"""What a PNG may ask for: anybody may have written it, and sent it to somebody who redraws it.

The embedded models may be loaded by what a file says; every other model is loaded only if the user has named or
confirmed it. Numbers are bounded by the file itself, which costs its sender something, and by what schedulers have.
"""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
from diffusers import SchedulerMixin
from PIL import Image

from llmdiff.adapter.storage import CONFIG, read_config
from llmdiff.base.locate import locate_base
from llmdiff.base.scheduler_settings import faulty_setting
from llmdiff.errors import LLMDiffError
from llmdiff.generation.png import Document
from llmdiff.generation.record import Models
from llmdiff.models import EMBEDDED, SHIPPED_BASES, language_model, shipped_adapter
from llmdiff.sources import LOADING_FAULTS, reason

DTYPES = ("float16", "bfloat16", "float32")
"""The number types that pictures are drawn in."""
_KINDS = {"base": "base model", "base_config": "configs", "adapter": "adapter", "llm": "LLM"}
_MODEST = 16_000_000  # pixels that any file may ask for
_ENLARGED = 4  # a base model with sizes of its own may have drawn fewer pixels than it was asked for [choice]


def check_amount(document: Document, image: Image.Image) -> None:
    """Raises LLMDiffError unless a document asks for about as many pixels as the file has, and for texts."""
    pictures = [record.picture for record in document.pictures]
    if document.kind == "picture" and len(pictures) > 1:
        raise LLMDiffError(f"The file says that it is one picture and holds {len(pictures)}: it was changed since.")
    asked = sum(one.width * one.height * len(one.texts) for one in pictures) * (
        2 if document.kind == "comparison" else 1
    )
    if asked > max(_MODEST, _ENLARGED * image.width * image.height):
        raise LLMDiffError(
            f"The file has {image.width}x{image.height} pixels and says that it holds {asked:,}: it was changed since "
            "it was drawn."
        )
    if any(re.search("[\ud800-\udfff]", "".join((one.prompt, one.negative, *one.texts))) for one in pictures):
        raise LLMDiffError("The prompt in the file is not valid text: it was changed since it was drawn.")


def foreign_models(models: Models, named: Mapping[str, str]) -> list[str]:
    """The models that are not embedded and that the user has not named, in words.

    Args:
        models: what is to be loaded.
        named: by field of `Models`, what the user has named of it.

    Raises:
        LLMDiffError: a model that the user has named is not there.
    """
    recorded = {field: getattr(models, field) for field in _KINDS if field not in named}
    foreign = {field: name for field, name in recorded.items() if name is not None and not _is_ours(field, name)}
    found = [f"the {_KINDS[field]} {name!r}" for field, name in foreign.items()]
    if "base" not in foreign and models.base not in SHIPPED_BASES and models.base_config is None:
        place = locate_base(models.base)
        if place is not None and place.is_file():
            found.append("configs from the Hugging Face Hub for the base model, which is a single file")
    llm = None if "adapter" in foreign or models.llm is not None else adapters_llm(models)
    if llm is not None and language_model(llm) is None and not Path(llm).expanduser().exists():
        found.append(f"the adapter's LLM {llm!r}")
    return found


def check_fetched(models: Models) -> None:
    """Raises LLMDiffError if an LLM of `llmdiff models list` is needed and not here: a file may not have it fetched."""
    name = models.llm or adapters_llm(models)
    known = language_model(name) if name is not None else None
    if known is not None and not known.present:
        raise LLMDiffError(
            f"The LLM {known.name} is not here yet, and redrawing fetches nothing: run `llmdiff models pull "
            f"{known.name}` first."
        )


def adapters_llm(models: Models) -> str | None:
    """The name of the LLM that an adapter was trained with; None of no adapter, and of one that is not here."""
    if models.adapter is None:
        return None
    folder = shipped_adapter() if models.adapter == EMBEDDED else Path(models.adapter).expanduser()
    return str(read_config(folder).llm.get("name")) if (folder / CONFIG).is_file() else None


def scheduler_of(config: Mapping[str, Any]) -> SchedulerMixin:
    """The scheduler that a file names, with the settings that it has by its class.

    Raises:
        LLMDiffError: diffusers has no such scheduler, or a setting is none that it could have been saved with.
    """
    name = config.get("_class_name")
    kind = getattr(diffusers, name, None) if isinstance(name, str) and name.endswith("Scheduler") else None
    if not (isinstance(kind, type) and issubclass(kind, SchedulerMixin)):
        raise LLMDiffError(f"The picture was drawn with a scheduler {name!r} that this version of diffusers lacks.")
    known = inspect.signature(kind.__init__).parameters
    # JSON has no infinity: the default -inf of DPMSolverMultistepScheduler's lambda_min_clipped is recorded as null.
    settings = {key: value for key, value in config.items() if key in known and value is not None}
    if (found := faulty_setting(kind, settings)) is not None:
        raise LLMDiffError(
            f"The file's scheduler setting {found[0]} is none that a {name} works with ({found[1]}): it was changed "
            "since."
        )
    try:
        scheduler: SchedulerMixin = kind.from_config(settings)
    except LOADING_FAULTS as error:
        raise LLMDiffError(f"The file's scheduler settings do not fit a {name} ({reason(error)}).") from error
    return scheduler


def _is_ours(field: str, name: str) -> bool:
    if field == "llm":
        return language_model(name) is not None
    return name in SHIPPED_BASES if field == "base" else name == EMBEDDED
