"""Draws a scene as pixels: sprites on a background that is the same in every cell of the latents.

All arithmetic is in whole numbers: a scene has one picture, on every processor.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from llmdiff.world.atlas import sprite
from llmdiff.world.vocabulary import CELL, IMAGE_SIZE, RGB

if TYPE_CHECKING:
    from llmdiff.world.scene import Placed, Scene


class Ground(NamedTuple):
    """A background: a colour, and a pattern in other colours that repeats in every cell."""

    colour: RGB
    pattern: tuple[str, ...] = ()
    """Rows of a cell: "." for the colour, "a" and "b" for the others."""
    a: RGB = (0, 0, 0)
    b: RGB = (0, 0, 0)


BACKGROUNDS: dict[str, Ground] = {
    "day": Ground((156, 206, 246)),
    "night": Ground(
        (40, 44, 98),
        ("........", ".a......", "........", "........", ".....b..", "........", "........", "........"),
        (214, 208, 150), (120, 124, 176),
    ),
    "sunset": Ground((248, 180, 164)),
    "snow": Ground(
        (222, 232, 240),
        (".a......", "aaa.....", ".a......", "........", ".....a..", "....aaa.", ".....a..", "........"),
        (248, 251, 253),
    ),
    "desert": Ground(
        (234, 206, 146),
        ("........", "..a.....", ".aba....", "........", "........", "......a.", ".....aba", "........"),
        (216, 182, 118), (202, 166, 100),
    ),
    "meadow": Ground(
        (158, 204, 112),
        ("........", ".a...a..", ".a...a..", "........", "........", "...b...b", "...b...b", "........"),
        (118, 170, 78), (184, 224, 136),
    ),
    "sea": Ground(
        (92, 168, 204),
        ("........", "........", ".aa.....", "a..a...a", "....aaa.", "........", "........", "........"),
        (150, 206, 230),
    ),
    "wall": Ground(
        (196, 124, 100),
        ("aaaaaaaa", "...a....", "...a....", "...a....", "aaaaaaaa", ".......a", ".......a", ".......a"),
        (222, 188, 170),
    ),
}  # fmt: skip


def draw(scene: Scene) -> Image.Image:
    """The scene's picture, as large as its canvas.

    Example:
        >>> draw(Scene("snow", (Placed("penguin", "own", "large", 8, 56),))).size
        (128, 128)
    """
    return Image.fromarray(pixels(scene))


def pixels(scene: Scene) -> np.ndarray:
    """The scene's picture: uint8 array (canvas, canvas, 3)."""
    picture = background(scene.background, scene.canvas).copy()
    for thing in scene.things:
        paste(picture, thing, scene.style)
    return picture


def paste(picture: np.ndarray, thing: Placed, style: str) -> None:
    """Lays a thing's sprite over `picture`, a uint8 array (canvas, canvas, 3), in place."""
    colours, opacity = _parts(thing.kind, style, thing.side, thing.colour)
    window = picture[thing.top : thing.top + thing.side, thing.left : thing.left + thing.side]
    window[...] = (colours + (255 - opacity) * window + 127) // 255


@cache
def _parts(name: str, style: str, side: int, colour: str) -> tuple[np.ndarray, np.ndarray]:
    """A sprite's colours times its opacity, and its opacity: uint32 (side, side, 3) and (side, side, 1)."""
    rgba = sprite(name, style, side, colour).astype(np.uint32)
    return rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]


@cache
def background(name: str, canvas: int = IMAGE_SIZE) -> np.ndarray:
    """An empty scene: uint8 array (canvas, canvas, 3), read only."""
    ground = BACKGROUNDS[name]
    colours = {".": ground.colour, "a": ground.a, "b": ground.b}
    rows = ground.pattern or ("." * CELL,) * CELL
    cell = np.array([[colours[mark] for mark in row] for row in rows], np.uint8)
    whole = np.tile(cell, (canvas // CELL, canvas // CELL, 1))
    whole.flags.writeable = False
    return whole
