"""The weight that an adapter has learned for each block of its LLM."""

from dataclasses import dataclass

import numpy as np

from llmdiff.adapter import LLMDiffAdapter


@dataclass(frozen=True)
class BlockWeights:
    """The weights of the blocks in a text encoding (docs/method.md section 2).

    Attributes:
        extraction: how the LLM is read.
        weights: (T,), in the order in which the blocks run; under ``rms`` what they multiply is of one size.
        start: (T,), the weights of an untrained adapter.
    """

    extraction: str
    weights: np.ndarray
    start: np.ndarray


def block_weights(adapter: LLMDiffAdapter) -> BlockWeights:
    """The weight of each block: learned (``llmdiff``, ``weighted``), or what the extraction says.

    Example:
        >>> block_weights(adapter).weights.shape
        (4,)
    """
    weights = adapter.text_encoding.weights().detach().float().cpu().numpy().copy()
    extraction = adapter.config.reading.extraction
    untrained = {"llmdiff": 1.0, "weighted": 1 / len(weights)}.get(extraction)
    return BlockWeights(extraction, weights, weights if untrained is None else np.full_like(weights, untrained))
