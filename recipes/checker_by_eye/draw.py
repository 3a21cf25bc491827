"""Draws the pictures that are labelled by eye, and lays them on one sheet: `python -m checker_by_eye.draw`.

Two hundred, as many of base and adapter and of each group of the scene benchmark's prompts as can be, drawn by lot from
the 1,440 that `llmdiff evaluate scenes` draws, in an order that tells nothing. One picture a call; where it was
interrupted it goes on.
"""

import json
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from PIL import Image

from llmdiff.evaluation.prompts import GROUPS, ScenePrompt, scene_prompts
from llmdiff.evaluation.scenes import GUIDANCE, STEPS
from llmdiff.generation import Models, PictureSettings, Renderer, save_png
from llmdiff.models import EMBEDDED

SEED, COUNT, ACROSS, SIDE = 16, 200, 20, 64
SYSTEMS = ("base", "adapted")


class Job(NamedTuple):
    """One picture: who draws which of the benchmark's prompts from which seed."""

    system: str
    prompt: ScenePrompt
    seed: int


def sample() -> list[Job]:
    """The pictures, by lot."""
    rng = np.random.default_rng(SEED)
    strata = [
        [Job(system, prompt, seed) for prompt in scene_prompts() if prompt.group == group for seed in range(2)]
        for system in SYSTEMS
        for group in GROUPS
    ]
    order = rng.permutation(len(strata))
    counts = {int(place): COUNT // len(strata) + (n < COUNT % len(strata)) for n, place in enumerate(order)}
    jobs = [
        jobs[int(i)] for n, jobs in enumerate(strata) for i in rng.choice(len(jobs), counts[n], replace=False)
    ]  # fmt: skip
    return [jobs[int(i)] for i in rng.permutation(len(jobs))]


def main(
    pictures: Annotated[Path, typer.Option(help="Where each picture goes, until all are there.")],
    out: Annotated[Path, typer.Option(help="Folder of the sheet and of what is on it.")] = Path(__file__).parent,
) -> None:
    """Draws what is not there yet, then writes the sheet."""
    jobs = sample()
    paths = [pictures / f"{number:03}.png" for number in range(len(jobs))]
    renderer = Renderer.load(Models(base=EMBEDDED, adapter=EMBEDDED), device="cpu")
    with renderer.base_alone():
        _draw(renderer, "base", jobs, paths)
    _draw(renderer, "adapted", jobs, paths)
    sheet = Image.new("RGB", (ACROSS * SIDE, len(jobs) // ACROSS * SIDE))
    for number, path in enumerate(paths):
        with Image.open(path) as image:
            sheet.paste(image, (number % ACROSS * SIDE, number // ACROSS * SIDE))
    sheet = sheet.point(lambda level: level & ~1)  # half a level that nobody sees is a quarter of the file
    sheet.save(out / "pictures.webp", lossless=True, quality=100, method=6)
    rows = [{"system": job.system, "prompt": job.prompt.prompt, "seed": job.seed} for job in jobs]
    made = renderer.provenance()
    about = {"base": made.base_hash, "adapter": made.adapter_hash, "versions": made.versions, "seed": SEED}
    drawn = about | {"steps": STEPS, "guidance": GUIDANCE, "pictures": rows}
    (out / "drawn.json").write_text(json.dumps(drawn, indent=1) + "\n", "utf-8")


def _draw(renderer: Renderer, system: str, jobs: list[Job], paths: list[Path]) -> None:
    for job, path in zip(jobs, paths, strict=True):
        if job.system == system and not path.exists():
            settings = PictureSettings(
                prompt=job.prompt.prompt,
                steps=STEPS,
                guidance=GUIDANCE,
                scale=1,
                seed=job.seed,
                width=SIDE,
                height=SIDE,
            )
            save_png(path, renderer.draw(settings))


if __name__ == "__main__":
    typer.run(main)
