"""A small reader of an LLM's states, which says what thing a caption is of.

Letters in shapes: N captions, B of a batch, S tokens, D width of four blocks' states beside each other, C things.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from llmdiff.language import ExtractionConfig, LanguageModel, extract_stack, tokenize

_BLOCKS = 4  # whose states are read, evenly spaced, the last one among them
_AT_ONCE = 16
_WIDTH = 96


@dataclass(frozen=True)
class States:
    """States of captions, in half precision: of each (S, D)."""

    rows: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> "States":
        return States(self.rows[part])

    @property
    def width(self) -> int:
        return self.rows[0].shape[1]

    def batch(self, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
        """Some of them, padded: float (B, S, D), and where there is padding: bool (B, S)."""
        some = [self.rows[int(i)].float() for i in chosen]
        lengths = torch.tensor([len(row) for row in some])
        states = pad_sequence(some, batch_first=True)
        return states, torch.arange(states.shape[1]) >= lengths[:, None]


@torch.no_grad()
def states_of(llm: str, texts: Sequence[str]) -> States:
    """Normalised outputs of four blocks of an LLM, for each token of each text."""
    model = LanguageModel.load(llm)
    config = ExtractionConfig(extraction="norm-mean")
    blocks = [model.block_count * (i + 1) // _BLOCKS - 1 for i in range(_BLOCKS)]
    by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    rows: dict[int, Tensor] = {}
    for first in range(0, len(texts), _AT_ONCE):
        some = by_length[first : first + _AT_ONCE]
        tokens = tokenize(model, [texts[i] for i in some], config)
        _, stack = extract_stack(model, tokens, config)
        beside = stack[blocks].permute(1, 2, 0, 3).flatten(2).half()
        rows |= {i: row[mask].clone() for i, row, mask in zip(some, beside, tokens.kept.bool(), strict=True)}
    return States(tuple(rows[i] for i in range(len(texts))))


class ThingReader(nn.Module):
    """Attention of one learned query per head over the tokens, then a linear map to the things.

    Args:
        width: D.
        things: C.
    """

    def __init__(self, width: int, things: int, heads: int = 4) -> None:
        super().__init__()
        self.narrow = nn.Linear(width, _WIDTH)
        self.queries = nn.Linear(_WIDTH, heads)
        self.drop = nn.Dropout(0.1)
        self.thing = nn.Linear(heads * _WIDTH, things)

    def forward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """States (B, S, D) and padding (B, S) to logits (B, C)."""
        states, padding = batch
        narrow = self.narrow(self.drop(states))
        weights = self.queries(narrow).masked_fill(padding[..., None], -torch.inf).softmax(1)  # (B, S, heads)
        logits: Tensor = self.thing(torch.einsum("bsh,bsw->bhw", weights, narrow).flatten(1))
        return logits
