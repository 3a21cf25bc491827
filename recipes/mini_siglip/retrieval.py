"""How well a model finds the picture of a caption: `python -m mini_siglip.retrieval MODEL` in recipes.

On scenes of no training set, by the code that scores pictures: the right one of 100 pictures for a caption, the right
one of 100 captions for a picture, and the right one of pictures that differ in one thing.
"""

import json
from pathlib import Path

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor

from llmdiff.evaluation.similarity import ImageTextModel
from llmdiff.scenes.description import Detail
from llmdiff.scenes.drawing import draw
from llmdiff.scenes.scene import Scene, sample_scene
from mini_siglip import data

_SEED = 981  # of no training set
_FULL = Detail(colour=1.0, size=1.0, relation=1.0, background=1.0)


def retrieval(model: ImageTextModel, groups: int = 10, size: int = 100, families: int = 250) -> dict[str, float]:
    """Shares of right choices.

    Args:
        model: Of pictures and texts.
        groups: Of scenes, among which one is to be found.
        size: Scenes in a group, with a caption each that says all of its scene.
        families: Of `data.FAMILY` scenes that differ in one thing.

    Returns:
        picture_of_caption and caption_of_picture, where chance is 1 / size; picture_of_family, where chance is 40 %;
        and how many choices each is the share of. Where a caption is true of several pictures, any of those is right.
    """
    right: dict[str, list[bool]] = {"picture_of_caption": [], "caption_of_picture": [], "picture_of_family": []}
    for group in range(groups):
        rngs = [np.random.default_rng((_SEED, group, number)) for number in range(size)]
        cosines, truth = _compared(model, [sample_scene(rng) for rng in rngs], rngs)
        right["picture_of_caption"] += _chosen(cosines.T, truth.T)
        right["caption_of_picture"] += _chosen(cosines, truth)
    for number in range(families):
        rng = np.random.default_rng((_SEED, groups, number))
        scenes = data.family(rng)
        cosines, truth = _compared(model, scenes, [rng] * len(scenes))
        right["picture_of_family"] += _chosen(cosines.T, truth.T)
    counts = {f"{name}_count": len(found) for name, found in right.items()}
    return {name: float(np.mean(found)) for name, found in right.items()} | counts


def _compared(model: ImageTextModel, scenes: list[Scene], rngs: list[np.random.Generator]) -> tuple[Tensor, Tensor]:
    """Cosines of all pictures and captions, and whether each caption is true of each picture: (N, N) both."""
    captions = [data.caption(scene, rng, _FULL) for scene, rng in zip(scenes, rngs, strict=True)]
    pictures = model.features_of_images([Image.fromarray(draw(scene)) for scene in scenes])
    texts = model.features_of_texts([caption.text for caption in captions])
    return pictures @ texts.T, data.truth(scenes, captions)


def _chosen(cosines: Tensor, truth: Tensor) -> list[bool]:
    """Whether the best of each row is a right one."""
    found: list[bool] = truth[torch.arange(len(cosines)), cosines.argmax(1)].tolist()
    return found


def main(model: Path) -> None:
    """Prints the shares of right choices of a model's folder."""
    typer.echo(json.dumps(retrieval(ImageTextModel.load(str(model))), indent=2))


if __name__ == "__main__":
    typer.run(main)
