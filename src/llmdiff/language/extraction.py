"""Hidden-state extraction: the terms of an LLM's blocks, from one forward pass (docs/method.md section 1).

Every extraction is a weighted sum of one term per block. The term is the context score for ``llmdiff`` and the block's
output for the others, whose last term is the output of the final norm for ``last`` and each of whose terms is
normalised for ``norm-mean``, ``signed`` and ``attention``. Terms are numbered as the blocks run: term 0 belongs to the
block that the paper calls T.

Letters in shapes: B batch, S tokens, D LLM width, T blocks, N the tokens that have scores, over all prompts.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmdiff.errors import LLMDiffError
from llmdiff.language.config import ExtractionConfig
from llmdiff.language.encoding import Tokens
from llmdiff.language.model import LanguageModel
from llmdiff.language.paired import Pairs
from llmdiff.language.prefix import prefix_cache
from llmdiff.language.transformers_internals import cache_options, hidden_states, with_hidden_states
from llmdiff.language.unconditional import BlockCall

EPSILON = 1e-6
"""Added to a root mean square before the division by it, so that a vector of 0 stays 0."""

NORMED = ("norm-mean", "signed", "attention")
"""Extractions whose terms are the LayerNorms of the blocks' outputs."""

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
    parts = [_extract(llm, part, config, _Stack) for part in _parts(llm, tokens, config)]
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
    parts = [_extract(llm, part, config, lambda: _Sum(factors)) for part in _parts(llm, tokens, config)]
    sums = [start if taken.total is None else start + taken.total.to(start.device) for start, taken in parts]
    return tokens.later(torch.cat(sums))


def _parts(llm: LanguageModel, tokens: Tokens, config: ExtractionConfig) -> Iterator[Tokens]:
    """The prompts that are run at once, on the LLM's device: as many as a processor's caches can hold, or all.

    Both copies of a doubled prompt count as the prompt here.
    """
    device = llm.device  # once: an LLM looks for it in all its parts, which takes longer than some blocks
    tokens = replace(tokens, ids=tokens.ids.to(device), mask=tokens.mask.to(device), again=None)
    count, length = tokens.ids.shape
    states = 2 * length if _subtracts(config) else length
    rows = max(1, _AT_ONCE // states) if device.type == "cpu" else count
    for begin in range(0, count, rows):
        yield replace(tokens, ids=tokens.ids[begin : begin + rows], mask=tokens.mask[begin : begin + rows])


def _subtracts(config: ExtractionConfig) -> bool:
    """Whether blocks are asked for their unconditional outputs too."""
    return config.extraction == "llmdiff" and config.score != "conditional"


class Taken(Protocol):
    """What becomes of the terms (B, S - skip, D), which come one after the other."""

    def needs(self, index: int) -> bool:
        """Whether a term is to be computed."""
        ...

    def take(self, index: int, term: Tensor) -> None:
        """Called with each term that is needed, or more."""
        ...

    def clear(self, outside: Tensor) -> None:
        """Sets to 0 what is no term of a token, where ``outside`` (B, S - skip, 1) is True."""
        ...


T = TypeVar("T", bound=Taken)


class _Stack:
    """All terms."""

    def __init__(self) -> None:
        self.terms: list[Tensor] = []

    def needs(self, index: int) -> bool:
        return True

    def take(self, index: int, term: Tensor) -> None:
        self.terms.append(term)

    def stack(self) -> Tensor:
        """All of them, (T, B, S - skip, D)."""
        return torch.stack([term.to(self.terms[0].device) for term in self.terms])

    def clear(self, outside: Tensor) -> None:
        for term in self.terms:
            term.masked_fill_(outside.to(term.device), 0)


class _Sum:
    """The sum of the terms times factors; those with a factor of 0 are not needed."""

    def __init__(self, factors: list[float]) -> None:
        self.factors = factors
        self.total: Tensor | None = None

    def needs(self, index: int) -> bool:
        return self.factors[index] != 0

    def take(self, index: int, term: Tensor) -> None:
        if not self.needs(index):
            return
        if self.total is None:
            self.total = term * self.factors[index]
        else:
            self.total.add_(term.to(self.total.device), alpha=self.factors[index])

    def clear(self, outside: Tensor) -> None:
        if self.total is not None:
            self.total.masked_fill_(outside.to(self.total.device), 0)


class Terms(Protocol):
    """Turns the calls of the blocks, one after the other, into their terms (B, S - skip, D)."""

    def __call__(self, call: BlockCall) -> Tensor: ...


class Scores:
    """The context scores s_t (docs/method.md section 1), differenced and normalised as the config says.

    Those of padding, and that of the first token of each sequence, which is 0 by definition, are to be cleared; without
    the unconditional term, ``score="conditional"``, that of the first token is an update like any other.
    With ``score="difference"`` the first block, which has no neighbour before it, keeps its ``residual`` score
    **[choice]**: so the T differences still determine the T scores.
    """

    def __init__(self, tokens: Tokens, config: ExtractionConfig, continued: bool) -> None:
        self.config = config
        self.skip = tokens.skip
        self._scored = tokens.mask.clone()
        first = 1 if _subtracts(config) and not continued else 0
        self._scored[:, : max(first, tokens.skip)] = False
        self.outside = ~self._scored[:, tokens.skip :, None]
        self.before: Tensor | None = None

    def __call__(self, call: BlockCall) -> Tensor:
        return self._normalise(self._differ(self._context_score(call)))

    def _context_score(self, call: BlockCall) -> Tensor:
        """conditional - unconditional, in which the block's input cancels, or the update alone: (B, S - skip, D)."""
        conditional = call.output[:, self.skip :]
        if not _subtracts(self.config):
            return _subtract(conditional, call.input[:, self.skip :])
        if call.beside is None:
            score = conditional.new_zeros(conditional.shape, dtype=torch.float32)
            rows, columns = self._places
            if len(rows):
                unconditional = call.unconditional(rows, columns)
                score[rows, columns - self.skip] = _subtract(call.output[rows, columns], unconditional)
            return score
        return _subtract(conditional, call.beside[:, self.skip :])

    @functools.cached_property
    def _places(self) -> tuple[Tensor, ...]:
        """Row and column of each token that has scores, for which a GPU has to be waited for: the fold's alone."""
        return self._scored.nonzero(as_tuple=True)

    def _differ(self, score: Tensor) -> Tensor:
        """s'_t = s_{t+1} - s_t, where t+1 is the block that ran before block t."""
        if self.config.score != "difference":
            return score
        before, self.before = self.before, score
        return score if before is None else before.to(score.device) - score

    def _normalise(self, score: Tensor) -> Tensor:
        return score if self.config.normalise == "none" else unit_rms(score)


def _subtract(conditional: Tensor, unconditional: Tensor) -> Tensor:
    """Their difference in float32, taken in no less."""
    precise = torch.promote_types(conditional.dtype, torch.float32)
    return (conditional.to(precise) - unconditional.to(precise)).float()


def unit_rms(x: Tensor) -> Tensor:
    """Vectors (..., D) scaled to a root mean square of 1; 0 stays 0."""
    return x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) / x.shape[-1] ** 0.5 + EPSILON)


