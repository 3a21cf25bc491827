"""Reads a picture back into a scene, by comparison with the sprites that the world is drawn with.

No learned parts. The background is the one that most blocks agree with. Every sprite, in every look, is compared with
the picture at every place of the grid; the one that explains most is a thing, then the one that explains most of what
is left beside it, until nothing that looks like a thing is left. All arithmetic is exact (`llmdiff.world.matching`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from llmdiff.world.atlas import STYLES, own_tints
from llmdiff.world.drawing import BACKGROUNDS
from llmdiff.world.matching import BLOCK, OPAQUE, Match, blocks, difference, empty, match, sprites, windows
from llmdiff.world.scene import Placed, Scene
from llmdiff.world.things import NAMES
from llmdiff.world.vocabulary import CELL, IMAGE_SIZE, LOOKS, OWN, SIZES

MAX_FOUND = 8
"""The search ends at this many things, more than any scene has."""

MIN_EXPLAINED = 0.5
"""A sprite is a thing when it explains at least this share of what differs from the background in its place, and of
what it would itself make differ."""

MIN_DETAIL = 0.2
"""A sprite is a thing, and not a smear of its shape, when the picture has at least this share of its detail."""

MIN_LIKENESS = 0.5
"""Least correlation of the picture with a sprite, in its frame and in its inner part."""

_PLAIN = 12  # a sprite that varies less than this many grey levels has no inner detail
_NEAR = 40  # distance in grey levels beyond which a block agrees with no background
_INSIDE = 0.9  # opacity of a block from which on hardly any background shines through it


@dataclass(frozen=True)
class Reading:
    """What a picture shows."""

    scene: Scene
    clutter: float
    """Share of the picture that is neither background nor in the frame of any thing found."""


def read(image: Image.Image | np.ndarray, styles: tuple[str, ...] = STYLES, count: int = len(NAMES)) -> Reading:
    """The scene that a picture shows.

    Args:
        image: a picture of 128×128, or uint8 array (128, 128, 3); other sizes are resampled, but for 64×64, the canvas
            of a thing alone.
        styles: of art that are looked for.
        count: so many things, the first ones, are looked for.

    Example:
        >>> read(draw(Scene("snow", (Placed("penguin", "own", "large", 8, 56),)))).scene.things[0].kind
        'penguin'
    """
    picture = _normal(image)
    canvas = picture.shape[-1] * BLOCK
    name = _background(picture, canvas)
    changed = picture - empty(name, canvas)
    things: list[Placed] = []
    found_styles: list[str] = []
    candidates = [_Candidates(changed, name, size, styles, count) for size in SIZES]
    while len(things) < MAX_FOUND:
        best = max(candidates, key=lambda one: one.best)
        if best.best <= 0:
            break
        thing, sprite = best.take()
        if not best.is_smear(thing, sprite):
            things.append(thing)
            found_styles.append(styles[sprite // count % len(styles)])
        for one in candidates:
            one.without(thing)
    style = max(found_styles, key=found_styles.count, default=styles[0])
    return Reading(Scene(name, tuple(things), style, canvas), _clutter(changed, things))


def _normal(image: Image.Image | np.ndarray) -> Tensor:
    """A picture's blocks: (3, Y, X)."""
    picture = (Image.fromarray(image) if isinstance(image, np.ndarray) else image).convert("RGB")
    side = IMAGE_SIZE if picture.size != (IMAGE_SIZE // 2,) * 2 else IMAGE_SIZE // 2
    if picture.size != (side, side):
        picture = picture.resize((side, side), Image.Resampling.BOX)
    return blocks(torch.from_numpy(np.array(picture)).permute(2, 0, 1).double())


def _background(picture: Tensor, canvas: int) -> str:
    """The background that is nearest, in distances of whole numbers."""
    stack = torch.stack([empty(name, canvas) for name in BACKGROUNDS])
    distance = (stack - picture).square().sum(1).clamp(max=(_NEAR * BLOCK**2) ** 2)
    return list(BACKGROUNDS)[int(distance.sum((1, 2)).argmin())]


class _Candidates:
    """All sprites of one size at all places, and which of them are still open."""

    def __init__(self, changed: Tensor, name: str, size: str, styles: tuple[str, ...], count: int) -> None:
        self.size, self.side, self.count = size, SIZES[size], count
        self.sprites = sprites(name, self.side, styles, count)
        self.frames = windows(changed, self.side)
        self.across = (changed.shape[-1] * BLOCK - self.side) // CELL + 1
        found = match(changed, name, self.side, styles, count)
        share = found.gain / _wanted(found)
        # What explains much of little goes before what explains little of much: two things are not one larger thing.
        score = (found.gain * share).masked_fill(share < MIN_EXPLAINED, 0)
        self.most, self.which = score.flatten(1).max(1)

    @property
    def best(self) -> float:
        """What the best open candidate explains; 0 where there is none."""
        return float(self.most.max())

    def take(self) -> tuple[Placed, int]:
        """The best open candidate, the first of those that explain equally much, and the number of its sprite."""
        place = int(self.most.argmax())
        sprite, look = divmod(int(self.which[place]), len(LOOKS))
        top, left = divmod(place, self.across)
        kind = NAMES[sprite % self.count]
        colour = OWN if LOOKS[look] in own_tints(kind) else LOOKS[look]
        return Placed(kind, colour, self.size, left * CELL, top * CELL), sprite

    def without(self, thing: Placed) -> None:
        """Closes all places whose frames overlap the thing's."""
        corners = torch.arange(self.across) * CELL
        down = (corners < thing.top + thing.side) & (corners + self.side > thing.top)
        across = (corners < thing.left + thing.side) & (corners + self.side > thing.left)
        self.most[(down[:, None] & across).flatten()] = 0

    def is_smear(self, thing: Placed, sprite: int) -> bool:
        """Whether the picture lacks the thing's outline, or its inner detail, or has too much else in its place."""
        wanted = (difference(self.sprites, LOOKS.index(thing.colour), sprite) / OPAQUE).round().unflatten(0, (3, -1))
        seen = self.frames[thing.top // CELL * self.across + thing.left // CELL].unflatten(0, (3, -1))
        inside = self.sprites.opacity[sprite] >= _INSIDE * OPAQUE * BLOCK**2
        return _lacks(seen, wanted) or _lacks(seen[:, inside], wanted[:, inside])


def _lacks(seen: Tensor, wanted: Tensor) -> bool:
    """Whether what a picture has of variation is too little of, or too unlike, what is wanted: (3, N) both.

    Where hardly any is wanted, none is missed.
    """
    n = wanted.shape[1]
    wanted, seen = (n * x - x.sum(1, keepdim=True) for x in (wanted, seen))
    detail, common = wanted.square().sum(), (wanted * seen).sum()
    if detail < (_PLAIN * BLOCK**2 * n) ** 2 * n:
        return False
    return bool(common < MIN_DETAIL * detail or common**2 < MIN_LIKENESS**2 * detail * seen.square().sum())


def _wanted(found: Match) -> Tensor:
    """The larger of what differs from the background where a sprite is, and of what it would make differ: (P, K, L)."""
    return torch.maximum(found.there[..., None], found.energy)


def _clutter(changed: Tensor, things: list[Placed]) -> float:
    far = changed.square().sum(0) > (_NEAR * BLOCK**2) ** 2
    for thing in things:
        rows, columns = (slice(start // BLOCK, (start + thing.side) // BLOCK) for start in (thing.top, thing.left))
        far[rows, columns] = False
    return float(far.double().mean())
