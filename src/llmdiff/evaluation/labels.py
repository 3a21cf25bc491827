"""What somebody has seen on pictures of scenes, without their prompts and the checker's reading.

What the eye cannot decide is left open: "star|flower" is one of both, "none" a blot that looks like no thing, or the
colour of what has several.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image

from llmdiff.errors import LLMDiffError
from llmdiff.evaluation.domains import DOMAINS, Domain
from llmdiff.evaluation.prompts import ScenePrompt, scene_prompts
from llmdiff.files import open_regular, read_text, why_not
from llmdiff.generation import read_picture
from llmdiff.scenes.facts import Backdrop, Count, Fact, Look, Related
from llmdiff.scenes.scene import Thing, relation
from llmdiff.structured_text import LARGEST_JSON, parse_json

NONE = "none"
"""The kind of a blot that looks like no thing, and the colour of what has several."""

_BY_SIGHT = 1 / 32  # of the side of a picture, by which an eye may be wrong about a place


@dataclass(frozen=True)
class Sighting:
    """Something that was seen, and all that it may be; `x` and `y` are its middle, in pixels from the top left."""

    kinds: frozenset[str]
    colours: frozenset[str]
    sizes: frozenset[str]
    x: int
    y: int
    domain: Domain = DOMAINS[1]

    @classmethod
    def of(cls, text: str, domain: Domain = DOMAINS[1]) -> "Sighting":
        """As it is written down: kind, colour, size and place.

        Raises:
            ValueError: It is not written so.

        Example:
            >>> sorted(Sighting.of("star|flower red large 20 31").kinds)
            ['flower', 'star']
        """
        kinds, colours, sizes, x, y = text.split()
        return cls(
            _names(kinds, (*domain.kinds, NONE)), _names(colours, (*domain.looks, NONE)), _names(sizes, domain.sizes),
            int(x), int(y), domain,
        )  # fmt: skip

    @property
    def kind(self) -> str | None:
        """Its kind; None where that is not to be decided, or where it is none."""
        return next(iter(self.kinds)) if len(self.kinds) == 1 and NONE not in self.kinds else None

    def fits(self, look: Look) -> set[bool]:
        """Whether it looks so; both where that is not to be decided."""
        options = product(self.kinds, self.colours, self.sizes)
        return {look.fits(self.domain.thing(*one, self.x, self.y)) for one in options}

    def relations(self, other: "Sighting") -> set[str | None]:
        """How it stands to another, with what the eye may be wrong by in each direction."""
        most = round(_BY_SIGHT * self.domain.side)
        off = (-most, 0, most)
        return {relation(_at(self.x + dx, self.y + dy), _at(other.x, other.y)) for dx, dy in product(off, off)}


@dataclass(frozen=True)
class Label:
    """All that was seen on one picture."""

    backgrounds: frozenset[str]
    things: tuple[Sighting, ...]

    @classmethod
    def of(cls, row: Mapping[str, Any], domain: Domain = DOMAINS[1]) -> "Label":
        """As it is written down.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: It is not written so.
        """
        things = tuple(Sighting.of(text, domain) for text in row["things"])
        return cls(_names(row["background"], domain.backgrounds), things)

    def holds(self, fact: Fact) -> bool | None:
        """Whether a fact holds; None where the eye cannot decide.

        Example:
            >>> label = Label.of({"background": "day", "things": ["star|flower red large 20 31"]})
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
    """A picture with its label, the prompt that it was drawn from, and who drew it."""

    system: str
    prompt: ScenePrompt
    image: Image.Image
    label: Label


def labelled_pictures(folder: Path) -> list[Labelled]:
    """The pictures of a folder that are labelled.

    Args:
        folder: of `pictures.webp`, a sheet of squares, `drawn.json`, which says what they were drawn from and of which
            version the prompts are (1 if it does not), and `labels.json`, which has null for a picture without a label.

    Raises:
        LLMDiffError: A file cannot be read, or does not belong to the others.
    """
    about, labels = _read(folder / "drawn.json"), _read(folder / "labels.json")["pictures"]
    version, drawn = about.get("version", 1), about["pictures"]
    if version not in DOMAINS:
        raise LLMDiffError(f"{folder} has pictures of version {version!r:.40} of the prompts, which there is not.")
    domain, side = DOMAINS[version], DOMAINS[version].side
    sheet, _ = read_picture(folder / "pictures.webp")
    across = sheet.width // side
    if not len(drawn) == len(labels) <= across * (sheet.height // side) < len(drawn) + across:
        raise LLMDiffError(f"{folder} does not have as many labels as pictures: add those that are missing.")
    prompts = {prompt.prompt: prompt for prompt in scene_prompts(version=version)}
    found = []
    for number, (one, label) in enumerate(zip(drawn, labels, strict=True)):
        if label is None:
            continue
        x, y = number % across * side, number // across * side
        image = sheet.crop((x, y, x + side, y + side))
        try:
            found.append(Labelled(str(one["system"]), prompts[one["prompt"]], image, Label.of(label, domain)))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise LLMDiffError(
                f"The picture {number} of {folder} is not labelled as it should be ({error})."
            ) from error
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        text = read_text(open_regular(path), LARGEST_JSON)
    except (OSError, UnicodeError) as error:
        raise LLMDiffError(f"The labels {path} cannot be read ({why_not(error)}).") from error
    content = parse_json(text, f"The file {path}")
    if not isinstance(content, dict) or not isinstance(content.get("pictures"), list):
        raise LLMDiffError(f"The file {path} has no list of pictures; mend it.")
    return content


def _related(fact: Related, x: Sighting, y: Sighting) -> set[bool]:
    relations = x.relations(y)
    stands = {True} if relations == {fact.relation} else {fact.relation in relations, False}
    return {all(answers) for answers in product(x.fits(fact.a), y.fits(fact.b), stands)}


def _names(text: str, known: Iterable[str]) -> frozenset[str]:
    names = text.split("|")
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{unknown[0]!r} is none of {', '.join(known)}")
    return frozenset(names)


def _at(x: int, y: int) -> Thing:
    return Thing("", "", "", x, y)
