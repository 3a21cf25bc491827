"""The learned part of the text encoding: block weights, noise and LayerNorm (docs/method.md section 2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmdiff.errors import LLMDiffError
from llmdiff.language.config import ExtractionConfig

LEARNED = ("llmdiff", "weighted")
"""Extractions that learn the weights of the blocks."""

RAW_H_START = -14.0
"""softplus(-14) = 8e-7 per block: over 30 blocks the noise has a standard deviation of 0.007, little even beside an
embedding that is not normalised (0.11 in SmolLM2), which is all that a prompt's first token has."""


class TextEncoding(nn.Module):
    """From the terms of all blocks to the encoding c, for every extraction (docs/method.md section 2).

    Every extraction is ``LayerNorm(start + Σ_i w_i · stack_i)`` over T terms; they differ in what the terms are (see
    `llmdiff.language.extraction`) and in the weights w: learned (``llmdiff``: g; ``weighted``: a softmax of ``logits``)
    or fixed (the others). Blocks are counted as they run: w_0 belongs to the first one, which the paper calls T.

    The T noises of a Langevin walk are independent and only their sum is used, so one is drawn with the variance of
    the sum: ``sqrt(2 Σ_t h_t) · ε``.

    Letters in shapes: B batch, S tokens, D LLM width, T blocks, G terms that are left of those of T blocks.

    Parameters:
        g: (T,), 1 at the start (``llmdiff``).
        raw_h: (T,), with h = softplus(raw_h) (``llmdiff`` with noise).
        logits: (T,), 0 at the start (``weighted``).
        norm.weight, norm.bias: (D,), the affine LayerNorm.

    Args:
        config: the extraction.
        width: D.
        block_count: T.

    Raises:
        LLMDiffError: if the extraction takes a block that the LLM does not have.

    Example:
        >>> text_encoding = TextEncoding(ExtractionConfig(extraction="weighted"), width=576, block_count=30).eval()
        >>> start, stack = torch.zeros(1, 5, 576), torch.randn(30, 1, 5, 576)
        >>> text_encoding(start, stack, torch.ones(1, 5, dtype=torch.bool)).shape
        torch.Size([1, 5, 576])
    """

    def __init__(self, config: ExtractionConfig, width: int, block_count: int) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(width)
        if config.extraction == "llmdiff":
            self.g = nn.Parameter(torch.ones(block_count))
            if config.noise:
                self.raw_h = nn.Parameter(torch.full((block_count,), RAW_H_START))
        elif config.extraction == "weighted":
            self.logits = nn.Parameter(torch.zeros(block_count))
        else:
            self.register_buffer("fixed", fixed_weights(config.extraction, block_count), persistent=False)

    @property
    def noisy(self) -> bool:
        """True if the extraction adds noise in training."""
        return hasattr(self, "raw_h")

    def weights(self) -> Tensor:
        """Returns the weight of each block's term, in the order in which the blocks run: (T,)."""
        if self.config.extraction == "llmdiff":
            return self.g
        return self.logits.softmax(0) if self.config.extraction == "weighted" else self.get_buffer("fixed")

    def weights_of(self, count: int) -> Tensor:
        """Returns the weights (G,) of G terms that `condense` leaves: of a group of blocks, the mean of theirs.

        Blocks in a group start with equal weights and get equal gradients, so in training their weights stay equal.
        """
        weights = self.weights()
        if count == len(weights):
            return weights
        if self.config.extraction not in LEARNED:
            return weights.new_ones(count)
        group = group_of_block(len(weights), count).to(weights.device)
        return weights.new_zeros(count).index_add(0, group, weights) / group.bincount()

    def forward(
        self,
        start: Tensor,
        stack: Tensor,
        mask: Tensor,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Returns the encoding from the terms of all blocks; gradients reach every parameter.

        Args:
            start: (B, S, D), c^T.
            stack: (T, B, S, D), the terms, or (G, B, S, D), what `condense` has made of them.
            mask: (B, S) bool, True at real tokens.
            generator: of the noise; None uses torch's own, and only in training mode.
            noise: (B, S, D), ε itself, if it is drawn elsewhere.

        Returns:
            (B, S, D), exact zeros at padding.
        """
        weights = self.weights_of(len(stack))
        total = start.to(weights.dtype) + _weighted_sum(weights, stack.to(weights.dtype))
        return self.finish(total, generator, noise).masked_fill(~mask.unsqueeze(-1), 0)

    def finish(self, total: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None) -> Tensor:
        """Returns the encoding from ``start + Σ_i w_i · stack_i``: noise, if any, then LayerNorm.

        Noise is added in training mode, and at inference when a generator, or the noise itself, is given.

        Args:
            total: (B, S, D).
            generator: of the noise, on the device of ``total``.
            noise: (B, S, D), ε itself, if it is drawn elsewhere.

        Returns:
            (B, S, D) in the dtype of the parameters.
        """
        total = total.float()
        if self.noisy and (self.training or generator is not None or noise is not None):
            deviation = (2 * F.softplus(self.raw_h.float()).sum()).sqrt()
            if noise is None:
                noise = torch.randn(total.shape, generator=generator, device=total.device, dtype=total.dtype)
            total = total + deviation * noise
        normed = F.layer_norm(total, self.norm.normalized_shape, eps=self.norm.eps)
        return normed.to(self.norm.weight.dtype) * self.norm.weight + self.norm.bias


def _weighted_sum(weights: Tensor, stack: Tensor) -> Tensor:
    """Σ_i w_i · stack_i, (G, B, S, D) to (B, S, D), without a copy of a stack that has a token's terms side by side."""
    count, batch, length, width = stack.shape
    tokens = stack.permute(1, 2, 0, 3)
    if not tokens.is_contiguous():
        return torch.einsum("g,gbsd->bsd", weights, stack)
    rows = weights.expand(batch * length, 1, count)
    return torch.bmm(rows, tokens.reshape(batch * length, count, width)).view(batch, length, width)


def fixed_weights(extraction: str, block_count: int) -> Tensor:
    """Returns the weights (T,) of an extraction that learns none.

    Raises:
        LLMDiffError: if it takes a block that the LLM does not have.
    """
    if extraction in ("mean", "norm-mean"):
        return torch.full((block_count,), 1 / block_count)
    number = block_number(extraction, block_count)
    return F.one_hot(torch.tensor(number - 1), block_count).float()


def block_number(extraction: str, block_count: int) -> int:
    """Returns the number of the block that ``last``, ``penultimate`` or ``layer:k`` takes, counted from 1.

    Raises:
        LLMDiffError: if the LLM has no such block.
    """
    if extraction == "last":
        return block_count
    number = block_count - 1 if extraction == "penultimate" else int(extraction.removeprefix("layer:"))
    if not 1 <= number <= block_count:
        raise LLMDiffError(f"The extraction {extraction} needs block {number}, but the LLM has {block_count} blocks.")
    return number


def term_count(config: ExtractionConfig, block_count: int, groups: int | None = None) -> int:
    """Returns the number of terms of each token in training: one if the weights are fixed, else one for each group.

    Args:
        config: the extraction.
        block_count: T.
        groups: of neighbouring blocks that share a weight; None if every block has its own.

    Example:
        >>> [term_count(ExtractionConfig(extraction=name), block_count=30) for name in ("llmdiff", "last")]
        [30, 1]
    """
    if config.extraction not in LEARNED:
        return 1
    return block_count if groups is None else min(groups, block_count)


def condense(stack: Tensor, config: ExtractionConfig, count: int) -> Tensor:
    """Returns the terms of all blocks, (T, ...), summed as far as their weights are fixed or shared: (count, ...).

    Args:
        stack: the terms.
        config: the extraction.
        count: see `term_count`.

    Example:
        >>> condense(torch.randn(30, 1, 5, 576), ExtractionConfig(), count=8).shape
        torch.Size([8, 1, 5, 576])
    """
    if config.extraction not in LEARNED:
        weights = fixed_weights(config.extraction, len(stack)).to(stack)
        return torch.einsum("t,t...->...", weights, stack).unsqueeze(0)
    if count == len(stack):
        return stack
    group = group_of_block(len(stack), count).to(stack.device)
    return stack.new_zeros(count, *stack.shape[1:]).index_add(0, group, stack)


def group_of_block(block_count: int, count: int) -> Tensor:
    """Returns the group that each block is in, of `count` groups of neighbours that are as equal as can be: (T,)."""
    return torch.arange(block_count) * count // block_count
