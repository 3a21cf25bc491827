"""Takes what dictionaries say of the things: `PYTHONPATH=recipes python recipes/world/build_words.py`.

From emojibase the keywords of each thing, fetched with npm; from WordNet its definition, fetched with apt, both in the
versions that `sources.py` pins: the same `reference.json` comes out byte for byte. `word_choices.yaml` says which sense
of WordNet is meant, and which keywords are of no use.
"""

import json
import re
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from llmdiff.structured_text import parse_yaml
from llmdiff.world.lexicon import names_a_thing
from llmdiff.world.things import THINGS, Thing
from world.sources import DEFINITIONS, KEYWORDS, debian_member, fetch, member

FILE = Path(__file__).parents[2] / "src" / "llmdiff" / "world" / "reference.json"
_CHOICES = parse_yaml(Path(__file__).with_name("word_choices.yaml").read_text("utf-8"), "word_choices.yaml")
_LONGEST = 24  # words of a definition


class Definition(NamedTuple):
    """One sense of WordNet."""

    words: tuple[str, ...]
    gloss: str


def main(
    out: Annotated[Path, typer.Argument(help="The file that is written.")] = FILE,
    cache: Annotated[Path, typer.Option(help="Folder of the fetched packages.")] = Path("build/world"),
) -> None:
    """Writes one row for each thing."""
    emoji = {row["hexcode"]: row for row in json.loads(member(fetch(KEYWORDS, cache), "en/compact.json"))}
    package = fetch(DEFINITIONS, cache)
    nouns = Nouns(*(debian_member(package, f"usr/share/wordnet/{name}.noun").decode() for name in ("index", "data")))
    rows = [
        {"name": thing.name, "definition": definition(thing, nouns), "keywords": keywords(thing, emoji, nouns)}
        for thing in THINGS
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", "utf-8")
    typer.echo(
        f"{out}: {sum(bool(row['definition']) for row in rows)} definitions, "
        f"{sum(len(row['keywords']) for row in rows)} keywords"
    )


class Nouns:
    """WordNet's nouns, from the text of its files `index.noun` and `data.noun`."""

    def __init__(self, index: str, data: str) -> None:
        self._places: dict[str, list[str]] = {}
        for line in index.splitlines():
            if not line.startswith(" "):
                parts = line.split()
                self._places[parts[0]] = parts[-int(parts[2]) :]
        self._lines = {line[:8]: line for line in data.splitlines() if not line.startswith(" ")}

    def __contains__(self, word: str) -> bool:
        return word.replace(" ", "_") in self._places

    def sense(self, noun: str, number: int) -> Definition | None:
        """The sense of a noun with that number, from 1."""
        places = self._places.get(noun, [])
        if len(places) < number:
            return None
        head, gloss = self._lines[places[number - 1]].split(" | ", 1)
        parts = head.split()
        words = parts[4 : 4 + 2 * int(parts[3], 16) : 2]
        return Definition(tuple(word.replace("_", " ") for word in words), gloss.strip())


def definition(thing: Thing, nouns: Nouns) -> str:
    """What WordNet says a thing is, without saying its name; empty where it has nothing of use."""
    if thing.name in _CHOICES["no_sense"]:
        return ""
    noun, number = _CHOICES["senses"].get(thing.name, f"{thing.name}.1").rsplit(".", 1)
    found = nouns.sense(noun, int(number))
    if found is None:
        return ""
    gloss = re.sub(r"\([^)]*\)", "", found.gloss.split('"')[0])
    parts = [re.sub(r"\s+", " ", part).strip(" ,:") for part in gloss.split(";")]
    text = _as_many_as_fit([part for part in parts if part])
    text = re.sub(r"^(an?|the|any of (various|numerous|several)) ", "", text)
    names = [thing.name, thing.noun, thing.plural, *found.words]
    says_name = re.search(rf"\b({'|'.join(re.escape(word) for word in names)})s?\b", text, re.IGNORECASE)
    return "" if says_name else text


def _as_many_as_fit(parts: list[str]) -> str:
    """The first part, and others after it while the whole is short enough."""
    text = parts[0] if parts else ""
    for part in parts[1:]:
        if len(f"{text}, {part}".split()) <= _LONGEST:
            text = f"{text}, {part}"
    return text if len(text.split()) <= _LONGEST else ""


def keywords(thing: Thing, emoji: dict[str, dict], nouns: Nouns) -> list[str]:
    """Emojibase's keywords of a thing: nouns that say something of it, and name neither it nor another thing."""
    row = emoji.get(thing.emoji) or emoji[f"{thing.emoji}-FE0F"]
    return [
        word
        for word in row.get("tags", [])
        if _says_something(word) and word in nouns and thing.name not in word and not names_a_thing(word)
    ]


def _says_something(keyword: str) -> bool:
    return len(keyword) > 2 and keyword not in _CHOICES["no_keywords"]


if __name__ == "__main__":
    typer.run(main)
