"""Draws a scene as pixels: every thing is a sprite of one main colour with an ink outline, on a two-tone ground."""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from llmdiff.scenes.scene import Scene, Thing
from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, HORIZON, IMAGE_SIZE, INK, RGB, SIZES

_SUPER = 8  # supersampling of a sprite's edges
_PAPER: RGB = (250, 250, 250)


def draw(scene: Scene) -> np.ndarray:
    """The scene's picture.

    Returns:
        uint8 array (64, 64, 3), RGB.
    """
    canvas = background(scene.background).astype(np.float32)
    for thing in scene.things:
        paste(canvas, thing)
    return (canvas + 0.5).astype(np.uint8)


def paste(canvas: np.ndarray, thing: Thing) -> None:
    """Lays a thing's sprite over `canvas`, a float array (64, 64, 3), in place."""
    colour, alpha = sprite(thing.kind, thing.colour, thing.size)
    left, top = thing.corner
    window = canvas[top : top + thing.side, left : left + thing.side]
    window += alpha * (colour - window)


@cache
def background(name: str) -> np.ndarray:
    """An empty scene: uint8 array (64, 64, 3)."""
    canvas = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    canvas[:HORIZON], canvas[HORIZON:] = BACKGROUNDS[name].sky, BACKGROUNDS[name].ground
    return canvas


@cache
def sprite(kind: str, colour: str, size: str) -> tuple[np.ndarray, np.ndarray]:
    """One thing in its frame of P×P pixels (P of `SIZES`).

    Returns:
        Straight colour, float32 (P, P, 3) in 0..255, and opacity, float32 (P, P, 1) in 0..1.
    """
    side = SIZES[size]
    image = Image.new("RGBA", (side * _SUPER, side * _SUPER), (0, 0, 0, 0))
    pen = _Pen(image, COLOURS[colour], outline=1.15 / side)
    _SHAPES[kind](pen)
    # Premultiplied averaging keeps the edge free of the transparent pixels' black.
    full = np.asarray(image, np.float32)
    alpha = full[..., 3:] / 255
    blocks = (side, _SUPER, side, _SUPER, -1)
    mean_alpha = alpha.reshape(blocks).mean((1, 3))
    mean_colour = (full[..., :3] * alpha).reshape(blocks).mean((1, 3)) / np.maximum(mean_alpha, 1e-6)
    return mean_colour, mean_alpha


class _Pen:
    """Draws in a unit square; every filled shape gets an ink outline of one picture pixel."""

    def __init__(self, image: Image.Image, colour: RGB, outline: float) -> None:
        self.draw = ImageDraw.Draw(image)
        self.scale = image.width
        self.colour = colour
        self.line = max(1, round(outline * self.scale))

    def polygon(self, points: list[tuple[float, float]], fill: RGB | None = None) -> None:
        xy = [(x * self.scale, y * self.scale) for x, y in points]
        self.draw.polygon(xy, fill=fill or self.colour)
        self.draw.line([*xy, xy[0], xy[1]], fill=INK, width=self.line, joint="curve")

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, fill: RGB | None = None) -> None:
        box = [v * self.scale for v in (x0, y0, x1, y1)]
        self.draw.ellipse(box, fill=fill or self.colour, outline=INK, width=self.line)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: RGB | None = None) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill)

    def pie(self, x0: float, y0: float, x1: float, y1: float, start: float, end: float) -> None:
        angles = np.radians(np.linspace(start, end, 40))
        cx, cy, rx, ry = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
        self.polygon([(cx + rx * float(np.cos(a)), cy + ry * float(np.sin(a))) for a in angles])

    def stroke(self, points: list[tuple[float, float]], width: float, fill: RGB = INK) -> None:
        xy = [(x * self.scale, y * self.scale) for x, y in points]
        self.draw.line(xy, fill=fill, width=round(width * self.scale), joint="curve")

    def union(self, *circles: tuple[float, float, float]) -> None:
        """The outline of several discs (x, y, radius) grown together."""
        grow = self.line / self.scale
        for shrink, fill in ((0.0, INK), (grow, self.colour)):
            for x, y, r in circles:
                box = [v * self.scale for v in (x - r + shrink, y - r + shrink, x + r - shrink, y + r - shrink)]
                self.draw.ellipse(box, fill=fill)


def _ring(n: int, outer: float, inner: float, turn: float = -90.0) -> list[tuple[float, float]]:
    angles = np.radians(turn + np.arange(2 * n) * 180 / n)
    radii = np.where(np.arange(2 * n) % 2 == 0, outer, inner)
    return [(0.5 + float(r * np.cos(a)), 0.5 + float(r * np.sin(a))) for r, a in zip(radii, angles, strict=True)]


def _sun(pen: _Pen) -> None:
    pen.polygon(_ring(8, 0.49, 0.33))
    pen.ellipse(0.28, 0.28, 0.72, 0.72)


def _moon(pen: _Pen) -> None:
    outer = np.radians(np.linspace(50, 310, 40))
    inner = np.radians(np.linspace(290, 70, 40))
    rim = [(0.58 + 0.47 * float(np.cos(a)), 0.5 + 0.47 * float(np.sin(a))) for a in outer]
    hollow = [(0.76 + 0.38 * float(np.cos(a)), 0.5 + 0.38 * float(np.sin(a))) for a in inner]
    pen.polygon(rim + hollow)


