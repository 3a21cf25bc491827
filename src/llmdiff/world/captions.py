"""Plain captions: the limited English on which the base is trained.

"a small red dog left of two cups on the grass"
"""

import re

import numpy as np

from llmdiff.scenes.captions import NUMBERS, listed
from llmdiff.world.description import Caption, Description, Detail, Mention, describe
from llmdiff.world.scene import Scene
from llmdiff.world.things import THING

PLACES = {
    "day": "by day",
    "night": "at night",
    "sunset": "at sunset",
    "snow": "in the snow",
    "desert": "in the desert",
    "meadow": "in the meadow",
    "sea": "in the sea",
    "wall": "by the wall",
}


def plain(scene: Scene, rng: np.random.Generator | None = None, detail: Detail | None = None) -> str:
    """A plain caption of `scene`, which says all without `rng`, and else as much as the lot decides.

    Example:
        >>> plain(Scene("snow", (Placed("penguin", "blue", "large", 8, 56),)))
        'a large blue penguin in the snow'
    """
    return plain_caption(scene, rng, detail).text


def plain_caption(scene: Scene, rng: np.random.Generator | None = None, detail: Detail | None = None) -> Caption:
    """The same with the facts that it states."""
    detail = detail or (Detail() if rng else Detail(size=1, links=1, background=1))
    description = describe(scene, rng or np.random.default_rng(0), detail)
    return Caption(plain_text(description), description.facts())


def plain_text(description: Description) -> str:
    """The plain wording of a description. What is absent goes unsaid: the base draws only what it is told."""
    names = [noun_phrase(mention) for mention in description.mentions]
    related = {link.b: link for link in description.links if link.b == link.a + 1}
    parts: list[str] = []
    for i, name in enumerate(names):
        if i in related:
            parts[-1] = f"{parts[-1]} {related[i].relation} {name}"
        else:
            parts.append(name)
    place = f" {PLACES[description.background]}" if description.background else ""
    return listed(parts) + place


def noun_phrase(mention: Mention) -> str:
    """ "a small red dog", "two dogs"."""
    look, thing = mention.look, THING[mention.look.kind]
    noun = thing.noun if mention.n == 1 else thing.plural
    words = " ".join(word for word in (look.size, look.colour, noun) if word)
    return article(words) if mention.n == 1 else f"{NUMBERS[mention.n]} {words}"


def article(phrase: str) -> str:
    """The phrase with its article: by its sound, "an hourglass", "a unicorn"; and "the largest beast"."""
    if re.match(r"(first|hardest|largest|smallest)\b", phrase):
        return f"the {phrase}"
    return f"an {phrase}" if re.match(r"(?!uni|one\b|eu)([aeiou]|hour)", phrase, re.I) else f"a {phrase}"
