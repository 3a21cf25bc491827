"""The data that training reads: a fixed list of captioned pictures, wherever they come from.

Letters in shapes: H and W height and width of a picture that is trained on.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from llmdiff.base.size_conditioning import Size, SizeConditioning


class Captioned(Protocol):
    """A fixed list of captioned pictures."""

    @property
    def captions(self) -> Sequence[tuple[str, ...]]:
        """Every caption of each picture: one or more."""
        ...

    @property
    def teacher_captions(self) -> Sequence[tuple[str, ...]]:
        """The same in words that the base model, the teacher of distillation, knows, as far as there are any."""
        ...

    @property
    def weights(self) -> Sequence[float]:
        """The number of times that an epoch has each picture."""
        ...

    @property
    def skipped(self) -> Sequence[str]:
        """A sentence for each picture that was left out because it cannot be used."""
        ...

    def __len__(self) -> int: ...

    def size(self, index: int) -> Size:
        """The size at which picture number `index` is trained on."""
        ...

    def size_conditioning(self, index: int) -> SizeConditioning:
        """Size and crop of picture number `index`, as it is trained on."""
        ...

    def pixels(self, index: int) -> Tensor:
        """Picture number `index`: float (3, H, W) in -1..1."""
        ...

    def identity(self, index: int) -> str:
        """All that `pixels(index)` depends on: other pixels, another identity, and the same wherever the data lies.

        The cache of latents finds pictures by it. Of a stored picture: a hash of its bytes, and how it is cropped.
        """
        ...


def captions_of(data: Captioned) -> set[str]:
    """All different captions, which the LLM must read."""
    return {text for texts in data.captions for text in texts}
