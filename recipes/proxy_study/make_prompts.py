"""Makes the implied prompts: `python recipes/proxy_study/make_prompts.py OUT`.

No prompt names its thing, its colour or its background: each is implied by what everybody knows of it. The phrases are
written by hand and put together by lot.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import typer

from llmdiff.evaluation.prompts import ScenePrompt
from llmdiff.scenes.facts import Backdrop, Count, Fact, Look

COUNT = 60
THINGS = {
    "sun": ("the star that our planet goes round", "what rises in the east in the morning"),
    "moon": ("what Neil Armstrong set foot on in 1969", "what the tides follow"),
    "tree": ("what acorns grow into", "what a lumberjack fells"),
    "house": ("what an estate agent sells to a family", "what has a roof, a door and somebody at home"),
    "car": ("what Henry Ford built on an assembly line", "what one parks in a garage"),
    "boat": ("what a sailor steers across the lake", "what regattas are won with"),
    "fish": ("the animal with gills and fins that an angler hopes for", "the animal that lives in an aquarium"),
    "flower": ("what bees visit for their nectar", "what a bride throws, but only one of the bunch"),
    "star": ("the shape of a sheriff's badge", "the shape that is on the flag of Texas, once"),
    "heart": ("the symbol of Valentine's Day", "the shape that lovers carve into bark"),
    "ball": ("what a striker kicks into the goal", "what a dog brings back when it is thrown"),
    "box": ("what a present comes in", "what one packs with books before moving"),
    "cloud": ("what rain falls from", "what hides the sky and looks like cotton wool"),
    "cup": ("what one drinks tea from", "what stands on a saucer"),
    "mushroom": (
        "what truffles and chanterelles are",
        "what grows in the woods with a stalk and a cap, and is no plant",
    ),
    "umbrella": ("what keeps you dry in a shower", "what Mary Poppins flies with"),
}
COLOURS = {
    "red": ("as a fire engine is painted", "like blood"),
    "orange": ("like a carrot", "coloured like a Halloween pumpkin"),
    "yellow": ("like a lemon", "coloured like a canary"),
    "green": ("like a frog", "coloured like fresh grass"),
    "blue": ("like the sea in a holiday brochure", "coloured like a cloudless sky"),
    "purple": ("like an aubergine", "coloured like lavender"),
    "pink": ("like a flamingo", "coloured like a piglet"),
    "brown": ("like a bear", "coloured like chocolate"),
    "white": ("like milk", "coloured like a swan"),
}
SIZES = {"small": ("so little that it is easily overlooked",), "large": ("so big that it dwarfs everything",)}
BACKGROUNDS = {
    "day": ("at noon", "when children are at school"),
    "night": ("when owls hunt", "when it strikes twelve and everybody sleeps"),
    "sunset": ("at the end of the day, when the sky glows", "in the last light of the evening"),
    "snow": ("where penguins live", "where people go to ski"),
    "desert": ("where cacti grow", "among the dunes of the Sahara"),
}


def implied_prompt(rng: np.random.Generator) -> ScenePrompt:
    """A prompt of one thing or two, and what it implies."""
    facts: list[Fact] = []
    parts: list[str] = []
    for kind in rng.choice(list(THINGS), 2 if rng.random() < 0.25 else 1, replace=False):
        colour = str(rng.choice(list(COLOURS)))
        size = str(rng.choice(list(SIZES))) if rng.random() < 0.3 else None
        phrase = f"{rng.choice(THINGS[kind])}, {rng.choice(COLOURS[colour])}"
        parts.append(phrase + (f", {rng.choice(SIZES[size])}" if size else ""))
        facts.append(Count(Look(str(kind), colour, size), 1))
    text = ", and ".join(parts)
    if rng.random() < 0.6:
        background = str(rng.choice(list(BACKGROUNDS)))
        text += f", {rng.choice(BACKGROUNDS[background])}"
        facts.append(Backdrop(background))
    return ScenePrompt("implied", text, tuple(facts))


def main(out: Path) -> None:
    """Write them, one a line."""
    rng = np.random.default_rng(17)
    prompts = {prompt.prompt: prompt for prompt in (implied_prompt(rng) for _ in range(2 * COUNT))}
    rows = [
        {"group": one.group, "prompt": one.prompt, "facts": [_fact(fact) for fact in one.facts]}
        for one in list(prompts.values())[:COUNT]
    ]
    out.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")


def _fact(fact: Fact) -> dict[str, object]:
    if isinstance(fact, Backdrop):
        return {"fact": "backdrop", "name": fact.name}
    assert isinstance(fact, Count)
    return {"fact": "count", "look": asdict(fact.look), "n": fact.n}


if __name__ == "__main__":
    typer.run(main)
