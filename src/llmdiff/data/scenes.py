"""Drawn scenes as training data."""

import inspect
from functools import cache

import numpy as np
from torch import Tensor

from llmdiff.data.captioned import Size, SizeConditioning
from llmdiff.data.config import SceneData
from llmdiff.data.cropping import normalised
from llmdiff.hashing import text_hash
from llmdiff.scenes import drawing, facts, scene, vocabulary
from llmdiff.scenes.captions import plain_text
from llmdiff.scenes.description import Description, Detail, describe
from llmdiff.scenes.drawing import draw
from llmdiff.scenes.facts import scene_with
from llmdiff.scenes.phrasing import natural_text
from llmdiff.scenes.scene import sample_scene

_DETAIL = {
    "usual": Detail(relation=0.9),  # relations, which need the most practice, wherever there is one
    "short": Detail(colour=0.5, size=0.0, relation=0.0, background=0.2),
    "long": Detail(colour=1.0, size=1.0, relation=1.0, background=1.0),
}
_SIZE: Size = (vocabulary.IMAGE_SIZE, vocabulary.IMAGE_SIZE)


class Scenes:
    """Drawn scenes; everything about sample n is a function of (seed, n).

    Caption k belongs to samples k, k + captions, k + 2 · captions …, whose pictures differ in what it leaves open.
    """

    def __init__(self, data: SceneData) -> None:
        self.data = data
        written = [self._caption(i) for i in range(data.captions)]
        self._facts = [description.facts() for description, _ in written]
        self.captions = [(text,) for _, text in written] * data.pictures
        self.teacher_captions = [(plain_text(description),) for description, _ in written] * data.pictures
        self.weights = [data.weight] * len(self.captions)
        self.skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.captions)

    def size(self, index: int) -> Size:
        return _SIZE

    def size_conditioning(self, index: int) -> SizeConditioning:
        return SizeConditioning(_SIZE, (0, 0), _SIZE)

    def pixels(self, index: int) -> Tensor:
        wanted = self._facts[index % self.data.captions]
        return normalised(draw(scene_with(wanted, np.random.default_rng((self.data.seed, 1, index)))))

    def identity(self, index: int) -> str:
        """The facts that are drawn, and a hash of the code that draws them."""
        return f"{_drawing_code()} {self.data.seed} {index} {self._facts[index % self.data.captions]}"

    def _caption(self, index: int) -> tuple[Description, str]:
        rng = np.random.default_rng((self.data.seed, 0, index))
        drawn = sample_scene(rng)
        plain = rng.random() < self.data.plain
        description = describe(drawn, rng, _DETAIL[self.data.detail])
        return description, plain_text(description) if plain else natural_text(description, rng)


@cache
def _drawing_code() -> str:
    """A hash of the code that makes pictures of facts."""
    code = "".join(inspect.getsource(module) for module in (drawing, facts, scene, vocabulary))
    return text_hash(code)[:16]
