"""Scores of the checkers themselves, on scenes drawn for this alone, whose truth is known, whole or spoiled.

Pictures are spoiled by noise, by blur, or by what a base's autoencoder loses of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFilter

from llmdiff import __version__
from llmdiff.base.loading import load_pipeline
from llmdiff.evaluation.kept import KeptScores
from llmdiff.hashing import weights_hash
from llmdiff.progress import Progress, silent
from llmdiff.scenes import checker as shapes_checker
from llmdiff.scenes import description as shapes
from llmdiff.scenes.drawing import draw
from llmdiff.scenes.facts import Fact
from llmdiff.scenes.scene import Seen, Shown, sample_scene
from llmdiff.world import checker as world_checker
from llmdiff.world import description as world
from llmdiff.world.drawing import pixels
from llmdiff.world.scene import sample
from llmdiff.world.things import NAMES

Spoil = Callable[[np.ndarray], np.ndarray]
"""From one picture, uint8 (side, side, 3), to another."""

_AT_ONCE = 20  # scenes whose tallies are kept together
_TALLY = ("things", "kinds", "colours", "sizes", "false", "counts", "backgrounds", "stated", "held", "whole")


class Drawn(NamedTuple):
    """A scene that was drawn by lot, all that can be said of it, its picture, and the lot."""

    scene: Shown
    facts: Sequence[Fact]
    picture: np.ndarray
    rng: np.random.Generator


@dataclass(frozen=True)
class Exam:
    """What a checker is to read.

    Attributes:
        drawn: Scene number n.
        read: The checker.
        reach: Pixels within which a found thing is the drawn one.
    """

    drawn: Callable[[int], Drawn]
    read: Callable[[np.ndarray], Shown]
    reach: int


def evaluate_checker(
    count: int = 5000,
    noise: float = 0.0,
    progress: Progress = silent,
    *,
    version: int = 1,
    blur: float = 0.0,
    base: str | None = None,
    things: int | None = None,
    keep_in: Path | None = None,
) -> dict[str, Any]:
    """Reads scenes that were drawn for this alone, and compares what is found with what was drawn.

    Args:
        count: Number of scenes.
        noise: Standard deviation of Gaussian noise on the pictures, in grey levels of 0..255.
        progress: Shows how far it is.
        version: 1 for scenes of shapes, 2 for scenes of things of the world.
        blur: Standard deviation of a Gaussian blur, in pixels.
        base: A base model, through whose autoencoder every picture goes first.
        things: So many things of the world, the first ones, are drawn and looked for; all by default.
        keep_in: A folder for tallies while it runs: one that was interrupted goes on where it was.

    Returns:
        scenes and things drawn; the shares of drawn things with the right kind, colour and size found in their place;
        false_things, found where nothing was drawn, per drawn thing; the shares of right counts and backgrounds; facts,
        the share read right of all that can be said of the scenes; and whole, the share of scenes of which every
        thing, its place, and the background are read right.

    Raises:
        LLMDiffError: The base cannot be loaded.

    Example:
        >>> evaluate_checker(count=3)["whole"]
        1.0
    """
    exam = EXAMS[version] if version == 1 or things is None else world_exam(things)
    vae = load_pipeline(base).vae if base else None
    spoil = through_autoencoder(vae) if vae else None
    of = {"checker": version, "noise": noise, "blur": blur, "things": things, "llmdiff": __version__}
    kept = KeptScores(keep_in, of | {"base": weights_hash(vae) if vae else None})
    tallies = kept.of_model("checker")[:count]
    for first in range(len(tallies), count, _AT_ONCE):
        new = [_tally(exam, n, spoil, noise, blur) for n in range(first, min(first + _AT_ONCE, count))]
        kept.add("checker", first, new)
        tallies += new
        progress("reading scenes", len(tallies) / count)
    kept.forget()
    found = dict(zip(_TALLY, np.sum(tallies, 0).tolist(), strict=True))
    drawn = found["things"]
    return {
        "scenes": count,
        "noise": noise,
        "blur": blur,
        "things": drawn,
        **{key: found[key] / drawn for key in ("kinds", "colours", "sizes")},
        "false_things": found["false"] / drawn,
        **{key: found[key] / count for key in ("counts", "backgrounds")},
        "facts": found["held"] / found["stated"],
        "whole": found["whole"] / count,
    }


def _tally(exam: Exam, number: int, spoil: Spoil | None, noise: float, blur: float) -> list[int]:
    """Counts of one scene, in the order of `_TALLY`."""
    scene, facts, picture, rng = exam.drawn(number)
    picture = spoil(picture) if spoil else picture
    if blur:
        picture = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(blur)))
    found = exam.read(noisy(picture, noise, rng))
    pairs = [(thing, other) for thing in scene.things if (other := _at(thing, found, exam.reach))]
    background = scene.background == found.background
    return [
        len(scene.things),
        sum(thing.kind == other.kind for thing, other in pairs),
        sum(_colour(thing) == _colour(other) for thing, other in pairs),
        sum(thing.size == other.size for thing, other in pairs),
        sum(_at(other, scene, exam.reach) is None for other in found.things),
        len(scene.things) == len(found.things),
        background,
        len(facts),
        sum(fact.holds(found) for fact in facts),
        background and set(scene.things) == set(found.things),
    ]


def noisy(picture: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """A picture under Gaussian noise of that standard deviation, in grey levels; itself if that is 0."""
    return (picture + rng.normal(0, noise, picture.shape)).clip(0, 255).astype(np.uint8) if noise else picture


def through_autoencoder(vae: Any) -> Spoil:
    """What an autoencoder leaves of a picture."""

    @torch.no_grad()
    def lossy(picture: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].to(vae.dtype) / 127.5 - 1
        y = vae.decode(vae.encode(x).latent_dist.mode()).sample[0]
        return ((y.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()

    return lossy


def _at(thing: Seen, scene: Shown, reach: int) -> Seen | None:
    """The thing of `scene` in the place of `thing`."""
    near = [other for other in scene.things if max(abs(other.x - thing.x), abs(other.y - thing.y)) <= reach]
    return min(near, key=lambda other: abs(other.x - thing.x) + abs(other.y - thing.y), default=None)


def _colour(thing: Seen) -> Any:
    return getattr(thing, "colour", None)


def _shapes(number: int) -> Drawn:
    rng = np.random.default_rng((977, number))  # of no training set, as 979
    scene = sample_scene(rng)
    every = shapes.Detail(colour=1.0, size=1.0, relation=1.0, background=1.0)
    facts = shapes.describe(scene, np.random.default_rng((977, number, 1)), every).facts()
    return Drawn(scene, facts, draw(scene), rng)


def _world(number: int, things: int | None = None) -> Drawn:
    rng = np.random.default_rng((979, number))
    scene = sample(rng, NAMES[:things])
    facts = world.describe(scene, rng, world.Detail(size=1.0, links=1.0, background=1.0)).facts()
    return Drawn(scene, facts, pixels(scene), rng)


def world_exam(things: int) -> Exam:
    """Scenes of so many things of the world, the first ones, read by a checker that looks for no others."""
    return Exam(
        lambda number: _world(number, things), lambda picture: world_checker.read(picture, count=things).scene, reach=12
    )


EXAMS: dict[int, Exam] = {
    1: Exam(_shapes, lambda picture: shapes_checker.read(picture).scene, reach=6),
    2: Exam(_world, lambda picture: world_checker.read(picture).scene, reach=12),
}
"""By the version of the benchmark's prompts."""
