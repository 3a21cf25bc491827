"""The content of a caption of a scene, chosen by lot before any word is; every wording puts it in words."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from llmdiff.scenes.description import Caption, Mention
from llmdiff.scenes.facts import Backdrop, Count, Fact, Look, Related
from llmdiff.scenes.scene import Relation, relation
from llmdiff.world.atlas import own_tints
from llmdiff.world.scene import Looks, Scene
from llmdiff.world.vocabulary import OWN

__all__ = ["Caption", "Description", "Detail", "Link", "Mention", "describe"]


@dataclass(frozen=True)
class Link:
    """Mention number `a` stands so to mention number `b`."""

    a: int
    relation: Relation
    b: int


@dataclass(frozen=True)
class Description:
    """The content of one caption."""

    mentions: tuple[Mention, ...]
    links: tuple[Link, ...] = ()
    background: str | None = None
    absent: tuple[str, ...] = ()
    """Things of which the picture has none, and says so."""

    @classmethod
    def of(cls, facts: Iterable[Fact]) -> "Description":
        """The description that states these facts."""
        stated = list(facts)
        mentions = tuple(Mention(f.look, f.n) for f in stated if isinstance(f, Count) and f.n)
        looks = [mention.look for mention in mentions]
        return cls(
            mentions,
            tuple(Link(looks.index(f.a), f.relation, looks.index(f.b)) for f in stated if isinstance(f, Related)),
            next((f.name for f in stated if isinstance(f, Backdrop)), None),
            tuple(f.look.kind for f in stated if isinstance(f, Count) and not f.n),
        )

    def facts(self) -> tuple[Fact, ...]:
        """All that the description states."""
        return tuple(self._facts())

    def _facts(self) -> Iterator[Fact]:
        for mention in self.mentions:
            yield Count(mention.look, mention.n)
        for link in self.links:
            yield Related(self.mentions[link.a].look, link.relation, self.mentions[link.b].look)
        if self.background:
            yield Backdrop(self.background)
        for kind in self.absent:
            yield Count(Look(kind), 0)


@dataclass(frozen=True)
class Detail:
    """The chance of each part of a scene being mentioned in a description.

    A tint is always mentioned: a thing whose colour is not stated has its own.
    """

    own: float = 0.2
    """Of the tint that a thing's own colours are like: "a yellow lemon"."""
    size: float = 0.4
    links: float = 0.5
    """Of each pair of neighbouring mentions that stand in a plain relation."""
    background: float = 0.85


def describe(scene: Scene, rng: np.random.Generator, detail: Detail | None = None) -> Description:
    """Chooses what to say of `scene`: every thing is mentioned, and no two mentions can be confused."""
    detail = detail or Detail()
    groups = Counter(thing.looks for thing in scene.things)
    looks = list(groups)
    order = [looks[i] for i in rng.permutation(len(looks))]
    mentions = tuple(Mention(_look(one, order, rng, detail), groups[one]) for one in order)
    background = scene.background if rng.random() < detail.background else None
    links = tuple(
        link for i in range(len(order) - 1) if rng.random() < detail.links for link in _link(scene, order, groups, i)
    )
    return Description(mentions, links, background)


def _look(one: Looks, all_looks: list[Looks], rng: np.random.Generator, detail: Detail) -> Look:
    alike = [other for other in all_looks if other != one and other[:2] == one[:2]]
    say_size = bool(alike) or rng.random() < detail.size
    return Look(one.kind, _colour(one, rng, detail), one.size if say_size else None)


def _colour(one: Looks, rng: np.random.Generator, detail: Detail) -> str | None:
    if one.colour != OWN:
        return one.colour
    tints = sorted(own_tints(one.kind))
    return tints[0] if tints and rng.random() < detail.own else None


def _link(scene: Scene, order: list[Looks], groups: Counter[Looks], i: int) -> Iterator[Link]:
    """The relation of mention i to the next one, where both are of one thing and it is plain."""
    if groups[order[i]] == groups[order[i + 1]] == 1:
        first, second = (next(t for t in scene.things if t.looks == order[k]) for k in (i, i + 1))
        plain = relation(first, second)
        if plain:
            yield Link(i, plain, i + 1)
