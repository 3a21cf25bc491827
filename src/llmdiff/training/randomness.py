"""Randomness of training as a function of what it is for: of (seed, sample), whatever batch the sample comes in.

Letters in shapes: B samples, S tokens, D width.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

_SAMPLES = 3  # sets the streams of samples apart from what else is drawn with a seed


def generator(*key: int) -> torch.Generator:
    """A generator whose stream is a function of the whole key, (seed, sample) say."""
    state = np.random.SeedSequence(key).generate_state(2)
    return torch.Generator().manual_seed(int(state[0]) << 31 ^ int(state[1]))


class Streams:
    """One stream of random numbers for each sample of a batch.

    What a sample gets depends on the seed, its number, and what was drawn for it before: not on the samples beside it,
    and so neither on the size of a micro-batch nor on the number of processes. Drawn on the CPU: the same everywhere.

    Args:
        seed: of the run.
        samples: the samples' running numbers in the run, B of them.
    """

    def __init__(self, seed: int, samples: Iterable[int]) -> None:
        self._generators = [generator(seed, _SAMPLES, int(n)) for n in samples]

    def __len__(self) -> int:
        return len(self._generators)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, (B, *shape)."""
        return torch.stack([torch.randn(shape, generator=g) for g in self._generators])

    def uniform(self, *shape: int) -> Tensor:
        """Numbers of 0 … 1, (B, *shape)."""
        return torch.stack([torch.rand(shape, generator=g) for g in self._generators])

    def integers(self, end: int, *shape: int) -> Tensor:
        """Whole numbers of 0 … end - 1, (B, *shape)."""
        return torch.stack([torch.randint(end, shape, generator=g) for g in self._generators])

    def normal_where(self, mask: Tensor, width: int) -> Tensor:
        """Standard normal numbers where mask (B, S) is True and zeros elsewhere, (B, S, D): free of the padding."""
        counts = mask.sum(1).tolist()
        drawn = [torch.randn(n, width, generator=g) for n, g in zip(counts, self._generators, strict=True)]
        numbers = torch.zeros(*mask.shape, width)
        numbers[mask.cpu()] = torch.cat(drawn)
        return numbers
