"""Words for the things of the world: synonyms, descriptions, names in other languages; and those kept for tests.

A thing that is `named_only` occurs in training captions under its plain name alone: only a model that knows English
draws it under any other. `words.json` holds the words that were written for the world, and fixes which things are named
only; `reference.json` has what WordNet and emojibase say of them.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from llmdiff.scenes import lexicon
from llmdiff.scenes.lexicon import Words
from llmdiff.world.things import THINGS


@dataclass(frozen=True)
class ThingWords:
    """Ways to say one thing."""

    synonyms: tuple[str, ...]
    mark: str
    """Its class with what tells it apart: "bird that cannot fly and lives on ice"."""
    description: str
    """What it is, in the manner of a dictionary that leaves the word out."""
    riddle: str
    """It speaks of itself and asks for its name; empty where there is none."""
    names: dict[str, str]
    """By language, with an article: `TAUGHT_LANGUAGES` and `HELD_OUT_LANGUAGES`."""
    named_only: bool
    """Whether training captions use its plain name alone."""
    definition: str = ""
    """WordNet's, without an article, in the singular or plural; empty where it has none of use."""
    keywords: tuple[str, ...] = ()
    """Emojibase's, which name neither it nor another thing."""


TAUGHT_LANGUAGES = ("de", "fr", "es", "it")
HELD_OUT_LANGUAGES = ("nl", "pt")


def _rows(name: str) -> list[dict]:
    rows: list[dict] = json.loads((files(__package__) / name).read_text("utf-8"))
    return rows


_REFERENCE = {row["name"]: row for row in _rows("reference.json")}


def _thing_words(row: dict) -> ThingWords:
    reference = _REFERENCE[row["name"]]
    return ThingWords(
        tuple(row["synonyms"]), row["mark"], row["description"], row.get("riddle", ""), row["names"],
        bool(row.get("named_only")), reference["definition"], tuple(reference["keywords"]),
    )  # fmt: skip


THING_WORDS: dict[str, ThingWords] = {row["name"]: _thing_words(row) for row in _rows("words.json")}

NAMED_ONLY: frozenset[str] = frozenset(name for name, words in THING_WORDS.items() if words.named_only)


@cache
def _things_words() -> re.Pattern[str]:
    """Any name of a thing, in a text: "a lobster-coloured dog" would say two."""
    nouns = {form for thing in THINGS for form in (thing.name, thing.noun, thing.plural)}
    nouns |= {synonym for words in THING_WORDS.values() for synonym in words.synonyms}
    return re.compile(rf"\b({'|'.join(re.escape(noun) for noun in sorted(nouns, key=len, reverse=True))})\b", re.I)


def names_a_thing(text: str) -> bool:
    """True if a name or synonym of a thing stands in `text`."""
    return bool(_things_words().search(text))


def _without_things(words: Words) -> Words:
    taught, held_out = ([w for w in part if not names_a_thing(w)] for part in (words.taught, words.held_out))
    return Words(tuple(taught), tuple(held_out))


def _words(taught: str, held_out: str) -> Words:
    return Words(tuple(taught.split(", ")), tuple(held_out.split(", ")))


COLOUR_WORDS: dict[str, Words] = {
    **{name: _without_things(words) for name, words in lexicon.COLOUR_WORDS.items()},
    "orange": _words(
        "orange, apricot, bright orange, amber-orange, marigold, marigold-coloured, apricot-coloured, "
        "persimmon-coloured, papaya-coloured, traffic-cone-coloured, marmalade-coloured, ginger, ember-coloured, "
        "cheddar-orange, neon orange, burnt orange, deep orange, rust-orange, orangey",
        "coral-orange, copper-orange",
    ),
    "black": _words(
        "black, jet-black, pitch-black, coal-black, ink-black, raven-coloured, ebony, charcoal, soot-coloured, "
        "coal-coloured, tar-black, onyx, midnight-black, blackish, dark as coal, licorice-coloured",
        "sable, obsidian, as black as soot",
    ),
}

BACKGROUND_WORDS: dict[str, Words] = {
    **{name: _without_things(words) for name, words in lexicon.BACKGROUND_WORDS.items()},
    "day": _words(
        "by day, in daylight, on a sunny day, under a clear blue sky, at noon, in the afternoon, in the morning, "
        "at midday, during the day, on a bright day, in the sunshine, on a fine summer day, at lunchtime, "
        "in full daylight, on a warm afternoon, one sunny morning, on a pleasant spring day",
        "on a cloudless summer morning, in broad daylight",
    ),
    "meadow": _words(
        "in the meadow, on the grass, on a green field, on a lawn, in a pasture, on the green, in a grassy field, "
        "on a grassy plain, on green grass, in the grassland, on the village green, amid the grass",
        "on the prairie, where sheep graze",
    ),
    "sea": _words(
        "in the sea, in the ocean, in the water, in blue water, at sea, on the open sea, in the Atlantic, "
        "in the Pacific, in salt water, offshore, out at sea, surrounded by water",
        "in the briny deep, in the Mediterranean",
    ),
    "wall": _words(
        "by the wall, in front of a brick wall, against a wall, before a wall of bricks, against red bricks, "
        "in front of brickwork, on a brick wall, by a wall of stones, with bricks behind, before a brick wall",
        "against masonry, in front of what a mason has built",
    ),
}

SIZE_WORDS, RELATION_WORDS, NUMBER_WORDS = lexicon.SIZE_WORDS, lexicon.RELATION_WORDS, lexicon.NUMBER_WORDS


def held_out_words() -> list[str]:
    """Every word or phrase that no training caption of the world contains."""
    tables: tuple[Iterable[Words], ...] = (
        COLOUR_WORDS.values(), BACKGROUND_WORDS.values(), SIZE_WORDS.values(), RELATION_WORDS.values(),
        NUMBER_WORDS.values(),
    )  # fmt: skip
    phrases = [phrase for table in tables for words in table for phrase in words.held_out]
    for name in NAMED_ONLY:
        words = THING_WORDS[name]
        phrases += [*words.synonyms, words.mark, words.description, *filter(None, [words.riddle, words.definition])]
    return phrases
