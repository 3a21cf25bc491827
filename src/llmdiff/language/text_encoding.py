"""The learned part of the text encoding: block weights, noise and LayerNorm (docs/method.md section 2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmdiff.errors import LLMDiffError
from llmdiff.language.config import ExtractionConfig

LEARNED = ("llmdiff", "weighted", "signed", "attention")
"""Extractions that learn the weights of the blocks, ``llmdiff`` unless its g is fixed."""

RAW_H_START = -14.0
"""softplus(-14) = 8e-7 per block: over 30 blocks the noise has a standard deviation of 0.007, little even beside an
embedding that is not normalised (0.11 in SmolLM2), which is all that a prompt's first token has."""


class TextEncoding(nn.Module):
    """From the terms of all blocks to the encoding c, for every extraction (docs/method.md section 2).

    Every extraction is ``LayerNorm(start + Σ_i w_i · stack_i)`` over T terms; they differ in what the terms are (see
    `llmdiff.language.extraction`) and in the weights w: learned (``llmdiff``: g; ``weighted``: a softmax of ``logits``;
    ``signed``: ``mix``), learned and of each token its own (``attention``: a softmax over i of ``query · stack_i / √D +
    logits_i``) or fixed (the others). Blocks are counted as they run: w_0 belongs to the first one, which the paper
    calls T.

    The T noises of a Langevin walk are independent and only their sum is used, so one is drawn with the variance of
    the sum: ``sqrt(2 Σ_t h_t) · ε``.

    Letters in shapes: B batch, S tokens, D LLM width, T blocks, G terms that are left of those of T blocks.

    Parameters:
        g: (T,), 1 at the start (``llmdiff``).
        raw_h: (T,), with h = softplus(raw_h) (``llmdiff`` with noise).
        logits: (T,), 0 at the start (``weighted``, ``attention``).
        mix: (T,), 1 at the start, where the encoding is that of ``norm-mean`` (``signed``).
        query: (D,), 0 at the start (``attention``).
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
        if not is_learned(config):
            self.register_buffer("fixed", fixed_weights(config, block_count), persistent=False)
        elif config.extraction == "llmdiff":
            self.g = nn.Parameter(torch.ones(block_count))
        elif config.extraction == "signed":
            self.mix = nn.Parameter(torch.ones(block_count))
        else:
            self.logits = nn.Parameter(torch.zeros(block_count))
        if config.extraction == "attention":
            self.query = nn.Parameter(torch.zeros(width))
        if config.extraction == "llmdiff" and config.noise:
            self.raw_h = nn.Parameter(torch.full((block_count,), RAW_H_START))

    @property
    def noisy(self) -> bool:
        """True if the extraction adds noise in training."""
        return hasattr(self, "raw_h")

    @property
    def attends(self) -> bool:
        """True if each token has weights of its own, for which all of its terms are needed at once."""
        return self.config.extraction == "attention"

    def weights(self) -> Tensor:
        """Returns the weight of each block's term, in the order in which the blocks run: (T,).

        Raises:
            LLMDiffError: if they are not the same for all tokens.
        """
        if self.attends:
            raise LLMDiffError("The extraction attention has no one weight for each block: every token has its own.")
        if not is_learned(self.config):
            return self.get_buffer("fixed")
        if self.config.extraction == "weighted":
            return self.logits.softmax(0)
        return self.g if self.config.extraction == "llmdiff" else self.mix

    def weights_of(self, count: int) -> Tensor:
        """Returns the weights (G,) of G terms that `condense` leaves: of a group of blocks, the mean of theirs.

        Blocks in a group start with equal weights and get equal gradients, so in training their weights stay equal.
        """
        weights = self.weights()
        if count == len(weights):
            return weights
        if not is_learned(self.config):
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
        return self.finish(self.total(start, stack), generator, noise).masked_fill(~mask.unsqueeze(-1), 0)

    def total(self, start: Tensor, stack: Tensor) -> Tensor:
        """Returns ``start + Σ_i w_i · stack_i``, (B, S, D), of start (B, S, D) and stack (T or G, B, S, D)."""
        if self.attends:
            stack = stack.to(self.query.dtype)
            scores = torch.einsum("tbsd,d->tbs", stack, self.query) * stack.shape[-1] ** -0.5
            weights = (scores + self.logits[:, None, None]).softmax(0)
            return start.to(stack.dtype) + torch.einsum("tbs,tbsd->bsd", weights, stack)
        weights = self.weights_of(len(stack))
        return start.to(weights.dtype) + _weighted_sum(weights, stack.to(weights.dtype))

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


def is_learned(config: ExtractionConfig) -> bool:
    """Returns whether an extraction learns the weights of the blocks."""
    return config.extraction in LEARNED and not (config.extraction == "llmdiff" and config.fixed_g)


def fixed_weights(config: ExtractionConfig, block_count: int) -> Tensor:
    """Returns the weights (T,) of an extraction that learns none.

    Raises:
        LLMDiffError: if it takes a block that the LLM does not have.
    """
    if config.extraction == "llmdiff":
        return torch.ones(block_count)
    if config.extraction in ("mean", "norm-mean"):
        return torch.full((block_count,), 1 / block_count)
    number = block_number(config.extraction, block_count)
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
        groups: of neighbouring blocks that share a weight; None if every block has its own, as those of ``attention``
            always have.

    Example:
        >>> [term_count(ExtractionConfig(extraction=name), block_count=30) for name in ("llmdiff", "last")]
        [30, 1]
    """
    if not is_learned(config):
        return 1
    return block_count if groups is None or config.extraction == "attention" else min(groups, block_count)


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
    if not is_learned(config):
        weights = fixed_weights(config, len(stack)).to(stack)
        return torch.einsum("t,t...->...", weights, stack).unsqueeze(0)
    if count == len(stack):
        return stack
    group = group_of_block(len(stack), count).to(stack.device)
    return stack.new_zeros(count, *stack.shape[1:]).index_add(0, group, stack)


def group_of_block(block_count: int, count: int) -> Tensor:
    """Returns the group that each block is in, of `count` groups of neighbours that are as equal as can be: (T,)."""
    return torch.arange(block_count) * count // block_count