def _tree(pen: _Pen) -> None:
    pen.box(0.42, 0.62, 0.58, 0.97, fill=INK)
    pen.polygon([(0.5, 0.02), (0.86, 0.42), (0.7, 0.42), (0.95, 0.76), (0.05, 0.76), (0.3, 0.42), (0.14, 0.42)])


def _house(pen: _Pen) -> None:
    pen.polygon([(0.5, 0.03), (0.97, 0.45), (0.86, 0.45), (0.86, 0.96), (0.14, 0.96), (0.14, 0.45), (0.03, 0.45)])
    pen.box(0.4, 0.62, 0.6, 0.96, fill=INK)
    pen.stroke([(0.14, 0.45), (0.86, 0.45)], 0.04)


def _car(pen: _Pen) -> None:
    pen.polygon(
        [(0.03, 0.72), (0.03, 0.5), (0.22, 0.46), (0.34, 0.22), (0.7, 0.22), (0.82, 0.46), (0.97, 0.52), (0.97, 0.72)]
    )
    pen.polygon([(0.37, 0.3), (0.66, 0.3), (0.74, 0.46), (0.29, 0.46)], fill=_PAPER)
    pen.ellipse(0.13, 0.6, 0.37, 0.84, fill=INK)
    pen.ellipse(0.63, 0.6, 0.87, 0.84, fill=INK)


def _boat(pen: _Pen) -> None:
    pen.polygon([(0.03, 0.66), (0.97, 0.66), (0.8, 0.94), (0.2, 0.94)])
    pen.polygon([(0.5, 0.05), (0.9, 0.58), (0.5, 0.58)], fill=_PAPER)
    pen.stroke([(0.5, 0.03), (0.5, 0.68)], 0.06)


def _fish(pen: _Pen) -> None:
    pen.polygon([(0.62, 0.5), (0.97, 0.2), (0.9, 0.5), (0.97, 0.8)])
    pen.ellipse(0.03, 0.24, 0.76, 0.76)
    pen.ellipse(0.16, 0.38, 0.3, 0.52, fill=_PAPER)


def _flower(pen: _Pen) -> None:
    pen.stroke([(0.5, 0.6), (0.5, 0.99)], 0.09)
    petals = [
        (0.5 + 0.2 * float(np.cos(a)), 0.34 + 0.2 * float(np.sin(a)), 0.16) for a in np.radians(np.arange(18, 378, 72))
    ]
    pen.union(*petals)
    pen.ellipse(0.38, 0.22, 0.62, 0.46, fill=INK)


def _star(pen: _Pen) -> None:
    pen.polygon([(x, y + 0.03) for x, y in _ring(5, 0.5, 0.21)])


def _heart(pen: _Pen) -> None:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    x = 0.5 + 0.47 * np.sin(t) ** 3
    y = 0.47 - (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 34
    pen.polygon([(float(a), float(b)) for a, b in zip(x, y, strict=True)])


def _ball(pen: _Pen) -> None:
    pen.ellipse(0.05, 0.05, 0.95, 0.95)


def _box(pen: _Pen) -> None:
    pen.box(0.08, 0.08, 0.92, 0.92)


def _cloud(pen: _Pen) -> None:
    pen.union((0.22, 0.58, 0.2), (0.5, 0.4, 0.25), (0.77, 0.56, 0.21), (0.42, 0.62, 0.18), (0.6, 0.62, 0.18))


def _cup(pen: _Pen) -> None:
    pen.ellipse(0.58, 0.3, 0.98, 0.72, fill=INK)
    pen.ellipse(0.68, 0.41, 0.87, 0.61, fill=_PAPER)
    pen.polygon([(0.06, 0.12), (0.76, 0.12), (0.68, 0.92), (0.14, 0.92)])


def _mushroom(pen: _Pen) -> None:
    pen.box(0.36, 0.5, 0.64, 0.95, fill=_PAPER)
    pen.pie(0.03, 0.06, 0.97, 1.04, 180, 360)
    pen.ellipse(0.25, 0.24, 0.43, 0.42, fill=_PAPER)
    pen.ellipse(0.58, 0.22, 0.76, 0.4, fill=_PAPER)


def _umbrella(pen: _Pen) -> None:
    pen.stroke([(0.5, 0.4), (0.5, 0.88), (0.56, 0.95), (0.66, 0.93), (0.69, 0.84)], 0.08)
    rim = [(0.03, 0.54), (0.26, 0.44), (0.5, 0.54), (0.74, 0.44), (0.97, 0.54)]
    dome = np.radians(np.linspace(0, -180, 30))
    pen.polygon(rim + [(0.5 + 0.47 * float(np.cos(a)), 0.54 + 0.5 * float(np.sin(a))) for a in dome])


_SHAPES = {
    "sun": _sun,
    "moon": _moon,
    "tree": _tree,
    "house": _house,
    "car": _car,
    "boat": _boat,
    "fish": _fish,
    "flower": _flower,
    "star": _star,
    "heart": _heart,
    "ball": _ball,
    "box": _box,
    "cloud": _cloud,
    "cup": _cup,
    "mushroom": _mushroom,
    "umbrella": _umbrella,
}
