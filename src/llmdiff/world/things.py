"""The things of the world in the order in which a base learns them: a shorter list is the beginning of a longer one."""

import json
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Thing:
    """One thing that a scene can show."""

    name: str
    """Its plain name: one word, which stands for it in every fact."""
    emoji: str
    """Its code points, in hexadecimal."""
    art: str
    """Name of its art in Fluent Emoji."""
    group: str
    """What it is: "animal", "fruit", "vehicle" …"""
    noun: str
    """What one of it is called in a plain caption."""
    plural: str
    """What several of it are called."""


def _thing(row: dict[str, str]) -> Thing:
    noun = row.get("noun", row["name"])
    return Thing(row["name"], row["emoji"], row["art"], row["group"], noun, row.get("plural", noun + "s"))


THINGS: tuple[Thing, ...] = tuple(_thing(row) for row in json.loads((files(__package__) / "things.json").read_text()))
"""All 300, the plainest and most distinct first."""

THING: dict[str, Thing] = {thing.name: thing for thing in THINGS}
"""The things by name."""

NAMES: tuple[str, ...] = tuple(THING)
"""Their names, in order."""

FIRST = 120
"""So many things, the first ones, are a world of their own."""
