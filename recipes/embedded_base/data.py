"""Drawn scenes as training data: sample n of a run is a function of (seed, n)."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from llmdiff.scenes.drawing import draw
from llmdiff.scenes.scene import Scene, sample_scene


@cache
def scene(seed: int, index: int) -> Scene:
    """Scene number `index` of the stream `seed`."""
    return sample_scene(np.random.default_rng((seed, index)))


def pixels(scenes: list[Scene]) -> Tensor:
    """Pictures as a diffusion model takes them: float (B, 3, 64, 64) in -1..1."""
    stack = torch.from_numpy(np.stack([draw(s) for s in scenes]))
    return stack.permute(0, 3, 1, 2).float() / 127.5 - 1
