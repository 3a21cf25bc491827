"""A scene: what a picture of the world shows, and how one is drawn by lot."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from llmdiff.world.atlas import STYLES, own_tints
from llmdiff.world.drawing import BACKGROUNDS
from llmdiff.world.things import NAMES
from llmdiff.world.vocabulary import CELL, COLOURS, IMAGE_SIZE, MAX_THINGS, OWN, SIZES


class Looks(NamedTuple):
    """What a thing looks like, wherever it stands."""

    kind: str
    colour: str
    size: str


@dataclass(frozen=True)
class Placed:
    """One thing of a scene; `left` and `top` are the corner of its frame, in pixels, multiples of `CELL`."""

    kind: str
    colour: str
    """A tint, or "own"."""
    size: str
    left: int
    top: int

    @property
    def side(self) -> int:
        """Side of the thing's square frame, in pixels."""
        return SIZES[self.size]

    @property
    def x(self) -> int:
        """Of the frame's centre."""
        return self.left + self.side // 2

    @property
    def y(self) -> int:
        """Of the frame's centre."""
        return self.top + self.side // 2

    def has_colour(self, colour: str) -> bool:
        """True of its tint, and of the tints that its own colours are like."""
        return self.colour == colour or (self.colour == OWN and colour in own_tints(self.kind))

    @property
    def looks(self) -> Looks:
        return Looks(self.kind, self.colour, self.size)


@dataclass(frozen=True)
class Scene:
    """A background and the things in front of it, in one style of art, on a square canvas."""

    background: str
    things: tuple[Placed, ...]
    style: str = STYLES[0]
    canvas: int = IMAGE_SIZE
    """Side of the picture in pixels: 128, or 64 for a thing alone."""


@dataclass(frozen=True)
class Lot:
    """The chances by which scenes are drawn."""

    counts: tuple[float, ...] = (0.3, 0.35, 0.2, 0.15)
    """Of one, two, three and four things."""
    repeats: float = 0.35
    """Of a thing that comes several times, where there is room for it."""
    own: float = 0.5
    """Of a thing's own colours instead of a tint."""
    styles: tuple[str, ...] = STYLES[:1]
    """The styles that are drawn from."""


def sample(
    rng: np.random.Generator,
    things: Sequence[str] = NAMES,
    count: int | None = None,
    canvas: int = IMAGE_SIZE,
    lot: Lot | None = None,
) -> Scene:
    """Draws a scene by lot.

    Args:
        rng: decides.
        things: names that are drawn from, such as `NAMES[:FIRST]`.
        count: of things; by lot if not given, and 1 on a canvas for a thing alone.
        canvas: side of the picture in pixels.
        lot: the chances.

    Example:
        >>> scene = sample(np.random.default_rng(0), NAMES[:120], count=2)
        >>> len(scene.things), scene.canvas
        (2, 128)
    """
    lot = lot or Lot()
    if count is None:
        count = 1 if canvas < IMAGE_SIZE else int(rng.choice(np.arange(1, MAX_THINGS + 1), p=lot.counts))
    looks: list[Looks] = []
    while len(looks) < count:
        room = count - len(looks)
        repeats = int(rng.integers(2, room + 1)) if room >= 2 and rng.random() < lot.repeats else 1
        new = sample_looks(rng, things, lot)
        if not any(_confused(new, other) for other in looks):
            looks += [new] * repeats
    style = lot.styles[int(rng.integers(len(lot.styles)))]
    return Scene(one_of(rng, tuple(BACKGROUNDS)), place(looks, rng, canvas), style, canvas)


def _confused(a: Looks, b: Looks) -> bool:
    """Whether "a dog" could be either, since one has its own colours, and the other is "a red dog"."""
    return a.kind == b.kind and a.colour != b.colour and OWN in (a.colour, b.colour)


def sample_looks(rng: np.random.Generator, things: Sequence[str], lot: Lot) -> Looks:
    """Draws what one thing looks like; a tint that its own colours are like is its own."""
    kind, size = one_of(rng, things), one_of(rng, tuple(SIZES))
    colour = OWN if rng.random() < lot.own else one_of(rng, tuple(COLOURS))
    return Looks(kind, OWN if colour in own_tints(kind) else colour, size)


def one_of(rng: np.random.Generator, options: Sequence[str]) -> str:
    """One of them, by lot."""
    return options[int(rng.integers(len(options)))]


def place(looks: Sequence[Looks], rng: np.random.Generator, canvas: int = IMAGE_SIZE) -> tuple[Placed, ...]:
    """Puts up to four things on the grid of cells so that no two frames overlap.

    Every thing goes to a place drawn from all that are free; if a few tries leave one without, each gets a quarter.
    """
    for _ in range(6):
        things: list[Placed] = []
        for look in looks:
            spots = _free(SIZES[look.size], things, canvas)
            if not len(spots):
                break
            top, left = spots[int(rng.integers(len(spots)))] * CELL
            things.append(Placed(*look, int(left), int(top)))
        if len(things) == len(looks):
            return tuple(things)
    return _in_quarters(looks, rng, canvas)


def _free(side: int, others: Sequence[Placed], canvas: int) -> np.ndarray:
    """Corners (top, left), in cells, where a frame of that side fits: int array (n, 2)."""
    corners = (canvas - side) // CELL + 1
    free = np.ones((corners, corners), bool)
    reach = side // CELL - 1
    for other in others:
        top, left, cells = other.top // CELL, other.left // CELL, other.side // CELL
        free[max(0, top - reach) : top + cells, max(0, left - reach) : left + cells] = False
    return np.argwhere(free)


def _in_quarters(looks: Sequence[Looks], rng: np.random.Generator, canvas: int) -> tuple[Placed, ...]:
    half = canvas // 2
    quarters = rng.permutation(4)[: len(looks)].tolist()

    def corner(side: int, start: int) -> int:
        return start + CELL * int(rng.integers((half - side) // CELL + 1))

    return tuple(
        Placed(*look, corner(SIZES[look.size], half * (q % 2)), corner(SIZES[look.size], half * (q // 2)))
        for look, q in zip(looks, quarters, strict=True)
    )
