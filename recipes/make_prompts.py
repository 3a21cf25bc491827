"""Makes a version of the scene benchmark's prompts: `python recipes/make_prompts.py OUT`."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import typer

from llmdiff.evaluation.prompts import ScenePrompt
from llmdiff.scenes.captions import plain_caption
from llmdiff.scenes.description import Caption, Detail
from llmdiff.scenes.facts import Count, Related
from llmdiff.scenes.phrasing import Style, contains_held_out, natural_caption
from llmdiff.scenes.scene import sample_scene

PER_GROUP = 60

_Draw = Callable[[np.random.Generator], Caption]


def _natural(count: tuple[int, ...], style: Style, detail: Detail) -> _Draw:
    def draw(rng: np.random.Generator) -> Caption:
        scene = sample_scene(rng, int(rng.choice(count)))
        return natural_caption(scene, rng, style, detail)

    return draw


def _plain(rng: np.random.Generator) -> Caption:
    scene = sample_scene(rng, int(rng.choice((1, 2))))
    return plain_caption(scene, rng, Detail(colour=1.0, size=0.3, relation=0.0, background=1.0))


_FULL = Detail(colour=1.0, size=1.0, relation=0.0, background=0.5)
_DRAWS: dict[str, _Draw] = {
    "plain": _plain,
    "binding": _natural((2, 3), Style(), _FULL),
    "relations": _natural((2,), Style(), Detail(colour=1.0, size=0.2, relation=1.0, background=0.5)),
    "counting": _natural((2, 3, 4), Style(), Detail(colour=1.0, size=0.2, relation=0.0, background=0.5)),
    "long": _natural((3, 4), Style(plain=0.2, clause=0.5), Detail(colour=1.0, size=0.8, relation=0.6, background=1.0)),
    "unseen words": _natural((1, 2), Style(held_out=0.9), Detail(colour=1.0, size=0.3, relation=0.2, background=0.7)),
}


def _belongs(group: str, caption: Caption) -> bool:
    """True if a caption tests what its group is named for."""
    counts = [fact.n for fact in caption.facts if isinstance(fact, Count)]
    if group == "binding":
        colours = {fact.look.colour for fact in caption.facts if isinstance(fact, Count)}
        return len(counts) >= 2 and max(counts) == 1 and len(colours) == len(counts)
    if group == "relations":
        return any(isinstance(fact, Related) for fact in caption.facts)
    if group == "counting":
        return max(counts) >= 2
    if group == "long":
        return len(caption.text.split()) >= 22
    if group == "unseen words":
        return contains_held_out(caption.text)
    return True


def _make(seed: int) -> list[ScenePrompt]:
    prompts: list[ScenePrompt] = []
    for number, (group, draw) in enumerate(_DRAWS.items()):
        rng = np.random.default_rng((seed, number))
        found: dict[str, ScenePrompt] = {}
        while len(found) < PER_GROUP:
            caption = draw(rng)
            if _belongs(group, caption):
                found[caption.text] = ScenePrompt(group, caption.text, caption.facts)
        prompts += found.values()
    return prompts


def main(out: Path, seed: int = 1001) -> None:
    """Writes a version of the prompts to OUT."""
    rows = [
        {
            "group": p.group,
            "prompt": p.prompt,
            "facts": [{"fact": type(fact).__name__.lower(), **asdict(fact)} for fact in p.facts],
        }
        for p in _make(seed)
    ]
    out.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    typer.run(main)
