"""Distances of two sets of pictures, by their features: Fréchet distance and CMMD.

Both compare sets and not pairs: of the prompts they know nothing, and of few pictures they say little.

Letters in shapes: M and N pictures, F features.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

SIGMA = 10.0
"""Bandwidth of CMMD's kernel, the paper's."""
SCALE = 1000.0
"""By which CMMD is multiplied, in the paper's code."""
BLOCKS = 10
"""Of pictures, each left out once for the interval of a distance."""

_AT_ONCE = 2048  # rows and columns of a kernel matrix in memory
_QUANTILE = 2.262  # of Student's t with BLOCKS - 1 degrees of freedom, 97.5 %

Distance = Callable[[Tensor, Tensor], float]
"""Of features (M, F) and (N, F)."""


class Estimate(NamedTuple):
    """A distance and its 95 % interval."""

    value: float
    low: float
    high: float


def frechet(x: Tensor, y: Tensor) -> float:
    """The squared Fréchet distance of two normal distributions with the means and covariances of two sets.

    |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁^½ Σ₂ Σ₁^½)^½) (Dowson and Landau, 1982), which is FID where the features are those
    of an Inception network (Heusel et al., 2017), and FD-DINOv2 where they are DINOv2's (Stein et al., 2023). With
    fewer pictures than features the covariances are singular, and the distance of any two samples is too large.

    Args:
        x: Features of one set. (M, F).
        y: Features of the other. (N, F).

    Example:
        >>> round(frechet(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [5.0]])), 6)
        9.0
    """
    (mean, factor), (other_mean, other_factor) = _moments(x), _moments(y)
    traces = np.square(factor).sum() + np.square(other_factor).sum()
    middle = np.linalg.svd(factor @ other_factor.T, compute_uv=False)  # tr (Σ₁^½ Σ₂ Σ₁^½)^½, without a root of a zero
    return float(np.square(mean - other_mean).sum() + traces - 2 * middle.sum())


def cmmd(x: Tensor, y: Tensor) -> float:
    """The maximum mean discrepancy of two sets (CMMD: Jayasumana et al., 2024), without bias.

    1000 · (Σ_{i≠j} k(xᵢ, xⱼ) / M(M-1) + Σ_{i≠j} k(yᵢ, yⱼ) / N(N-1) - 2 Σ_{ij} k(xᵢ, yⱼ) / MN) with
    k(a, b) = exp(-|a - b|² / 2σ²) of features of length 1. Of two samples of one distribution it is 0 in the mean, and
    below 0 as often as above. The paper's published code takes the diagonal into the first two means, which adds about
    1000 · (2 - k̄_xx - k̄_yy) / N.

    Args:
        x: Features of one set, of any length. (M, F).
        y: Features of the other. (N, F).

    Example:
        >>> x = torch.eye(3)
        >>> cmmd(x, x) < 0
        True
    """
    x, y = normalize(x.double(), dim=-1), normalize(y.double(), dim=-1)
    return SCALE * (_among(x) + _among(y) - 2 * _kernel_sum(x, y) / (len(x) * len(y)))


def estimated(distance: Distance, x: Tensor, y: Tensor) -> Estimate:
    """A distance with an interval by the jackknife over blocks of pictures of both sets (Efron and Tibshirani, 1993).

    Example:
        >>> x, y = torch.randn(40, 3), torch.randn(40, 3) + 1
        >>> found = estimated(frechet, x, y)
        >>> found.low < found.value < found.high
        True
    """
    return _interval(distance(x, y), _without_blocks(distance, x, y))


def estimated_difference(distance: Distance, x: Tensor, other: Tensor, y: Tensor) -> Estimate:
    """How much farther from y a set is than another one of equal prompts: d(x, y) - d(other, y)."""
    pairs = zip(_without_blocks(distance, x, y), _without_blocks(distance, other, y), strict=True)
    return _interval(distance(x, y) - distance(other, y), [one - another for one, another in pairs])


def _interval(value: float, without: list[float]) -> Estimate:
    count = len(without)
    error = np.sqrt((count - 1) / count * np.square(np.array(without) - np.mean(without)).sum())
    return Estimate(value, value - _QUANTILE * float(error), value + _QUANTILE * float(error))


def _without_blocks(distance: Distance, x: Tensor, y: Tensor) -> list[float]:
    return [distance(a, b) for a, b in zip(_blocks_left_out(x), _blocks_left_out(y), strict=True)]


def _blocks_left_out(x: Tensor) -> Iterator[Tensor]:
    """Pictures that follow each other are in different blocks."""
    block = torch.arange(len(x)) % BLOCKS
    return (x[block != number] for number in range(BLOCKS))


def _moments(x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The mean μ (F,) and a factor R of the covariance Σ = RᵀR, (F, F) or, of fewer pictures, (M, F)."""
    values = x.double().numpy()
    mean = values.mean(0)
    factor: Any = np.linalg.qr((values - mean) / np.sqrt(len(values) - 1), mode="r")
    return mean, factor


def _among(x: Tensor) -> float:
    """The mean of the kernel over pairs of different rows."""
    return (_kernel_sum(x, x) - len(x)) / (len(x) * (len(x) - 1))


def _kernel_sum(x: Tensor, y: Tensor) -> float:
    """The sum of the kernel over all pairs, of which only some are in memory at a time."""
    total = 0.0
    for a in x.split(_AT_ONCE):
        for b in y.split(_AT_ONCE):
            squared = a.square().sum(-1)[:, None] + b.square().sum(-1) - 2 * a @ b.T
            total += float(torch.exp(squared.clamp(min=0) / (-2 * SIGMA**2)).sum())
    return total
