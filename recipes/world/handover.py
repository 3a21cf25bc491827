"""A run made small enough to be sent: `python -m world.handover RUN FOLDER` in recipes.

The folder is a run too, from which training goes on: the autoencoder, the text encoder, and the averaged weights of the
last of the U-Net's stages that has begun, in half precision, without moments and pools, or in eight bits, which a few
hundred steps make good again. Of a run that is done too: `world.export` makes the base of it.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from embedded_base.ship import copy_halved
from llmdiff import tensor_files
from llmdiff.errors import LLMDiffError
from llmdiff.files import readable, written_whole
from llmdiff.training import checkpoint
from world.settings import STAGES

START = "start.safetensors"
"""In a stage's folder: weights that it begins with where it has no checkpoint."""
_KEY = "start"
_SCALE = ".scale"


def write_start(path: Path, weights: dict[str, Tensor], step: int, seconds: float, bits: int = 16) -> None:
    """Writes weights that a stage begins with.

    Args:
        path: of the file.
        weights: by name.
        step, seconds: of the stage that they are of.
        bits: 16, or 8: whole numbers, scaled for each output channel.
    """
    tensors = _rounded(weights) if bits == 8 else {name: value.half() for name, value in weights.items()}
    tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
    with written_whole(path) as draft:
        tensor_files.write(draft, tensors, _KEY, json.dumps({"step": step, "seconds": seconds}))


def read_start(path: Path) -> tuple[dict[str, Tensor], int, float]:
    """Weights in float32, step and seconds of what `write_start` wrote.

    Raises:
        LLMDiffError: The file is damaged.
    """
    try:
        tensors, text = tensor_files.read(path, _KEY)
        state = json.loads(text)
    except (*tensor_files.DAMAGE, ValueError) as error:
        raise LLMDiffError(f"{path} is damaged ({error}): copy it again.") from error
    scales = {name: tensors.pop(name) for name in list(tensors) if name.endswith(_SCALE)}
    weights = {name: value.float() * scales.get(name + _SCALE, torch.ones(())) for name, value in tensors.items()}
    return weights, state["step"], state["seconds"]


def _rounded(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels in eight bits, with a scale for each of their rows; the rest in sixteen."""
    rounded: dict[str, Tensor] = {}
    for name, value in weights.items():
        if value.dim() < 2:
            rounded[name] = value.half()
            continue
        scale = value.abs().amax(dim=tuple(range(1, value.dim())), keepdim=True).clamp(min=1e-12) / 127
        rounded[name], rounded[name + _SCALE] = (value / scale).round().to(torch.int8), scale.float()
    return rounded


def hand_over(run: Path, folder: Path, bits: int = 16) -> None:
    """Writes the small run: for the arguments see the module and `write_start`."""
    for part in ("autoencoder", "text"):
        if (run / part / "model").exists():
            copy_halved(run / part / "model", folder / part / "model")
    _hand_over_stage(run, folder, bits)
    for path in [run / "curve.jsonl", *run.glob("*/log.jsonl")]:
        if path.exists():
            place = folder / path.relative_to(run)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


def _hand_over_stage(run: Path, folder: Path, bits: int) -> None:
    if found := last_averages(run):
        stage, weights, step, seconds = found
        write_start(folder / stage / START, weights, step, seconds, bits)


def last_averages(run: Path, stages: Sequence[str] = STAGES) -> tuple[str, dict[str, Tensor], int, float] | None:
    """The last of some stages of a run that has begun, and what `averages_of` says of it."""
    found = ((stage, averages_of(run / stage)) for stage in reversed(stages))
    return next(((stage, *averages) for stage, averages in found if averages), None)


def averages_of(stage: Path) -> tuple[dict[str, Tensor], int, float] | None:
    """Averaged weights, step and seconds of a stage's last checkpoint, or else of what it begins with, in its folder.

    Raises:
        LLMDiffError: The file is damaged.
    """
    newest = checkpoint.newest(stage / "checkpoints")
    if newest is None:
        return read_start(stage / START) if (stage / START).exists() else None
    tensors, info = checkpoint.load(newest)
    weights, apart = (checkpoint.under(kind, tensors) for kind in ("module", "apart"))
    return {name: value + apart[name].float() for name, value in weights.items()}, info["step"], info["seconds"]


def main(
    run: Path, folder: Path, bits: Annotated[int, typer.Option(help="16, or 8 for half of that size")] = 16
) -> None:
    """Writes a small copy of RUN, from which training goes on, to FOLDER."""
    if bits not in (8, 16):
        raise typer.BadParameter("bits are 8 or 16")
    hand_over(run, folder, bits)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    typer.echo(f"{readable(size)} in {folder}")


if __name__ == "__main__":
    typer.run(main)
