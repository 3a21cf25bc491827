"""Drawn scenes as training data: sample n of a stream is a function of (seed, n).

Letters in shapes: B scenes, C captions of a scene, S tokens, H cells of a side (16 of a scene, 8 of a thing alone).
"""

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from llmdiff.scenes.facts import Look
from llmdiff.scenes.scene import RELATIONS
from llmdiff.world.atlas import sprite
from llmdiff.world.captions import PLACES, noun_phrase, plain_caption
from llmdiff.world.description import Caption, Detail, Mention
from llmdiff.world.drawing import pixels
from llmdiff.world.scene import Lot, Placed, Scene, sample
from llmdiff.world.things import NAMES
from llmdiff.world.vocabulary import CELL, COLOURS, IMAGE_SIZE, MAX_THINGS, SINGLE_SIZE, SIZES

SIZE, SINGLE = IMAGE_SIZE, SINGLE_SIZE
"""Sides of the pictures of scenes and of single things, in pixels."""
_THERE = 0.3  # mean opacity from which on a cell shows its thing


@dataclass(frozen=True)
class Stream:
    """An endless row of scenes.

    Attributes:
        seed: of the row.
        canvas: side of the pictures in pixels: 128, or 64 for single things.
        things: so many of the things, the first ones, are drawn.
        lot: the chances by which scenes are drawn, if not those of `Lot()`.
        detail: how much captions say, if not what `Detail()` says.
    """

    seed: int
    canvas: int = SIZE
    things: int = len(NAMES)
    lot: Lot | None = None
    detail: Detail | None = None

    def scene(self, index: int) -> Scene:
        """Scene number `index`."""
        return _scene(self, index)

    def picture(self, index: int) -> np.ndarray:
        """Picture of a scene: uint8 (canvas, canvas, 3)."""
        return pixels(self.scene(index))

    def pictures(self, indices: range) -> np.ndarray:
        """Pictures of scenes: uint8 (B, canvas, canvas, 3)."""
        return np.stack([self.picture(i) for i in indices])

    def caption(self, index: int, number: int) -> Caption:
        """One of the plain captions of a scene: says as much of it as a lot decides."""
        rng = np.random.default_rng((self.seed, index, 1, number))
        return plain_caption(self.scene(index), rng, self.detail)


@lru_cache(maxsize=4)  # for what is asked of one scene after the other
def _scene(stream: Stream, index: int) -> Scene:
    rng = np.random.default_rng((stream.seed, index))
    return sample(rng, NAMES[: stream.things], canvas=stream.canvas, lot=stream.lot)


def cells(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """What each cell of the latents shows.

    Returns:
        Numbers of the things, from 1 in the order of `NAMES`, 0 for nothing: int16 (H, H); and where in the thing's
        frame the cell lies, in cells from its corner, (x, y): int8 (2, H, H), 0 where nothing is.
    """
    side = scene.canvas // CELL
    names, spots = np.zeros((side, side), np.int16), np.zeros((2, side, side), np.int8)
    for thing in scene.things:
        there = _there(thing, scene.style)
        top, left, reach = thing.top // CELL, thing.left // CELL, len(there)
        y, x = np.nonzero(there)
        names[top : top + reach, left : left + reach][there] = 1 + _NUMBERS[thing.kind]
        spots[0, top + y, left + x], spots[1, top + y, left + x] = x, y
    return names, spots


_NUMBERS = {name: number for number, name in enumerate(NAMES)}


def _there(thing: Placed, style: str) -> np.ndarray:
    return _shown(thing.kind, style, thing.side)


@cache
def _shown(name: str, style: str, side: int) -> np.ndarray:
    """The cells of a thing's frame in which there is something of it: bool (side / 8, side / 8)."""
    opacity = sprite(name, style, side)[..., 3].astype(np.float32) / 255
    return opacity.reshape(side // CELL, CELL, side // CELL, CELL).mean((1, 3)) > _THERE


def plain_phrases() -> list[str]:
    """Phrases with every word of plain captions, those of all things too."""
    looks = [*(Look(name) for name in NAMES), *(Look(NAMES[0], colour, size) for colour in COLOURS for size in SIZES)]
    named = [noun_phrase(Mention(look, n)) for look in looks for n in range(1, MAX_THINGS + 1)]
    return [*named, *RELATIONS, *PLACES.values(), "a, an and"]
