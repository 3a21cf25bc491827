"""Hidden-state extraction: the terms of an LLM's blocks, from one forward pass (docs/method.md section 1).

Every extraction is a weighted sum of one term per block. The term is the context score for ``llmdiff`` and the
block's output for the others, whose last term is the output of the final norm for ``last`` and each of whose terms is
normalised for ``norm-mean``. Terms are numbered as the blocks run: term 0 belongs to the block that the paper calls T.

Letters in shapes: B batch, S tokens, D LLM width, T blocks, N the tokens that have scores, over all prompts.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmdiff.errors import LLMDiffError
from llmdiff.language.config import ExtractionConfig
from llmdiff.language.encoding import Tokens
from llmdiff.language.model import LanguageModel
from llmdiff.language.prefix import prefix_cache
from llmdiff.language.transformers_internals import cache_options
from llmdiff.language.unconditional import BlockCall

Take = Callable[[int, Tensor], None]  # called with the number of a block and its term

EPSILON = 1e-6
"""Added to a root mean square before the division by it, so that a vector of 0 stays 0."""

_ONE_PASS = threading.RLock()
"""One pass at a time: hooks see the blocks' calls of every thread."""


def extract_stack(llm: LanguageModel, tokens: Tokens, config: ExtractionConfig) -> tuple[Tensor, Tensor]:
    """Returns the start and all terms, from which g can be trained without running the LLM again.

    Args:
        llm: the LLM.
        tokens: (B, S), of which the template's first ``skip`` are cut off.
        config: the extraction.

    Returns:
        start (B, S - skip, D) and stack (T, B, S - skip, D), float32, exact zeros at padding, without gradients.

    Raises:
        LLMDiffError: if the LLM does not have the extraction, or its numbers are not finite.

    Example:
        >>> tokens = tokenize(llm, ["a red cup"], config)
        >>> start, stack = extract_stack(llm, tokens, config)
        >>> stack.shape == (llm.block_count, *tokens.kept.shape, llm.width)
        True
    """
    terms: list[Tensor] = []
    start = _extract(llm, tokens, config, lambda index, term: terms.append(term))
    return start, torch.stack([term.to(start.device) for term in terms])


def extract_sum(llm: LanguageModel, tokens: Tokens, config: ExtractionConfig, weights: Tensor) -> Tensor:
    """Returns ``c^T + Σ_i w_i · term_i`` in the memory of one term, as in docs/method.md section 2 without noise.

    Args:
        llm: the LLM.
        tokens: (B, S), of which the template's first ``skip`` are cut off.
        config: the extraction.
        weights: (T,), see `TextEncoding.weights`.

    Returns:
        (B, S - skip, D), float32, exact zeros at padding, without gradients.

    Raises:
        LLMDiffError: if the LLM does not have the extraction, or its numbers are not finite.

    Example:
        >>> tokens = tokenize(llm, ["a red cup"], config)
        >>> extract_sum(llm, tokens, config, torch.ones(llm.block_count)).shape == (*tokens.kept.shape, llm.width)
        True
    """
    factors = weights.tolist()
    total = torch.zeros(*tokens.kept.shape, llm.width, device=llm.device)

    def add(index: int, term: Tensor) -> None:
        total.add_(term.to(total.device), alpha=factors[index])

    return total + _extract(llm, tokens, config, add)


class Terms(Protocol):
    """Turns the calls of the blocks, one after the other, into their terms (B, S - skip, D)."""

    def __call__(self, call: BlockCall) -> Tensor: ...


class Scores:
    """The context scores s_t (docs/method.md section 1), differenced and normalised as the config says.

    Only real tokens after the first of each sequence are computed: the first one's score is 0 by definition.
    With ``score="difference"`` the first block, which has no neighbour before it, keeps its ``residual`` score
    **[choice]**: so the T differences still determine the T scores.
    """

    def __init__(self, tokens: Tokens, config: ExtractionConfig, continued: bool) -> None:
        self.config = config
        self.shape = tokens.kept.shape
        self.skip = tokens.skip
        after_first = tokens.mask.clone()
        after_first[:, : max(0 if continued else 1, tokens.skip)] = False
        self.rows, self.columns = after_first.nonzero(as_tuple=True)
        self.before: Tensor | None = None

    def __call__(self, call: BlockCall) -> Tensor:
        scores = torch.zeros(*self.shape, call.input.shape[-1], device=call.input.device)
        if len(self.rows):
            scores[self.rows, self.columns - self.skip] = self._normalise(self._differ(self._context_score(call)))
        return scores

    def _context_score(self, call: BlockCall) -> Tensor:
        """conditional - unconditional, in which the block's input cancels: (N, D)."""
        conditional = call.output[self.rows, self.columns]
        unconditional = call.unconditional(self.rows, self.columns)
        precise = torch.promote_types(conditional.dtype, torch.float32)
        return (conditional.to(precise) - unconditional.to(precise)).float()

    def _differ(self, score: Tensor) -> Tensor:
        """s'_t = s_{t+1} - s_t, where t+1 is the block that ran before block t."""
        if self.config.score == "residual":
            return score
        before, self.before = self.before, score
        return score if before is None else before.to(score.device) - score

    def _normalise(self, score: Tensor) -> Tensor:
        return score if self.config.normalise == "none" else unit_rms(score)


