"""The unconditional (context-free) output of a block, which is given each token and nothing else.

docs/method.md section 1 subtracts it from the conditional output, that of the whole sequence.

Letters in shapes: B batch, S tokens, D LLM width, N the tokens that have scores, over all prompts.
"""

import functools
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llmdiff.errors import LLMDiffError
from llmdiff.language.transformers_internals import (
    ATTENTION_MASK,
    SEQUENCE_BOUND,
    UNKNOWN_BIAS,
    hidden_states,
    is_context,
)


@dataclass(frozen=True)
class BlockCall:
    """One block's call in a forward pass: its arguments and its conditional output.

    Attributes:
        block: the block.
        args: those of the call.
        kwargs: those of the call.
        output: (B, S, D), the hidden states that it returned.
        beside: (B, S, D), its unconditional output, if that was made beside it (see `llmdiff.language.paired`).
    """

    block: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor
    beside: Tensor | None = None

    @functools.cached_property
    def arguments(self) -> inspect.BoundArguments:
        """Those of the call, by the names of the block's parameters."""
        return inspect.signature(self.block.forward).bind(*self.args, **self.kwargs)

    @property
    def input(self) -> Tensor:
        """The hidden states (B, S, D) that the block was given.

        Raises:
            LLMDiffError: if they are not one vector per token.
        """
        hidden = self.args[0] if self.args else next(iter(self.arguments.arguments.values()))
        if not isinstance(hidden, Tensor) or hidden.dim() != 3:
            raise LLMDiffError(
                f"{type(self.block).__name__} does not pass one vector per token from block to block; "
                "choose a language model with a single residual stream."
            )
        return hidden

    def unconditional(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Returns the block's output for single tokens, each given to the block without any other.

        Args:
            rows: (N,) the prompt of each token.
            columns: (N,) its position in the prompt, which it keeps.

        Returns:
            (N, D).

        Raises:
            LLMDiffError: if the block's position biases cannot be taken apart.
        """
        if self.arguments.arguments.get(UNKNOWN_BIAS) is not None:
            raise LLMDiffError(
                f"{type(self.block).__name__} adds position biases of its own kind to its attention, "
                "which the llmdiff extraction cannot take apart; choose another language model or extraction."
            )
        rows, columns = rows.to(self.input.device), columns.to(self.input.device)
        if any(self.arguments.arguments.get(name) is not None for name in SEQUENCE_BOUND):
            return self._masked()[rows, columns]
        return self._folded(rows, columns)[:, 0]

    def _folded(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The tokens as a batch of one-token sequences: (N, 1, D). Right for recurrent blocks too."""
        batch, length = self.input.shape[:2]

        def fold(name: str, value: Any) -> Any:
            return None if is_context(name, value) else fold_tokens(value, batch, length, rows, columns)

        return self._run(fold)

    def _masked(self) -> Tensor:
        """The whole sequence under a diagonal mask: (B, S, D). Right for attention of any kind."""
        length, dtype = self.input.shape[1], self.input.dtype
        mask = torch.full((length, length), torch.finfo(dtype).min, dtype=dtype, device=self.input.device)
        diagonal = mask.fill_diagonal_(0).expand(self.input.shape[0], 1, length, length)
        return self._run(lambda name, value: diagonal if name == ATTENTION_MASK else value)

    def _run(self, change: Any) -> Tensor:
        """Calls the block again with every argument changed, past its hooks."""
        signature = self.arguments.signature
        changed = inspect.BoundArguments(signature, self.arguments.arguments.copy())
        for name, value in self.arguments.arguments.items():
            if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                changed.arguments[name] = {key: change(key, inner) for key, inner in value.items()}
            else:
                changed.arguments[name] = change(name, value)
        return hidden_states(self.block.forward(*changed.args, **changed.kwargs))


def fold_tokens(value: Any, batch: int, length: int, rows: Tensor, columns: Tensor) -> Any:
    """Returns an argument of a block for N one-token sequences instead of a batch of B sequences of S tokens.

    A tensor with neighbouring dimensions (B or 1, S) gets (N, 1) in their place, one of shape (S,) keeps its first
    entry, and anything without a sequence dimension stays as it is. Containers are folded item by item.

    Args:
        value: the argument.
        batch: B.
        length: S.
        rows: (N,) the prompt of each token.
        columns: (N,) the position of each token.
    """
    if isinstance(value, dict):
        return {key: fold_tokens(inner, batch, length, rows, columns) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(fold_tokens(inner, batch, length, rows, columns) for inner in value)
    if not isinstance(value, Tensor):
        return value
    if value.shape == (length,):
        return value[:1]
    for first in range(value.dim() - 1):
        if value.shape[first] in (1, batch) and value.shape[first + 1] == length:
            tokens = value.movedim((first, first + 1), (0, 1))
            chosen = tokens[rows if tokens.shape[0] == batch else torch.zeros_like(rows), columns]
            return chosen.unsqueeze(1).movedim((0, 1), (first, first + 1))
    return value
