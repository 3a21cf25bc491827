"""Trains the embedded base's text encoder before the U-Net: `python -m embedded_base.train_text` in recipes.

Stable Diffusion is trained on a text encoder that has learned to name what pictures show; this one learns the same
from plain captions alone, by a readout of which kinds are there, how many, in which colours and sizes, and where.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from embedded_base import data, modules
from embedded_base.progress import Progress
from llmdiff.scenes.captions import plain_caption
from llmdiff.scenes.description import Caption
from llmdiff.scenes.facts import Backdrop, Count, Related
from llmdiff.scenes.scene import RELATIONS
from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, KINDS, MAX_THINGS, SIZES
from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.randomness import Streams
from llmdiff.training.trainer import Trainer

_SEED = 41
_PARTS = {"count": MAX_THINGS + 1, "colour": len(COLOURS), "size": len(SIZES), "relation": 2 * len(RELATIONS)}


class Readout(nn.Module):
    """Cross-attention of one query per kind, and one for the background, over the text's states.

    For every kind: its count, which colours and sizes it is named with, and which side of which relation it is on.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(KINDS) + 1, width) / width**0.5)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.kind = nn.Linear(width, sum(_PARTS.values()))
        self.background = nn.Linear(width, len(BACKGROUNDS) + 1)

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """States (B, S, W) to logits of the kinds (B, 16, parts) and of the background (B, 6)."""
        queries = self.queries.expand(len(states), -1, -1)
        read, _ = self.attention(queries, states, states, need_weights=False)
        return self.kind(read[:, :-1]), self.background(read[:, -1])

    def loss(self, states: Tensor, captions: Sequence[Caption]) -> Tensor:
        """Of reading from states (B, S, W) what the captions state."""
        kinds, background = self(states)
        count, *several = kinds.split(list(_PARTS.values()), dim=-1)
        counts, marks, places = (torch.stack(part) for part in zip(*map(_truth, captions), strict=True))
        losses = F.binary_cross_entropy_with_logits(torch.cat(several, -1), marks, reduction="none").sum(-1)
        present = (counts > 0).float()
        return (
            F.cross_entropy(count.flatten(0, 1), counts.flatten())
            + (losses * present).sum() / present.sum()
            + F.cross_entropy(background, places)
        )


class TextObjective:
    """Saying what a plain caption states."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self.tokenizer = tokenizer
        self.text_encoder = modules.text_encoder(tokenizer)
        self.readout = Readout(modules.TEXT_WIDTH)
        self.module: nn.Module = nn.ModuleDict({"text_encoder": self.text_encoder, "readout": self.readout})

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters())}]

    def loss(self, indices: np.ndarray, step: int, rng: Streams) -> Tensor:
        captions = [_caption(int(i)) for i in indices]
        ids = modules.token_ids(self.tokenizer, [caption.text for caption in captions])
        return self.readout.loss(self.text_encoder(ids).last_hidden_state, captions)


def _caption(index: int) -> Caption:
    rng = np.random.default_rng((_SEED, index))
    return plain_caption(data.sample_scene(rng), rng)


def _truth(caption: Caption) -> tuple[Tensor, Tensor, Tensor]:
    """Counts (16,), marks of colours, sizes and relations (16, 19), and the background's number, 5 if none is named."""
    counts = torch.zeros(len(KINDS), dtype=torch.long)
    colours = torch.zeros(len(KINDS), len(COLOURS))
    sizes = torch.zeros(len(KINDS), len(SIZES))
    sides = torch.zeros(len(KINDS), 2, len(RELATIONS))
    place = len(BACKGROUNDS)
    for fact in caption.facts:
        if isinstance(fact, Count):
            kind = KINDS.index(fact.look.kind)
            counts[kind] = min(int(counts[kind]) + fact.n, MAX_THINGS)
            if fact.look.colour:
                colours[kind, list(COLOURS).index(fact.look.colour)] = 1
            if fact.look.size:
                sizes[kind, list(SIZES).index(fact.look.size)] = 1
        elif isinstance(fact, Related):
            number = RELATIONS.index(fact.relation)
            sides[KINDS.index(fact.a.kind), 0, number] = sides[KINDS.index(fact.b.kind), 1, number] = 1
        elif isinstance(fact, Backdrop):
            place = list(BACKGROUNDS).index(fact.name)
    return counts, torch.cat((colours, sizes, sides.flatten(1)), 1), torch.tensor(place)


def main(out: Path = Path("runs/base/text"), steps: int = 1500, batch_size: int = 64, seed: int = 0) -> None:
    """Trains (or goes on training) the text encoder and saves it to OUT/model."""
    torch.manual_seed(seed)
    objective = TextObjective(modules.plain_tokenizer())
    settings = LoopSettings(
        steps=steps, batch_size=batch_size, learning_rate=1e-3, warmup=100, decay=0.5, ema=0.99, seed=seed
    )
    trainer = Trainer(objective, settings, out)
    trainer.resume()
    with Progress("text encoder", steps) as progress:
        trainer.run(progress)
    with trainer.averaged():
        objective.text_encoder.save_pretrained(out / "model")


if __name__ == "__main__":
    typer.run(main)
