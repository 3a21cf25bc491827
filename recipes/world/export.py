"""The trained base as a folder: stock diffusers loads it, in half precision, with checksums and a card."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from embedded_base.ship import copy_halved
from llmdiff import folder_checksums
from world.evaluate import rows_of
from world.settings import STAGES, Settings

_CARD = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# The embedded base of the world of things

A `StableDiffusionPipeline` in the ordinary layout that draws {things} things on eight backgrounds, 128 pixels wide,
from plain captions. It knows their plain names, ten colours, two sizes, counts up to four and four relations, and no
other word: that is what the LLM is for.

| part | class | parameters |
|---|---|---|
{parts}

## How it was trained

By `recipes/world`, on scenes drawn by `llmdiff.world`: {machine}.

| stage | steps | pictures | minutes |
|---|---|---|---|
{stages}

The U-Net predicts velocities down to pure noise. Beside the velocity it learned to say, from its own features, which
thing is in which cell of the latents; that readout is not a part of the model.

## How good it is

{scores}
"""


def export(pipe: Any, folder: Path, settings: Settings, machine: str) -> Path:
    """Writes a trained pipeline to `folder`/model, which appears once it is whole.

    Args:
        pipe: stock, of trained parts.
        folder: of the run, whose logs and scores the card tells.
        settings: of the run.
        machine: that trained, in words.
    """
    with tempfile.TemporaryDirectory(dir=folder) as draft:
        whole, halves = Path(draft) / "whole", Path(draft) / "model"
        pipe.save_pretrained(whole)
        copy_halved(whole, halves)
        (halves / "README.md").write_text(_card(pipe, folder, settings, machine), encoding="utf-8")
        folder_checksums.sign(halves)
        shutil.rmtree(folder / "model", ignore_errors=True)
        halves.rename(folder / "model")
    return folder / "model"


def _card(pipe: Any, folder: Path, settings: Settings, machine: str) -> str:
    parts = {name: getattr(pipe, name) for name in ("vae", "text_encoder", "unet")}
    rows = [f"| {n} | `{type(p).__name__}` | {sum(v.numel() for v in p.parameters()):,} |" for n, p in parts.items()]
    stages = [_stage(folder, name, settings) for name in STAGES]
    return _CARD.format(
        things=settings.things, parts="\n".join(rows), stages="\n".join(stages), machine=machine, scores=_scores(folder)
    )


def _stage(folder: Path, name: str, settings: Settings) -> str:
    stage = getattr(settings, name)
    rows = rows_of(folder / name / "log.jsonl")
    minutes = sum(row.get("seconds", 0) for row in rows) / 60
    return f"| {name} | {stage.steps:,} | {stage.steps * stage.batch_size:,} | {minutes:.0f} |"


def _scores(folder: Path) -> str:
    rows = rows_of(folder / "curve.jsonl")
    if not rows:
        return "It was not scored."
    figures = [f"- {name.replace('_', ' ')}: {value}" for name, value in rows[-1].items()]
    return "The last scores of its training, by the checker of `llmdiff.world`:\n\n" + "\n".join(figures)
