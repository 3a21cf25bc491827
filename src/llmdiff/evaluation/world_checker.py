"""Scores of the checker of the world, on drawn scenes that were spoiled: by noise, blur, or an autoencoder's loss."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from llmdiff.base.loading import load_pipeline
from llmdiff.evaluation.checker import noisy
from llmdiff.progress import Progress, silent
from llmdiff.world.checker import read
from llmdiff.world.description import Detail, describe
from llmdiff.world.drawing import pixels
from llmdiff.world.scene import sample
from llmdiff.world.things import NAMES

Spoil = Callable[[np.ndarray], np.ndarray]
"""From one picture, uint8 (128, 128, 3), to another."""

_SEED = 979  # of no training set
_DETAIL = Detail(size=1.0, links=1.0, background=1.0)


def evaluate_world_checker(
    count: int = 1000,
    noise: float = 0.0,
    blur: float = 0.0,
    base: str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Reads scenes of all things that were drawn for this alone, and compares what is found with what was drawn.

    Args:
        count: Number of scenes.
        noise: Standard deviation of Gaussian noise on the pictures, in grey levels of 0..255.
        blur: Standard deviation of a Gaussian blur, in pixels.
        base: A base model, through whose autoencoder every picture goes first.
        progress: Shows how far it is.

    Returns:
        scenes; facts, the share read right of all that can be said of the scenes; and whole, the share of scenes
        of which every thing, its place, and the background are read right.

    Raises:
        LLMDiffError: The base cannot be loaded.

    Example:
        >>> evaluate_world_checker(count=3)["whole"]
        1.0
    """
    lossy = through_autoencoder(base) if base else None
    stated = held = whole = 0
    for i in range(count):
        rng = np.random.default_rng((_SEED, i))
        scene = sample(rng, NAMES)
        facts = describe(scene, rng, _DETAIL).facts()
        picture = pixels(scene)
        picture = lossy(picture) if lossy else picture
        found = read(_spoiled(picture, noise, blur, rng)).scene
        stated += len(facts)
        held += sum(fact.holds(found) for fact in facts)
        whole += scene.background == found.background and set(scene.things) == set(found.things)
        progress("reading scenes", (i + 1) / count)
    return {"scenes": count, "facts": held / stated, "whole": whole / count}


def _spoiled(picture: np.ndarray, noise: float, blur: float, rng: np.random.Generator) -> np.ndarray:
    if blur:
        picture = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(blur)))
    return noisy(picture, noise, rng)


def through_autoencoder(base: str) -> Spoil:
    """What a base's autoencoder leaves of a picture."""
    vae: Any = load_pipeline(base).vae

    @torch.no_grad()
    def lossy(picture: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].to(vae.dtype) / 127.5 - 1
        y = vae.decode(vae.encode(x).latent_dist.mode()).sample[0]
        return ((y.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()

    return lossy
