"""Token ids, which go into a language model, and encodings, which go to the adapter.

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
        skip: the number of leading tokens that belong to the template; an encoding is without them.
        weights: (B, S), by which the vectors of an encoding are multiplied, if the prompts have weights.
        again: (B,) int64, of a template with the prompt twice the number of tokens after ``skip`` before the second
            copy, which alone is read; None where there is one copy.
    """

    ids: Tensor
    mask: Tensor
    skip: int = 0
    weights: Tensor | None = None
    again: Tensor | None = None

    @property
    def kept(self) -> Tensor:
        """The mask of an encoding of these tokens: (B, S') bool, where S' is S - skip, or less if `again` is given."""
        return self.later(self.mask[:, self.skip :, None])[..., 0]

    @property
    def kept_weights(self) -> Tensor | None:
        """The weights (B, S') of an encoding of these tokens, if the prompts have weights."""
        return None if self.weights is None else self.later(self.weights[:, self.skip :, None])[..., 0]

    def later(self, values: Tensor) -> Tensor:
        """Values (..., B, S - skip, D) of the tokens of an encoding, (..., B, S', D), with zeros at padding.

        They are as they were where there is one copy of the prompt.
        """
        if self.again is None:
            return values
        device = values.device
        lengths = self.mask[:, self.skip :].sum(1).to(device) - self.again.to(device)
        places = torch.arange(int(lengths.max()), device=device)
        index = (places + self.again.to(device)[:, None]).clamp(max=values.shape[-2] - 1)
        rows = torch.arange(len(index), device=device)[:, None]
        return values[..., rows, index, :].masked_fill((places >= lengths[:, None])[..., None], 0)


@dataclass(frozen=True)
class Encoding:
    """The text encoding c of docs/method.md section 2, one vector per token.

    Attributes:
        embeds: (B, S, D); exact zeros at padding.
        mask: (B, S) bool, True at real tokens.

    Example:
        >>> one = Encoding(torch.randn(1, 5, 576), torch.ones(1, 5, dtype=torch.bool))
        >>> Encoding.cat([one, one.pad(7)]).repeat_interleave(2).embeds.shape
        torch.Size([4, 7, 576])
    """

    embeds: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return self.embeds.shape[0]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Encoding":
        """Returns the same encoding elsewhere; ``dtype`` is that of the vectors, the mask stays bool."""
        return Encoding(self.embeds.to(device=device, dtype=dtype), self.mask.to(device=device))

    def repeat_interleave(self, times: int) -> "Encoding":
        """Returns each prompt ``times`` times in a row: (B, S, D) to (B * times, S, D)."""
        return Encoding(self.embeds.repeat_interleave(times, 0), self.mask.repeat_interleave(times, 0))

    def pad(self, length: int) -> "Encoding":
        """Returns the same prompts padded on the right to ``length`` tokens, no fewer than there are."""
        extra = length - self.mask.shape[1]
        return self if extra == 0 else Encoding(F.pad(self.embeds, (0, 0, 0, extra)), F.pad(self.mask, (0, extra)))

    @classmethod
    def cat(cls, encodings: Sequence["Encoding"]) -> "Encoding":
        """Returns all prompts of several encodings in one batch, padded to the longest."""
        length = max(e.mask.shape[1] for e in encodings)
        padded = [e.pad(length) for e in encodings]
        return cls(torch.cat([e.embeds for e in padded]), torch.cat([e.mask for e in padded]))
