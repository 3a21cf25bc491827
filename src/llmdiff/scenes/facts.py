"""Facts that a caption states of a scene, and whether they hold.

"two red balls left of a cup at night" states
`Count(Look("ball", "red"), 2)`, `Count(Look("cup"), 1)`, `Related(...)` and `Backdrop("night")`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from llmdiff.scenes.scene import Relation, Scene, Thing, relation


@dataclass(frozen=True)
class Look:
    """What is said of a thing; None leaves a property open."""

    kind: str
    colour: str | None = None
    size: str | None = None

    def fits(self, thing: Thing) -> bool:
        """Whether `thing` looks so."""
        return (
            self.kind == thing.kind
            and self.colour in (None, thing.colour)
            and self.size in (None, thing.size)
        )  # fmt: skip


@dataclass(frozen=True)
class Count:
    """Exactly `n` things look so."""

    look: Look
    n: int

    def holds(self, scene: Scene) -> bool:
        return sum(self.look.fits(thing) for thing in scene.things) == self.n


@dataclass(frozen=True)
class Related:
    """Some thing that looks like `a` stands so to one that looks like `b`."""

    a: Look
    relation: Relation
    b: Look

    def holds(self, scene: Scene) -> bool:
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

    def holds(self, scene: Scene) -> bool:
        return scene.background == self.name


Fact = Count | Related | Backdrop


def all_hold(facts: Iterable[Fact], scene: Scene) -> bool:
    """Whether every fact holds of `scene`."""
    return all(fact.holds(scene) for fact in facts)
