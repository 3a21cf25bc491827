"""Drawing a picture again from its PNG file alone."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import SchedulerMixin
from PIL import Image, ImageChops

from llmdiff.base.loading import Pipeline, default_device
from llmdiff.errors import LLMDiffError
from llmdiff.generation.picture import comparison_sheet, draw_all
from llmdiff.generation.png import Document, read_png
from llmdiff.generation.record import Models, Provenance
from llmdiff.generation.renderer import Renderer
from llmdiff.progress import Progress, silent


@dataclass(frozen=True)
class Redrawn:
    """A redrawn image, whether it equals the file's pixel for pixel, and what has changed since the file was drawn."""

    image: Image.Image
    document: Document
    identical: bool
    changes: tuple[str, ...]


def regenerate(
    path: str | Path,
    *,
    base: str | None = None,
    base_config: str | None = None,
    adapter: str | None = None,
    llm: str | None = None,
    progress: Progress | None = None,
) -> Redrawn:
    """Redraw a PNG written by llmdiff; warns if models or libraries have changed, or the pixels differ.

    Args:
        path: the PNG file.
        base, base_config, adapter, llm: where these models are now, if no longer where the file says.
        progress: called with (stage, finished share).

    Raises:
        LLMDiffError: the file cannot be read or was not written by llmdiff, or a model cannot be loaded.

    Example:
        >>> request = GenerationRequest(prompts=["a red cup"], base="my-sd", adapter="my-adapter", steps=2)
        >>> picture = generate(request)[0]
        >>> write_png(Path("cup.png"), picture.image, picture.document())
        >>> regenerate("cup.png").identical
        True
    """
    report = progress or silent
    original, document = read_png(Path(path))
    record = document.pictures[0]
    report("Loading models", 0.0)
    moved = {"base": base, "base_config": base_config, "adapter": adapter, "llm": llm}
    models = record.models.model_copy(update={name: place for name, place in moved.items() if place is not None})
    renderer = _renderer(models, record.provenance)
    changes = tuple(record.provenance.changes(renderer.provenance()))
    if changes:
        warnings.warn(f"Since the picture was drawn, there changed {'; '.join(changes)}.", stacklevel=2)
    settings = [one.picture for one in document.pictures]
    pictures = draw_all(renderer, settings, compare=document.kind == "comparison", progress=report)
    image = comparison_sheet(pictures) if document.kind == "comparison" else pictures[0].image
    identical = _same_pixels(image, original)
    if not identical:
        warnings.warn(_difference(record.provenance), stacklevel=2)
    redrawn = Document(kind=document.kind, pictures=tuple(picture.metadata for picture in pictures))
    return Redrawn(image, redrawn, identical, changes)


def _renderer(models: Models, then: Provenance) -> Renderer:
    device = then.device if _has_device(then.device) else default_device()
    dtype = getattr(torch, then.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise LLMDiffError(f"The picture was drawn in {then.dtype!r}, which this version of torch does not know.")
    renderer = Renderer.load(models, device=device, dtype=dtype)
    _set_scheduler(renderer.pipe, then.scheduler)
    return renderer


def _has_device(device: str) -> bool:
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(device, device == "cpu")


def _set_scheduler(pipe: Pipeline, config: dict[str, Any]) -> None:
    name = str(config.get("_class_name"))
    scheduler = getattr(diffusers, name, None)
    if not (isinstance(scheduler, type) and issubclass(scheduler, SchedulerMixin)):
        raise LLMDiffError(f"The picture was drawn with a scheduler {name!r} that this version of diffusers lacks.")
    # JSON has no infinity: the default -inf of DPMSolverMultistepScheduler's lambda_min_clipped is recorded as null.
    known = {key: value for key, value in config.items() if key != "_class_name" and value is not None}
    pipe.scheduler = scheduler.from_config(known)


def _same_pixels(one: Image.Image, other: Image.Image) -> bool:
    one, other = one.convert("RGB"), other.convert("RGB")
    return one.size == other.size and ImageChops.difference(one, other).getbbox() is None


def _difference(then: Provenance) -> str:
    threads = torch.get_num_threads()
    hint = f" (drawn with {then.threads} threads, {threads} now)" if threads != then.threads else ""
    return f"The redrawn picture differs from the file in some pixels{hint}."
