"""A small reader of an LLM's states, which says what thing a caption is of.

Letters in shapes: N captions, B of a batch, S tokens, D width of what is read of four blocks' states, C things.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from llmdiff.language import ExtractionConfig, LanguageModel, extract_stack, tokenize

By = Literal["names", "vectors"]
"""What a reader learns by; see `ThingReader`."""

_BLOCKS = 4  # whose states are read, evenly spaced, the last one among them
_READ = 384  # numbers of a token that a fixed random projection leaves of them: D
_AT_ONCE = 16
_WIDTH = 96
_TARGET = 64  # numbers of the vector by which a thing is known


@dataclass(frozen=True)
class States:
    """States of captions: of each (S, D)."""

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
        some = [self.rows[int(i)] for i in chosen]
        lengths = torch.tensor([len(row) for row in some])
        states = pad_sequence(some, batch_first=True)
        return states, torch.arange(states.shape[1]) >= lengths[:, None]


@torch.no_grad()
def states_of(llm: str, texts: Sequence[str]) -> States:
    """Normalised outputs of four blocks of an LLM, for each token of each text, as a random projection of them."""
    model = LanguageModel.load(llm)
    config = ExtractionConfig(extraction="norm-mean")
    blocks = [model.block_count * (i + 1) // _BLOCKS - 1 for i in range(_BLOCKS)]
    by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    rng = torch.Generator().manual_seed(0)
    projection = torch.randn(_BLOCKS * model.width, _READ, generator=rng) / (_BLOCKS * model.width) ** 0.5
    rows: dict[int, Tensor] = {}
    for first in range(0, len(texts), _AT_ONCE):
        some = by_length[first : first + _AT_ONCE]
        tokens = tokenize(model, [texts[i] for i in some], config)
        _, stack = extract_stack(model, tokens, config)
        beside = stack[blocks].permute(1, 2, 0, 3).flatten(2) @ projection
        rows |= {i: row[mask].clone() for i, row, mask in zip(some, beside, tokens.kept.bool(), strict=True)}
    mean, std = _moments(list(rows.values()))
    return States(tuple((rows[i] - mean) / std for i in range(len(texts))))


def _moments(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over all tokens: (D,) each."""
    together = torch.cat(list(rows))
    return together.mean(0), together.std(0)


class ThingReader(nn.Module):
    """Attention of a few learned queries over the tokens, then a linear map to a number for each thing.

    Args:
        things: C.
        by: what it learns by. "names" is cross-entropy: what is said is one of the things, and so none of the others.
            "vectors" is the squared distance from the arbitrary unit vector that a thing is known by, which is how an
            adapter learns what a text encoder that knows names alone would have said.
        heads: queries.
    """

    def __init__(self, things: int, by: By = "names", heads: int = 4) -> None:
        super().__init__()
        self.by = by
        self.narrow = nn.Linear(_READ, _WIDTH)
        self.queries = nn.Linear(_WIDTH, heads)
        self.said = nn.Linear(heads * _WIDTH, things if by == "names" else _TARGET)
        vectors = torch.randn(things, _TARGET, generator=torch.Generator().manual_seed(0))
        self.vectors = nn.Buffer(vectors / vectors.norm(dim=1, keepdim=True))

    def forward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """States (B, S, D) and padding (B, S) to logits (B, C), or to vectors (B, target)."""
        states, padding = batch
        narrow = self.narrow(states)
        weights = self.queries(narrow).masked_fill(padding[..., None], -torch.inf).softmax(1)  # (B, S, heads)
        said: Tensor = self.said(torch.einsum("bsh,bsw->bhw", weights, narrow).flatten(1))
        return said

    def loss(self, said: Tensor, things: Tensor) -> Tensor:
        """Of what was said of things (B,)."""
        if self.by == "names":
            return F.cross_entropy(said, things)
        return (said - self.vectors[things]).square().sum(1).mean()

    def named(self, said: Tensor) -> Tensor:
        """Numbers of the things that are meant: (B,)."""
        return (said if self.by == "names" else said @ self.vectors.T).argmax(1)
