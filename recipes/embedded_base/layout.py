"""A second thing that the embedded base's U-Net learns: to say, wherever it denoises, what is to be there.

The velocity of one thing's few latents is a small part of the loss, so learning which word asks for which shape is
slow. A readout of the features inside the U-Net, trained against the scene that was drawn, asks for it outright; it
is dropped after training (compare REPA, Yu et al., ICLR 2025, which aligns the features with another network's).
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmdiff.scenes.drawing import sprite
from llmdiff.scenes.scene import Scene
from llmdiff.scenes.vocabulary import COLOURS, IMAGE_SIZE, KINDS, SIZES

_KINDS, _COLOURS, _SIZES = list(KINDS), list(COLOURS), list(SIZES)
_PARTS = (len(_KINDS) + 1, len(_COLOURS) + 1, len(_SIZES) + 1, 2)  # class 0 is nothing; the offset's x and y


class LayoutReadout(nn.Module):
    """Kind, colour and size of the thing at every cell of a feature map, and where in the thing the cell is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.SiLU(), nn.Conv2d(channels, sum(_PARTS), 1))

    def loss(self, features: Tensor, truth: Tensor) -> Tensor:
        """Features (B, C, H, W) against `layout`'s truth (B, 5, H, W): cross-entropies, and the offsets' square."""
        *classes, offset = self.read(features).float().split(_PARTS, dim=1)
        entropies = [F.cross_entropy(logits, truth[:, i].long()) for i, logits in enumerate(classes)]
        there = truth[:, :1] > 0
        return torch.stack(entropies).sum() + ((offset - truth[:, 3:]) * there).square().mean()


def layout(scenes: list[Scene], cells: int) -> Tensor:
    """The layout of scenes: float (B, 5, cells, cells) of kind, colour and size (from 1; 0 for nothing) and the offset
    of the centre of each cell from that of the thing, in sides of the thing."""
    return torch.from_numpy(np.stack([_layout(scene, cells) for scene in scenes]))


def _layout(scene: Scene, cells: int) -> np.ndarray:
    truth = np.zeros((5, cells, cells), np.float32)
    pixels = IMAGE_SIZE // cells
    centres = (np.arange(cells) + 0.5) * pixels
    for thing in scene.things:
        opacity = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32)
        left, top = thing.corner
        _, alpha = sprite(thing.kind, thing.colour, thing.size)
        opacity[top : top + thing.side, left : left + thing.side] = alpha[..., 0]
        there = opacity.reshape(cells, pixels, cells, pixels).mean((1, 3)) > 0.3
        numbers = _KINDS.index(thing.kind), _COLOURS.index(thing.colour), _SIZES.index(thing.size)
        truth[:3, there] = 1 + np.array(numbers, np.float32)[:, None]
        dy, dx = np.meshgrid((centres - thing.y) / thing.side, (centres - thing.x) / thing.side, indexing="ij")
        truth[3, there], truth[4, there] = dx[there], dy[there]
    return truth
