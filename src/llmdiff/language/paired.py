"""Both outputs of a block in one call: the conditional one, and the unconditional one beside it.

A token that sees itself alone attends with a weight of 1 to its own value, which the conditional call has made
already. So its attention costs nothing: it is put beside the conditional one before the attention's output projection,
and what follows runs on both at once, while the residual, which they share, is added to each by broadcasting. Neither
queries and keys nor launches are spent on the unconditional output (docs/method.md section 1).

Letters in shapes: B batch, S tokens, P tokens of a prefix, D LLM width, H heads, K heads of keys and values, d width of
a head's values. A pair is (2, B, S, D), or (2, S, D) of a single prompt, which experts of mixtures can read.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from llmdiff.language.encoding import Tokens
from llmdiff.language.transformers_internals import Attended, attention_watched
from llmdiff.language.unconditional import BlockCall

_CLOSE = 0.05
"""How far a pair may be from the block that is called with one token, as a share of what the block adds to it."""


class NotPairedError(Exception):
    """A block does something to the attention of its tokens that a pair does not follow."""


class Pairs:
    """What the attention layers of one pass leave for their output projections.

    Args:
        tried: the tokens (B, S) on the last of which they are to be tried; None if they are known to be right.

    Attributes:
        proven: whether some block has been tried, and all that have were right.
    """

    def __init__(self, tried: Tokens | None) -> None:
        self.proven = False
        self._tried = None if tried is None else _last_token(tried)
        self._attended: Attended | None = None
        self._paused = False
        self._made = False
        self._handles: dict[nn.Module, list[RemovableHandle]] = {}
        self._thread = threading.get_ident()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within this context the blocks return pairs, as far as transformers dispatches their attention."""
        try:
            with attention_watched(self._see):
                yield
        finally:
            for handles in self._handles.values():
                for handle in handles:
                    handle.remove()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within this context blocks return what they always do."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def take(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The conditional output (B, S, D) in what a block has just returned, and the unconditional one if it is there.

        Raises:
            NotPairedError: if the block has seen a pair and not returned one.
        """
        made, self._made, self._attended = self._made, False, None
        if not made:
            return output, None
        if output.dim() == 4 and len(output) == 2:
            return output[0], output[1]
        if output.dim() == 3 and len(output) == 2:
            return output[:1], output[1:]
        raise NotPairedError

    def check(self, call: BlockCall) -> None:
        """Holds a pair, if it is to be tried, to the block called with a single token, which is always right.

        Raises:
            NotPairedError: if they differ.
        """
        if self._tried is None or call.beside is None:
            return
        row, column = self._tried
        expected = call.unconditional(torch.tensor([row]), torch.tensor([column % call.input.shape[1]]))[0].float()
        added = (expected - call.input[row, column].float()).norm()
        rounding = 4 * torch.finfo(call.beside.dtype).eps * expected.norm()
        if (expected - call.beside[row, column].float()).norm() > _CLOSE * added + rounding:
            raise NotPairedError
        self.proven = True

    def _see(self, attended: Attended) -> None:
        if self._paused or attended.sinks:
            return
        self._attended = attended
        if attended.module not in self._handles:
            children = attended.module.children()
            self._handles[attended.module] = [child.register_forward_pre_hook(self._pair) for child in children]

    def _pair(self, module: nn.Module, args: tuple[object, ...]) -> tuple[object, ...] | None:
        """Before the first layer that is given the attention (B, S, H · d): the pair of both attentions."""
        attended = self._attended if threading.get_ident() == self._thread else None
        if attended is None or not args or not isinstance(args[0], Tensor):
            return None
        if args[0].shape != attended.shape:
            return None
        self._attended, self._made = None, True
        return attended.pair(args[0]), *args[1:]


def _last_token(tokens: Tokens) -> tuple[int, int] | None:
    """The row of the longest prompt and, from its end, the place of its last token; None if that sees no other."""
    lengths = tokens.mask.sum(1)
    row = int(lengths.argmax())
    length = int(lengths[row])
    return (row, length - 1 - tokens.mask.shape[1]) if length > 1 else None
