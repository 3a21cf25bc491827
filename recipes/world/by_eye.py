"""The checker beside an eye, on pictures that a base and its adapter have drawn.

    python -m world.by_eye draw FOLDER --base BASE --adapter ADAPTER

draws two hundred pictures, half by each, of prompts of all groups by lot, in an order that tells nothing.
`pictures.webp` has them all; `sheet-0.png` and so on, twice as large and with numbers, are to be looked at;
`drawn.json` says who drew what. Look at the sheets alone, and fill in `labels.json`: of each picture what is seen.

    {"background": "snow", "things": ["penguin red large 40 72", "dog|cat own small 100 20"]}

A thing has a kind, a colour ("own" if it has no tint), a size, and its middle in pixels of the picture, 128 a side.
What cannot be decided is left open with "|", a blot that is nothing is left out, and null is a picture without a label.

    python -m world.by_eye compare FOLDER

says of how many facts of the prompts eye and checker say the same.
"""

import json
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image, ImageDraw

from llmdiff.errors import LLMDiffError
from llmdiff.evaluation.bootstrap import interval
from llmdiff.evaluation.domains import DOMAINS
from llmdiff.evaluation.prompts import ScenePrompt, groups, scene_prompts
from llmdiff.generation import Models
from llmdiff.scenes.facts import Fact
from llmdiff.world.drawing import BACKGROUNDS
from llmdiff.world.scene import Placed, Scene
from llmdiff.world.things import THING
from llmdiff.world.vocabulary import IMAGE_SIZE, LOOKS, SIZES
from world.drawing import Job, draw

COUNT = 200
_SEED = 31
_ACROSS, _DOWN, _ZOOM = 8, 5, 2
_MOST_OPEN = 4096  # ways to settle what a label leaves open

app = typer.Typer()


def sample(count: int, adapted: bool) -> list[Job]:
    """So many pictures by lot, as many of each group and system as can be."""
    rng = np.random.default_rng(_SEED)
    prompts = scene_prompts(version=2)
    systems = ("base", "adapted") if adapted else ("base",)
    strata = [(system, group) for system in systems for group in groups(prompts)]
    jobs = []
    for n, (system, group) in enumerate(strata):
        own = [prompt for prompt in prompts if prompt.group == group]
        chosen = rng.choice(len(own), count // len(strata) + (n < count % len(strata)), replace=False)
        jobs += [Job(system, own[int(i)]) for i in chosen]
    return [jobs[int(i)] for i in rng.permutation(len(jobs))]


@app.command("draw")
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
    (folder / "drawn.json").write_text(_lines(rows), "utf-8")
    if not (folder / "labels.json").exists():
        (folder / "labels.json").write_text(_lines([None] * len(jobs)), "utf-8")


def _lines(rows: list[Any]) -> str:
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n"


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


@dataclass(frozen=True)
class Label:
    """All scenes that a picture may show, by the eye."""

    scenes: tuple[Scene, ...]

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Label":
        """A label as it is written down.

        Raises:
            LLMDiffError: It is not written so.

        Example:
            >>> len(Label.of({"background": "snow|day", "things": ["dog|cat own small 100 20"]}).scenes)
            4
        """
        places = _options(str(row["background"]), BACKGROUNDS)
        things = [_things(str(text)) for text in row["things"]]
        if len(places) * prod(len(one) for one in things) > _MOST_OPEN:
            raise LLMDiffError(f"The label {row} leaves too much open.")
        return cls(tuple(Scene(place, chosen) for place in places for chosen in product(*things)))

    def holds(self, fact: Fact) -> bool | None:
        """Whether a fact holds; None where what is open decides it."""
        answers = {fact.holds(scene) for scene in self.scenes}
        return answers.pop() if len(answers) == 1 else None


def _options(text: str, known: Any) -> list[str]:
    found = text.split("|")
    if unknown := [one for one in found if one not in known]:
        raise LLMDiffError(f"The label says '{unknown[0]}', which the world does not have.")
    return found


def _things(text: str) -> list[Placed]:
    parts = text.split()
    if len(parts) != 5:
        raise LLMDiffError(f"The label '{text}' is not a kind, a colour, a size, and a place.")
    kinds, colours, sizes = (_options(part, known) for part, known in zip(parts, (THING, LOOKS, SIZES), strict=False))
    x, y = int(parts[3]), int(parts[4])
    return [
        Placed(kind, colour, size, x - SIZES[size] // 2, y - SIZES[size] // 2)
        for kind, colour, size in product(kinds, colours, sizes)
    ]


def compared(folder: Path) -> dict[str, dict[str, Any]]:
    """By what is compared: how many were, how many the eye leaves open, and the share on which both agree.

    Raises:
        LLMDiffError: A label is not written as it should be.
    """
    by_text = {prompt.prompt: prompt for prompt in scene_prompts(version=2)}
    drawn, labels = (json.loads((folder / name).read_text("utf-8")) for name in ("drawn.json", "labels.json"))
    sheet = Image.open(folder / "pictures.webp").convert("RGB")
    told: dict[str, list[tuple[bool | None, bool]]] = {"facts": [], "pictures": []}
    shares = []
    for n, (row, label) in enumerate(zip(drawn, labels, strict=True)):
        if label is None:
            continue
        x, y = n % _ACROSS * IMAGE_SIZE, n // _ACROSS * IMAGE_SIZE
        pairs = _pairs(by_text[row["prompt"]], Label.of(label), sheet.crop((x, y, x + IMAGE_SIZE, y + IMAGE_SIZE)))
        told["facts"] += pairs
        eye = [seen for seen, _ in pairs]
        whole = False if False in eye else None if None in eye else True
        told["pictures"].append((whole, all(read for _, read in pairs)))
        decided = [seen == read for seen, read in pairs if seen is not None]
        shares += [float(np.mean(decided))] if decided else []
    rows = {what: _row(pairs) for what, pairs in told.items()}
    rows["facts"] |= dict(zip(("low", "high"), interval(np.array(shares)), strict=True)) if shares else {}
    return rows


def _pairs(prompt: ScenePrompt, label: Label, image: Image.Image) -> list[tuple[bool | None, bool]]:
    scene = DOMAINS[prompt.version].read(image)
    return [(label.holds(fact), fact.holds(scene)) for fact in prompt.facts]


def _row(pairs: list[tuple[bool | None, bool]]) -> dict[str, Any]:
    decided = [(eye, checker) for eye, checker in pairs if eye is not None]
    return {
        "compared": len(decided),
        "open": len(pairs) - len(decided),
        "agreement": float(np.mean([eye == checker for eye, checker in decided])) if decided else None,
        "missed": sum(bool(eye) and not checker for eye, checker in decided),
        "false_alarms": sum(not eye and checker for eye, checker in decided),
    }


@app.command()
def compare(folder: Path) -> None:
    """Prints how often eye and checker agree, as JSON."""
    typer.echo(json.dumps(compared(folder), indent=1))


if __name__ == "__main__":
    app()
