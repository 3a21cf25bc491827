"""Plain captions: the limited English on which the embedded base model is trained.

"a small red ball left of two blue cups at night"
"""

from collections.abc import Sequence

import numpy as np

from llmdiff.scenes.description import Caption, Description, Detail, Mention, describe
from llmdiff.scenes.scene import Scene

NUMBERS = ("no", "a", "two", "three", "four")
PLURALS = {"fish": "fish", "box": "boxes"}
PLACES = {
    "day": "by day",
    "night": "at night",
    "sunset": "at sunset",
    "snow": "in the snow",
    "desert": "in the desert",
}


def plain_caption(scene: Scene, rng: np.random.Generator, detail: Detail | None = None) -> Caption:
    """A plain caption of `scene` that says as much as the lot decides."""
    description = describe(scene, rng, detail)
    return Caption(plain_text(description), description.facts())


def plain_text(description: Description) -> str:
    """The plain wording of a description."""
    names = [_noun_phrase(mention) for mention in description.mentions]
    if description.relation:
        names[:2] = [f"{names[0]} {description.relation} {names[1]}"]
    place = f" {PLACES[description.background]}" if description.background else ""
    return listed(names) + place


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def plural(kind: str) -> str:
    """The plural of a thing's name."""
    return PLURALS.get(kind, kind + "s")


def _noun_phrase(mention: Mention) -> str:
    look = mention.look
    noun = look.kind if mention.n == 1 else plural(look.kind)
    words = [NUMBERS[mention.n], look.size, look.colour, noun]
    phrase = " ".join(word for word in words if word)
    return "an" + phrase[1:] if phrase.startswith("a ") and phrase[2] in "aeiou" else phrase
