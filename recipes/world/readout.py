"""A second thing that the U-Net learns: to say, wherever it denoises, which thing is there.

The velocity of a few latents is a small part of the loss, so learning which word asks for which shape is slow; a
readout of the U-Net's features asks for it outright (compare REPA, Yu et al., ICLR 2025). It is dropped afterwards.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SIDE = 8  # cells of the largest thing


class ThingReadout(nn.Module):
    """The thing at every cell of a feature map, and which part of it.

    Args:
        channels: of the features.
        things: that there are.
    """

    def __init__(self, channels: int, things: int) -> None:
        super().__init__()
        self._things = things
        self.read = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.SiLU(), nn.Conv2d(channels, 1 + things + 2 * _SIDE, 1)
        )

    def forward(self, features: Tensor, names: Tensor, spots: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropies of the things' numbers, and of their cells' places, the latter where there is a thing.

        Args:
            features: (B, C, H, H).
            names: integers (B, H, H), 0 for nothing.
            spots: integers (B, 2, H, H).
        """
        things, x, y = self.read(features).float().split((1 + self._things, _SIDE, _SIDE), dim=1)
        there = (names > 0).float()
        places = [F.cross_entropy(part, spots[:, n].long(), reduction="none") for n, part in enumerate((x, y))]
        place = (torch.stack(places).sum(0) * there).sum() / there.sum().clamp(min=1)
        return F.cross_entropy(things, names.long()), place
