"""Hidden-state extraction: the terms of an LLM's blocks, from one forward pass (docs/method.md section 1).

Every extraction is a weighted sum of one term per block. The term is the context score for ``llmdiff`` and the block's
output for the others, whose last term is the output of the final norm for ``last`` and each of whose terms is
normalised for ``norm-mean``, ``signed`` and ``attention``. Terms are numbered as the blocks run: term 0 belongs to the
block that the paper calls T.

Letters in shapes: B batch, S tokens, D LLM width, T blocks.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from llmdiff.errors import LLMDiffError
from llmdiff.language.config import ExtractionConfig
from llmdiff.language.encoding import Tokens
from llmdiff.language.model import LanguageModel
from llmdiff.language.paired import Pairs
from llmdiff.language.prefix import prefix_cache
from llmdiff.language.terms import Scores, Stack, States, Sum, Taken, Terms, subtracts, unit_rms, without_prefix
from llmdiff.language.transformers_internals import cache_options, hidden_states, with_hidden_states
from llmdiff.language.unconditional import BlockCall

_AT_ONCE = 512
"""Rows of hidden states in a pass on a processor, two for each token of a pair: more leave its caches, and take a fifth
longer."""

_ONE_PASS = threading.RLock()
"""One pass at a time, of those in which hooks hang on an LLM's blocks and on what transformers dispatches."""


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
    parts = [_extract(llm, part, config, Stack) for part in _parts(llm, tokens, config)]
    starts, stacks = zip(*((start, taken.stack().to(start.device)) for start, taken in parts), strict=True)
    return tokens.later(torch.cat(starts)), tokens.later(torch.cat(stacks, 1))


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
    parts = [_extract(llm, part, config, lambda: Sum(factors)) for part in _parts(llm, tokens, config)]
    sums = [start if taken.total is None else start + taken.total.to(start.device) for start, taken in parts]
    return tokens.later(torch.cat(sums))


