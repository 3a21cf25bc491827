"""A scene: what a picture of the embedded domain shows, and how one is drawn by lot."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, IMAGE_SIZE, KINDS, MAX_THINGS, SIZES

Relation = Literal["left of", "right of", "above", "below"]
RELATIONS: tuple[Relation, ...] = ("left of", "right of", "above", "below")
OPPOSITE: dict[Relation, Relation] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
}

_GAP = 2  # least distance between two things' frames, in pixels
_MARGIN = 1  # least distance of a frame from the picture's edge, in pixels


@dataclass(frozen=True)
class Thing:
    """One thing of a scene; `x` and `y` are the centre of its frame, in pixels from the top left."""

    kind: str
    colour: str
    size: str
    x: int
    y: int

    @property
    def side(self) -> int:
        """Side of the thing's square frame, in pixels."""
        return SIZES[self.size]

    @property
    def corner(self) -> tuple[int, int]:
        """Left and top pixel of the frame."""
        return self.x - self.side // 2, self.y - self.side // 2


@dataclass(frozen=True)
class Scene:
    """A background and the things in front of it."""

    background: str
    things: tuple[Thing, ...]


def relation(a: Thing, b: Thing) -> Relation | None:
    """The plain relation of `a` to `b`, or None where neither axis clearly wins.

    One axis wins when the centres lie at least 6 pixels apart on it and at least 4/3 as far as on the other.
    """
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dx) >= 6 and 3 * abs(dx) >= 4 * abs(dy):
        return "left of" if dx < 0 else "right of"
    if abs(dy) >= 6 and 3 * abs(dy) >= 4 * abs(dx):
        return "above" if dy < 0 else "below"
    return None


def sample_scene(rng: np.random.Generator, count: int | None = None) -> Scene:
    """Draws a scene by lot: 1 to 4 things, with repeats of one thing often enough to learn counting."""
    count = count or int(rng.choice(np.arange(1, MAX_THINGS + 1), p=(0.25, 0.35, 0.25, 0.15)))
    looks: list[tuple[str, str, str]] = []
    while len(looks) < count:
        look = (str(rng.choice(KINDS)), str(rng.choice(list(COLOURS))), str(rng.choice(list(SIZES))))
        room = count - len(looks)
        repeats = int(rng.integers(2, room + 1)) if room >= 2 and rng.random() < 0.35 else 1
        looks += [look] * repeats
    return Scene(str(rng.choice(list(BACKGROUNDS))), place(looks, rng))


def place(looks: Sequence[tuple[str, str, str]], rng: np.random.Generator) -> tuple[Thing, ...]:
    """Puts (kind, colour, size) looks on the picture so that no two frames touch, anew until they fit."""
    while True:
        things: list[Thing] = []
        for kind, colour, size in looks:
            thing = _try_place(kind, colour, size, things, rng)
            if thing is None:
                break
            things.append(thing)
        if len(things) == len(looks):
            return tuple(things)


def _try_place(kind: str, colour: str, size: str, others: Sequence[Thing], rng: np.random.Generator) -> Thing | None:
    half = SIZES[size] // 2
    low, high = half + _MARGIN, IMAGE_SIZE - half - _MARGIN
    for _ in range(20):
        x, y = (int(v) for v in rng.integers(low, high + 1, size=2))
        thing = Thing(kind, colour, size, x, y)
        if all(_apart(thing, other) for other in others):
            return thing
    return None


def _apart(a: Thing, b: Thing) -> bool:
    reach = (a.side + b.side) // 2 + _GAP
    return max(abs(a.x - b.x), abs(a.y - b.y)) >= reach
