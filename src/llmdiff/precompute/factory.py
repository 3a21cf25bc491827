"""Opens the latents and terms that a run reads, as its recipe says."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmdiff.data import Captioned
from llmdiff.language import ExtractionConfig, LanguageModel
from llmdiff.precompute.config import CacheConfig
from llmdiff.precompute.latents import CachedLatents, Latents, LiveLatents
from llmdiff.precompute.terms import BlockTerms, LiveTerms, Terms
from llmdiff.progress import Progress


def open_latents(config: CacheConfig, folder: Path, vae: Any, data: Captioned, report: Progress) -> Latents:
    """The latents of the pictures; those that are to be kept and are not there yet are computed now.

    Args:
        config: what is kept.
        folder: of all caches.
        vae: in eval mode.
        data: the pictures.
        report: called with the progress.

    Raises:
        LLMDiffError: A picture cannot be read, or the disk is full.

    Example:
        >>> latents = open_latents(CacheConfig(), Path("cache"), pipe.vae, data, silent)
        >>> latents[[0, 3]].shape
        torch.Size([2, 4, 64, 64])
    """
    if not config.latents:
        return LiveLatents(vae, data)
    return CachedLatents.of(vae, data, folder, report, config.check)


def open_terms(
    config: CacheConfig,
    folder: Path,
    captions: Iterable[str],
    llm: LanguageModel,
    reading: ExtractionConfig,
    report: Progress,
) -> Terms:
    """The LLM's terms of the captions; those that are to be kept and are not there yet are read now.

    Args:
        config: what is kept.
        folder: of all caches.
        captions: all that will be asked for, the empty one among them.
        llm: the LLM.
        reading: how it is read.
        report: called with the progress.

    Raises:
        LLMDiffError: The disk is full.

    Example:
        >>> terms = open_terms(CacheConfig(), Path("cache"), ["a red fox", ""], llm, ExtractionConfig(), silent)
        >>> start, stack, mask = terms.batch(["a red fox"])
    """
    if config.terms == "none":
        return LiveTerms(llm, reading)
    return BlockTerms.of(captions, llm, reading, folder, report, config.group_count, config.check)
