"""Drawn scenes of real things as training data, with captions of all kinds."""

from functools import cache

import numpy as np
from torch import Tensor

from llmdiff.data.config import WorldData
from llmdiff.data.cropping import normalised
from llmdiff.data.drawn import Drawn, Written, code_hash
from llmdiff.scenes import facts
from llmdiff.world import drawing, scene, staging, vocabulary
from llmdiff.world.captions import plain_text
from llmdiff.world.description import Description
from llmdiff.world.mixture import mixed_caption
from llmdiff.world.scene import sample
from llmdiff.world.staging import scene_with
from llmdiff.world.things import NAMES


class World(Drawn):
    """Scenes of the first things of the world, as `llmdiff.world.mixture` puts them in words."""

    def __init__(self, data: WorldData) -> None:
        self.data = data
        written = (_written(data, index) for index in range(data.captions))
        super().__init__(data, written, vocabulary.IMAGE_SIZE, _code())

    def pixels(self, index: int) -> Tensor:
        wanted = self.facts(index)
        return normalised(drawing.pixels(scene_with(wanted, np.random.default_rng((self.data.seed, 1, index)))))


def _written(data: WorldData, index: int) -> Written:
    rng = np.random.default_rng((data.seed, 0, index))
    things = NAMES[: data.things]
    caption = mixed_caption(sample(rng, things), rng, things, data.mix)
    return Written(caption.text, caption.facts, plain_text(Description.of(caption.facts)))


@cache
def _code() -> str:
    return code_hash(drawing, facts, scene, staging, vocabulary)
