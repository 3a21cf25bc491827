"""The content of a caption of a scene, chosen by lot before any word is; every wording puts it in words."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from llmdiff.scenes.facts import Backdrop, Count, Fact, Look, Related
from llmdiff.scenes.scene import Relation, Scene, Thing, relation


@dataclass(frozen=True)
class Caption:
    """A wording and the facts that it states."""

    text: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Mention:
    """`n` things of one look, mentioned together."""

    look: Look
    n: int


@dataclass(frozen=True)
class Description:
    """The content of one caption: the relation, where there is one, holds between the first two mentions."""

    mentions: tuple[Mention, ...]
    relation: Relation | None
    background: str | None

    @classmethod
    def of(cls, facts: Iterable[Fact]) -> "Description":
        """The description that states these facts, as `facts` gave them."""
        stated = list(facts)
        return cls(
            mentions=tuple(Mention(fact.look, fact.n) for fact in stated if isinstance(fact, Count)),
            relation=next((fact.relation for fact in stated if isinstance(fact, Related)), None),
            background=next((fact.name for fact in stated if isinstance(fact, Backdrop)), None),
        )

    def facts(self) -> tuple[Fact, ...]:
        """All that the description states."""
        return tuple(self._facts())

    def _facts(self) -> Iterator[Fact]:
        for mention in self.mentions:
            yield Count(mention.look, mention.n)
        if self.relation:
            yield Related(self.mentions[0].look, self.relation, self.mentions[1].look)
        if self.background:
            yield Backdrop(self.background)


@dataclass(frozen=True)
class Detail:
    """The chance of each part of a scene being mentioned in a description."""

    colour: float = 0.93
    size: float = 0.4
    relation: float = 0.5
    background: float = 0.85


def describe(scene: Scene, rng: np.random.Generator, detail: Detail | None = None) -> Description:
    """Chooses what to say of `scene`: every thing is mentioned, and no two mentions can be confused."""
    detail = detail or Detail()
    groups: Counter[tuple[str, str, str]] = Counter((t.kind, t.colour, t.size) for t in scene.things)
    looks = list(groups)
    rng.shuffle(looks)
    mentions = tuple(Mention(_look(look, looks, rng, detail), groups[look]) for look in looks)
    background = scene.background if rng.random() < detail.background else None
    return Description(mentions, _relation(scene, mentions, rng, detail), background)


def _look(
    look: tuple[str, str, str], looks: list[tuple[str, str, str]], rng: np.random.Generator, detail: Detail
) -> Look:
    kind, colour, size = look
    namesakes = [other for other in looks if other != look and other[0] == kind]
    say_colour = bool(namesakes) or rng.random() < detail.colour
    say_size = any(other[1] == colour for other in namesakes) or rng.random() < detail.size
    return Look(kind, colour if say_colour else None, size if say_size else None)


def _relation(scene: Scene, mentions: tuple[Mention, ...], rng: np.random.Generator, detail: Detail) -> Relation | None:
    if len(mentions) < 2 or any(m.n > 1 for m in mentions[:2]) or rng.random() >= detail.relation:
        return None
    return relation(_only(scene, mentions[0].look), _only(scene, mentions[1].look))


def _only(scene: Scene, look: Look) -> Thing:
    return next(thing for thing in scene.things if look.fits(thing))
