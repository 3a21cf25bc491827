"""Families of scenes that differ in one thing each, with captions, and which caption is true of which scene.

Scenes by lot differ in nearly everything, so whoever tells them apart need not look at what belongs to what. Beside
each scene stand some that have one thing changed: a colour, a kind, a size, a place, the background, the number of
things. What is true of a pair is not guessed from who belongs to whom: it is whether every fact of the caption holds.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmdiff.scenes.captions import plain_text
from llmdiff.scenes.description import Caption, Detail, describe
from llmdiff.scenes.facts import all_hold
from llmdiff.scenes.phrasing import Style, natural_text
from llmdiff.scenes.scene import Scene, Thing, sample_scene
from llmdiff.scenes.vocabulary import BACKGROUNDS, COLOURS, IMAGE_SIZE, KINDS

FAMILY = 4
"""Scenes that differ in one thing each."""

_DETAIL = Detail(colour=0.95, size=0.6, relation=0.6, background=0.8)
_STYLE = Style(held_out=0.15, plain=0.3)
_PLAIN = 0.2  # of the captions are in plain words


def family(rng: np.random.Generator) -> list[Scene]:
    """A scene by lot and others that have one thing changed."""
    first = sample_scene(rng)
    scenes = [first]
    while len(scenes) < FAMILY:
        change = _CHANGES[int(rng.integers(len(_CHANGES)))]
        other = change(first, rng)
        if other not in scenes:
            scenes.append(other)
    return scenes


def caption(scene: Scene, rng: np.random.Generator, detail: Detail | None = None) -> Caption:
    """A caption in any words, those too that no adapter is trained on: who judges must know them."""
    description = describe(scene, rng, detail or _DETAIL)
    plain = rng.random() < _PLAIN
    text = plain_text(description) if plain else natural_text(description, rng, _STYLE)
    return Caption(text, description.facts())


def truth(scenes: Sequence[Scene], captions: Sequence[Caption]) -> Tensor:
    """Whether each caption is true of each scene: bool (N scenes, M captions)."""
    return torch.tensor([[all_hold(caption.facts, scene) for caption in captions] for scene in scenes])


def _with(scene: Scene, number: int, **changes: Any) -> Scene:
    things = list(scene.things)
    things[number] = replace(things[number], **changes)
    return Scene(scene.background, tuple(things))


def _number(scene: Scene, rng: np.random.Generator) -> int:
    return int(rng.integers(len(scene.things)))


def _recoloured(scene: Scene, rng: np.random.Generator) -> Scene:
    return _with(scene, _number(scene, rng), colour=str(rng.choice(list(COLOURS))))


def _of_another_kind(scene: Scene, rng: np.random.Generator) -> Scene:
    return _with(scene, _number(scene, rng), kind=str(rng.choice(KINDS)))


def _colours_exchanged(scene: Scene, rng: np.random.Generator) -> Scene:
    a, b = _number(scene, rng), _number(scene, rng)
    return _with(_with(scene, a, colour=scene.things[b].colour), b, colour=scene.things[a].colour)


def _smaller(scene: Scene, rng: np.random.Generator) -> Scene:
    """A larger thing might not fit into the place of a small one."""
    return _with(scene, _number(scene, rng), size="small")


def _elsewhere(scene: Scene, rng: np.random.Generator) -> Scene:
    return Scene(str(rng.choice(list(BACKGROUNDS))), scene.things)


def _fewer(scene: Scene, rng: np.random.Generator) -> Scene:
    gone = _number(scene, rng) if len(scene.things) > 1 else -1
    return Scene(scene.background, tuple(thing for n, thing in enumerate(scene.things) if n != gone))


def _mirrored(axis: str) -> Callable[[Scene, np.random.Generator], Scene]:
    def mirrored(scene: Scene, _: np.random.Generator) -> Scene:
        def moved(thing: Thing) -> Thing:
            return replace(thing, **{axis: IMAGE_SIZE - getattr(thing, axis)})

        return Scene(scene.background, tuple(map(moved, scene.things)))

    return mirrored


_CHANGES: tuple[Callable[[Scene, np.random.Generator], Scene], ...] = (
    _recoloured, _of_another_kind, _colours_exchanged, _smaller, _elsewhere, _fewer, _mirrored("x"), _mirrored("y"),
)  # fmt: skip
