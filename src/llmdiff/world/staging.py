"""Scenes of which given facts hold."""

from collections.abc import Sequence

import numpy as np

from llmdiff.scenes.facts import Backdrop, Count, Fact, Look, all_hold
from llmdiff.world.drawing import BACKGROUNDS
from llmdiff.world.scene import Looks, Scene, one_of, place
from llmdiff.world.vocabulary import OWN, SIZES


def scene_with(facts: Sequence[Fact], rng: np.random.Generator) -> Scene:
    """A scene of just the things that consistent facts count; what they leave open is drawn by lot, but for colours:
    a thing whose colour no fact states has its own.

    Example:
        >>> scene_with([Count(Look("dog", "red"), 1), Backdrop("snow")], np.random.default_rng(0)).background
        'snow'
    """
    backdrop = next((fact.name for fact in facts if isinstance(fact, Backdrop)), None)
    background = backdrop or one_of(rng, tuple(BACKGROUNDS))
    while True:
        looks = [_looks(fact.look, rng) for fact in facts if isinstance(fact, Count) for _ in range(fact.n)]
        scene = Scene(background, place(looks, rng))
        if all_hold(facts, scene):
            return scene


def _looks(look: Look, rng: np.random.Generator) -> Looks:
    return Looks(look.kind, look.colour or OWN, look.size or one_of(rng, tuple(SIZES)))
