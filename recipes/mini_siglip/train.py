"""Trains the embedded SigLIP: `python -m mini_siglip.train` in recipes.

The loss is SigLIP's (Zhai et al., 2023), of all pairs in a batch, with what is true of a pair in place of who belongs
to whom. Beside it the model learns what stands where in a picture (`embedded_base.layout`) and what a caption states
(`embedded_base.train_text`), by two readouts that are dropped: of so few pictures the pairs alone teach little.

Letters in shapes: F families, N scenes of all of them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from embedded_base.data import pixels
from embedded_base.layout import LayoutReadout, layout
from embedded_base.modules import token_ids
from embedded_base.progress import Progress
from embedded_base.train_text import Readout
from llmdiff.scenes.vocabulary import IMAGE_SIZE
from llmdiff.training.loop_settings import LoopSettings
from llmdiff.training.randomness import Streams
from llmdiff.training.trainer import Trainer
from mini_siglip import data
from mini_siglip.model import PATCH, WIDTH, build, caption_tokenizer, save

_SEED = 62
_CELLS = IMAGE_SIZE // PATCH


class SiglipObjective:
    """Telling which caption is true of which picture. A sample is a family, and a loss is that of a whole batch."""

    def __init__(self, words: CLIPTokenizer) -> None:
        self.words = words
        self.siglip = build(words)
        with torch.no_grad():  # as SigLIP begins: hardly any pair is true
            self.siglip.logit_scale.fill_(np.log(10.0))
            self.siglip.logit_bias.fill_(-5.0)
        self.layout, self.facts = LayoutReadout(WIDTH), Readout(WIDTH)
        self.module: nn.Module = nn.ModuleDict({"siglip": self.siglip, "layout": self.layout, "facts": self.facts})

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters())}]

    def loss(self, indices: np.ndarray, step: int, rng: Streams) -> Tensor:
        scenes, captions = [], []
        for index in indices:
            own = np.random.default_rng((_SEED, int(index)))
            members = data.family(own)
            scenes += members
            captions += [data.caption(scene, own) for scene in members]
        output = self.siglip(
            pixel_values=pixels(scenes), input_ids=token_ids(self.words, [caption.text for caption in captions])
        )
        patches = output.vision_model_output.last_hidden_state
        grid = patches.transpose(1, 2).unflatten(-1, (_CELLS, _CELLS))
        return (
            pair_loss(output.logits_per_image, data.truth(scenes, captions))
            + self.layout.loss(grid, layout(scenes, _CELLS))
            + self.facts.loss(output.text_model_output.last_hidden_state, captions)
        )


def pair_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """-Σ log σ(±logit) / N over all pairs, + where the caption is true of the picture: of (N, N) both."""
    signs = 2 * truth.to(logits) - 1
    return -F.logsigmoid(signs * logits).sum() / len(logits)


def main(out: Path = Path("runs/siglip"), steps: int = 1600, families: int = 16, seed: int = 0) -> None:
    """Trains (or goes on training) the model and saves it to OUT/model."""
    torch.manual_seed(seed)
    objective = SiglipObjective(caption_tokenizer())
    settings = LoopSettings(
        steps=steps,
        batch_size=families,
        learning_rate=1e-3,
        warmup=100,
        decay=0.4,
        ema=0.998,
        save_every=200,
        seed=seed,
    )
    trainer = Trainer(objective, settings, out)
    trainer.resume()
    with Progress("SigLIP", steps) as progress:
        trainer.run(progress)
    with trainer.averaged():
        save(objective.siglip, objective.words, out / "model")


if __name__ == "__main__":
    typer.run(main)
