"""The domains of pictures that are scored, by the version of the prompts that speak of them.

1 is that of sixteen shapes (`llmdiff.scenes`), 2 that of real things (`llmdiff.world`), of which the prompts name the
first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from llmdiff.scenes import captions as shape_captions
from llmdiff.scenes import checker as shape_checker
from llmdiff.scenes import vocabulary as shape_vocabulary
from llmdiff.scenes.description import Description as ShapeDescription
from llmdiff.scenes.description import Detail as ShapeDetail
from llmdiff.scenes.description import describe as describe_shapes
from llmdiff.scenes.drawing import draw
from llmdiff.scenes.facts import Fact, scene_with
from llmdiff.scenes.phrasing import Style as ShapeStyle
from llmdiff.scenes.phrasing import natural_text
from llmdiff.scenes.scene import Seen, Shown, Thing, sample_scene
from llmdiff.world import captions, checker, staging, vocabulary
from llmdiff.world.description import Description, Detail, describe
from llmdiff.world.drawing import BACKGROUNDS, pixels
from llmdiff.world.phrasing import Style, short_text
from llmdiff.world.scene import Placed, sample
from llmdiff.world.things import FIRST, NAMES


@dataclass(frozen=True)
class Domain:
    """How scenes are read off pictures and told in the plain words of the domain's base."""

    side: int
    """Of a picture, in pixels."""
    read: Callable[[Image.Image], Shown]
    plainly: Callable[[Sequence[Fact]], str]
    naturally: Callable[[Sequence[Fact], np.random.Generator], str]
    """The same facts in words drawn by lot."""
    colours: tuple[str, ...]
    """All that its things may have."""
    drawn: Callable[[Sequence[Fact], np.random.Generator], np.ndarray]
    """A picture of the facts as the domain draws it, uint8 (side, side, 3); what they leave open is drawn by lot."""
    unfamiliarly: Callable[[Sequence[Fact], np.random.Generator], str]
    """The same facts in words that no training caption has."""
    sampled: Callable[[int, np.random.Generator], tuple[Sequence[Fact], np.ndarray]]
    """A scene of so many things, drawn by lot: what there is to say of it but for relations, and its picture."""
    kinds: tuple[str, ...]
    looks: tuple[str, ...]
    """What a thing may be seen to have for a colour: one of `colours`, or its own."""
    sizes: tuple[str, ...]
    backgrounds: tuple[str, ...]
    thing: Callable[[str, str, str, int, int], Seen]
    """A thing by its kind, colour and size, and its middle in pixels from the left and the top."""


def _shapes(things: int, rng: np.random.Generator) -> tuple[Sequence[Fact], np.ndarray]:
    scene = sample_scene(rng, things)
    detail = ShapeDetail(colour=1.0, size=1.0, relation=0.0, background=1.0)
    return describe_shapes(scene, rng, detail).facts(), np.asarray(draw(scene))


def _world(things: int, rng: np.random.Generator) -> tuple[Sequence[Fact], np.ndarray]:
    scene = sample(rng, NAMES[:FIRST], count=things)
    return describe(scene, rng, Detail(size=1.0, links=0.0, background=1.0)).facts(), pixels(scene)


def _placed(kind: str, colour: str, size: str, x: int, y: int) -> Placed:
    half = vocabulary.SIZES[size] // 2
    return Placed(kind, colour, size, x - half, y - half)


DOMAINS: dict[int, Domain] = {
    1: Domain(
        shape_vocabulary.IMAGE_SIZE,
        lambda image: shape_checker.read(image).scene,
        lambda facts: shape_captions.plain_text(ShapeDescription.of(facts)),
        lambda facts, rng: natural_text(ShapeDescription.of(facts), rng),
        tuple(shape_vocabulary.COLOURS),
        lambda facts, rng: draw(scene_with(facts, rng)),
        lambda facts, rng: natural_text(ShapeDescription.of(facts), rng, ShapeStyle(held_out=0.9)),
        _shapes,
        tuple(shape_vocabulary.KINDS),
        tuple(shape_vocabulary.COLOURS),
        tuple(shape_vocabulary.SIZES),
        tuple(shape_vocabulary.BACKGROUNDS),
        Thing,
    ),
    2: Domain(
        vocabulary.IMAGE_SIZE,
        lambda image: checker.read(image, count=FIRST).scene,
        lambda facts: captions.plain_text(Description.of(facts)),
        lambda facts, rng: short_text(Description.of(facts), rng),
        tuple(vocabulary.COLOURS),
        lambda facts, rng: pixels(staging.scene_with(facts, rng)),
        lambda facts, rng: short_text(Description.of(facts), rng, Style(held_out=0.9, all_things=True)),
        _world,
        NAMES,
        vocabulary.LOOKS,
        tuple(vocabulary.SIZES),
        tuple(BACKGROUNDS),
        _placed,
    ),
}


def version_for(side: int) -> int:
    """The version of the prompts for a base whose pictures have that side, in pixels: the first where none fits."""
    return next((version for version, domain in DOMAINS.items() if domain.side == side), min(DOMAINS))
