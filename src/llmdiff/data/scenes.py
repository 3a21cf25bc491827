"""Drawn picture-book scenes as training data."""

from functools import cache

import numpy as np
from torch import Tensor

from llmdiff.data.config import SceneData
from llmdiff.data.cropping import normalised
from llmdiff.data.drawn import Drawn, Written, code_hash
from llmdiff.scenes import drawing, facts, scene, vocabulary
from llmdiff.scenes.captions import plain_text
from llmdiff.scenes.description import Detail, describe
from llmdiff.scenes.drawing import draw
from llmdiff.scenes.facts import scene_with
from llmdiff.scenes.phrasing import natural_text
from llmdiff.scenes.scene import sample_scene

_DETAIL = {
    "usual": Detail(relation=0.9),  # relations, which need the most practice, wherever there is one
    "short": Detail(colour=0.5, size=0.0, relation=0.0, background=0.2),
    "long": Detail(colour=1.0, size=1.0, relation=1.0, background=1.0),
}


class Scenes(Drawn):
    """Scenes of sixteen shapes."""

    def __init__(self, data: SceneData) -> None:
        self.data = data
        written = (_written(data, index) for index in range(data.captions))
        super().__init__(data, written, vocabulary.IMAGE_SIZE, _code())

    def pixels(self, index: int) -> Tensor:
        wanted = self.facts(index)
        return normalised(draw(scene_with(wanted, np.random.default_rng((self.data.seed, 1, index)))))


def _written(data: SceneData, index: int) -> Written:
    rng = np.random.default_rng((data.seed, 0, index))
    drawn = sample_scene(rng)
    is_plain = rng.random() < data.plain
    description = describe(drawn, rng, _DETAIL[data.detail])
    plain = plain_text(description)
    return Written(plain if is_plain else natural_text(description, rng), description.facts(), plain)


@cache
def _code() -> str:
    return code_hash(drawing, facts, scene, vocabulary)
