"""How much of a picture each sprite explains, laid over a background at each place: exact, in whole numbers.

Every number here is whole, held in float64: grey levels (0..255), softened ones in quarters, opacities in 256ths. Sums
of their products stay below 2^53, so they are exact in any order of adding; correlations, by FFT, are rounded to the
whole numbers that they are. No answer depends on how a processor rounds, and places that explain equally much do so
exactly.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from llmdiff.scenes.drawing import background, sprite
from llmdiff.scenes.scene import Thing
from llmdiff.scenes.vocabulary import COLOURS, IMAGE_SIZE, KINDS, SIZES

RADIUS = 1
"""Of the blur under which pictures and sprites are compared, in pixels; its standard deviation is half a pixel."""

OPAQUE = 256
"""The opacity of what nothing shines through."""

PALETTE = torch.tensor(list(COLOURS.values()), dtype=torch.float64)
"""The colours in grey levels: (C, 3)."""

_KERNEL = torch.tensor([109, 806, 109], dtype=torch.float64)  # of 1024ths
_PARTS = 64  # a sprite's opacity comes in as many steps: the pixels that each of its own was averaged from
_FRAME = 72  # at least a softened picture's side; a size whose FFT is quick
_EDGE = 13  # of 256: opacity from which on a pixel belongs to a softened sprite


def empty(name: str) -> Tensor:
    """A background in grey levels: (3, 64, 64)."""
    return torch.from_numpy(background(name)).permute(2, 0, 1).double()


def soften(x: Tensor) -> Tensor:
    """Four times a blurred x, rounded, `RADIUS` pixels less on every edge: (A, Y, X) to (A, Y - 2R, X - 2R)."""
    rows = F.conv2d(x[:, None], _KERNEL.view(1, 1, -1, 1))
    return (F.conv2d(rows, _KERNEL.view(1, 1, 1, -1))[:, 0] / 2**18 + 0.5).floor()


def soft_picture(x: Tensor) -> Tensor:
    """A softened picture with `RADIUS` pixels more on every side, where softened sprites reach.

    Args:
        x: Grey levels (3, 64, 64).

    Returns:
        Quarters of grey levels (3, 64 + 2R, 64 + 2R).
    """
    return soften(F.pad(x[None], (2 * RADIUS,) * 4, mode="replicate")[0])


@cache
def soft_background(name: str) -> Tensor:
    """`soft_picture` of a background."""
    return soft_picture(empty(name))


@dataclass(frozen=True)
class SoftSprites:
    """All softened sprites of one size, K kinds in C colours: `body · colour + details` laid on with opacity `alpha`.

    `details`, ink and paper, are the same in all C colours. P is the side plus 2 · `RADIUS`.
    """

    alpha: Tensor  # (K, P, P), in 256ths
    body: Tensor  # (K, P, P), in 256ths
    details: Tensor  # (K, 3, P, P), in 256ths of grey levels


@cache
def soft_sprites(size: str) -> SoftSprites:
    """The softened sprites of a size."""
    pairs = [[_sprite_in_parts(kind, colour, size) for colour in COLOURS] for kind in KINDS]
    drawn = torch.stack([torch.stack([main for main, _ in row]) for row in pairs])  # (K, C, 3, P + 2R, P + 2R)
    step = PALETTE[0] - PALETTE[-1]
    body = (torch.einsum("kayx,a->kyx", drawn[:, 0] - drawn[:, -1], step) / step.square().sum()).round()
    details = drawn[:, 0] - body[:, None] * PALETTE[0][:, None, None]
    alpha = torch.stack([row[0][1] for row in pairs])
    return SoftSprites(soften(alpha), soften(body), torch.stack([soften(part) for part in details]))


def soft_sprite(thing: Thing) -> tuple[Tensor, Tensor]:
    """A thing's softened sprite: premultiplied colours (3, P, P) in 256ths of grey levels, opacity (P, P) in 256ths."""
    sprites, kind = soft_sprites(thing.size), KINDS.index(thing.kind)
    colour = PALETTE[list(COLOURS).index(thing.colour)][:, None, None]
    return sprites.body[kind] * colour + sprites.details[kind], sprites.alpha[kind]


