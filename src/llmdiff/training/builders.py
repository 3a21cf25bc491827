"""The parts of a training run, each made from the settings that it depends on and from the parts before it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator

from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.data import Captioned, Data, captioned, captions_of
from llmdiff.errors import LLMDiffError
from llmdiff.generation import load_pipeline
from llmdiff.language import ExtractionConfig, LanguageModel
from llmdiff.precompute import CacheConfig, Latents, Terms, open_latents, open_terms
from llmdiff.progress import Progress
from llmdiff.training.processes import broadcast_from_main
from llmdiff.training.ridge_init import fit, fitting_captions
from llmdiff.training.sharding import in_main_process, is_sharding_asked_for, shard
from llmdiff.training.validation import split


class Split(NamedTuple):
    """The pictures of a run.

    Attributes:
        train: those that are trained on.
        held_out: those that are not, if there are any.
    """

    train: Captioned
    held_out: Captioned | None

    def captions(self) -> list[str]:
        """All that the LLM must read of them, and the empty prompt."""
        parts = [self.train, self.held_out] if self.held_out else [self.train]
        return [*(text for part in parts for text in captions_of(part)), ""]

    def fitting_captions(self) -> list[str]:
        """The captions that a closed-form start is fitted on, in the words of the base model."""
        return fitting_captions(
            captions_of(self.train), (text for texts in self.train.teacher_captions for text in texts)
        )


def load_base(name: str, config: str | None, device: torch.device, needs_text_encoders: bool) -> ImageModel:
    """The base model, frozen.

    Args:
        name: as in a recipe.
        config: of a single-file checkpoint, as in a recipe.
        device: to which it goes.
        needs_text_encoders: False where missing ones are no error.

    Raises:
        LLMDiffError: It cannot be loaded, or not be trained on.
    """
    pipe = load_pipeline(name, config=config, device=device, needs_text_encoders=needs_text_encoders)
    base = ImageModel(pipe)
    base.check_trainable()
    return base.freeze()


def load_data(data: Data, resolution: int, share: float, seed: int, report: Progress) -> Split:
    """The pictures to train on and those that are held out.

    Args:
        data: of the recipe.
        resolution: of the base model, in pixels.
        share: of the captions, to be held out.
        seed: of the run.
        report: called with the progress.

    Raises:
        LLMDiffError: What is there cannot be used, or nothing would be left to train on.
    """
    return Split(*split(captioned(data, resolution, report), share, seed))


def load_llm(name: str, dtype: str, quantization: str | None, processes: Accelerator, live: bool) -> LanguageModel:
    """The LLM, on the CPU if its weights are to be divided among the processes.

    Args:
        name: as in a recipe.
        dtype: of its weights, a name of torch's.
        quantization: see `LanguageModel.load`.
        processes: that train together.
        live: True if every step asks the LLM.

    Raises:
        LLMDiffError: It cannot be loaded, or not as the launcher asks for.
    """
    sharded = is_sharding_asked_for(processes)
    if sharded and live:
        raise LLMDiffError("An LLM under --use_fsdp cannot be asked in every step: set cache.terms to all or grouped.")
    if sharded and quantization:
        raise LLMDiffError("A quantised LLM cannot be divided by --use_fsdp: leave out llm_quantization or the option.")
    device = torch.device("cpu") if sharded else processes.device
    return LanguageModel.load(name, dtype=getattr(torch, dtype), device=device, quantization=quantization)


def load_latents(
    cache: CacheConfig, folder: Path, vae: Any, pictures: Split, report: Progress
) -> tuple[Latents, Latents | None]:
    """The latents of the pictures to train on and of those held out.

    Args:
        cache: what is kept.
        folder: of all caches.
        vae: in eval mode.
        pictures: of the run.
        report: called with the progress.

    Raises:
        LLMDiffError: A picture cannot be read, or the disk is full.
    """
    train, held_out = pictures
    latents = open_latents(cache, folder, vae, train, report)
    return latents, open_latents(cache, folder, vae, held_out, report) if held_out else None


def load_terms(
    cache: CacheConfig,
    folder: Path,
    captions: Iterable[str],
    llm: LanguageModel,
    reading: ExtractionConfig,
    processes: Accelerator,
    report: Progress,
) -> Terms:
    """The LLM's terms of the captions, read in the main process first if the LLM is divided among several.

    Args:
        cache: what is kept.
        folder: of all caches.
        captions: all that will be asked for.
        llm: as `load_llm` gives it; it is divided here, if it is to be.
        reading: how it is read.
        processes: that train together; each must call this.
        report: called with the progress.

    Raises:
        LLMDiffError: The disk is full.
    """
    texts = list(captions)
    if is_sharding_asked_for(processes):
        shard(llm, processes)
        in_main_process(llm, processes, lambda: open_terms(cache, folder, texts, llm, reading, report))
    return open_terms(cache, folder, texts, llm, reading, report)


def initialise(
    adapter: LLMDiffAdapter,
    base: ImageModel,
    terms: Terms,
    captions: list[str],
    processes: Accelerator,
    report: Progress,
) -> None:
    """Gives an untrained adapter the weights that it begins with, the same in every process.

    Args:
        adapter: attached to nothing yet.
        base: its base model.
        terms: of the captions.
        captions: what φ is fitted on; none leaves it as it is.
        processes: that train together; each must call this.
        report: called with the progress.

    Raises:
        LLMDiffError: There are too few captions, or the adapter has no φ.
    """
    if captions:
        fit(adapter, base, terms, captions, report)
    broadcast_from_main(processes, [p.data for p in adapter.parameters()])