def _parts(llm: LanguageModel, tokens: Tokens, config: ExtractionConfig) -> Iterator[Tokens]:
    """The prompts that are run at once, on the LLM's device: as many as a processor's caches can hold, or all.

    Both copies of a doubled prompt count as the prompt here.
    """
    device = llm.device  # once: an LLM looks for it in all its parts, which takes longer than some blocks
    tokens = replace(tokens, ids=tokens.ids.to(device), mask=tokens.mask.to(device), again=None)
    count, length = tokens.ids.shape
    states = 2 * length if subtracts(config) else length
    rows = max(1, _AT_ONCE // states) if device.type == "cpu" else count
    for begin in range(0, count, rows):
        yield replace(tokens, ids=tokens.ids[begin : begin + rows], mask=tokens.mask[begin : begin + rows])


T = TypeVar("T", bound=Taken)


@torch.no_grad()
def _extract(llm: LanguageModel, tokens: Tokens, config: ExtractionConfig, make: Callable[[], T]) -> tuple[Tensor, T]:
    """Runs one forward pass that hands every block's term to what ``make`` makes, and returns the start with that.

    Blocks return pairs if they can, which the first pass tries on one token of each.
    """
    llm.check_extraction(config)
    with _ONE_PASS:
        single = len(tokens.ids) == 1
        known = llm.paired.get(single) if subtracts(config) else False
        if known is not False:
            try:
                return _run(llm, tokens, config, make(), Pairs(None if known else tokens))
            except (LLMDiffError, torch.OutOfMemoryError):
                raise
            except Exception:  # whatever a block makes of a pair that it was not written for
                if known:
                    raise
        result = _run(llm, tokens, config, make(), None)
        if subtracts(config):
            llm.paired[single] = False  # only now: what was wrong with the prompt itself would be so here too
        return result


def _run(
    llm: LanguageModel, tokens: Tokens, config: ExtractionConfig, taken: T, pairs: Pairs | None
) -> tuple[Tensor, T]:
    """One pass. Where the keys and values of the template's prefix are known, only what follows it is run."""
    model, blocks = llm.model, llm.blocks
    cache = prefix_cache(llm, tokens.ids, tokens.skip)
    skip = tokens.skip if cache is None else 0
    begin = tokens.skip - skip
    rest = Tokens(tokens.ids[:, begin:], tokens.mask[:, begin:], skip)
    extraction = _Extraction(llm, rest, config, taken, continued=begin > 0, pairs=pairs)
    with pairs.watching() if pairs else nullcontext(), _hooked(blocks, extraction):
        try:
            options = cache_options(model, cache)
            states = model(input_ids=rest.ids, attention_mask=tokens.mask.long(), **options)[0]
        except _EnoughError as enough:
            states = enough.states
        else:
            extraction.finish(states)
    if isinstance(extraction.terms, Scores):
        taken.clear(extraction.terms.outside)
    _check_finite(llm, states, rest)
    if pairs and pairs.proven:
        llm.paired[len(tokens.ids) == 1] = True
    return extraction.start, taken


class _EnoughError(Exception):
    """No term of a later block is needed."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


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
        taken: Taken,
        continued: bool,
        pairs: Pairs | None,
    ) -> None:
        self.tokens, self.taken, self.pairs = tokens, taken, pairs
        self.llmdiff = config.extraction == "llmdiff"
        self.embedded = self.llmdiff and config.start == "embedding"
        self.normalised = config.normalise == "rms"
        self.final = llm.block_count - 1 if config.extraction == "last" else None
        self.needed = [taken.needs(index) for index in range(llm.block_count)]
        if config.score == "difference":  # each is of a block and of the one before it
            self.needed = [one or after for one, after in pairwise([*self.needed, False])]
        self.last = max((index for index, needed in enumerate(self.needed) if needed), default=0)
        self.terms: Terms = Scores(tokens, config, continued) if self.llmdiff else States(tokens, config)
        self.start = torch.zeros(*tokens.kept.shape, llm.width, device=tokens.ids.device)

    def block(self, index: int, call: BlockCall) -> None:
        """Takes the term of a block that has just run; the first one's input is the token embedding."""
        if index == 0 and self.embedded:
            embedding = without_prefix(call.input, self.tokens)
            self.start = unit_rms(embedding) if self.normalised else embedding
        if self.needed[index] and index != self.final:
            self.taken.take(index, self.terms(call))
        if index == self.last and self.final is None and index + 1 < len(self.needed):
            raise _EnoughError(call.output)

    @property
    def seen(self) -> list[int]:
        """The blocks whose calls it must see: all if they return pairs, none for the output of the final norm."""
        every = range(len(self.needed))
        return [i for i in every if self.llmdiff or (i != self.final and (self.needed[i] or i == self.last))]

    def finish(self, final: Tensor) -> None:
        """Takes the output (B, S, D) of the final norm as the last term, where the extraction asks for it."""
        if self.final is not None:
            self.taken.take(self.final, without_prefix(final, self.tokens))


class _Hook:
    """A forward hook of one block, which returns what the block returns when nobody looks."""

    def __init__(self, extraction: _Extraction, index: int) -> None:
        self.extraction = extraction
        self.index = index
        self.thread = threading.get_ident()

    def __call__(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if threading.get_ident() != self.thread:  # of someone else who runs the LLM
            return None
        pairs, states = self.extraction.pairs, hidden_states(output)
        if pairs is None:
            self.extraction.block(self.index, BlockCall(block, args, kwargs, states))
            return None
        conditional, beside = pairs.take(states)
        call = BlockCall(block, args, kwargs, conditional, beside)
        with pairs.paused():
            pairs.check(call)
            self.extraction.block(self.index, call)
        return with_hidden_states(output, conditional)


@contextmanager
def _hooked(blocks: nn.ModuleList, extraction: _Extraction) -> Iterator[None]:
    """Within this context the extraction sees the calls of the blocks that it needs."""
    handles = [blocks[i].register_forward_hook(_Hook(extraction, i), with_kwargs=True) for i in extraction.seen]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