class States:
    """The blocks' outputs, each LayerNormed without affine parameters for those of `NORMED`."""

    def __init__(self, tokens: Tokens, config: ExtractionConfig) -> None:
        self.tokens = tokens
        self.normed = config.extraction in NORMED

    def __call__(self, call: BlockCall) -> Tensor:
        return self.keep(call.output)

    def keep(self, states: Tensor) -> Tensor:
        """Hidden states (B, S, D) without the template's prefix, in float32 and 0 at padding."""
        kept = _kept(states, self.tokens)
        return F.layer_norm(kept, kept.shape[-1:]).masked_fill(_padding(self.tokens, kept), 0) if self.normed else kept


@torch.no_grad()
def _extract(llm: LanguageModel, tokens: Tokens, config: ExtractionConfig, make: Callable[[], T]) -> tuple[Tensor, T]:
    """Runs one forward pass that hands every block's term to what ``make`` makes, and returns the start with that.

    Blocks return pairs if they can, which the first pass tries on one token of each.
    """
    llm.check_extraction(config)
    with _ONE_PASS:
        single = len(tokens.ids) == 1
        known = llm.paired.get(single) if _subtracts(config) else False
        if known is not False:
            try:
                return _run(llm, tokens, config, make(), Pairs(None if known else tokens))
            except (LLMDiffError, torch.OutOfMemoryError):
                raise
            except Exception:  # whatever a block makes of a pair that it was not written for
                if known:
                    raise
        result = _run(llm, tokens, config, make(), None)
        if _subtracts(config):
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
            embedding = _kept(call.input, self.tokens)
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
            self.taken.take(self.final, _kept(final, self.tokens))


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


def _padding(tokens: Tokens, like: Tensor) -> Tensor:
    """True at padding: (B, S - skip, 1)."""
    return ~tokens.kept.unsqueeze(-1).to(like.device)


def _kept(states: Tensor, tokens: Tokens) -> Tensor:
    """Hidden states (B, S, D) without the template's prefix: (B, S - skip, D) in float32, 0 at padding."""
    kept = states[:, tokens.skip :].float()
    return kept.masked_fill(_padding(tokens, kept), 0)
