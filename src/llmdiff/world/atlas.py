"""The sprites of all things, from sheets of Fluent Emoji art that `recipes/world/build_atlas.py` drew.

Every number is whole: a sprite, tinted or not, is the same on every processor.
"""

from functools import cache
from importlib.resources import files

import numpy as np
from PIL import Image

from llmdiff.world.things import NAMES
from llmdiff.world.vocabulary import COLOURS, OWN

STYLES: tuple[str, ...] = ("flat", "shaded")
"""Plain surfaces, and surfaces with gradients, of the same shapes."""

COLUMNS = 20
"""Sprites in a row of a sheet."""

_LUMA = np.array([54, 183, 19])  # of 256ths: how light red, green and blue are
_SOLID = 128  # opacity from which on a pixel says how light a thing is


def sheet_name(style: str, side: int) -> str:
    """File name of the sheet of one style with sprites of `side` pixels."""
    return f"atlas_{style}_{side}.png"


@cache
def load(style: str, side: int) -> np.ndarray:
    """All sprites of a style and size in their own colours: uint8 (things, side, side, 4), RGBA, read only."""
    file = files(__package__) / sheet_name(style, side)
    with file.open("rb") as stream:
        sheet = np.asarray(Image.open(stream).convert("RGBA"))
    rows = sheet.shape[0] // side
    sprites = sheet.reshape(rows, side, COLUMNS, side, 4).swapaxes(1, 2).reshape(-1, side, side, 4)[: len(NAMES)]
    sprites.flags.writeable = False
    return sprites


@cache
def sprite(name: str, style: str, side: int, colour: str = OWN) -> np.ndarray:
    """One thing.

    Args:
        name: of the thing.
        style: of `STYLES`.
        side: of its frame in pixels: 40 or 64.
        colour: a tint of `COLOURS`, or the thing's own.

    Returns:
        uint8 array (side, side, 4), RGBA with straight colours, read only.

    Example:
        >>> sprite("dog", "flat", 40, "blue").shape
        (40, 40, 4)
    """
    own = load(style, side)[NAMES.index(name)]
    return own if colour == OWN else _tinted(own, colour)


_ALIKE = 52  # grey levels by which a tint may differ from a thing's own colours, on the average, and be one of them


@cache
def own_tints(name: str) -> frozenset[str]:
    """The tints in which a thing looks as it does in its own colours: a yellow lemon is just a lemon."""
    own = sprite(name, STYLES[0], 40).astype(np.int64)
    solid = own[..., 3] >= _SOLID
    pairs = ((colour, sprite(name, STYLES[0], 40, colour).astype(np.int64)) for colour in COLOURS)
    return frozenset(colour for colour, tinted in pairs if _distance(own[solid], tinted[solid]) <= _ALIKE)


def _distance(a: np.ndarray, b: np.ndarray) -> int:
    """Mean distance of pixels (N, 4), in whole grey levels."""
    squares = ((a - b)[:, :3] ** 2).sum(1)
    return int(np.floor(np.sqrt(squares)).astype(np.int64).sum()) // len(a)


def _tinted(own: np.ndarray, colour: str) -> np.ndarray:
    """The sprite with its greys, stretched over the tint's ramp."""
    share = lightness(own)[..., None]
    dark, light = np.array(COLOURS[colour])
    tinted = own.copy()
    tinted[..., :3] = (dark * (255 - share) + light * share + 127) // 255
    tinted[own[..., 3] == 0] = 0
    tinted.flags.writeable = False
    return tinted


def lightness(own: np.ndarray) -> np.ndarray:
    """How far up a tint's ramp each pixel of a sprite is: of RGBA (side, side, 4) to int (side, side) in 0..255."""
    grey = own[..., :3].astype(np.int64) @ _LUMA
    low, high = _range(grey[own[..., 3] >= _SOLID])
    return ((grey - low) * 255 // (high - low)).clip(0, 255)


_FLATTEST = 96 * 256
"""Least range of greys that is stretched over a whole ramp: a thing of hardly any contrast gets a middling tone."""

_MIDDLE = (115, 165)
"""Where on the ramp, of 255, the mean grey may come to lie: most of a thing has the colour that it is named by."""


def _range(grey: np.ndarray) -> tuple[int, int]:
    """The greys that become the ramp's ends: all but the darkest and lightest twentieths lie between."""
    ordered = np.sort(grey)
    low, high = int(ordered[len(ordered) // 20]), int(ordered[-1 - len(ordered) // 20])
    lacking = max(0, _FLATTEST - (high - low))
    low, high = low - 2 * lacking // 3, high + lacking - 2 * lacking // 3
    mean = int(grey.sum()) // len(grey)
    least, most = _MIDDLE
    if (mean - low) * 255 < least * (high - low):
        low = (255 * mean - least * high) // (255 - least)
    elif (mean - low) * 255 > most * (high - low):
        high = low + (mean - low) * 255 // most
    return low, high
