"""A few numbers of an image model's weights, by which an adapter knows whether it is on those that it was made for."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from llmdiff.base.diffusers_internals import visible_weight

_APART = 0.005
"""Relative distance of other weights. Rounding to bfloat16 makes 0.001 of it, and a short fine-tune 0.01 or more."""


def weight_samples(layers: Iterable[Any]) -> tuple[float, ...] | None:
    """One number of the query and one of the key projection of each layer.

    Args:
        layers: cross-attention layers with ``to_q`` and ``to_k``.

    Returns:
        Four digits of each, or None where weights are quantised, cast to 8 bits, offloaded, or not there at all.
    """
    weights = [visible_weight(linear) for layer in layers for linear in (layer.to_q, layer.to_k)]
    known = [weight for weight in weights if weight is not None and weight.itemsize > 1]
    if len(known) < len(weights):
        return None
    numbers = [weight.detach().reshape(-1)[weight.numel() // 3].item() for weight in known]
    return tuple(float(f"{number:.4g}") for number in numbers)


def are_other_weights(recorded: Sequence[float] | None, found: Sequence[float] | None) -> bool:
    """True if two samples are of other weights; False where one is not known.

    Example:
        >>> are_other_weights((0.25, -1.0), (0.2502, -1.001))
        False
        >>> are_other_weights((0.25, -1.0), (0.26, -1.02))
        True
    """
    if recorded is None or found is None or len(recorded) != len(found):
        return False
    return math.dist(recorded, found) > _APART * math.hypot(*recorded)
