"""What was drawn in place of what was stated, property by property.

"a red ball left of a cup" states two kinds, a colour, two numbers and a relation. A picture of a pink ball right of a
cup shows both kinds and numbers, but pink for red and "right of" for "left of".
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from llmdiff.scenes.facts import Backdrop, Count, Fact, Look, Related
from llmdiff.scenes.scene import Seen, Shown, relation

NOTHING = "nothing"
"""In the place of a thing that is not drawn, or not stated."""


class Reading(NamedTuple):
    """One stated property and the one that was drawn.

    Attributes:
        what: "kind", "colour", "size", "number", "relation" or "background".
        stated: Its value in the prompt.
        drawn: Its value in the picture.
    """

    what: str
    stated: str
    drawn: str


def readings(facts: Sequence[Fact], scene: Shown, colours: Iterable[str]) -> list[Reading]:
    """Everything that the facts state beside what the picture shows.

    Stated things are matched with things on the picture one to one, those first that have most in common: the kind
    counts more than the colour, the colour more than the size. Where the kind is another, colour and size still
    count. A relation is read where both its things are there.

    Args:
        facts: Of a prompt.
        scene: What its picture shows.
        colours: All that things may have.

    Example:
        >>> scene = Scene("night", (Thing("ball", "pink", "small", 32, 32),))
        >>> [tuple(one) for one in readings([Count(Look("ball", "red"), 1)], scene, ["red", "pink"])]
        [('kind', 'ball', 'ball'), ('colour', 'red', 'pink'), ('number', '1', '1')]
    """
    counts = [fact for fact in facts if isinstance(fact, Count)]
    looks = [fact.look for fact in counts for _ in range(fact.n)]
    matches = _matched(looks, scene.things)
    found: list[Reading] = []
    for look, thing in zip(looks, matches, strict=True):
        found += _of_thing(look, thing, list(colours))
    taken = {id(thing) for thing in matches if thing is not None}
    found += [Reading("kind", NOTHING, thing.kind) for thing in scene.things if id(thing) not in taken]
    found += [Reading("number", str(fact.n), str(_number(fact.look, counts, scene.things))) for fact in counts]
    found += [one for fact in facts if isinstance(fact, Related) for one in _of_relation(fact, looks, matches)]
    return found + [Reading("background", fact.name, scene.background) for fact in facts if isinstance(fact, Backdrop)]


def confusion(all_readings: Iterable[Reading]) -> list[dict[str, Any]]:
    """How often each stated value was drawn as which, the most frequent first.

    Returns:
        Rows of what, stated, drawn, count, and share of all times that it was stated.

    Example:
        >>> confusion([Reading("colour", "red", "pink"), Reading("colour", "red", "red")])[0]
        {'what': 'colour', 'stated': 'red', 'drawn': 'pink', 'count': 1, 'share': 0.5}
    """
    counts = Counter(all_readings)
    stated: Counter[tuple[str, str]] = Counter()
    for one, count in counts.items():
        stated[one[:2]] += count
    return [
        {**one._asdict(), "count": count, "share": count / stated[one[:2]]}
        for one, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _matched(looks: Sequence[Look], things: Sequence[Seen]) -> list[Seen | None]:
    """The thing that stands for each look, none twice."""
    pairs = sorted(
        ((-_likeness(look, thing), i, j) for i, look in enumerate(looks) for j, thing in enumerate(things)),
    )
    found: list[Seen | None] = [None] * len(looks)
    free = set(range(len(things)))
    for _, i, j in pairs:
        if found[i] is None and j in free:
            found[i] = things[j]
            free.remove(j)
    return found


def _likeness(look: Look, thing: Seen) -> int:
    colour = look.colour is not None and thing.has_colour(look.colour)
    return 4 * (look.kind == thing.kind) + 2 * colour + (look.size == thing.size)


def _of_thing(look: Look, thing: Seen | None, colours: Sequence[str]) -> list[Reading]:
    found = [Reading("kind", look.kind, thing.kind if thing else NOTHING)]
    if thing and look.colour:
        found.append(Reading("colour", look.colour, _colour(thing, look.colour, colours)))
    if thing and look.size:
        found.append(Reading("size", look.size, thing.size))
    return found


def _colour(thing: Seen, stated: str, colours: Sequence[str]) -> str:
    """The stated one if the thing has it, which may have several."""
    return next((colour for colour in (stated, *colours) if thing.has_colour(colour)), "its own")


def _number(look: Look, counts: Sequence[Count], things: Sequence[Seen]) -> int:
    """Things of a kind; where several counts name that kind, those that are most like this one."""
    rivals = [fact.look for fact in counts if fact.look.kind == look.kind]
    same = [thing for thing in things if thing.kind == look.kind]
    return sum(max(rivals, key=lambda rival: _likeness(rival, thing)) == look for thing in same)


def _of_relation(fact: Related, looks: Sequence[Look], matches: Sequence[Seen | None]) -> list[Reading]:
    by_look = {look: thing for look, thing in zip(looks, matches, strict=True) if thing and thing.kind == look.kind}
    a, b = by_look.get(fact.a), by_look.get(fact.b)
    return [Reading("relation", fact.relation, relation(a, b) or "neither")] if a and b else []
