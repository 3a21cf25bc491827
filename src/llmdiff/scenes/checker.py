"""Reads a picture back into a scene, by matching pursuit over the sprites that the domain is drawn with.

No learned parts. The background is the one that most pixels agree with. Then, again and again, the sprite (kind,
colour, size, place) that explains most of what is not background is taken out, until nothing that looks like a thing
is left. Picture and sprites are compared softened by half a pixel: a thing that was drawn half a pixel off, or with a
soft outline, is as much that thing to an eye, though its thin lines do not lie on the sprite's.
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

_MIN_ENERGY = 0.015  # least mean squared difference from the background under a thing, softened, colours in 0..1
_NEAR = 0.15  # colour distance within which a pixel agrees with a background
_SOFTNESS = 0.5  # standard deviation in pixels of the blur under which pictures and sprites are compared
_RADIUS = 3  # of the blur, in pixels
_FRAME = IMAGE_SIZE + 2 * _RADIUS + 2
_ROUGH = 0.3  # largest mean squared difference of a thing from its sprite, colours in 0..1
_INSIDE = 0.8  # opacity from which on hardly any background shines through it
_EDGE = 0.05  # opacity from which on a pixel belongs to a softened sprite


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
    empty = _empty(name)
    things: list[Thing] = []
    smears = 0.0
    for _ in range(MAX_FOUND):
        found = _best(pixels, name)
        if found is None:
            break
        rest = _erase(pixels, empty, found)
        if _is_drawn(pixels, name, found):
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


@cache
def _empty(name: str) -> Tensor:
    """A background: (3, 64, 64) in 0..1."""
    return torch.from_numpy(background(name).astype(np.float32) / 255).permute(2, 0, 1)


def _background(pixels: Tensor) -> str:
    stack = torch.stack([_empty(name) for name in BACKGROUNDS])
    distance = (stack - pixels).norm(dim=1).clamp(max=2 * _NEAR)
    return list(BACKGROUNDS)[int(distance.mean((1, 2)).argmin())]


@dataclass(frozen=True)
class _Filters:
    """All sprites of one size, softened, as correlation filters: K kinds, C colours.

    A sprite's premultiplied colours are `body · colour + details`, with details (ink, paper) of no other colour. All
    but `energy` are spectra of the filters in a frame of `_FRAME` pixels.
    """

    footprint: Tensor  # (K, F, F/2+1), 1 where the sprite is
    alpha: Tensor  # (K, F, F/2+1)
    alpha_squared: Tensor  # (K, F, F/2+1)
    body: Tensor  # (K, F, F/2+1)
    details: Tensor  # (K, 3, F, F/2+1)
    alpha_body: Tensor  # (K, F, F/2+1)
    alpha_details: Tensor  # (K, 3, F, F/2+1)
    energy: Tensor  # (K, C, 1, 1), sum of the squared premultiplied colours


_PALETTE = torch.tensor(list(COLOURS.values())) / 255  # (C, 3)


@cache
def _filters(size: str) -> _Filters:
    pairs = [[_soft_sprite(kind, colour, size) for colour in COLOURS] for kind in KINDS]
    alpha = torch.stack([row[0][1] for row in pairs])[:, 0]  # (K, P, P)
    drawn = torch.stack([torch.stack([c for c, _ in row]) for row in pairs])  # (K, C, 3, P, P)
    step = _PALETTE[0] - _PALETTE[-1]
    body = torch.einsum("kayx,a->kyx", drawn[:, 0] - drawn[:, -1], step) / step.square().sum()
    details = drawn[:, 0] - body[:, None] * _PALETTE[0][:, None, None]
    return _Filters(
        footprint=_spectrum((alpha > _EDGE).float()),
        alpha=_spectrum(alpha),
        alpha_squared=_spectrum(alpha.square()),
        body=_spectrum(body),
        details=_spectrum(details),
        alpha_body=_spectrum(alpha * body),
        alpha_details=_spectrum(alpha[:, None] * details),
        energy=drawn.square().sum((2, 3, 4))[..., None, None],
    )


@cache
def _soft_sprite(kind: str, colour: str, size: str) -> tuple[Tensor, Tensor]:
    """A softened sprite: premultiplied colours (3, P, P) in 0..1 and opacity (1, P, P), P = side + 2 · `_RADIUS`."""
    main, alpha = (torch.from_numpy(part).permute(2, 0, 1) for part in sprite(kind, colour, size))
    edges = (2 * _RADIUS,) * 4
    return _soften(F.pad(main / 255 * alpha, edges)), _soften(F.pad(alpha, edges))


def _soften(x: Tensor) -> Tensor:
    """A Gaussian blur, which takes `_RADIUS` pixels off every edge: (A, Y, X) to (A, Y - 2R, X - 2R)."""
    kernel = torch.exp(-0.5 * (torch.arange(-_RADIUS, _RADIUS + 1) / _SOFTNESS).square())
    kernel = kernel / kernel.sum()
    rows = F.conv2d(x[:, None], kernel.view(1, 1, -1, 1))
    return F.conv2d(rows, kernel.view(1, 1, 1, -1))[:, 0]


def _soft_picture(x: Tensor) -> Tensor:
    """A softened picture with `_RADIUS` pixels more on every side, where softened sprites reach: (3, 64 + 2R, …)."""
    return _soften(F.pad(x[None], (2 * _RADIUS,) * 4, mode="replicate")[0])


@cache
def _soft_background(name: str) -> Tensor:
    return _soft_picture(_empty(name))


def _spectrum(x: Tensor) -> Tensor:
    return torch.fft.rfft2(x, s=(_FRAME, _FRAME))


def _correlate(image: Tensor, filters: Tensor, size: str) -> Tensor:
    """Correlation of an image's spectrum with filters' at every place where a P×P frame fits: (..., 65-P, 65-P)."""
    full = torch.fft.irfft2(image * filters.conj(), s=(_FRAME, _FRAME))
    places = IMAGE_SIZE - SIZES[size] + 1
    return full[..., :places, :places]


def _best(pixels: Tensor, name: str) -> Thing | None:
    """The sprite and place that explain most, or None where none explains enough."""
    soft = _soft_picture(pixels)
    best, found = 0.0, None
    for size in SIZES:
        gain = _gains(soft, name, size)
        index = int(gain.argmax())
        if gain.flatten()[index] > best:
            best, found = float(gain.flatten()[index]), _thing(size, index, gain.shape)
    return found


def _gains(pixels: Tensor, name: str, size: str) -> Tensor:
    """By how much each sprite, laid over the background at each place, brings down the squared difference from the
    softened picture: (K, C, Y, X), 0 where it does not explain enough."""
    f, empty = _filters(size), _soft_background(name)
    difference = pixels - empty
    before = _correlate(_spectrum(difference.square().sum(0)), f.footprint, size)[:, None]
    drawn = _with_colours(_spectrum(difference), f.body, f.details, size)
    hidden = _correlate(_spectrum((difference * empty).sum(0)), f.alpha, size)[:, None]
    gain = 2 * (drawn - hidden) - _price(name, size)
    area = f.alpha[:, :1, :1, None].real
    enough = (gain > MIN_EXPLAINED * before) & (before > _MIN_ENERGY * area)
    return gain.where(enough, 0)


@cache
def _price(name: str, size: str) -> Tensor:
    """The squared difference that each sprite makes to an empty background at each place: (K, C, Y, X)."""
    f, empty = _filters(size), _soft_background(name)
    under = _with_colours(_spectrum(empty), f.alpha_body, f.alpha_details, size)
    return f.energy - 2 * under + _correlate(_spectrum(empty.square().sum(0)), f.alpha_squared, size)[:, None]


def _with_colours(image: Tensor, body: Tensor, details: Tensor, size: str) -> Tensor:
    """Correlation of an image's spectrum (3, F, …) with `body · colour + details`: (K, C, Y, X)."""
    shared = _correlate((image * details.conj()).sum(1), torch.ones(()), size)[:, None]
    return torch.einsum("kayx,ca->kcyx", _correlate(image, body[:, None], size), _PALETTE) + shared


