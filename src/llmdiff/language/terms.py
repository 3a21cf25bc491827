"""The term of each block of an LLM, from its call (docs/method.md section 1), and what becomes of the terms.

Letters in shapes: B batch, S tokens, D LLM width, T blocks.
"""

import functools
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from llmdiff.language.config import ExtractionConfig
from llmdiff.language.encoding import Tokens
from llmdiff.language.unconditional import BlockCall

EPSILON = 1e-6
"""Added to a root mean square before the division by it, so that a vector of 0 stays 0."""

NORMED = ("norm-mean", "signed", "attention")
"""Extractions whose terms are the LayerNorms of the blocks' outputs."""


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
        first = 1 if subtracts(config) and not continued else 0
        self._scored[:, : max(first, tokens.skip)] = False
        self.outside = ~self._scored[:, tokens.skip :, None]
        self.before: Tensor | None = None

    def __call__(self, call: BlockCall) -> Tensor:
        return self._normalise(self._differ(self._context_score(call)))

    def _context_score(self, call: BlockCall) -> Tensor:
        """conditional - unconditional, in which the block's input cancels, or the update alone: (B, S - skip, D)."""
        conditional = call.output[:, self.skip :]
        if not subtracts(self.config):
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
    """The blocks' outputs (B, S, D) without the template's prefix, LayerNormed without parameters for `NORMED`."""

    def __init__(self, tokens: Tokens, config: ExtractionConfig) -> None:
        self.tokens = tokens
        self.normed = config.extraction in NORMED

    def __call__(self, call: BlockCall) -> Tensor:
        kept = without_prefix(call.output, self.tokens)
        return F.layer_norm(kept, kept.shape[-1:]).masked_fill(_padding(self.tokens, kept), 0) if self.normed else kept


def _padding(tokens: Tokens, like: Tensor) -> Tensor:
    """True at padding: (B, S - skip, 1)."""
    return ~tokens.kept.unsqueeze(-1).to(like.device)


def without_prefix(states: Tensor, tokens: Tokens) -> Tensor:
    """Hidden states (B, S, D) without the template's prefix: (B, S - skip, D) in float32, 0 at padding."""
    kept = states[:, tokens.skip :].float()
    return kept.masked_fill(_padding(tokens, kept), 0)


def subtracts(config: ExtractionConfig) -> bool:
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


class Stack:
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


class Sum:
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
