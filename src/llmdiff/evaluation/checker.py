"""Scores of the scene checker itself, on drawn scenes, whose truth is known."""

from typing import Any

import numpy as np

from llmdiff.progress import Progress, silent
from llmdiff.scenes.checker import read
from llmdiff.scenes.drawing import draw
from llmdiff.scenes.scene import Scene, Thing, sample_scene

_SEED = 977  # of no training set
_REACH = 6  # pixels within which a found thing is the drawn one


def evaluate_checker(count: int = 5000, noise: float = 0.0, progress: Progress = silent) -> dict[str, Any]:
    """Reads scenes that were drawn for this alone, and compares what is found with what was drawn.

    Args:
        count: Number of scenes.
        noise: Standard deviation of Gaussian noise on the pictures, in grey levels of 0..255.
        progress: Shows how far it is.

    Returns:
        scenes and things drawn; the shares of drawn things with the right kind, colour and size found in their place;
        false_things, found where nothing was drawn, per drawn thing; and the shares of right counts, backgrounds and
        whole scenes.

    Example:
        >>> evaluate_checker(count=3)["whole"]
        1.0
    """
    tally = {key: 0 for key in ("things", "kinds", "colours", "sizes", "false", "counts", "backgrounds", "whole")}
    for i in range(count):
        scene, found = _pair(i, noise)
        tally["backgrounds"] += scene.background == found.background
        tally["counts"] += len(scene.things) == len(found.things)
        tally["whole"] += scene.background == found.background and set(scene.things) == set(found.things)
        pairs = [(thing, _at(thing, found)) for thing in scene.things]
        tally["things"] += len(pairs)
        tally["kinds"] += sum(other is not None and thing.kind == other.kind for thing, other in pairs)
        tally["colours"] += sum(other is not None and thing.colour == other.colour for thing, other in pairs)
        tally["sizes"] += sum(other is not None and thing.size == other.size for thing, other in pairs)
        tally["false"] += sum(_at(other, scene) is None for other in found.things)
        progress("reading scenes", (i + 1) / count)
    things = tally["things"]
    return {
        "scenes": count,
        "noise": noise,
        "things": things,
        **{key: tally[key] / things for key in ("kinds", "colours", "sizes")},
        "false_things": tally["false"] / things,
        **{key: tally[key] / count for key in ("counts", "backgrounds", "whole")},
    }


def _pair(index: int, noise: float) -> tuple[Scene, Scene]:
    """A drawn scene and what the checker reads of its picture."""
    rng = np.random.default_rng((_SEED, index))
    scene = sample_scene(rng)
    return scene, read(noisy(draw(scene), noise, rng)).scene


def noisy(picture: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """A picture under Gaussian noise of that standard deviation, in grey levels; itself if that is 0."""
    return (picture + rng.normal(0, noise, picture.shape)).clip(0, 255).astype(np.uint8) if noise else picture


def _at(thing: Thing, scene: Scene) -> Thing | None:
    """The thing of `scene` in the place of `thing`."""
    near = [other for other in scene.things if max(abs(other.x - thing.x), abs(other.y - thing.y)) <= _REACH]
    return min(near, key=lambda other: abs(other.x - thing.x) + abs(other.y - thing.y), default=None)
