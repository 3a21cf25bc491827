"""Natural captions: the same facts in the wordings that people use, with clauses, comparisons and many synonyms.

"Beneath the enormous crimson lodge there is a wee ivory mug, after dark."
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from llmdiff.scenes.captions import listed, plural
from llmdiff.scenes.description import Caption, Description, Detail, Mention, describe
from llmdiff.scenes.lexicon import (
    BACKGROUND_WORDS,
    COLOUR_WORDS,
    KIND_WORDS,
    NUMBER_WORDS,
    RELATION_WORDS,
    SIZE_WORDS,
    Words,
)
from llmdiff.scenes.scene import OPPOSITE, Scene
from llmdiff.scenes.writing import CLOSINGS, LINKS, Chooser

_CLAUSES = ("that is {}", "which is {}", "whose colour is {}", "painted {}", "in {}")


@dataclass(frozen=True)
class Style:
    """The style of a natural caption."""

    held_out: float = 0.0
    """Chance of each word being one that training never sees."""
    plain: float = 0.35
    """Chance of each word being the plain one."""
    clause: float = 0.2
    """Chance that a colour stands in a clause of its own."""


def natural_caption(
    scene: Scene, rng: np.random.Generator, style: Style | None = None, detail: Detail | None = None
) -> Caption:
    """A natural caption of `scene`."""
    description = describe(scene, rng, detail)
    return Caption(natural_text(description, rng, style), description.facts())


def natural_text(description: Description, rng: np.random.Generator, style: Style | None = None) -> str:
    """A natural wording of a description, drawn by lot."""
    return _Writer(rng, style or Style()).text(description)


class _Writer(Chooser):
    def __init__(self, rng: np.random.Generator, style: Style) -> None:
        super().__init__(rng, style)
        self.style = style

    def text(self, description: Description) -> str:
        parts = [self.noun_phrase(mention) for mention in description.mentions]
        if description.relation:
            parts[:2] = [self.related(parts[0], parts[1], description)]
        body = self.joined(parts)
        where = self.word(BACKGROUND_WORDS, description.background) if description.background else ""
        return self.finish(self.opened(body, where) + self.pick(CLOSINGS))

    def noun_phrase(self, mention: Mention) -> str:
        look, many = mention.look, mention.n > 1
        noun = self.word(KIND_WORDS, look.kind)
        noun = plural_phrase(noun, look.kind) if many else noun
        size = self.word(SIZE_WORDS, look.size) if look.size else ""
        colour = self.word(COLOUR_WORDS, look.colour) if look.colour else ""
        number = self.number(mention.n) if many else ""
        clause = ""
        if colour and self.chance(self.style.clause):
            pattern = self.pick(_CLAUSES)
            clause = (pattern.replace(" is ", " are ") if many and "whose" not in pattern else pattern).format(colour)
            colour = ""
        head = " ".join(filter(None, (size, colour, noun)))
        phrase = f"{number} {head}" if many else article(head)
        return f"{phrase} {clause}".strip()

    def number(self, n: int) -> str:
        return self.choose(NUMBER_WORDS[n], NUMBER_WORDS[n].taught[0])

    def related(self, a: str, b: str, description: Description) -> str:
        """`a` in its relation to `b`, said from either side."""
        assert description.relation
        forwards = self.word(RELATION_WORDS, description.relation)
        backwards = self.word(RELATION_WORDS, OPPOSITE[description.relation])
        return self.in_relation(a, b, forwards, backwards)

    def joined(self, parts: list[str]) -> str:
        if len(parts) == 1:
            return parts[0]
        return listed(parts) if self.chance(0.5) else self.pick(LINKS).join(parts)

    def word(self, words: dict[str, Words], name: str) -> str:
        return self.choose(words[name], name if words is not BACKGROUND_WORDS else words[name].taught[0])


def plural_phrase(noun: str, kind: str) -> str:
    """The plural of a (possibly compound) name of a thing of `kind`."""
    head, of, rest = noun.partition(" of ")
    words = head.split(" ")
    last = words[-1]
    unchanged = {"trout", "carp", "salmon", "herring", "cod", "mackerel", "tuna", "perch", "pike", "haddock", "bass",
                 "halibut", "tilapia", "bream", "koi", "sturgeon"}  # fmt: skip
    if last == kind:
        words[-1] = plural(kind)
    elif last in unchanged or last.endswith("fish"):
        pass
    elif last == "fungus":
        words[-1] = "fungi"
    elif last.endswith("y") and last[-2] not in "aeiou":
        words[-1] = last[:-1] + "ies"
    else:
        words[-1] = last + ("es" if last.endswith(("s", "x", "ch", "sh")) else "s")
    return " ".join(words) + of + rest


def article(phrase: str) -> str:
    """The phrase with "a" or "an" before it."""
    return f"an {phrase}" if phrase[0].lower() in "aeiou" else f"a {phrase}"


def held_out_words() -> list[str]:
    """Every word or phrase that no training caption contains."""
    tables: tuple[Iterable[Words], ...] = (
        COLOUR_WORDS.values(), KIND_WORDS.values(), BACKGROUND_WORDS.values(),
        SIZE_WORDS.values(), RELATION_WORDS.values(), NUMBER_WORDS.values(),
    )  # fmt: skip
    return [phrase for table in tables for words in table for phrase in words.held_out]


def contains_held_out(text: str) -> bool:
    """True if a held-out word stands in `text`."""
    forms = (form for phrase in held_out_words() for form in (phrase, plural_phrase(phrase, "")))
    return any(re.search(rf"\b{re.escape(form)}\b", text, re.IGNORECASE) for form in forms)