def _sprite_in_parts(kind: str, colour: str, size: str) -> tuple[Tensor, Tensor]:
    """A sprite's premultiplied colours (3, P + 2R, …) in 64ths of grey levels and its opacity (P + 2R, …) in 64ths."""
    main, alpha = (torch.from_numpy(part).permute(2, 0, 1).double() for part in sprite(kind, colour, size))
    edges = (2 * RADIUS,) * 4
    return F.pad((main * alpha * _PARTS).round(), edges), F.pad((alpha[0] * _PARTS).round(), edges)


def gains(soft: Tensor, name: str, size: str) -> tuple[Tensor, Tensor]:
    """What each sprite of a size explains at each place.

    Args:
        soft: A softened picture (3, 64 + 2R, 64 + 2R).
        name: The background.
        size: The sprites' size.

    Returns:
        By how much the sprite, laid over the background there, brings down the squared difference from the picture
        (K kinds, C colours, Y, X), and the squared difference without it, in its footprint (K, 1, Y, X): both in
        2^20ths of squared grey levels, summed over pixels and channels.
    """
    f, under = _filters(size), soft_background(name)
    difference = soft - under
    spectrum = _spectrum(difference)
    before = _correlate(_spectrum(difference.square().sum(0)) * f.footprint, size)
    body = _correlate(spectrum * f.body[:, None], size)
    rest = _correlate((spectrum * f.details).sum(1) - _spectrum((difference * under).sum(0)) * f.alpha, size)
    match = (4 * PALETTE @ body.flatten(2)).view(len(KINDS), len(COLOURS), *before.shape[1:])
    gain = match.add_(rest[:, None]).mul_(2 * OPAQUE).sub_(_price(name, size))
    return gain, OPAQUE**2 * before[:, None]


@dataclass(frozen=True)
class _Filters:
    """Soft sprites as correlation filters: spectra in a frame of `_FRAME` pixels."""

    footprint: Tensor  # (K, F, F/2+1), 1 where the sprite is
    alpha: Tensor  # (K, F, F/2+1)
    body: Tensor  # (K, F, F/2+1)
    details: Tensor  # (K, 3, F, F/2+1), four times


@cache
def _filters(size: str) -> _Filters:
    s = soft_sprites(size)
    parts = ((s.alpha >= _EDGE).double(), s.alpha, s.body, 4 * s.details)
    return _Filters(*(_spectrum(part).conj().resolve_conj() for part in parts))


def _spectrum(x: Tensor) -> Tensor:
    return torch.fft.rfft2(x, s=(_FRAME, _FRAME))


def _correlate(product: Tensor, size: str) -> Tensor:
    """The correlations whose spectra these are, at every place where a P×P frame fits: (..., 65 - side, 65 - side)."""
    places = IMAGE_SIZE - SIZES[size] + 1
    return torch.fft.irfft2(product, s=(_FRAME, _FRAME))[..., :places, :places].round()


@cache
def _price(name: str, size: str) -> Tensor:
    """The squared difference that each sprite makes to an empty background, the same in a whole row: (K, C, Y, 1)."""
    s, row = soft_sprites(size), soft_background(name)[:, :, 0]
    drawn = 4 * (s.body[:, None, None] * PALETTE[..., None, None] + s.details[:, None])  # (K, C, 3, P, P)
    windows = row.unfold(1, drawn.shape[-1], 1)  # (3, Y, P)
    cross = torch.einsum("kcarx,krx,ayr->kcy", drawn, s.alpha, windows)
    hidden = torch.einsum("krx,ayr->ky", s.alpha.square(), windows.square())
    return (drawn.square().sum((2, 3, 4))[..., None] - 2 * cross + hidden[:, None])[..., None]
