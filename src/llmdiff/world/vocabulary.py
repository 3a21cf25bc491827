"""What a scene of the world can vary in, beside its things: colours, sizes, backgrounds."""

from typing import NamedTuple

RGB = tuple[int, int, int]

CELL = 8
"""Side of a cell of the latents, in pixels: corners and sides of things are multiples of it."""

IMAGE_SIZE = 128
"""Side of a scene's picture, in pixels."""

SINGLE_SIZE = 64
"""Side of the canvas for a thing alone, in pixels."""

MAX_THINGS = 4

SIZES: dict[str, int] = {"small": 40, "large": 64}
"""Side of a thing's square frame, in pixels."""

OWN = "own"
"""The colours that a thing has of itself."""


class Ramp(NamedTuple):
    """The colours that the darkest and the lightest part of a tinted thing take."""

    dark: RGB
    light: RGB


COLOURS: dict[str, Ramp] = {
    "red": Ramp((110, 8, 16), (255, 88, 80)),
    "orange": Ramp((150, 60, 0), (255, 170, 60)),
    "yellow": Ramp((176, 132, 0), (255, 236, 90)),
    "green": Ramp((8, 72, 24), (80, 205, 90)),
    "blue": Ramp((10, 28, 120), (80, 145, 255)),
    "purple": Ramp((62, 12, 92), (180, 95, 230)),
    "pink": Ramp((190, 60, 120), (255, 190, 220)),
    "brown": Ramp((52, 26, 8), (165, 110, 64)),
    "white": Ramp((164, 164, 172), (255, 255, 255)),
    "black": Ramp((6, 6, 8), (92, 92, 98)),
}
"""The tints, beside a thing's own colours."""

LOOKS: tuple[str, ...] = (OWN, *COLOURS)
"""The values of a thing's colour."""
