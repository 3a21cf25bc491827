"""What passes from the language model to the adapter: token ids on the way in, encodings on the way out.

Letters in shapes: B batch, S tokens (the longest prompt's), D LLM width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """Token ids of a batch of prompts.

    Attributes:
        ids: (B, S) int64, padded on the right.
        mask: (B, S) bool, True at real tokens.
        skip: how many leading tokens belong to the template; the reading cuts them off.
        weights: (B, S), by which the vectors of an encoding are multiplied, if the prompts have weights.
    """

    ids: Tensor
    mask: Tensor
    skip: int = 0
    weights: Tensor | None = None

    @property
    def kept(self) -> Tensor:
        """The mask of an encoding of these tokens: (B, S - skip) bool."""
        return self.mask[:, self.skip :]


@dataclass(frozen=True)
class Encoding:
    """The text encoding c of method.md section 2, one vector per token.

    Attributes:
        embeds: (B, S, D); exact zeros at padding.
        mask: (B, S) bool, True at real tokens.
    """

    embeds: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return self.embeds.shape[0]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Encoding":
        """The same encoding elsewhere; ``dtype`` is that of the vectors, the mask stays bool."""
        return Encoding(self.embeds.to(device=device, dtype=dtype), self.mask.to(device=device))

    def repeat_interleave(self, times: int) -> "Encoding":
        """Each prompt ``times`` times in a row: (B, S, D) to (B * times, S, D)."""
        return Encoding(self.embeds.repeat_interleave(times, 0), self.mask.repeat_interleave(times, 0))

    def pad(self, length: int) -> "Encoding":
        """The same prompts padded on the right to ``length`` tokens, no fewer than there are."""
        extra = length - self.mask.shape[1]
        return self if extra == 0 else Encoding(F.pad(self.embeds, (0, 0, 0, extra)), F.pad(self.mask, (0, extra)))

    @classmethod
    def cat(cls, encodings: Sequence["Encoding"]) -> "Encoding":
        """All prompts of several encodings in one batch, padded to the longest."""
        length = max(e.mask.shape[1] for e in encodings)
        padded = [e.pad(length) for e in encodings]
        return cls(torch.cat([e.embeds for e in padded]), torch.cat([e.mask for e in padded]))
