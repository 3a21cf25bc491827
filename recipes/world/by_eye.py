"""Pictures that a base and its adapter have drawn, to be labelled by eye, beside which the checker is then put.

    python -m world.by_eye FOLDER --base BASE --adapter ADAPTER

draws two hundred pictures, half by each (without an adapter, half of prompts as they are and half of the same facts in
the base's own words), of prompts of all groups by lot, in an order that tells nothing.
`pictures.webp` has them all; `sheet-0.png` and so on, twice as large and with numbers, are to be looked at;
`drawn.json` says who drew what. Look at the sheets alone, and fill in `labels.json`: of each picture what is seen.

    {"background": "snow", "things": ["penguin red large 40 72", "dog|cat own small 100 20"]}

A thing has a kind, a colour ("own" if it has no tint), a size, and its middle in pixels of the picture, 128 a side.
What cannot be decided is left open with "|", a blot that looks like no thing is of the kind "none", and null is a
picture without a label. `llmdiff evaluate checker --labels FOLDER` then says how often eye and checker say the same.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image, ImageDraw

from llmdiff.evaluation.prompts import groups, scene_prompts
from llmdiff.generation import Models
from llmdiff.world.vocabulary import IMAGE_SIZE
from world.drawing import Job, draw

COUNT = 200
_SEED = 31
_ACROSS, _DOWN, _ZOOM = 8, 5, 2


def sample(count: int, adapted: bool) -> list[Job]:
    """So many pictures by lot, as many of each group and system as can be."""
    rng = np.random.default_rng(_SEED)
    prompts = scene_prompts(version=2)
    systems = ("base", "adapted" if adapted else "told plainly")
    strata = [(system, group) for system in systems for group in groups(prompts)]
    jobs = []
    for n, (system, group) in enumerate(strata):
        own = [prompt for prompt in prompts if prompt.group == group]
        chosen = rng.choice(len(own), count // len(strata) + (n < count % len(strata)), replace=False)
        jobs += [Job(system, own[int(i)]) for i in chosen]
    return [jobs[int(i)] for i in rng.permutation(len(jobs))]


def draw_pictures(
    folder: Path,
    base: Annotated[str, typer.Option(help="Folder or Hub id.")] = "../runs/world/model",
    adapter: Annotated[str, typer.Option(help="Folder or Hub id, or 'none'.")] = "none",
    steps: int = 20,
    guidance: float = 4.0,
    count: Annotated[int, typer.Option(min=1, help="pictures")] = COUNT,
) -> None:
    """Draws the pictures, and writes what is to be looked at and filled in."""
    folder.mkdir(parents=True, exist_ok=True)
    has_adapter = adapter != "none"
    jobs = sample(count, has_adapter)
    models = Models(base=base, adapter=adapter if has_adapter else None)
    drawn = draw(models, jobs, steps, guidance, "pictures")
    write(folder, jobs, [drawn[job] for job in jobs])


def write(folder: Path, jobs: list[Job], images: list[Image.Image]) -> None:
    """Writes pictures, sheets, and what they are of; labels to be filled in where there are none yet."""
    _sheet(images, _ACROSS, 1, False).save(folder / "pictures.webp", lossless=True, quality=100, method=6)
    for n, first in enumerate(range(0, len(images), _ACROSS * _DOWN)):
        _sheet(images[first : first + _ACROSS * _DOWN], _ACROSS, _ZOOM, True, first).save(folder / f"sheet-{n}.png")
    rows = [{"system": job.system, "prompt": job.prompt.prompt, "seed": job.seed} for job in jobs]
    (folder / "drawn.json").write_text(_lines(rows, '"version": 2, '), "utf-8")
    if not (folder / "labels.json").exists():
        (folder / "labels.json").write_text(_lines([None] * len(jobs)), "utf-8")


def _lines(rows: list[Any], about: str = "") -> str:
    return f'{{{about}"pictures": [\n' + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]}\n"


def _sheet(images: list[Image.Image], across: int, zoom: int, numbered: bool, first: int = 0) -> Image.Image:
    side, head = IMAGE_SIZE * zoom, 12 * numbered
    down = -(-len(images) // across)
    whole = Image.new("RGB", (across * (side + head // 3), down * (side + head)), "white")
    pen = ImageDraw.Draw(whole)
    for n, image in enumerate(images):
        x, y = n % across * (side + head // 3), n // across * (side + head)
        whole.paste(image.convert("RGB").resize((side, side), Image.Resampling.NEAREST), (x, y + head))
        if numbered:
            pen.text((x + 2, y), str(first + n), "black")
    return whole


if __name__ == "__main__":
    typer.run(draw_pictures)
