"""The domains of pictures that are scored, by the version of the prompts that speak of them.

1 is that of sixteen shapes (`llmdiff.scenes`), 2 that of real things (`llmdiff.world`), of which the prompts name the
first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from llmdiff.scenes import captions as shape_captions
from llmdiff.scenes import checker as shape_checker
from llmdiff.scenes import vocabulary as shape_vocabulary
from llmdiff.scenes.description import Description as ShapeDescription
from llmdiff.scenes.facts import Fact
from llmdiff.scenes.scene import Shown
from llmdiff.world import captions, checker, vocabulary
from llmdiff.world.description import Description
from llmdiff.world.things import FIRST


@dataclass(frozen=True)
class Domain:
    """How scenes are read off pictures and told in the plain words of the domain's base."""

    side: int
    """Of a picture, in pixels."""
    read: Callable[[Image.Image], Shown]
    plainly: Callable[[Sequence[Fact]], str]


DOMAINS: dict[int, Domain] = {
    1: Domain(
        shape_vocabulary.IMAGE_SIZE,
        lambda image: shape_checker.read(image).scene,
        lambda facts: shape_captions.plain_text(ShapeDescription.of(facts)),
    ),
    2: Domain(
        vocabulary.IMAGE_SIZE,
        lambda image: checker.read(image, count=FIRST).scene,
        lambda facts: captions.plain_text(Description.of(facts)),
    ),
}


def version_for(side: int) -> int:
    """The version of the prompts for a base whose pictures have that side, in pixels: the first where none fits."""
    return next((version for version, domain in DOMAINS.items() if domain.side == side), min(DOMAINS))
