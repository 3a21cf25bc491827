"""The second stage: the text encoder learns what plain captions say, before it has to help drawing it.

Stable Diffusion is trained on a text encoder that has learned to name what pictures show; this one learns the same from
plain captions alone, by a readout of how many there are of which things, how they look, where they stand and on what.
Letters in shapes: N captions, B of a batch, S tokens, W width, Q things that are asked for.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel

from llmdiff.language.loading import move
from llmdiff.scenes.description import Caption
from llmdiff.scenes.facts import Backdrop, Count, Related
from llmdiff.scenes.scene import RELATIONS
from llmdiff.training.precision import autocast
from llmdiff.world.drawing import BACKGROUNDS
from llmdiff.world.things import NAMES
from llmdiff.world.vocabulary import COLOURS, MAX_THINGS, SIZES
from world import modules
from world.data import Stream
from world.machine import Machine

ASKED = 8
"""Things that are asked for of each caption: all that it names, and others."""
_MARKS = (*COLOURS, *SIZES, *((side, relation) for side in "ab" for relation in RELATIONS))
_MARK = {mark: number for number, mark in enumerate(_MARKS)}
_PLACES = {name: number for number, name in enumerate(BACKGROUNDS, start=1)}


class Captions(NamedTuple):
    """Captions and what they state, on a device."""

    ids: Tensor
    """Token ids: int32 (N, S)."""
    kinds: Tensor
    """Numbers of the things that are asked for: int16 (N, Q)."""
    counts: Tensor
    """How many of each the caption states: int8 (N, Q)."""
    marks: Tensor
    """Colours and sizes that it gives them, and sides of relations that they are on: uint8 (N, Q, marks)."""
    places: Tensor
    """Number of the background, 0 where none is stated: int8 (N,)."""


def captions(count: int, stream: Stream) -> Captions:
    """One caption of each of the first scenes of a stream."""
    worded = [stream.caption(i, 0) for i in range(count)]
    return Captions(*map(torch.from_numpy, stated(worded, stream.seed, 3)))


def stated(captions: Sequence[Caption], *seed: int) -> list[np.ndarray]:
    """The arrays of `Captions`; what is asked for of each beside what it names is by the seed."""
    ids = modules.token_ids(modules.tokenizer(), [caption.text for caption in captions]).numpy()
    truths = (_truth(caption, np.random.default_rng((*seed, n))) for n, caption in enumerate(captions))
    kinds = (np.int32, np.int16, np.int8, np.uint8, np.int8)
    arrays = (ids, *(np.stack(part) for part in zip(*truths, strict=True)))
    return [array.astype(kind) for array, kind in zip(arrays, kinds, strict=True)]


def _truth(caption: Caption, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What a caption states: a row each of kinds, counts, marks and places of `Captions`."""
    named = [NAMES.index(fact.look.kind) for fact in caption.facts if isinstance(fact, Count)]
    others = [int(n) for n in rng.permutation(len(NAMES))[: 2 * ASKED] if n not in named]
    kinds = [*dict.fromkeys(named), *others][:ASKED]
    counts, marks = np.zeros(ASKED, np.int64), np.zeros((ASKED, len(_MARKS)), np.float32)
    place = 0
    for fact in caption.facts:
        if isinstance(fact, Count):
            asked = kinds.index(NAMES.index(fact.look.kind))
            counts[asked] = min(counts[asked] + fact.n, MAX_THINGS)
            marks[asked, [_MARK[value] for value in (fact.look.colour, fact.look.size) if value]] = 1
        elif isinstance(fact, Related):
            for side, look in (("a", fact.a), ("b", fact.b)):
                marks[kinds.index(NAMES.index(look.kind)), _MARK[side, fact.relation]] = 1
        elif isinstance(fact, Backdrop):
            place = _PLACES[fact.name]
    return np.array(kinds), counts, marks, np.array(place)


class FactReadout(nn.Module):
    """Cross-attention of one query per thing that is asked for, and one for the background, over the text's states.

    Args:
        width: of the states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries = nn.Embedding(1 + len(NAMES), width)  # the last is the background's
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.thing = nn.Linear(width, MAX_THINGS + 1 + len(_MARKS))
        self.place = nn.Linear(width, 1 + len(_PLACES))

    def forward(self, states: Tensor, kinds: Tensor, counts: Tensor, marks: Tensor, places: Tensor) -> Tensor:
        """Cross-entropies (3,) of counts, of marks of the things that are stated, and of places.

        Args:
            states: of the text (B, S, W).
            kinds, counts, marks, places: as in `Captions`, whole numbers of any type.
        """
        queries = self.queries(F.pad(kinds.long(), (0, 1), value=len(NAMES)))
        read, _ = self.attention(queries, states, states, need_weights=False)
        count, mark = self.thing(read[:, :-1]).float().split((MAX_THINGS + 1, len(_MARKS)), dim=-1)
        stated = (counts > 0).float()
        wrong = F.binary_cross_entropy_with_logits(mark, marks.float(), reduction="none").sum(-1)
        return torch.stack(
            (
                F.cross_entropy(count.flatten(0, 1), counts.long().flatten()),
                (wrong * stated).sum() / stated.sum().clamp(min=1),
                F.cross_entropy(self.place(read[:, -1]).float(), places.long()),
            )
        )


class TextObjective:
    """Saying what a plain caption states.

    Args:
        text_encoder: to train.
        pool: on the machine's device.
        machine: that trains.
    """

    figures: tuple[str, ...] = ("loss", "count", "marks", "place")

    def __init__(self, text_encoder: CLIPTextModel, pool: Captions, machine: Machine) -> None:
        self.text_encoder = text_encoder
        move(text_encoder, machine.device)
        self.readout = FactReadout(text_encoder.config.hidden_size).to(machine.device)
        self.module: nn.Module = nn.ModuleDict({"text_encoder": self.text_encoder, "readout": self.readout})
        self._pool, self._machine = pool, machine

    def compile(self) -> None:
        """Compiles the text encoder at the next batch."""
        self.text_encoder.compile(dynamic=False)

    def batch(self, size: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """A part of the pool."""
        chosen = torch.randint(len(self._pool.ids), (size,), generator=rng, device=rng.device)
        return tuple(part[chosen] for part in self._pool)

    def loss(self, *batch: Tensor) -> Tensor:
        ids, kinds, counts, marks, places = batch
        with autocast(self._machine.precision, self._machine.device.type):
            losses = self.readout(self.text_encoder(ids).last_hidden_state, kinds, counts, marks, places)
        return torch.cat((losses.sum()[None], losses))