def unit_rms(x: Tensor) -> Tensor:
    """Vectors (..., D) scaled to a root mean square of 1; 0 stays 0."""
    return x / (x.square().mean(-1, keepdim=True).sqrt() + EPSILON)


class States:
    """The blocks' outputs, each LayerNormed without affine parameters for ``norm-mean``."""

    def __init__(self, tokens: Tokens, config: ExtractionConfig) -> None:
        self.tokens = tokens
        self.normed = config.extraction == "norm-mean"

    def __call__(self, call: BlockCall) -> Tensor:
        return self.keep(call.output)

    def keep(self, states: Tensor) -> Tensor:
        """Hidden states (B, S, D) without the template's prefix, in float32 and 0 at padding."""
        kept = _kept(states, self.tokens)
        return F.layer_norm(kept, kept.shape[-1:]).masked_fill(_padding(self.tokens, kept), 0) if self.normed else kept


@torch.no_grad()
def _extract(llm: LanguageModel, tokens: Tokens, config: ExtractionConfig, take: Take) -> Tensor:
    """Runs one forward pass that hands every block's term to ``take``, and returns the start (B, S - skip, D).

    Where the keys and values of the template's prefix are known, only what follows it is run.
    """
    llm.check_extraction(config)
    model, blocks = llm.model, llm.blocks
    with _ONE_PASS:
        ids, mask = tokens.ids.to(llm.device), tokens.mask.to(llm.device)
        cache = prefix_cache(llm, ids, tokens.skip)
        skip = tokens.skip if cache is None else 0
        begin = tokens.skip - skip
        rest = Tokens(ids[:, begin:], mask[:, begin:], skip)
        extraction = _Extraction(llm, rest, config, take, continued=begin > 0)
        with _hooked(blocks, extraction):
            options = cache_options(model, cache)
            final = model(input_ids=ids[:, begin:], attention_mask=mask.long(), **options)[0]
        _check_finite(llm, final, rest)
        extraction.finish(final)
    return extraction.start


def _check_finite(llm: LanguageModel, states: Tensor, tokens: Tokens) -> None:
    """Raises LLMDiffError unless the last states (B, S, D) are finite: float16 does not hold those of Gemma 3, say."""
    bad = (~states.isfinite().all(-1) & tokens.mask.to(states.device).bool()).any(1)
    if bad.any():
        ids, kept = tokens.ids[bad.cpu()][0], tokens.kept[bad.cpu()][0]
        text = llm.tokenizer.decode(ids[tokens.skip :][kept.to(ids.device)])[:60]
        dtype = str(llm.dtype).removeprefix("torch.")
        remedy = "its weights are damaged" if llm.dtype == torch.float32 else "load it in bfloat16 or float32"
        raise LLMDiffError(f"Reading {text!r}, {llm.name} comes to numbers that are not finite in {dtype}: {remedy}.")


class _Extraction:
    """The state of one pass; ``continued`` where it goes on from the keys and values of a prefix."""

    def __init__(
        self,
        llm: LanguageModel,
        tokens: Tokens,
        config: ExtractionConfig,
        take: Take,
        continued: bool,
    ) -> None:
        self.tokens = tokens
        self.take = take
        self.llmdiff = config.extraction == "llmdiff"
        self.embedded = self.llmdiff and config.start == "embedding"
        self.normalised = config.normalise == "rms"
        self.final = llm.block_count - 1 if config.extraction == "last" else None
        self.terms: Terms = Scores(tokens, config, continued) if self.llmdiff else States(tokens, config)
        self.start = torch.zeros(*tokens.kept.shape, llm.width, device=llm.device)

    def block(self, index: int, call: BlockCall) -> None:
        """Takes the term of a block that has just run; the first one's input is the token embedding."""
        if index == 0 and self.embedded:
            embedding = _kept(call.input, self.tokens)
            self.start = unit_rms(embedding) if self.normalised else embedding
        if index != self.final:
            self.take(index, self.terms(call))

    def finish(self, final: Tensor) -> None:
        """Takes the output (B, S, D) of the final norm as the last term, where the extraction asks for it."""
        if self.final is not None:
            self.take(self.final, _kept(final, self.tokens))


class _Hook:
    """A forward hook of one block."""

    def __init__(self, extraction: _Extraction, index: int) -> None:
        self.extraction = extraction
        self.index = index

    def __call__(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        self.extraction.block(self.index, BlockCall.capture(block, args, kwargs, output))


@contextmanager
def _hooked(blocks: nn.ModuleList, extraction: _Extraction) -> Iterator[None]:
    """Within this context the extraction sees the calls of every block."""
    handles = [block.register_forward_hook(_Hook(extraction, i), with_kwargs=True) for i, block in enumerate(blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _padding(tokens: Tokens, like: Tensor) -> Tensor:
    """True at padding: (B, S - skip, 1)."""
    return ~tokens.kept.unsqueeze(-1).to(like.device)


def _kept(states: Tensor, tokens: Tokens) -> Tensor:
    """Hidden states (B, S, D) without the template's prefix: (B, S - skip, D) in float32, 0 at padding."""
    kept = states[:, tokens.skip :].float()
    return kept.masked_fill(_padding(tokens, kept), 0)
