"""Captioned pictures that are nothing but a list of sizes and captions."""

from collections.abc import Sequence

from torch import Tensor

from llmdiff.data import Size, SizeConditioning


class Listed:
    """`Captioned` without pixels.

    Args:
        sizes: of the pictures.
        weights: 1 each if None.
        captions: how many each picture has.
    """

    def __init__(self, sizes: Sequence[Size], weights: Sequence[float] | None = None, captions: int = 1) -> None:
        self.sizes = sizes
        self.captions = [tuple(f"{i} {k}" for k in range(captions)) for i in range(len(sizes))]
        self.teacher_captions = self.captions
        self.weights = weights or [1.0] * len(sizes)
        self.skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.sizes)

    def size(self, index: int) -> Size:
        return self.sizes[index]

    def size_conditioning(self, index: int) -> SizeConditioning:
        return SizeConditioning(self.sizes[index], (0, 0), self.sizes[index])

    def identity(self, index: int) -> str:
        return str(index)

    def pixels(self, index: int) -> Tensor:
        raise NotImplementedError
