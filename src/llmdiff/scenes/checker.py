"""Reads a picture back into a scene, by matching pursuit over the sprites that the domain is drawn with.

No learned parts. The background is the one that most pixels agree with. Then, again and again, the sprite (kind,
colour, size, place) that explains most of what is not background is taken out, until nothing that looks like a thing
is left.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from llmdiff.scenes.drawing import background, sprite
from llmdiff.scenes.scene import Scene, Thing
from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, IMAGE_SIZE, KINDS, SIZES

MAX_FOUND = 8
"""The search ends at this many places, more than any scene has things."""

MIN_EXPLAINED = 0.5
"""A sprite is a thing when it accounts for at least this share of what differs from the background under it."""

_MIN_ENERGY = 0.03  # least mean squared difference from the background under a thing, colours in 0..1
_NEAR = 0.15  # colour distance within which a pixel agrees with a background


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
    pixels = torch.from_numpy(np.array(_normal(image), np.float32) / 255).permute(2, 0, 1)
    name = _background(pixels)
    empty = torch.from_numpy(background(name).astype(np.float32) / 255).permute(2, 0, 1)
    things: list[Thing] = []
    smears = 0.0
    for _ in range(MAX_FOUND):
        found = _best(pixels, empty)
        if found is None:
            break
        rest = _erase(pixels, empty, found)
        if _is_drawn(pixels, empty, found):
            things.append(found)
        else:
            smears += (_far(pixels, empty) - _far(rest, empty)).mean().item()
        pixels = rest
    return Reading(Scene(name, tuple(things)), smears + _far(pixels, empty).mean().item())


def _normal(image: Image.Image | np.ndarray) -> Image.Image:
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture = picture.convert("RGB")
    side = (IMAGE_SIZE, IMAGE_SIZE)
    return picture if picture.size == side else picture.resize(side, Image.Resampling.BOX)


def _far(pixels: Tensor, empty: Tensor) -> Tensor:
    return ((pixels - empty).norm(dim=0) > _NEAR).float()


def _background(pixels: Tensor) -> str:
    stack = torch.stack(
        [torch.from_numpy(background(n).astype(np.float32) / 255).permute(2, 0, 1) for n in BACKGROUNDS]
    )
    distance = (stack - pixels).norm(dim=1).clamp(max=2 * _NEAR)
    return list(BACKGROUNDS)[int(distance.mean((1, 2)).argmin())]


@dataclass(frozen=True)
class _Filters:
    """All sprites of one size as correlation filters: K kinds, C colours, P×P pixels.

    A sprite's colours times its opacity are `body · colour + details`, with details (ink, paper) of no other colour.
    All but `energy` and `area` are spectra of the filters in a 64×64 frame.
    """

    alpha: Tensor  # (K, 64, 33)
    body: Tensor  # (K, 64, 33)
    details: Tensor  # (K, 3, 64, 33)
    energy: Tensor  # (K, C, 1, 1), sum of alpha · colour² over a sprite
    area: Tensor  # (K, 1, 1, 1), sum of alpha


_PALETTE = torch.tensor(list(COLOURS.values())) / 255  # (C, 3)


@cache
def _filters(size: str) -> _Filters:
    pairs = [[sprite(kind, colour, size) for colour in COLOURS] for kind in KINDS]
    alpha = torch.from_numpy(np.stack([row[0][1] for row in pairs]))[..., 0]  # (K, P, P)
    colour = torch.from_numpy(np.stack([[c for c, _ in row] for row in pairs])) / 255  # (K, C, P, P, 3)
    drawn = colour * alpha[:, None, ..., None]
    step = _PALETTE[0] - _PALETTE[-1]
    body = ((drawn[:, 0] - drawn[:, -1]) @ step) / step.square().sum()
    details = (drawn[:, 0] - body[..., None] * _PALETTE[0]).permute(0, 3, 1, 2)
    energy = (drawn * colour).sum((2, 3, 4))[..., None, None]
    area = alpha.sum((1, 2))[:, None, None, None]
    return _Filters(_spectrum(alpha), _spectrum(body), _spectrum(details), energy, area)


def _spectrum(x: Tensor) -> Tensor:
    return torch.fft.rfft2(x, s=(IMAGE_SIZE, IMAGE_SIZE))


def _correlate(image: Tensor, filters: Tensor, size: str) -> Tensor:
    """Correlation of an image's spectrum with filters' at every place where a P×P frame fits: (..., 65-P, 65-P)."""
    full = torch.fft.irfft2(image * filters.conj(), s=(IMAGE_SIZE, IMAGE_SIZE))
    places = IMAGE_SIZE - SIZES[size] + 1
    return full[..., :places, :places]


def _best(pixels: Tensor, empty: Tensor) -> Thing | None:
    """The sprite and place that explain most, or None where none explains enough."""
    best, found = 0.0, None
    for size in SIZES:
        gain = _gains(pixels, empty, size)
        index = int(gain.argmax())
        if gain.flatten()[index] > best:
            best, found = float(gain.flatten()[index]), _thing(size, index, gain.shape)
    return found


def _gains(pixels: Tensor, empty: Tensor, size: str) -> Tensor:
    """The squared difference from the background that each sprite explains at each place: (K, C, Y, X), else 0."""
    f = _filters(size)
    image = _spectrum(pixels)
    before = _correlate(_spectrum((pixels - empty).square().sum(0)), f.alpha, size)[:, None]
    power = _correlate(_spectrum(pixels.square().sum(0)), f.alpha, size)[:, None]
    details = _correlate((image * f.details.conj()).sum(1), torch.ones(()), size)[:, None]
    body = torch.einsum("kayx,ca->kcyx", _correlate(image, f.body[:, None], size), _PALETTE)
    gain = before - (power - 2 * (body + details) + f.energy)
    enough = (gain > MIN_EXPLAINED * before) & (before > _MIN_ENERGY * f.area)
    return gain.where(enough, 0)


def _thing(size: str, index: int, shape: tuple[int, ...]) -> Thing:
    kind, colour, y, x = (int(v) for v in np.unravel_index(index, shape))
    half = SIZES[size] // 2
    return Thing(KINDS[kind], list(COLOURS)[colour], size, x + half, y + half)


def _is_drawn(pixels: Tensor, empty: Tensor, thing: Thing) -> bool:
    """Whether the sprite, with its outline and details, fits better than its silhouette in plain colour: a smear."""
    left, top = thing.corner
    frame = (slice(None), slice(top, top + thing.side), slice(left, left + thing.side))
    colour, alpha = (torch.from_numpy(part).permute(2, 0, 1) for part in sprite(thing.kind, thing.colour, thing.size))
    plain = (torch.tensor(COLOURS[thing.colour]) / 255)[:, None, None]
    drawn, smear = (empty[frame].lerp(main, alpha) for main in (colour / 255, plain.expand_as(colour)))
    return bool((pixels[frame] - drawn).square().sum() < (pixels[frame] - smear).square().sum())


def _erase(pixels: Tensor, empty: Tensor, thing: Thing) -> Tensor:
    """The picture without the thing: background wherever its sprite, grown by a pixel, was."""
    left, top = thing.corner
    alpha = torch.from_numpy(sprite(thing.kind, thing.colour, thing.size)[1])[..., 0]
    mask = torch.zeros(IMAGE_SIZE, IMAGE_SIZE)
    mask[top : top + thing.side, left : left + thing.side] = (alpha > 0.05).float()
    mask = F.max_pool2d(mask[None], 3, stride=1, padding=1)
    return torch.where(mask > 0, empty, pixels)