def _thing(size: str, index: int, shape: tuple[int, ...]) -> Thing:
    kind, colour, y, x = (int(v) for v in np.unravel_index(index, shape))
    half = SIZES[size] // 2
    return Thing(KINDS[kind], list(COLOURS)[colour], size, x + half, y + half)


def _is_drawn(pixels: Tensor, name: str, thing: Thing) -> bool:
    """Whether the sprite, with its outline and details, fits better than a smear, its silhouette in a plain colour; and
    the picture is like it before it is softened too, which makes a grey of noise."""
    left, top = thing.corner
    side = thing.side + 2 * _RADIUS
    frame = (slice(None), slice(top, top + side), slice(left, left + side))
    main, alpha = _soft_sprite(thing.kind, thing.colour, thing.size)
    inside = alpha[0] > _INSIDE
    seen = (_soft_picture(pixels)[frame] - _soft_background(name)[frame] * (1 - alpha))[:, inside]
    smears = _PALETTE[..., None] * alpha[:, inside]
    better = (seen - main[:, inside]).square().sum() < (seen - smears).square().sum((1, 2)).min()
    sharp = F.pad(pixels, (_RADIUS,) * 4)[frame][:, inside]
    return bool(better and (sharp - main[:, inside] / alpha[:, inside]).square().sum(0).mean() < _ROUGH)


def _erase(pixels: Tensor, empty: Tensor, thing: Thing) -> Tensor:
    """The picture without the thing: background wherever its sprite, grown by a pixel, was."""
    left, top = thing.corner
    alpha = torch.from_numpy(sprite(thing.kind, thing.colour, thing.size)[1])[..., 0]
    mask = torch.zeros(IMAGE_SIZE, IMAGE_SIZE)
    mask[top : top + thing.side, left : left + thing.side] = (alpha > 0.05).float()
    mask = F.max_pool2d(mask[None], 3, stride=1, padding=1)
    return torch.where(mask > 0, empty, pixels)
