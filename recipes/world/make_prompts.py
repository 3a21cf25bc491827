"""Makes version 2 of the scene benchmark's prompts: `python -m world.make_prompts OUT`, from the folder `recipes`.

Things that training captions call by their plain names alone occur in every group; in "unseen synonyms" and "implied"
there are no others.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import typer

from llmdiff.evaluation.prompts import ScenePrompt
from llmdiff.scenes.facts import Count, Related
from llmdiff.world.captions import plain_text
from llmdiff.world.description import Caption, Description, Detail, describe
from llmdiff.world.languages import can_say, foreign_text
from llmdiff.world.lexicon import HELD_OUT_LANGUAGES, NAMED_ONLY, TAUGHT_LANGUAGES
from llmdiff.world.mixture import with_absent
from llmdiff.world.phrasing import Style, short_text
from llmdiff.world.prose import LONGEST, SHORTEST, Prose, prose_text
from llmdiff.world.scene import Lot, Scene, sample
from llmdiff.world.things import FIRST, NAMES

PER_GROUP = 100
THINGS = NAMES[:FIRST]
UNSEEN = [name for name in THINGS if name in NAMED_ONLY]

_Draw = Callable[[np.random.Generator, int], Caption]
_TINTED = Lot(own=0.0)
_EACH_ONCE = Lot(repeats=0.0)


def _caption(description: Description, text: str) -> Caption:
    return Caption(text, description.facts())


def _plain(rng: np.random.Generator, index: int) -> Caption:
    """One thing: each of them in its turn."""
    description = describe(sample(rng, [THINGS[index % FIRST]], count=1), rng, Detail(background=1.0))
    return _caption(description, plain_text(description))


def _scene(rng: np.random.Generator, counts: tuple[int, ...], lot: Lot, things: list[str] | None = None) -> Scene:
    return sample(rng, things or THINGS, int(rng.choice(counts)), lot=lot)


def _short(counts: tuple[int, ...], lot: Lot, detail: Detail) -> _Draw:
    def draw(rng: np.random.Generator, index: int) -> Caption:
        description = describe(_scene(rng, counts, lot), rng, detail)
        return _caption(description, short_text(description, rng))

    return draw


def _long(rng: np.random.Generator, index: int) -> Caption:
    description = describe(_scene(rng, (3, 4), Lot(own=0.2)), rng, Detail(size=0.7, links=0.6, background=1.0))
    return _caption(description, prose_text(description, rng, Prose(long=True)))


def _synonyms(rng: np.random.Generator, index: int) -> Caption:
    description = describe(_scene(rng, (1, 2), _EACH_ONCE, UNSEEN), rng, Detail(size=0.2, links=0.5))
    return _caption(description, short_text(description, rng, Style(synonym=1.0, plain=0.8, all_things=True)))


def _implied(rng: np.random.Generator, index: int) -> Caption:
    description = describe(_scene(rng, (1, 1, 2), _EACH_ONCE, UNSEEN), rng, Detail(size=0.2, links=0.5))
    return _caption(description, prose_text(description, rng, Prose(implied=1.0), Style(plain=0.8, all_things=True)))


def _foreign(codes: tuple[str, ...]) -> _Draw:
    def draw(rng: np.random.Generator, index: int) -> Caption:
        description = describe(_scene(rng, (1, 2), _EACH_ONCE), rng, Detail(size=0.3))
        return _caption(description, foreign_text(description, codes[index % len(codes)]))

    return draw


def _negation(rng: np.random.Generator, index: int) -> Caption:
    description = describe(_scene(rng, (1, 2), _EACH_ONCE), rng, Detail(size=0.2, links=0.3))
    description = with_absent(description, rng, THINGS)
    return _caption(description, short_text(description, rng))


def _mixture(rng: np.random.Generator, index: int) -> Caption:
    """Several difficulties at once."""
    description = describe(_scene(rng, (1, 2, 2, 3), Lot()), rng, Detail(size=0.5, links=0.7))
    if index % 3 == 0:
        description = with_absent(description, rng, THINGS)
    style = Style(synonym=0.8, plain=0.2, held_out=0.4, all_things=True)
    if index % 2:
        return _caption(description, short_text(description, rng, style))
    return _caption(description, prose_text(description, rng, Prose(implied=0.5, long=index % 4 == 0), style))


_DRAWS: dict[str, _Draw] = {
    "plain": _plain,
    "binding": _short((2, 3), replace(_TINTED, repeats=0.0), Detail(size=0.4, links=0.0, background=0.5)),
    "relations": _short((2,), _EACH_ONCE, Detail(size=0.2, links=1.0, background=0.5)),
    "counting": _short((2, 3, 4), Lot(repeats=0.8), Detail(size=0.2, links=0.0, background=0.5)),
    "long": _long,
    "unseen synonyms": _synonyms,
    "implied": _implied,
    "languages": _foreign(TAUGHT_LANGUAGES),
    "unseen languages": _foreign(HELD_OUT_LANGUAGES),
    "negation": _negation,
    "mixtures": _mixture,
}


def _belongs(group: str, caption: Caption) -> bool:
    """True if a caption tests what its group is named for."""
    counts = [fact for fact in caption.facts if isinstance(fact, Count) and fact.n]
    if group == "binding":
        return len(counts) >= 2 and len({fact.look.colour for fact in counts} - {None}) == len(counts)
    if group == "relations":
        return any(isinstance(fact, Related) for fact in caption.facts)
    if group == "counting":
        return max(fact.n for fact in counts) >= 2
    if group == "long":
        return len(counts) >= 2 and SHORTEST <= len(caption.text.split()) <= LONGEST
    if group in ("languages", "unseen languages"):
        return can_say(Description.of(caption.facts))
    return True


def make(seed: int) -> list[ScenePrompt]:
    """All prompts, group by group."""
    prompts: list[ScenePrompt] = []
    for number, (group, draw) in enumerate(_DRAWS.items()):
        rng = np.random.default_rng((seed, number))
        found: dict[str, ScenePrompt] = {}
        wanted = FIRST if group == "plain" else PER_GROUP
        while len(found) < wanted:
            caption = draw(rng, len(found))
            if _belongs(group, caption):
                found[caption.text] = ScenePrompt(group, caption.text, caption.facts)
        prompts += found.values()
    return prompts


def main(out: Path, seed: int = 2002) -> None:
    """Writes the prompts to OUT."""
    rows = [
        {
            "group": p.group,
            "prompt": p.prompt,
            "facts": [{"fact": type(fact).__name__.lower(), **asdict(fact)} for fact in p.facts],
        }
        for p in make(seed)
    ]
    out.write_text("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n", "utf-8")


if __name__ == "__main__":
    typer.run(main)
