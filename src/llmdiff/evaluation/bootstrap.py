"""Bootstrap intervals of means over prompts."""

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
