"""How much of a picture each sprite explains, laid over a background at each place of the grid: in whole numbers.

Picture and sprites are compared in blocks of `BLOCK` pixels, which a little blur, noise or an autoencoder's loss hardly
change. Every number is whole, held in float64, and sums of products stay below 2^53: they are exact in any order of
adding, so that no answer depends on how a processor rounds.

Letters in shapes: K sprites (things times styles, sharp and soft), P places of the grid, F blocks of a sprite, C tints.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from llmdiff.world.atlas import lightness, load
from llmdiff.world.drawing import background
from llmdiff.world.vocabulary import CELL, COLOURS, IMAGE_SIZE

BLOCK = 4
"""Side of the blocks in which pictures are compared, in pixels."""

OPAQUE = 255
"""Opacity of what nothing shines through; colours times opacity are counted in its parts."""

_RAMPS = torch.tensor(list(COLOURS.values()), dtype=torch.float64)  # (C, 2, 3)


def blocks(x: Tensor) -> Tensor:
    """Sums over blocks: of (..., Y, X) to (..., Y / B, X / B)."""
    *rest, height, width = x.shape
    return x.reshape(*rest, height // BLOCK, BLOCK, width // BLOCK, BLOCK).sum((-3, -1))


@cache
def empty(name: str, canvas: int = IMAGE_SIZE) -> Tensor:
    """A background's blocks: (3, canvas / B, canvas / B)."""
    return blocks(torch.from_numpy(background(name, canvas).copy()).permute(2, 0, 1).double())


@dataclass(frozen=True)
class Sprites:
    """All sprites of one size over one background, in blocks: opacity times colours, less opacity times background."""

    opacity: Tensor  # (K, F)
    lightness: Tensor  # (K, F): opacity times what share of a tint's ramp lies below
    own: Tensor  # (K, 3F): in the thing's own colours
    hidden: Tensor  # (K, 3F): the background that is hidden
    energy: Tensor  # (K, 1 + C): of the difference that each look makes to the background
    footprint: Tensor  # (K, F): 1 where there is any of the sprite


@cache
def sprites(name: str, side: int, styles: tuple[str, ...], count: int) -> Sprites:
    """The sprites of the first `count` things in each of the styles, over a background."""
    plain = _plain(side, styles, count)
    under = torch.from_numpy(background(name, side).copy()).permute(2, 0, 1).double()
    hidden = blocks(_parts(side, styles, count)[:, 3:4] * under).flatten(1)
    maps = replace(plain, hidden=hidden)
    looks = torch.stack([difference(maps, look) for look in range(1 + len(COLOURS))], 1)
    return replace(maps, energy=looks.square().sum(-1))


@cache
def _plain(side: int, styles: tuple[str, ...], count: int) -> Sprites:
    """The sprites over black, without the energy: what is the same over all backgrounds."""
    parts = _parts(side, styles, count)
    opacity = blocks(parts[:, 3]).flatten(1)
    return Sprites(
        opacity,
        lightness=blocks(parts[:, 4]).flatten(1),
        own=blocks(parts[:, :3]).flatten(1),
        hidden=torch.zeros(()),
        energy=torch.zeros(()),
        footprint=(opacity > 0).double(),
    )


@cache
def _parts(side: int, styles: tuple[str, ...], count: int) -> Tensor:
    """Sprites sharp, then soft: colours times opacity, opacity, lightness times opacity / 255: (K, 5, side, side)."""
    own = np.concatenate([load(style, side)[:count] for style in styles])
    opacity = torch.from_numpy(own[..., 3:].copy()).double()
    shares = torch.from_numpy(np.stack([lightness(one) for one in own])[..., None])
    colours = opacity * torch.from_numpy(own[..., :3].copy())
    parts = torch.cat((colours, opacity, (opacity * shares / OPAQUE).round()), -1).permute(0, 3, 1, 2)
    return torch.cat((parts, soft(parts)))


def soft(x: Tensor) -> Tensor:
    """A blurred x, rounded, of the same shape (A, B, Y, X); the standard deviation is sqrt(2.5) pixels."""
    kernel = torch.tensor([1, 10, 45, 120, 210, 252, 210, 120, 45, 10, 1], dtype=torch.float64)
    flat, edge = x.flatten(0, 1)[:, None], len(kernel) // 2
    rows = F.conv2d(flat, kernel.view(1, 1, -1, 1), padding=(edge, 0))
    return (F.conv2d(rows, kernel.view(1, 1, 1, -1), padding=(0, edge)) / 2**20 + 0.5).floor().view_as(x)


def difference(s: Sprites, look: int, which: slice | int = slice(None)) -> Tensor:
    """What sprites in a look (0: their own colours, then the tints) change of the background: (K, 3F), or (3F,)."""
    if look == 0:
        return s.own[which] - s.hidden[which]
    dark, light = _RAMPS[look - 1]
    parts = [d * s.opacity[which] + (u - d) * s.lightness[which] for d, u in zip(dark, light, strict=True)]
    return torch.cat(parts, -1) - s.hidden[which]


def windows(x: Tensor, side: int) -> Tensor:
    """A sprite's frame at each place of the grid: of blocks (A, Y, X) to (P, A·F)."""
    step, size = CELL // BLOCK, side // BLOCK
    return F.unfold(x[None], size, stride=step)[0].T


@dataclass(frozen=True)
class Match:
    """What sprites explain of a picture, in squares of `OPAQUE`-ths of grey levels summed over blocks and channels."""

    gain: Tensor  # (P, K, 1 + C): squared difference from the picture that the sprite takes away
    there: Tensor  # (P, K): squared difference of the picture from the background, where the sprite is
    energy: Tensor  # (K, 1 + C): squared difference that the sprite itself makes to the background


def match(changed: Tensor, name: str, side: int, styles: tuple[str, ...], count: int) -> Match:
    """Matches a picture less its background, in blocks (3, Y, X), with all sprites of a size at all places."""
    s = sprites(name, side, styles, count)
    frames = windows(changed, side)  # (P, 3F)
    channels = frames.unflatten(1, (3, -1))  # (P, 3, F)
    opacity, lightness = channels @ s.opacity.T, channels @ s.lightness.T  # (P, 3, K)
    dark, light = _RAMPS[:, 0], _RAMPS[:, 1]
    tinted = torch.einsum("ca,pak->pkc", dark, opacity) + torch.einsum("ca,pak->pkc", light - dark, lightness)
    common = torch.cat(((frames @ s.own.T)[..., None], tinted), -1) - (frames @ s.hidden.T)[..., None]
    there = channels.square().sum(1) @ s.footprint.T
    return Match(2 * OPAQUE * common - s.energy, OPAQUE**2 * there, s.energy)
