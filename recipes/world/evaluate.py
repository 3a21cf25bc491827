"""What a base draws as it learns: scores by the world's checker on fixed prompts, and a sheet to look at."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from llmdiff.scenes.description import Caption
from llmdiff.scenes.facts import Related
from llmdiff.training.precision import autocast
from llmdiff.world.checker import read
from llmdiff.world.scene import Lot
from world.data import Stream
from world.machine import Machine

_SEED = 23  # of the prompts
_BATCH = 16
_COLUMNS = 8


def prompts(count: int, canvas: int, things: int) -> list[Caption]:
    """Plain captions of scenes that are in no pool, with the facts that they state."""
    stream = Stream(_SEED, canvas, things)
    return [stream.caption(i, 0) for i in range(count)]


@torch.no_grad()
def drawn(pipe: Any, captions: Sequence[str], canvas: int, steps: int, guidance: float, machine: Machine) -> np.ndarray:
    """One picture of each caption, always of the same noise: uint8 (N, canvas, canvas, 3)."""
    pipe.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(0)
    pictures: list[Image.Image] = []
    for start in range(0, len(captions), _BATCH):
        with autocast(machine.precision, machine.device.type):
            pictures += pipe(
                list(captions[start : start + _BATCH]), height=canvas, width=canvas, num_inference_steps=steps,
                guidance_scale=guidance, generator=noise,
            ).images  # fmt: skip
    return np.stack([np.asarray(picture) for picture in pictures])


def scores(captions: Sequence[Caption], pictures: np.ndarray, things: int) -> dict[str, float]:
    """Shares of captions that are right in everything, those of a single thing and of several, of facts, of relations.

    Args:
        captions: N with the facts that they state.
        pictures: of them, uint8 (N, P, P, 3).
        things: so many of the things, the first ones, are looked for.
    """
    seen = [read(picture, Lot().styles, things).scene for picture in pictures]
    held = [[fact.holds(scene) for fact in caption.facts] for caption, scene in zip(captions, seen, strict=True)]
    right = np.array([all(one) for one in held])
    alone = np.array([_things(caption) == 1 for caption in captions])
    facts = np.array([fact for one in held for fact in one])
    related = np.array([isinstance(fact, Related) for caption in captions for fact in caption.facts])
    groups = {"single": right[alone], "several": right[~alone], "facts": facts, "relations": facts[related]}
    return {name: round(float(values.mean()), 4) for name, values in groups.items() if len(values)}


def _things(caption: Caption) -> int:
    return sum(getattr(fact, "n", 0) for fact in caption.facts)


def save_sheet(pictures: np.ndarray, path: Path) -> None:
    """Pictures uint8 (N, P, P, 3) in rows of eight, on one sheet."""
    side, rows = pictures.shape[1], -(-len(pictures) // _COLUMNS)
    whole = np.full((rows * _COLUMNS, side, side, 3), 255, np.uint8)
    whole[: len(pictures)] = pictures
    sheet = whole.reshape(rows, _COLUMNS, side, side, 3).swapaxes(1, 2).reshape(rows * side, _COLUMNS * side, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)


class Curve:
    """Scores against training time: a row of JSON for each evaluation, and a sheet beside it.

    Args:
        folder: of the run.
        minutes: of training between two rows of a stage.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        self._folder, self._minutes = folder, minutes

    def is_due(self, stage: str, minutes: float) -> bool:
        """True if a stage, trained for so many minutes, has been trained long enough since its last row."""
        rows = rows_of(self._folder / "curve.jsonl")
        return minutes >= self._minutes + max((row["minutes"] for row in rows if row["stage"] == stage), default=0)

    def add(self, row: dict[str, Any], pictures: np.ndarray) -> None:
        """Writes a row, of a stage and a step, and its pictures."""
        with (self._folder / "curve.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        save_sheet(pictures, self._folder / "sheets" / f"{row['stage']}-{row['step']:07d}.png")


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines, none where it is not there; a line that a kill has cut short is not one."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]
