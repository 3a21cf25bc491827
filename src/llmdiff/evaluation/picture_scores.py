"""Scores of single pictures: each reads a batch of pictures with their prompts, and gives a row of numbers for each.

Letters in shapes: N pictures, F features.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from llmdiff.errors import LLMDiffError
from llmdiff.evaluation.clip_iqa import clip_iqa
from llmdiff.evaluation.domains import DOMAINS, version_for
from llmdiff.evaluation.features import VisionModel
from llmdiff.evaluation.prompts import ScenePrompt, scene_prompts
from llmdiff.evaluation.similarity import ImageTextModel


class Batch(NamedTuple):
    """What a score makes of a batch.

    Attributes:
        values: By the name of the score, (N,) each; or the features of the pictures, (N, F).
        in_pieces: How many prompts were scored in pieces.
    """

    values: dict[str, np.ndarray]
    in_pieces: int = 0


class PictureScore(Protocol):
    """A score, with the model that it is by.

    Attributes:
        names: Of its values.
        model: As it was asked for.
        revision: Of the model.
    """

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def model(self) -> str: ...
    @property
    def revision(self) -> str: ...

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Batch: ...


class SiglipScore:
    """The score "siglip": the cosine of picture and prompt."""

    names: tuple[str, ...] = ("siglip",)

    def __init__(self, model: ImageTextModel) -> None:
        self._model = model
        self.model, self.revision = model.name, model.revision

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Batch:
        self._model.check_domain(images)
        found = self._model.similarity(images, prompts)
        return Batch({"siglip": found.scores.numpy()}, found.in_pieces)


class QualityScore:
    """The score "clip-iqa": the share of praise."""

    names: tuple[str, ...] = ("clip-iqa",)

    def __init__(self, model: ImageTextModel) -> None:
        self._model = model
        self.model, self.revision = model.name, model.revision

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Batch:
        return Batch({"clip-iqa": clip_iqa(self._model, images).numpy()})


class SceneScore:
    """The score "scene", whether a picture shows every fact of its prompt, and "facts", the share of them."""

    names: tuple[str, ...] = ("scene", "facts")
    model, revision = "checker", ""

    def __init__(self) -> None:
        self._prompts = {(v, one.prompt): one for v in DOMAINS for one in scene_prompts(version=v)}

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Batch:
        held = [self._held(image, prompt) for image, prompt in zip(images, prompts, strict=True)]
        return Batch({"scene": np.array([float(all(one)) for one in held]), "facts": np.array([*map(np.mean, held)])})

    def _held(self, image: Image.Image, text: str) -> list[bool]:
        prompt = self._prompt(image, text)
        scene = DOMAINS[prompt.version].read(image)
        return [fact.holds(scene) for fact in prompt.facts]

    def _prompt(self, image: Image.Image, text: str) -> ScenePrompt:
        likely = version_for(image.width)
        for version in (likely, *DOMAINS):
            if found := self._prompts.get((version, text)):
                return found
        raise LLMDiffError(
            f"{text[:60]!r} is no prompt of the scene benchmark, so nobody knows what its picture is to show: leave "
            "out --scenes."
        )


class Features:
    """The features of each picture, for distances of sets."""

    names: tuple[str, ...] = ("features",)

    def __init__(self, model: VisionModel) -> None:
        self._model = model
        self.model, self.revision = model.name, model.revision

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Batch:
        self._model.check_domain(images)
        return Batch({"features": self._model.embed(images).numpy()})
