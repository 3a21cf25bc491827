"""Cropping of pictures: squares from the centre, or buckets of about as many pixels in other aspect ratios."""

import math
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from llmdiff.data.captioned import Size, SizeConditioning
from llmdiff.data.config import StoredData
from llmdiff.errors import LLMDiffError

_STEPS = range(64, 0, -8)


class Cropping:
    """The sizes that pictures are trained at.

    Attributes:
        sizes: All of them.

    Raises:
        LLMDiffError: The resolution is not a multiple of the buckets' step.
    """

    def __init__(self, data: StoredData, resolution: int) -> None:
        side = data.resolution or resolution
        self.sizes: list[Size] = [(side, side)]
        if data.crop == "buckets":
            self.sizes = buckets(side, data.bucket_step or _step(side), data.bucket_ratio)

    def size(self, original: Size) -> Size:
        """That of the bucket whose aspect ratio is nearest."""
        return _nearest(tuple(self.sizes), original)

    def size_conditioning(self, original: Size) -> SizeConditioning:
        """The size conditioning of a picture of size `original`, cut by `cut`."""
        size = self.size(original)
        scale = max(size[0] / original[0], size[1] / original[1])
        top, left = (max(0, round((scale * whole - part) / 2)) for whole, part in zip(original, size, strict=True))
        return SizeConditioning(original, (top, left), size)


def buckets(side: int, step: int, ratio: float) -> list[Size]:
    """Sizes of at most side² pixels, the largest of their width or height, with sides that are multiples of `step`.

    Raises:
        LLMDiffError: `side` is not a multiple of `step`.
    """
    if side % step:
        raise LLMDiffError(f"The resolution {side} is not a multiple of the bucket_step {step}; change one of them.")
    shorter = range(step, side + 1, step)
    pairs = [(short, side * side // short // step * step) for short in shorter]
    pairs = [(short, long) for short, long in pairs if long / short <= ratio]
    return sorted({size for short, long in pairs for size in ((short, long), (long, short))})


def _step(side: int) -> int:
    """The largest step that divides a resolution and leaves it some buckets."""
    return next((step for step in _STEPS if side % step == 0 and step * 8 <= side), _STEPS[-1])


def cut(image: Image.Image, size: Size) -> np.ndarray:
    """The middle of a picture scaled to cover `size`: uint8 (H, W, 3)."""
    return np.asarray(ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS))


def normalised(picture: np.ndarray) -> Tensor:
    """Uint8 (H, W, 3) as float (3, H, W) in -1..1."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1


@cache
def _nearest(sizes: tuple[Size, ...], original: Size) -> Size:
    ratio = math.log(original[0] / original[1])
    return min(sizes, key=lambda size: (abs(math.log(size[0] / size[1]) - ratio), -size[0] * size[1]))
