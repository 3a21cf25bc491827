"""The trained base as a folder: stock diffusers loads it, in half precision, with checksums and a card.

A run ends with it; `python -m world.export RUN` in recipes writes that of one that is under way.
"""

import itertools
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from diffusers import AutoencoderKL

from embedded_base.ship import copy_halved
from llmdiff import folder_checksums
from llmdiff.errors import LLMDiffError
from llmdiff.training import checkpoint
from world import modules
from world.evaluate import rows_of
from world.handover import last_averages
from world.settings import STAGES, UNET_STAGES, Settings, load

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


def export(pipe: Any, folder: Path, settings: Settings, machine: str, name: str = "model") -> Path:
    """Writes a trained pipeline to the folder `name` of a run, which appears once it is whole.

    Args:
        pipe: stock, of trained parts.
        folder: of the run, whose logs and scores the card tells.
        settings: of the run.
        machine: that trained, in words.
        name: "model" is the end of a run.
    """
    with tempfile.TemporaryDirectory(dir=folder) as draft:
        whole, halves = Path(draft) / "whole", Path(draft) / "halves"
        pipe.save_pretrained(whole)
        copy_halved(whole, halves)
        (halves / "README.md").write_text(_card(pipe, folder, settings, machine), encoding="utf-8")
        folder_checksums.sign(halves)
        shutil.rmtree(folder / name, ignore_errors=True)
        halves.rename(folder / name)
    return folder / name


def _card(pipe: Any, folder: Path, settings: Settings, machine: str) -> str:
    parts = {name: getattr(pipe, name) for name in ("vae", "text_encoder", "unet")}
    rows = [f"| {n} | `{type(p).__name__}` | {sum(v.numel() for v in p.parameters()):,} |" for n, p in parts.items()]
    stages = [_stage(folder, name) for name in STAGES]
    return _CARD.format(
        things=settings.things, parts="\n".join(rows), stages="\n".join(stages), machine=machine, scores=_scores(folder)
    )


def _stage(folder: Path, name: str) -> str:
    rows = rows_of(folder / name / "log.jsonl")
    steps = rows[-1]["step"] if rows else 0
    minutes = sum(row["seconds"] for row in rows) / 60
    pairs = itertools.pairwise([{"step": 0}, *rows])
    batches = [row["pictures_per_s"] * row["seconds"] / (row["step"] - last["step"]) for last, row in pairs]
    batch = round(statistics.median(batches)) if batches else 0  # what it was, whatever the settings say now
    return f"| {name} | {steps:,} | {steps * batch:,} | {minutes:.0f} |"


def _scores(folder: Path) -> str:
    rows = rows_of(folder / "curve.jsonl")
    if not rows:
        return "It was not scored."
    figures = [f"- {name.replace('_', ' ')}: {value}" for name, value in rows[-1].items()]
    return "The last scores of its training, by the checker of `llmdiff.world`:\n\n" + "\n".join(figures)


def underway(folder: Path, settings: Settings) -> Any:
    """The pipeline of a run's last weights.

    Raises:
        LLMDiffError: The run has no U-Net yet.
    """
    found = last_averages(folder, UNET_STAGES)
    if found is None:
        raise LLMDiffError(f"{folder} has no weights of a U-Net yet: train it further.")
    vae: Any = AutoencoderKL.from_pretrained(folder / "autoencoder" / "model")
    text_encoder = modules.text_encoder(settings.text_layers)
    unet = modules.unet(settings.unet_channels, settings.unet_layers)
    for name, module in (("text_encoder", text_encoder), ("unet", unet)):
        weights = checkpoint.under(name, found[1])
        module.load_state_dict(weights, strict=True)
    return modules.pipeline(vae, text_encoder, unet)


def main(
    run: Path,
    settings: str = "full",
    option: Annotated[list[str] | None, typer.Option("--option", "-o", help="as for world.train")] = None,
    machine: Annotated[str, typer.Option(help="on which it was trained, for the card")] = "as `log.jsonl` says",
) -> None:
    """Writes RUN/snapshot of the run's last checkpoint."""
    chosen = load(settings, option or [])
    typer.echo(export(underway(run, chosen), run, chosen, machine, "snapshot"))


if __name__ == "__main__":
    typer.run(main)
