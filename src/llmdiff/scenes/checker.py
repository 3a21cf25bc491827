"""Reads a picture back into a scene, by matching pursuit over the sprites that the domain is drawn with.

No learned parts. The background is the one that most pixels agree with. Then, again and again, the sprite (kind,
colour, size, place) that explains most of what is not background is taken out, until nothing that looks like a thing
is left. Picture and sprites are compared softened by half a pixel: a thing that was drawn half a pixel off, or with a
soft outline, is as much that thing to an eye, though its thin lines do not lie on the sprite's.

All arithmetic is exact, in whole numbers (`llmdiff.scenes.matching`): every processor reads the same.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from llmdiff.scenes.drawing import sprite
from llmdiff.scenes.matching import (
    OPAQUE,
    PALETTE,
    RADIUS,
    empty,
    gains,
    soft_background,
    soft_picture,
    soft_sprite,
    soft_sprites,
)
from llmdiff.scenes.scene import Scene, Thing
from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, IMAGE_SIZE, KINDS, SIZES

MAX_FOUND = 8
"""The search ends at this many places, more than any scene has things."""

MIN_EXPLAINED = 0.5
"""A sprite is a thing when it accounts for at least this share of what differs from the background under it."""

MIN_DETAIL = 0.1
"""A sprite is a thing when the picture has at least this share of its detail (outline and lines), and as much again for
each time that it varies more than the sprite."""

_MIN_ENERGY = 15606  # least mean squared difference from the background under a thing, in quarters of grey levels
_NEAR = 38.25  # distance in grey levels within which a pixel agrees with a background
_ROUGH = 19507.5  # largest mean squared difference of a thing from its sprite, in grey levels
_INSIDE = 205  # of 256: opacity from which on hardly any background shines through it


@dataclass(frozen=True)
class Reading:
    """What a picture shows."""

    scene: Scene
    clutter: float
    """Share of the picture that is neither background nor any thing found."""


def read(image: Image.Image | np.ndarray) -> Reading:
    """The scene that a 64×64 picture shows.

    Args:
        image: A picture, or uint8 array (64, 64, 3); other sizes are resampled to 64×64.
    """
    picture = torch.from_numpy(np.array(_normal(image))).permute(2, 0, 1).double()
    name = _background(picture)
    far = (picture - empty(name)).square().sum(0) > _NEAR**2
    free = torch.ones(IMAGE_SIZE, IMAGE_SIZE, dtype=torch.bool)  # of the things and smears found so far
    things: list[Thing] = []
    clutter = 0
    for _ in range(MAX_FOUND):
        found = _best(torch.where(free, picture, empty(name)), name)
        if found is None:
            break
        place = _place(found)
        if _is_drawn(picture, free, name, found):
            things.append(found)
        else:
            clutter += int((far & free & place).sum())
        free &= ~place
    return Reading(Scene(name, tuple(things)), (clutter + int((far & free).sum())) / IMAGE_SIZE**2)


def _normal(image: Image.Image | np.ndarray) -> Image.Image:
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture = picture.convert("RGB")
    side = (IMAGE_SIZE, IMAGE_SIZE)
    return picture if picture.size == side else picture.resize(side, Image.Resampling.BOX)


def _background(pixels: Tensor) -> str:
    """The background that is nearest: by distances in whole 16ths of grey levels, which add up in any order."""
    stack = torch.stack([empty(name) for name in BACKGROUNDS])
    distance = ((stack - pixels).square().sum(1) * 16**2).sqrt().floor().clamp(max=2 * 16 * _NEAR)
    return list(BACKGROUNDS)[int(distance.sum((1, 2)).argmin())]


def _best(pixels: Tensor, name: str) -> Thing | None:
    """The sprite and place that explain most, the first of those that explain equally much, or None where none explains
    enough."""
    soft = soft_picture(pixels)
    best, found = 0.0, None
    for size in SIZES:
        gain, before = gains(soft, name, size)
        area = soft_sprites(size).alpha.sum((1, 2))[:, None, None, None]
        least = (MIN_EXPLAINED * before).where(before > OPAQUE * _MIN_ENERGY * area, torch.inf)
        explained = gain.masked_fill_(gain <= least, 0).numpy()
        index = int(explained.argmax())
        if explained.flat[index] > best:
            best, found = float(explained.flat[index]), _thing(size, index, explained.shape)
    return found


def _thing(size: str, index: int, shape: tuple[int, ...]) -> Thing:
    kind, colour, y, x = (int(v) for v in np.unravel_index(index, shape))
    half = SIZES[size] // 2
    return Thing(KINDS[kind], list(COLOURS)[colour], size, x + half, y + half)


def _is_drawn(picture: Tensor, free: Tensor, name: str, thing: Thing) -> bool:
    """Whether a thing is drawn where one would explain the picture best, and not a smear in its place.

    The sprite, with its outline and details, must fit better than its silhouette in a plain colour; the picture must
    have detail there, of which a wash has none and shading hardly any; and it must be like the sprite before it is
    softened too, which makes a grey of noise. Only the picture's own free pixels count: where a thing or smear was
    taken out beside it is no outline.
    """
    left, top = thing.corner
    side = thing.side + 2 * RADIUS
    frame = (..., slice(top, top + side), slice(left, left + side))
    main, alpha = soft_sprite(thing)
    inside = (alpha >= _INSIDE) & F.pad(free, (RADIUS,) * 4, value=True)[frame]
    seen, under = soft_picture(picture)[frame], soft_background(name)[frame] * (OPAQUE - alpha)
    drawn, smears = (((x + under) / OPAQUE).round() for x in (4 * main, 4 * PALETTE[..., None, None] * alpha))
    off, smeared = ((seen - model)[..., inside].square().sum((-2, -1)) for model in (drawn, smears))
    if off >= smeared.min() or not _has_detail(seen, drawn, inside):
        return False
    plain = (main[:, inside] / alpha[inside]).round()
    sharp = F.pad(picture, (RADIUS,) * 4)[frame][:, inside]
    return bool((sharp - plain).square().sum() < _ROUGH * inside.sum())


def _has_detail(seen: Tensor, drawn: Tensor, inside: Tensor) -> bool:
    """Whether the pixels inside have enough of the detail that they would have if drawn, (3, P, P) both."""
    detail, wanted = (_detail(x)[:, inside].sum() for x in (seen, drawn))
    variation, usual = (_variation(x[:, inside]) for x in (seen, drawn))
    return bool(detail * usual > MIN_DETAIL * (wanted * torch.maximum(variation, usual)))


def _detail(x: Tensor) -> Tensor:
    """Energy of the second differences in each direction, 0 in plain and evenly shaded parts: of and to (3, P, P)."""
    x = F.pad(x[None], (1,) * 4, mode="replicate")[0]
    middle = 2 * x[:, 1:-1, 1:-1]
    across, down = x[:, 1:-1, :-2] + x[:, 1:-1, 2:], x[:, :-2, 1:-1] + x[:, 2:, 1:-1]
    return (middle - across).square() + (middle - down).square()


def _variation(x: Tensor) -> Tensor:
    """The variance of each channel of (3, N), times N², added up."""
    return (x.shape[1] * x.square().sum(1) - x.sum(1).square()).sum()


def _place(thing: Thing) -> Tensor:
    """The pixels of a thing's sprite, grown by one: bool (64, 64)."""
    left, top = thing.corner
    alpha = torch.from_numpy(sprite(thing.kind, thing.colour, thing.size)[1])[..., 0]
    mask = torch.zeros(IMAGE_SIZE, IMAGE_SIZE)
    mask[top : top + thing.side, left : left + thing.side] = (alpha > 0.05).float()
    return F.max_pool2d(mask[None], 3, stride=1, padding=1)[0] > 0
