"""Sheets to look at: `python -m world.sheets OUT --base BASE --adapter ADAPTER` in recipes.

Sixty-four single things, 32 pairs, 16 counts and 16 long prompts, of version 2 of the benchmark, by the base and by the
adapter side by side; long prompts also by the base that is told the facts in its own words. A green bar stands under a
picture that shows all that its prompt states, by the checker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image, ImageDraw, ImageFont

from llmdiff.evaluation import scene_prompts
from llmdiff.evaluation.domains import DOMAINS
from llmdiff.evaluation.prompts import ScenePrompt
from llmdiff.generation import Models
from llmdiff.generation.sheet import wrap
from llmdiff.scenes.facts import Count, all_hold
from world.drawing import Job, draw

_GAP, _BAR, _LINE, _LINES = 4, 4, 11, 2
_PAPER, _INK, _RIGHT, _WRONG = "#ffffff", "#1c1c1c", "#2e9d4c", "#d7d7d7"


@dataclass(frozen=True)
class Plan:
    """One sheet: how many prompts of a group, who draws them, and how many stand in a row."""

    group: str
    count: int
    systems: tuple[str, ...]
    across: int
    things: int | None = None
    """Only prompts with so many mentions."""


PLANS = {
    "single": Plan("plain", 64, ("base", "adapted"), 8),
    "pairs": Plan("binding", 32, ("base", "adapted"), 8, things=2),
    "counts": Plan("counting", 16, ("base", "adapted"), 4),
    "long": Plan("long", 16, ("base", "told plainly", "adapted"), 4),
}


def prompts_of(plan: Plan) -> list[ScenePrompt]:
    """The prompts of a sheet, evenly spaced through their group."""
    own = [prompt for prompt in scene_prompts(version=2) if prompt.group == plan.group]
    if plan.things:
        own = [one for one in own if sum(isinstance(f, Count) and f.n > 0 for f in one.facts) == plan.things]
    return [own[i * len(own) // plan.count] for i in range(plan.count)]


def sheet(plan: Plan, prompts: Sequence[ScenePrompt], rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """The pictures of each prompt beside each other, over what a base is told plainly of it."""
    side = rows[0][0].width
    width, height = len(plan.systems) * (side + _GAP) + 2 * _GAP, side + _BAR + _LINES * _LINE + 2 * _GAP
    down = -(-len(prompts) // plan.across)
    whole = Image.new("RGB", (plan.across * width, down * height + 2 * _LINE), _PAPER)
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(9)
    heading = f"{plan.group}: from left to right {', '.join(plan.systems)}; a green bar: all facts right"
    pen.text((_GAP, _GAP), heading, _INK, ImageFont.load_default(12))
    for n, (prompt, images) in enumerate(zip(prompts, rows, strict=True)):
        left, top = n % plan.across * width + _GAP, n // plan.across * height + 2 * _LINE
        for i, image in enumerate(images):
            x = left + i * (side + _GAP)
            is_right = all_hold(prompt.facts, DOMAINS[prompt.version].read(image))
            whole.paste(image.convert("RGB"), (x, top))
            pen.rectangle((x, top + side + 1, x + side - 1, top + side + _BAR - 1), _RIGHT if is_right else _WRONG)
        lines = wrap(DOMAINS[prompt.version].plainly(prompt.facts), font, width - 3 * _GAP)[:_LINES]
        pen.text((left, top + side + _BAR + 1), "\n".join(lines), _INK, font, spacing=1)
    return whole


def main(
    out: Annotated[Path, typer.Argument(help="Folder of the sheets.")],
    base: Annotated[str, typer.Option(help="Folder or Hub id.")] = "../runs/world/model",
    adapter: Annotated[str, typer.Option(help="Folder or Hub id; 'none' shows the base alone.")] = "none",
    steps: int = 20,
    guidance: float = 4.0,
    only: Annotated[list[str] | None, typer.Option(help=f"of {', '.join(PLANS)}; again for several")] = None,
) -> None:
    """Draws and writes world-single.webp, world-pairs.webp, world-counts.webp and world-long.webp."""
    out.mkdir(parents=True, exist_ok=True)
    has_adapter = adapter != "none"
    models = Models(base=base, adapter=adapter if has_adapter else None)
    for name in only or PLANS:
        plan = PLANS[name]
        systems = tuple(system for system in plan.systems if has_adapter or system != "adapted")
        plan = Plan(plan.group, plan.count, systems, plan.across, plan.things)
        prompts = prompts_of(plan)
        jobs = [[Job(system, prompt) for system in systems] for prompt in prompts]
        every = [job for row in jobs for job in row]
        drawn = draw(models, every, steps, guidance, name)
        path = out / f"world-{name}.webp"
        sheet(plan, prompts, [[drawn[job] for job in row] for row in jobs]).save(path, quality=90, method=6)
        typer.echo(path)


if __name__ == "__main__":
    typer.run(main)
