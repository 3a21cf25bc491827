"""The scene checker beside an eye: pictures that somebody has labelled, without the prompt and the checker's reading.

A label names all that can be seen, in the checker's own words; what the eye cannot decide is left open and left out
of the comparison, and counted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from llmdiff.errors import LLMDiffError
from llmdiff.evaluation.prompts import ScenePrompt, scene_prompts
from llmdiff.generation import read_picture
from llmdiff.scenes.checker import read
from llmdiff.scenes.facts import Backdrop, Count, Fact, Look, Related
from llmdiff.scenes.scene import Scene, Thing, relation
from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, IMAGE_SIZE, KINDS, SIZES
from llmdiff.structured_text import read_json

NONE = "none"
"""The kind of a blot that looks like no thing, and the colour of what has several."""

_BY_SIGHT = 2  # pixels by which an eye may be wrong about a place
_REACH = 8  # pixels within which a thing that was found is the one that was seen
_DRAWS = 4000


@dataclass(frozen=True)
class Sighting:
    """Something that was seen, and all that it may be; `x` and `y` are its middle, in pixels from the top left."""

    kinds: frozenset[str]
    colours: frozenset[str]
    sizes: frozenset[str]
    x: int
    y: int

    @classmethod
    def of(cls, text: str) -> "Sighting":
        """As it is written down.

        Raises:
            ValueError: It is not written so.

        Example:
            >>> Sighting.of("star|flower red large 20 31").x
            20
        """
        kinds, colours, sizes, x, y = text.split()
        return cls(
            _of(kinds, (*KINDS, NONE)), _of(colours, (*COLOURS, NONE)), _of(sizes, SIZES), int(x), int(y)
        )  # fmt: skip

    def fits(self, look: Look) -> set[bool]:
        """Whether it looks so; both where that is not to be decided."""
        stated = (look.kind, self.kinds), (look.colour, self.colours), (look.size, self.sizes)
        perhaps = all(value is None or value in seen for value, seen in stated)
        surely = perhaps and all(value is None or len(seen) == 1 for value, seen in stated)
        return {True} if surely else {True, False} if perhaps else {False}

    def relations(self, other: "Sighting") -> set[str | None]:
        """How it stands to another, with what the eye may be wrong by in each direction."""
        off = (-_BY_SIGHT, 0, _BY_SIGHT)
        return {relation(_at(self.x + dx, self.y + dy), _at(other.x, other.y)) for dx, dy in product(off, off)}


@dataclass(frozen=True)
class Label:
    """All that an eye has seen on one picture."""

    backgrounds: frozenset[str]
    things: tuple[Sighting, ...]

    def holds(self, fact: Fact) -> bool | None:
        """Whether a fact holds; None where the eye cannot decide.

        Example:
            >>> label = Label(frozenset(["day"]), (Sighting.of("star|flower red large 20 31"),))
            >>> label.holds(Count(Look("star"), 1)), label.holds(Count(Look("cup"), 1))
            (None, False)
        """
        answers = self._answers(fact)
        return answers.pop() if len(answers) == 1 else None

    def _answers(self, fact: Fact) -> set[bool]:
        if isinstance(fact, Backdrop):
            return {name == fact.name for name in self.backgrounds}
        if isinstance(fact, Count):
            fits = [thing.fits(fact.look) for thing in self.things]
            fewest, most = fits.count({True}), sum(True in one for one in fits)
            return {number == fact.n for number in range(fewest, most + 1)}
        pairs = [_related(fact, x, y) for x in self.things for y in self.things if x is not y]
        return {True} if {True} in pairs else {True, False} if {True, False} in pairs else {False}


@dataclass(frozen=True)
class Labelled:
    """A picture with its label and the prompt that it was drawn from."""

    system: str
    prompt: ScenePrompt
    image: Image.Image
    label: Label


@dataclass(frozen=True)
class Compared:
    """One thing that both have judged.

    Attributes:
        what: The kind of judgement.
        eye: What the eye says; None if it cannot decide.
        checker: What the checker says.
    """

    what: str
    eye: bool | None
    checker: bool


def labelled_pictures(folder: Path) -> list[Labelled]:
    """The pictures of a folder: `pictures.webp`, a sheet of squares of 64 pixels, with `drawn.json` and `labels.json`.

    Raises:
        LLMDiffError: A file cannot be read, or does not belong to the others.
    """
    drawn = read_json(folder / "drawn.json").get("pictures", [])
    labels = read_json(folder / "labels.json").get("pictures", [])
    sheet, _ = read_picture(folder / "pictures.webp")
    across = sheet.width // IMAGE_SIZE
    if not len(drawn) == len(labels) == across * (sheet.height // IMAGE_SIZE):
        raise LLMDiffError(f"{folder} does not have as many labels as pictures: label those that are missing.")
    prompts = {prompt.prompt: prompt for prompt in scene_prompts()}
    found = []
    for number, (one, label) in enumerate(zip(drawn, labels, strict=True)):
        x, y = number % across * IMAGE_SIZE, number // across * IMAGE_SIZE
        image = sheet.crop((x, y, x + IMAGE_SIZE, y + IMAGE_SIZE))
        try:
            found.append(Labelled(one["system"], prompts[one["prompt"]], image, _label(label)))
        except (KeyError, TypeError, ValueError) as error:
            raise LLMDiffError(f"The label {number} of {folder} cannot be read ({error}): mend it.") from error
    return found


def evaluate_by_eye(folder: Path) -> list[dict[str, Any]]:
    """How often the scene checker agrees with an eye, on the pictures that `labelled_pictures` takes.

    Returns:
        Rows of what ("count", "related" and "backdrop": facts of the picture's prompt; "facts": all of them;
        "picture": whether all facts of its prompt hold; "seen": a thing that the eye sees has been found with its kind;
        "colour" and "size" of those; "found": a thing that was found has a kind that the eye sees there), system
        ("base", "adapted" or "all"), compared, undecided (by the eye, and left out), agreement, low and high (95 %,
        by the bootstrap over pictures), true (share that the eye holds true), and how many of those the checker
        has missed, and of the others held true.

    Raises:
        LLMDiffError: As for `labelled_pictures`.
    """
    pictures = labelled_pictures(folder)
    judged = [(one.system, _judged(one)) for one in pictures]
    whats = ("count", "related", "backdrop", "facts", "picture", "seen", "colour", "size", "found")
    systems = [*dict.fromkeys(sorted((one.system for one in pictures), reverse=True)), "all"]
    return [
        {"what": what, "system": system} | _summary([own[what] for name, own in judged if system in (name, "all")])
        for what in whats
        for system in systems
    ]


def _judged(one: Labelled) -> Mapping[str, list[Compared]]:
    scene = read(one.image).scene
    facts = [
        Compared(type(fact).__name__.lower(), one.label.holds(fact), fact.holds(scene)) for fact in one.prompt.facts
    ]
    eyes = [fact.eye for fact in facts]
    whole = False if False in eyes else None if None in eyes else True
    judged = {kind: [fact for fact in facts if fact.what == kind] for kind in ("count", "related", "backdrop")}
    judged |= {"facts": facts, "picture": [Compared("picture", whole, all(fact.checker for fact in facts))]}
    return judged | _things(one.label, scene)


def _things(label: Label, scene: Scene) -> dict[str, list[Compared]]:
    """The things that were seen beside those that were found, matched by their places."""
    pairs = _matched(label.things, scene.things)
    certain = [(seen, found) for seen, found in pairs if seen is not None and len(seen.kinds) == 1]
    certain = [(seen, found) for seen, found in certain if NONE not in seen.kinds]
    both = [(seen, found) for seen, found in certain if found is not None and found.kind in seen.kinds]
    return {
        "seen": [Compared("seen", True, found is not None and found.kind in seen.kinds) for seen, found in certain]
        + [Compared("seen", None, False) for seen, _ in pairs if seen is not None and len(seen.kinds) > 1],
        "colour": [_compared("colour", seen.colours, found.colour) for seen, found in both],
        "size": [_compared("size", seen.sizes, found.size) for seen, found in both],
        "found": [_found(seen, found) for seen, found in pairs if found is not None],
    }


def _compared(what: str, seen: frozenset[str], found: str) -> Compared:
    """The eye always names it; the checker is right or not."""
    return Compared(what, True if len(seen) == 1 else None, found in seen)


def _found(seen: Sighting | None, found: Thing) -> Compared:
    """Whether the eye sees a thing where the checker has found one, and of that kind."""
    kinds = frozenset([NONE]) if seen is None else seen.kinds
    return Compared("found", None if len(kinds) > 1 and found.kind in kinds else found.kind in kinds, True)


def _matched(seen: Sequence[Sighting], found: Sequence[Thing]) -> list[tuple[Sighting | None, Thing | None]]:
    """What was seen with what was found in its place, nearest first, each once; and what is left of both."""
    near = sorted(
        (max(abs(a.x - b.x), abs(a.y - b.y)), i, j) for i, a in enumerate(seen) for j, b in enumerate(found)
    )
    of: dict[int, int] = {}
    for distance, i, j in near:
        if distance <= _REACH and i not in of and j not in of.values():
            of[i] = j
    pairs: list[tuple[Sighting | None, Thing | None]] = [
        (one, found[of[i]] if i in of else None) for i, one in enumerate(seen)
    ]
    return pairs + [(None, one) for j, one in enumerate(found) if j not in of.values()]


def _summary(of_pictures: Sequence[Sequence[Compared]]) -> dict[str, Any]:
    """Of all that was compared: agreement with its interval, and what it is made of."""
    decided = [[one for one in own if one.eye is not None] for own in of_pictures]
    every = [one for own in decided for one in own]
    agreed = np.array([sum(one.eye == one.checker for one in own) for own in decided], float)
    counts = np.array([len(own) for own in decided], float)
    low, high = _interval(agreed, counts)
    return {
        "compared": len(every),
        "undecided": sum(len(own) for own in of_pictures) - len(every),
        "agreement": float(agreed.sum() / counts.sum()) if every else 1.0,
        "low": low,
        "high": high,
        "true": sum(bool(one.eye) for one in every),
        "missed": sum(bool(one.eye) and not one.checker for one in every),
        "wrongly_true": sum(one.eye is False and one.checker for one in every),
    }


def _interval(agreed: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """95 % interval of the share of what agrees, of (N,) pictures, which are what is sampled."""
    places = np.random.default_rng(0).integers(0, len(counts), (_DRAWS, len(counts)))
    wholes = counts[places].sum(1)
    shares = agreed[places].sum(1)[wholes > 0] / wholes[wholes > 0]
    low, high = np.quantile(shares, (0.025, 0.975)) if len(shares) else (0.0, 1.0)
    return float(low), float(high)


def _related(fact: Related, x: Sighting, y: Sighting) -> set[bool]:
    relations = x.relations(y)
    stands = {True} if relations == {fact.relation} else {fact.relation in relations, False}
    parts = (x.fits(fact.a), y.fits(fact.b), stands)
    return {all(answers) for answers in product(*parts)}


def _label(row: Mapping[str, Any]) -> Label:
    return Label(_of(row["background"], BACKGROUNDS), tuple(Sighting.of(text) for text in row["things"]))


def _of(text: str, known: Iterable[str]) -> frozenset[str]:
    names = text.split("|")
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{unknown[0]!r} is none of {', '.join(known)}")
    return frozenset(names)


def _at(x: int, y: int) -> Thing:
    return Thing("", "", "", x, y)
