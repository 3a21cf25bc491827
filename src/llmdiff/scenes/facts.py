"""Facts that a caption states of a scene, and whether they hold.

"two red balls left of a cup at night" states
`Count(Look("ball", "red"), 2)`, `Count(Look("cup"), 1)`, `Related(...)` and `Backdrop("night")`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from llmdiff.scenes.scene import Relation, Scene, Seen, Shown, place, relation
from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, SIZES


@dataclass(frozen=True)
class Look:
    """The properties of a thing that are stated; None leaves one open."""

    kind: str
    colour: str | None = None
    size: str | None = None

    def fits(self, thing: Seen) -> bool:
        """True if `thing` looks so."""
        return (
            self.kind == thing.kind
            and (self.colour is None or thing.has_colour(self.colour))
            and self.size in (None, thing.size)
        )  # fmt: skip


@dataclass(frozen=True)
class Count:
    """Exactly `n` things look so."""

    look: Look
    n: int

    def holds(self, scene: Shown) -> bool:
        return sum(self.look.fits(thing) for thing in scene.things) == self.n


@dataclass(frozen=True)
class Related:
    """Some thing that looks like `a` stands so to one that looks like `b`."""

    a: Look
    relation: Relation
    b: Look

    def holds(self, scene: Shown) -> bool:
        return any(
            self.a.fits(x) and self.b.fits(y) and relation(x, y) == self.relation
            for x in scene.things
            for y in scene.things
            if x is not y
        )


@dataclass(frozen=True)
class Backdrop:
    """The background is this one."""

    name: str

    def holds(self, scene: Shown) -> bool:
        return scene.background == self.name


Fact = Count | Related | Backdrop


def all_hold(facts: Iterable[Fact], scene: Shown) -> bool:
    """True if every fact holds of `scene`."""
    return all(fact.holds(scene) for fact in facts)


def scene_with(facts: Sequence[Fact], rng: np.random.Generator) -> Scene:
    """A scene of just the things that consistent facts count; what they leave open is drawn by lot."""
    backdrop = next((fact.name for fact in facts if isinstance(fact, Backdrop)), None)
    background = backdrop or str(rng.choice(list(BACKGROUNDS)))
    while True:
        looks = [_look(fact.look, rng) for fact in facts if isinstance(fact, Count) for _ in range(fact.n)]
        scene = Scene(background, place(looks, rng))
        if all_hold(facts, scene):
            return scene


def _look(look: Look, rng: np.random.Generator) -> tuple[str, str, str]:
    return look.kind, look.colour or str(rng.choice(list(COLOURS))), look.size or str(rng.choice(list(SIZES)))
