"""A scene: what a picture of the embedded domain shows, and how one is drawn by lot."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

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

    def has_colour(self, colour: str) -> bool:
        """True of its colour."""
        return self.colour == colour

    @property
    def side(self) -> int:
        """Side of the thing's square frame, in pixels."""
        return SIZES[self.size]

    @property
    def corner(self) -> tuple[int, int]:
        """Left and top pixel of the frame."""
        return self.x - self.side // 2, self.y - self.side // 2


class Seen(Protocol):
    """One thing of a picture, of any domain; `x` and `y` are the centre of its frame, in pixels from the top left."""

    @property
    def kind(self) -> str: ...
    @property
    def size(self) -> str: ...
    @property
    def x(self) -> int: ...
    @property
    def y(self) -> int: ...
    def has_colour(self, colour: str) -> bool: ...


class Shown(Protocol):
    """What a picture shows, in any domain."""

    @property
    def background(self) -> str: ...
    @property
    def things(self) -> Sequence[Seen]: ...


@dataclass(frozen=True)
class Scene:
    """A background and the things in front of it."""

    background: str
    things: tuple[Thing, ...]


def relation(a: Seen, b: Seen) -> Relation | None:
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
    """Puts up to four (kind, colour, size) looks on the picture so that no two frames touch.

    Every thing goes to a place drawn from all that are free; if a few tries leave one without, each gets a quarter.
    """
    for _ in range(6):
        things: list[Thing] = []
        for look in looks:
            spots = _free_spots(look[2], things)
            if not len(spots):
                break
            y, x = rng.choice(spots)
            things.append(Thing(*look, int(x), int(y)))
        if len(things) == len(looks):
            return tuple(things)
    return _in_quarters(looks, rng)


def _free_spots(size: str, others: Sequence[Thing]) -> np.ndarray:
    """Centres (y, x) where a thing of that size fits: int array (n, 2)."""
    low, high = _range(size, 0, IMAGE_SIZE)
    y, x = np.mgrid[low:high, low:high]
    free = np.ones(x.shape, bool)
    for other in others:
        reach = (SIZES[size] + other.side) // 2 + _GAP
        free &= np.maximum(abs(x - other.x), abs(y - other.y)) >= reach
    return np.stack((y[free], x[free]), axis=1)


def _in_quarters(looks: Sequence[tuple[str, str, str]], rng: np.random.Generator) -> tuple[Thing, ...]:
    half = IMAGE_SIZE // 2
    quarters = rng.permutation(4)[: len(looks)]
    return tuple(
        Thing(*look, *(int(rng.integers(*_range(look[2], half * side, half * side + half))) for side in divmod(q, 2)))
        for look, q in zip(looks, quarters.tolist(), strict=True)
    )


def _range(size: str, start: int, stop: int) -> tuple[int, int]:
    """Centres, from inclusive to exclusive, whose frames stay a margin inside start..stop."""
    half = SIZES[size] // 2
    return start + half + _MARGIN, stop - half - _MARGIN + 1
