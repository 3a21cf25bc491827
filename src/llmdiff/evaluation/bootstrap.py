"""Bootstrap intervals of means over prompts, over trainings and prompts, and of shares of what pictures have."""

import numpy as np


def interval(values: np.ndarray, level: float = 0.95, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron, 1979).

    Args:
        values: One number per prompt, its pictures averaged: prompts are what is sampled. (P,).
        level: Coverage.
        draws: Resamples.
        seed: Of the resampling.

    Returns:
        Lower and upper end.
    """
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(1)
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def ratio_interval(
    parts: np.ndarray, wholes: np.ndarray, level: float = 0.95, draws: int = 4000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the sum of parts over that of wholes.

    Args:
        parts: Of each picture, which is what is sampled: how many of what it has are so. (P,).
        wholes: How many it has, which may be 0, but not for all. (P,).
        level: Coverage.
        draws: Resamples.
        seed: Of the resampling.

    Returns:
        Lower and upper end.
    """
    places = np.random.default_rng(seed).integers(0, len(wholes), (draws, len(wholes)))
    sums = wholes[places].sum(1)
    shares = parts[places].sum(1)[sums > 0] / sums[sums > 0]
    low, high = np.quantile(shares, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def crossed_interval(
    values: np.ndarray, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over trainings and prompts, both of which are samples.

    Both are resampled, independently of each other (McCullagh 2000, the "pigeonhole" bootstrap of Owen 2007). Of K
    trainings, a resample has K - 1 K-ths of the variance of their means, much too little where K is 3: so these means
    are first moved away from the whole mean by the square root of K / (K - 1). Of one training, prompts alone are
    resampled.

    Args:
        values: one number for each training and prompt, differences of two conditions for instance. (K, P).
        level: Coverage.
        draws: Resamples.
        seed: Of the resampling.

    Returns:
        Lower and upper end.

    Example:
        >>> crossed_interval(np.array([[1.0, 1.0], [1.0, 1.0]]))
        (1.0, 1.0)
    """
    count, prompts = values.shape
    means = values.mean(1, keepdims=True)
    stretched = values + (means - means.mean()) * ((count / max(1, count - 1)) ** 0.5 - 1)
    rng = np.random.default_rng(seed)
    chosen = np.zeros((draws, count))
    np.add.at(chosen, (np.arange(draws)[:, None], rng.integers(0, count, (draws, count))), 1 / count)
    by_prompt = chosen @ stretched
    resampled = np.empty(draws)
    for begin in range(0, draws, 1000):  # a thousand at a time, for the memory that the choice of prompts takes
        rows = slice(begin, min(begin + 1000, draws))
        places = rng.integers(0, prompts, (rows.stop - rows.start, prompts))
        resampled[rows] = np.take_along_axis(by_prompt[rows], places, 1).mean(1)
    low, high = np.quantile(resampled, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)
