"""Drawing a picture again from its PNG file alone."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops

from llmdiff.base.loading import default_device
from llmdiff.errors import LLMDiffError
from llmdiff.generation.picture import Picture, comparison_sheet, draw_each
from llmdiff.generation.png import Document, read_png
from llmdiff.generation.record import Models, Provenance
from llmdiff.generation.renderer import Renderer
from llmdiff.generation.untrusted import DTYPES, check_amount, check_fetched, foreign_models, scheduler_of
from llmdiff.progress import Progress, silent
from llmdiff.sources import LOADING_FAULTS, reason

Confirm = Callable[[str], bool]
ROUNDING = 4
"""Levels of 255 by which another processor's rounding may change a pixel; what differs by more is another picture."""


@dataclass(frozen=True)
class Redrawn:
    """A redrawn image, and how it compares with the file.

    Attributes:
        image: The image.
        document: What a PNG of it is to carry.
        difference: By how many levels of 0 … 255 the farthest pixel differs in one of red, green and blue; 255 if the
            sizes differ.
        changes: What has changed since the file was drawn, as short phrases.
    """

    image: Image.Image
    document: Document
    difference: int
    changes: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether it equals the file's image pixel for pixel."""
        return self.difference == 0

    @property
    def same(self) -> bool:
        """Whether it is the file's image but for rounding, which is another on another processor."""
        return self.difference <= ROUNDING


def regenerate(
    path: str | Path,
    *,
    base: str | None = None,
    base_config: str | None = None,
    adapter: str | None = None,
    llm: str | None = None,
    confirm: Confirm | None = None,
    progress: Progress | None = None,
) -> Redrawn:
    """Redraw a PNG written by llmdiff; warns if models or libraries have changed, or the pixels differ.

    A PNG may come from anybody. Of the models that it names, the embedded ones are loaded, if they are here; any other
    path or Hub id in it is left alone unless it is named here too, or confirmed.

    Args:
        path: the PNG file.
        base, base_config, adapter, llm: these models, wherever the file says they are. An adapter brings the LLM that
            it was trained with, if that is here.
        confirm: asked whether models that the file names may be loaded, given a list of them in words; if None, they
            may not.
        progress: called with (stage, finished share).

    Raises:
        LLMDiffError: the file cannot be read or was not written by llmdiff or was changed since, a model was neither
            named nor confirmed, or one cannot be loaded.

    Example:
        >>> request = GenerationRequest(prompts=["a red cup"], base="my-sd", adapter="my-adapter", steps=2)
        >>> picture = generate(request)[0]
        >>> write_png(Path("cup.png"), picture.image, picture.document())
        >>> regenerate("cup.png", base="my-sd", adapter="my-adapter").identical
        True
    """
    report = progress or silent
    original, document = read_png(Path(path))
    check_amount(document, original)
    record = document.pictures[0]
    given = {"base": base, "base_config": base_config, "adapter": adapter, "llm": llm}
    models = _allowed(record.models, {name: place for name, place in given.items() if place is not None}, confirm)
    report("Loading models", 0.0)
    renderer = _renderer(models, record.provenance)
    changes = tuple(record.provenance.changes(renderer.provenance()))
    if changes:
        warnings.warn(f"Since the picture was drawn, there changed {'; '.join(changes)}.", stacklevel=2)
    pictures = _draw(renderer, document, report)
    image = comparison_sheet(pictures) if document.kind == "comparison" else pictures[0].image
    difference = _difference(image, original)
    if difference:
        warnings.warn(_in_words(difference, record.provenance), stacklevel=2)
    redrawn = Document(kind=document.kind, pictures=tuple(picture.metadata for picture in pictures))
    return Redrawn(image, redrawn, difference, changes)


def _allowed(recorded: Models, named: dict[str, str], confirm: Confirm | None) -> Models:
    """The models to load, all of which the user has named or confirmed, or are embedded and here."""
    models = recorded.model_copy(update=named)
    foreign = foreign_models(models, named)
    if foreign and not (confirm is not None and confirm(", ".join(foreign))):
        raise LLMDiffError(
            f"Redrawing needs {', '.join(foreign)}, which you have neither named nor confirmed, and a PNG may come "
            "from anybody: name what you trust with --base, --base-config, --adapter and --llm, or confirm all with "
            "--trust."
        )
    check_fetched(models)
    return models


def _draw(renderer: Renderer, document: Document, report: Progress) -> list[Picture]:
    settings = [one.picture for one in document.pictures]
    try:
        return list(draw_each(renderer, settings, compare=document.kind == "comparison", progress=report))
    except LOADING_FAULTS as error:
        raise LLMDiffError(f"The picture cannot be drawn as the file says it was: {reason(error)}.") from error


def _renderer(models: Models, then: Provenance) -> Renderer:
    device = then.device if _has_device(then.device) else default_device()
    if then.dtype not in DTYPES:
        raise LLMDiffError(f"The picture was drawn in {then.dtype!r}, in which pictures are not drawn here.")
    scheduler = scheduler_of(then.scheduler)
    renderer = Renderer.load(models, device=device, dtype=getattr(torch, then.dtype))
    renderer.pipe.scheduler = scheduler
    return renderer


def _has_device(device: str) -> bool:
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(device, device == "cpu")


def _difference(one: Image.Image, other: Image.Image) -> int:
    if one.size != other.size:
        return 255
    return int(np.asarray(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).max())


def _in_words(difference: int, then: Provenance) -> str:
    threads = torch.get_num_threads()
    hint = f" (drawn with {then.threads} threads, {threads} now)" if threads != then.threads else ""
    return f"The redrawn picture differs from the file by up to {difference} of 255 levels{hint}."
