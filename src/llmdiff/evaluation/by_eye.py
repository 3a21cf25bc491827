"""The scene checker beside an eye, on pictures that models have drawn and somebody has labelled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmdiff.evaluation.bootstrap import ratio_interval
from llmdiff.evaluation.domains import DOMAINS
from llmdiff.evaluation.labels import Label, Labelled, Sighting
from llmdiff.progress import Progress, silent
from llmdiff.scenes.facts import Fact
from llmdiff.scenes.scene import Seen, Shown

_REACH = 1 / 8  # of the side of a picture, within which a thing that was found is the one that was seen
_WHAT = ("count", "related", "backdrop", "facts", "pictures", "seen", "colours", "sizes", "found")


@dataclass(frozen=True)
class Judgement:
    """What both say of one thing; the eye None where it cannot decide."""

    eye: bool | None
    checker: bool


def evaluate_by_eye(pictures: Sequence[Labelled], progress: Progress = silent) -> list[dict[str, Any]]:
    """How often the scene checker agrees with an eye.

    Args:
        pictures: As `labelled_pictures` has them.
        progress: Shows how far it is.

    Returns:
        Rows of what, system (those of the pictures, and "all"), compared, undecided (by the eye, and left out),
        agreement, low and high (95 %, by the bootstrap over pictures), and missed and false_alarms (what only the eye
        holds true, and what only the checker does). What is compared: "count", "related" and "backdrop", facts of the
        picture's prompt; "facts", all of them; "pictures", whether all facts of a prompt hold; "seen", whether a thing
        that the eye sees is found with its kind; "colours" and "sizes" of those; "found", whether the eye sees a thing
        of that kind where the checker finds one.

    Example:
        >>> from llmdiff.evaluation.labels import labelled_pictures
        >>> rows = evaluate_by_eye(labelled_pictures(Path("recipes/checker_by_eye")))
        >>> rows[0]["what"], rows[0]["system"]
        ('count', 'base')
    """
    judged = []
    for number, one in enumerate(pictures):
        judged.append((one.system, _judged(one)))
        progress("reading pictures", (number + 1) / len(pictures))
    systems = sorted({one.system for one in pictures}, key=lambda name: (name != "base", name))
    return [
        {"what": what, "system": system} | _summary([own[what] for name, own in judged if system in (name, "all")])
        for what in _WHAT
        for system in (*systems, "all")
    ]


def _judged(one: Labelled) -> Mapping[str, list[Judgement]]:
    domain = DOMAINS[one.prompt.version]
    scene = domain.read(one.image)
    by_kind: dict[str, list[Judgement]] = {"count": [], "related": [], "backdrop": []}
    for fact in one.prompt.facts:
        by_kind[_name(fact)].append(Judgement(one.label.holds(fact), fact.holds(scene)))
    facts = [fact for own in by_kind.values() for fact in own]
    eyes = {fact.eye for fact in facts}
    whole = False if False in eyes else None if None in eyes else True
    picture = Judgement(whole, all(fact.checker for fact in facts))
    return by_kind | {"facts": facts, "pictures": [picture]} | _of_things(one.label, scene, _REACH * domain.side)


def _name(fact: Fact) -> str:
    return type(fact).__name__.lower()


def _of_things(label: Label, scene: Shown, reach: float) -> dict[str, list[Judgement]]:
    """The things that were seen beside those that were found in their places."""
    judged: dict[str, list[Judgement]] = {"seen": [], "colours": [], "sizes": [], "found": []}
    for seen, found in _matched(label.things, scene.things, reach):
        if seen is not None and (len(seen.kinds) > 1 or seen.kind):
            alike = found is not None and found.kind == seen.kind
            judged["seen"].append(Judgement(True if seen.kind else None, alike))
            if found is not None and alike:
                judged["colours"].append(_one_of(seen.colours, any(map(found.has_colour, seen.colours))))
                judged["sizes"].append(_one_of(seen.sizes, found.size in seen.sizes))
        if found is not None:
            kinds = seen.kinds if seen else frozenset[str]()
            undecided = found.kind in kinds and len(kinds) > 1
            judged["found"].append(Judgement(None if undecided else found.kind in kinds, True))
    return judged


def _one_of(seen: frozenset[str], is_among: bool) -> Judgement:
    """The eye has named it, where it could; the checker names it too, or something else."""
    return Judgement(True if len(seen) == 1 else None, is_among)


def _matched(
    seen: Sequence[Sighting], found: Sequence[Seen], reach: float
) -> list[tuple[Sighting | None, Seen | None]]:
    """What was seen with what was found in its place, nearest first, each once; and what is left of both."""
    near = sorted(
        (max(abs(a.x - b.x), abs(a.y - b.y)), i, j) for i, a in enumerate(seen) for j, b in enumerate(found)
    )  # fmt: skip
    of: dict[int, int] = {}
    for distance, i, j in near:
        if distance <= reach and i not in of and j not in of.values():
            of[i] = j
    pairs: list[tuple[Sighting | None, Seen | None]] = [
        (one, found[of[i]] if i in of else None) for i, one in enumerate(seen)
    ]
    return pairs + [(None, one) for j, one in enumerate(found) if j not in of.values()]


def _summary(of_pictures: Sequence[Sequence[Judgement]]) -> dict[str, Any]:
    """All judgements of one kind: how often both agree, and how they differ."""
    decided = [[one for one in own if one.eye is not None] for own in of_pictures]
    every = [one for own in decided for one in own]
    agreed = np.array([sum(one.eye == one.checker for one in own) for own in decided], float)
    ends = ratio_interval(agreed, np.array([len(own) for own in decided], float)) if every else (None, None)
    return {
        "compared": len(every),
        "undecided": sum(map(len, of_pictures)) - len(every),
        "agreement": float(agreed.sum()) / len(every) if every else None,
        **dict(zip(("low", "high"), ends, strict=True)),
        "missed": sum(one.eye is True and not one.checker for one in every),
        "false_alarms": sum(one.eye is False and one.checker for one in every),
    }
