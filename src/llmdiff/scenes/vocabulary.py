"""The vocabulary of the embedded picture-book domain: kinds of things, colours, sizes and backgrounds."""

from typing import NamedTuple

RGB = tuple[int, int, int]

IMAGE_SIZE = 64
"""Side of a scene's picture, in pixels."""

HORIZON = 44
"""First row of the ground, in pixels from the top."""

KINDS = (
    "sun", "moon", "tree", "house", "car", "boat", "fish", "flower",
    "star", "heart", "ball", "box", "cloud", "cup", "mushroom", "umbrella",
)  # fmt: skip

COLOURS: dict[str, RGB] = {
    "red": (214, 40, 40),
    "orange": (245, 135, 20),
    "yellow": (250, 220, 40),
    "green": (35, 150, 60),
    "blue": (40, 90, 225),
    "purple": (135, 50, 180),
    "pink": (250, 140, 190),
    "brown": (125, 75, 35),
    "white": (250, 250, 250),
}

SIZES: dict[str, int] = {"small": 16, "large": 26}
"""Side of a thing's square frame, in pixels."""

MAX_THINGS = 4


class Ground(NamedTuple):
    """A background's two flat colours."""

    sky: RGB
    ground: RGB


BACKGROUNDS: dict[str, Ground] = {
    "day": Ground((165, 215, 250), (150, 205, 110)),
    "night": Ground((25, 30, 75), (35, 65, 60)),
    "sunset": Ground((255, 190, 150), (160, 110, 130)),
    "snow": Ground((205, 215, 225), (238, 242, 246)),
    "desert": Ground((250, 235, 190), (220, 180, 110)),
}

INK: RGB = (25, 22, 30)
"""The colour of outlines and dark details."""
