"""A reader of plain captions, written from the grammar and not from the code that words them.

caption = list [place];  list = one {", " one} [" and " one];  the first of the list may be "one relation one".
"""

import re

from llmdiff.scenes.facts import Backdrop, Count, Fact, Look, Related

NUMBERS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4}
PLACES = {"by day": "day", "at night": "night", "at sunset": "sunset", "in the snow": "snow", "in the desert": "desert"}
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white")
SIZES = ("small", "large")
RELATION = r" (left of|right of|above|below) "


def facts_of(caption: str) -> set[Fact]:
    """The facts that a plain caption states."""
    facts: set[Fact] = set()
    for words, place in PLACES.items():
        if caption.endswith(f" {words}"):
            caption = caption.removesuffix(f" {words}")
            facts.add(Backdrop(place))
    first, *others = re.split(r", | and ", caption)
    related = re.split(RELATION, first)
    counts = [_count(phrase) for phrase in (*related[::2], *others)]
    if len(related) == 3:
        facts.add(Related(counts[0].look, related[1], counts[1].look))
    return facts | set(counts)


def _count(phrase: str) -> Count:
    number, *words = phrase.split(" ")
    noun = words.pop()
    n = NUMBERS[number]
    kind = noun if n == 1 or noun == "fish" else {"boxes": "box"}.get(noun, noun.removesuffix("s"))
    size = words.pop(0) if words and words[0] in SIZES else None
    colour = words.pop(0) if words and words[0] in COLOURS else None
    assert not words, phrase
    assert (number == "an") == (n == 1 and phrase.split(" ")[1][0] in "aeiou"), phrase
    return Count(Look(kind, colour, size), n)
